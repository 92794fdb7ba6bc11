"""One line <-> one event, for tcp_table(5).

What is sent is encoded as Postfix encodes; what comes may be encoded more or less than that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from ._errors import LocalProtocolError, RemoteProtocolError
from ._events import Found, Get, Malformed, NotFound, PermError, Put, Reply, Request, TempError

# Postfix's DICT_TCP_MAXREC: 4096 bytes with the LF, and not counting it as encoded.
MAX_REPLY: Final = 4096
# Postfix sets no limit on what it asks. 64 KiB is its longest header line, so its longest key;
# encoded, each byte may take three.
DEFAULT_MAX_REQUEST: Final = 256 * 1024

# Everything that is not printable ASCII, blank and % too, becomes %XX. Nothing else does.
_UNSAFE: Final = re.compile(rb"[^!-$&-~]")
_RAW: Final = bytes(byte for byte in range(256) if not _UNSAFE.match(bytes([byte])))
_ENCODED: Final = {bytes([byte]): b"%%%02X" % byte for byte in range(256)}
_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
# White space separates, but CR: a client that ends its lines with CR LF asks for a key with CR.
_BLANK: Final = re.compile(rb"[ \t\v\f]")
# Three digits and one byte that is white space to C. Only the first digit counts.
_REPLY: Final = re.compile(rb"([0-9])[0-9]{2}[ \t\r\v\f](.*)", re.DOTALL)

_new: Final = object.__new__
_set_key: Final = vars(Get)["key"].__set__
_set_table: Final = vars(Get)["table"].__set__

_CODES: Final[Mapping[type[Reply], bytes]] = {
    Found: b"200 ",
    NotFound: b"500 ",
    TempError: b"400 ",
}


def quote(text: bytes) -> bytes:
    """%-encode as Postfix does, with upper-case digits."""
    return _UNSAFE.sub(lambda found: _ENCODED[found[0]], text)


def unquote(text: bytes) -> bytes | None:
    """Undo %-encoding, once; None if a % is not followed by two hex digits. A + is a plus."""
    if b"%" not in text:
        return text
    return None if _BAD_ESCAPE.search(text) else unquote_to_bytes(text)


# --- requests ------------------------------------------------------------------------------


def encode_request(event: Request) -> bytes:
    """The line for a request."""
    try:
        return _REQUEST_ENCODERS[type(event)](event)
    except (AttributeError, KeyError, TypeError):
        raise LocalProtocolError(
            f"{type(event).__name__}(...) is no request of tcp_table: Get(key) or Put(key, value), "
            "in bytes"
        ) from None


def _encode_get(event: Get) -> bytes:
    if event.table:
        raise LocalProtocolError("tcp_table has no names of tables; that is socketmap")
    return b"get %b\n" % quote(check_key(event.key))


def _encode_put(event: Put) -> bytes:
    if not event.value or b"\0" in event.value:
        raise LocalProtocolError("a value can't be empty, and can't hold NUL")
    return b"put %b %b\n" % (quote(check_key(event.key)), quote(event.value))


def check_key(key: bytes) -> bytes:
    """Refuse what Postfix could not ask for, in either protocol."""
    if b"\0" in key:
        raise LocalProtocolError("a key can't hold NUL: Postfix's are C strings")
    return key


_REQUEST_ENCODERS: Final[Mapping[type, Callable[[Any], bytes]]] = {
    Get: _encode_get,
    Put: _encode_put,
}


def decode_request(line: bytes) -> Request | Malformed:
    """What a line asks for."""
    if line[:4] == b"get ":
        key = line[4:]
        if key.translate(None, _RAW):
            return _decode_get(line, key)
        # Nearly all keys can be taken as they stand. Without the `__init__` of frozen classes,
        # which looks up each field by its name, it takes 0.2 us less.
        get = _new(Get)
        _set_key(get, key)
        _set_table(get, b"")
        return get
    verb, blank, rest = line.partition(b" ")
    if verb == b"put" and blank:
        return _decode_put(line, rest)
    return _malformed(line, "not of the form 'get key' or 'put key value'")


def _decode_get(line: bytes, encoded: bytes) -> Get | Malformed:
    if _BLANK.search(encoded):
        return _malformed(line, "a key with white space that is not encoded")
    key = unquote(encoded)
    if key is None:
        return _malformed(line, "a % without two hexadecimal digits")
    if b"\0" in key:
        return _malformed(line, "a key with NUL")
    return Get(key)


def _decode_put(line: bytes, encoded: bytes) -> Put | Malformed:
    key, _, value = encoded.partition(b" ")
    get = _decode_get(line, key)
    if type(get) is Malformed:
        return get
    stored = unquote(value)
    if not stored or b"\0" in stored or _BLANK.search(value):
        return _malformed(line, "not of the form 'put key value'")
    return Put(get.key, stored)


def _malformed(line: bytes, reason: str) -> Malformed:
    return Malformed(line, reason, TempError(reason.encode()))


# --- replies -------------------------------------------------------------------------------


def encode_reply(event: Reply) -> bytes:
    """What `ServerConnection.send` makes of a reply: to see beforehand whether it can be sent.

    LocalProtocolError if it can't, with the reason.
    """
    code = _CODES.get(type(event))
    if code is None:
        raise no_reply(type(event))
    text = text_of(event)
    line = code + (quote(text) if text.translate(None, _RAW) else text) + b"\n"
    if len(line) > MAX_REPLY:
        raise LocalProtocolError(
            f"the reply has {len(line)} bytes when encoded, and Postfix takes {MAX_REPLY}"
        )
    return line


def text_of(event: Reply) -> bytes:
    """A reply's text, if it can be sent, in either protocol."""
    text = event.value if type(event) is Found else event.reason
    if type(text) is not bytes:
        raise no_reply(type(event))
    if b"\0" in text:
        raise LocalProtocolError("text can't hold NUL: Postfix would read no further")
    if not text and type(event) is Found:
        raise LocalProtocolError(
            "an empty value can't be sent: Postfix takes it for a broken table and defers the "
            "mail; send NotFound(...)"
        )
    return text


def no_reply(kind: type) -> LocalProtocolError:
    """The error for what is no reply, or has something else than bytes in it."""
    if kind is PermError:
        return LocalProtocolError(
            "PermError(...) is socketmap's: here 500 would mean that there is no such key; "
            "send TempError(...)"
        )
    return LocalProtocolError(f"{kind.__name__}(...) is no reply with its text in bytes")


def decode_reply(line: bytes) -> Reply:
    """What a line answers; RemoteProtocolError for what Postfix would not take."""
    parts = _REPLY.fullmatch(line)
    if parts is None:
        raise RemoteProtocolError("a reply not of the form '200 text'")
    text = unquote(parts[2])
    if text is None:
        # Postfix decodes before it looks at the code, so that this is no "not found" to it.
        raise RemoteProtocolError("a reply with a % without two hexadecimal digits")
    match parts[1]:
        case b"2":
            if b"\0" in text:
                raise RemoteProtocolError("a value with NUL, of which Postfix would see a part")
            return Found(text)
        case b"4":
            return TempError(text)
        case b"5":
            return NotFound(text)
        case _:
            raise RemoteProtocolError("a reply whose code begins with none of 2, 4 and 5")
