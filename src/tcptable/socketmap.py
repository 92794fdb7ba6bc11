"""Sendmail's and Postfix's socketmap_table(5): the same look-ups in netstrings, both roles.

The officially supported way to ask a server of one's own. The events are those of `tcptable`:
`Get.table` has the map's name, `PermError` can be sent, and nothing is encoded.
"""

from __future__ import annotations

from typing import Final

from ._connection import Client, Server
from ._errors import LocalProtocolError, RemoteProtocolError
from ._events import Found, Get, Malformed, NotFound, PermError, Reply, TempError
from ._netstring import NetstringBuffer, encode_netstring
from ._wire import check_key, no_reply, text_of

__all__ = [
    "DEFAULT_MAX_REQUEST",
    "MAX_REPLY",
    "ClientConnection",
    "ServerConnection",
    "encode_reply",
]

# What Postfix takes in a reply before 3.10, where socketmap_max_reply_size sets it.
MAX_REPLY: Final = 100_000
# Postfix sets no limit on what it asks before 3.12, and 10000 bytes from then on. 64 KiB is its
# longest header line, so its longest key.
DEFAULT_MAX_REQUEST: Final = 128 * 1024


def _encode_request(event: Get) -> bytes:
    """The netstring for a request."""
    try:
        table, key = event.table, check_key(event.key)
        named = table and b" " not in table and b"\0" not in table
        payload = b"%b %b" % (table, key)
    except (AttributeError, TypeError):
        raise LocalProtocolError(
            f"{type(event).__name__}(...) is no request of socketmap: Get(key, table), in bytes"
        ) from None
    if not named:
        raise LocalProtocolError("a map's name can't be empty, and has no blank and no NUL")
    return encode_netstring(payload)


def _decode_request(payload: bytes) -> Get | Malformed:
    """What a payload asks for."""
    table, blank, key = payload.partition(b" ")
    if not table or not blank:
        reason = "not of the form 'map key'"
    elif b"\0" in payload:
        reason = "a request with NUL"
    else:
        return Get(key, table)
    return Malformed(payload, reason, TempError(reason.encode()))


def encode_reply(event: Reply) -> bytes:
    """What `ServerConnection.send` makes of a reply: to see beforehand whether it can be sent.

    LocalProtocolError if it can't, with the reason.
    """
    keyword = _KEYWORDS.get(type(event))
    if keyword is None:
        raise no_reply(type(event))
    payload = keyword + text_of(event)
    if len(payload) > MAX_REPLY:
        raise LocalProtocolError(
            f"the reply has {len(payload)} bytes, and Postfix takes {MAX_REPLY}"
        )
    return encode_netstring(payload)


_KEYWORDS: Final[dict[type[Reply], bytes]] = {
    Found: b"OK ",
    NotFound: b"NOTFOUND ",
    TempError: b"TEMP ",
    PermError: b"PERM ",
}


def _decode_reply(payload: bytes) -> Reply:
    """What a payload answers; RemoteProtocolError for what Postfix would not take."""
    keyword, blank, text = payload.partition(b" ")
    match keyword:
        case b"OK" if not blank:
            return NotFound()  # to Postfix before 3.12, which reads no value here
        case b"OK":
            if b"\0" in text:
                raise RemoteProtocolError("a value with NUL, of which Postfix would see a part")
            return Found(text)
        case b"NOTFOUND":
            return NotFound(text)
        case b"TEMP" | b"TIMEOUT":
            return TempError(text)
        case b"PERM":
            return PermError(text)
        case _:
            raise RemoteProtocolError("a reply that begins with no keyword of socketmap")


class ServerConnection(Server[Get | Malformed, Reply]):
    """A server's side of one connection, socketmap.

    ``max_request``: the longest request taken, in bytes, without the netstring's own. With
    ``lenient`` its length may have leading zeros, or be missing, as Postfix takes it.
    """

    def __init__(self, *, max_request: int = DEFAULT_MAX_REQUEST, lenient: bool = False) -> None:
        buffer = NetstringBuffer(max_request, lenient=lenient)
        super().__init__(buffer, _decode_request, encode_reply)


class ClientConnection(Client[Get, Reply]):
    """A client's side of one connection, socketmap.

    ``max_reply``: the longest reply taken, in bytes (``socketmap_max_reply_size``). With
    ``lenient`` its length may have leading zeros, or be missing, as Postfix takes it.
    """

    def __init__(self, *, max_reply: int = MAX_REPLY, lenient: bool = False) -> None:
        buffer = NetstringBuffer(max_reply, lenient=lenient)
        super().__init__(buffer, _decode_reply, _encode_request)
