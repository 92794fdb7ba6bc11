"""A reply -> header fields that nginx can take in one way only.

nginx reads little and forgives all: without a status it lets the user in, whatever the HTTP
status. So what is sent is checked here, and not there.
"""

from __future__ import annotations

import base64
import functools
import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from ._address import is_address
from ._errors import LocalProtocolError
from ._events import (
    APOP,
    CRAM_MD5,
    EXTERNAL,
    NONE,
    OAUTHBEARER,
    XOAUTH2,
    Allow,
    AuthRequest,
    Deny,
    Headers,
    Malformed,
    Reply,
    Wait,
)

# nginx's buffer: status line, header lines and the empty line; with one byte more it gives up.
MAX_REPLY: Final = 1024
STATUS: Final = b"HTTP/1.1 200 OK\r\n"
# From this attempt on a refusal ends the session: nginx counts attempts, and has no limit of its
# own. The number is Postfix's smtpd_hard_error_limit; refused recipients of `none` count, too.
DEFAULT_MAX_ATTEMPTS: Final = 20
# Seconds. RFC 5321, 4.5.3.2: after five minutes a client gives up.
MAX_WAIT: Final = 300

# RFC 5321, 4.2 and RFC 3463, 2.
_CODE: Final = re.compile(rb"[45][0-5][0-9](?: ([45])(?:\.(?:0|[1-9][0-9]{0,2})){2})?")
_PRINTABLE: Final = re.compile(rb"[ -~]*")
_CONTROLS: Final = re.compile(rb"[\x00-\x1f\x7f]")

# RFC 5530; RFC 2449 and RFC 3206. What else a code may say has no word there.
_WORDS: Final[Mapping[bytes, Mapping[bytes, bytes]]] = {
    b"imap": {b"4": b"[UNAVAILABLE] ", b"535": b"[AUTHENTICATIONFAILED] "},
    b"pop3": {b"4": b"[SYS/TEMP] ", b"535": b"[AUTH] "},
}
# nginx has no clear password of these, and logs in at an IMAP or POP3 server with one.
_NO_PASSWORD: Final = frozenset({APOP, CRAM_MD5, EXTERNAL, NONE})

_Request = AuthRequest | Malformed


def reply_headers(
    reply: Reply,
    request: AuthRequest | Malformed,
    reserve: int = 0,
    *,
    max_attempts: int = DEFAULT_MAX_ATTEMPTS,
) -> Headers:
    """The header fields for an HTTP response with status 200, in any framework.

    ``request`` is what is answered. ``reserve``: the bytes of what the framework adds to the
    head, for the 1024 that nginx reads.

    A `Deny.wait` is left out, so that nginx closes, where the client's attempts have reached
    ``max_attempts`` or are not told, and where the request has a salt: having sent it, nginx has
    no password any more, but up to 1.29.6 still its length, and the next attempt may crash it
    (CVE-2026-27651).

    Raises LocalProtocolError, which names the field, for a reply that nginx would refuse or
    take for another. No text of it shows a secret.
    """
    if not isinstance(request, AuthRequest | Malformed):
        raise LocalProtocolError(f"{type(request).__name__}(...) is no request")
    encode = _ENCODERS.get(type(reply))
    if encode is None:
        raise LocalProtocolError(
            f"{type(reply).__name__}(...) is no reply: Allow, Deny or Wait are"
        )
    if type(reserve) is not int or reserve < 0:
        raise LocalProtocolError("reserve has to be a number of bytes")
    if type(max_attempts) is not int:
        raise LocalProtocolError("max_attempts has to be a number")
    headers = encode(reply, request, max_attempts)
    size = len(STATUS) + sum(len(name) + len(value) + 4 for name, value in headers) + 2 + reserve
    if size > MAX_REPLY:
        raise LocalProtocolError(
            f"the head of the response has {size} bytes, the {reserve} reserved ones included, "
            f"and nginx reads {MAX_REPLY}"
        )
    return headers


def _allow(reply: Allow, request: _Request, _max_attempts: int) -> Headers:
    if isinstance(request, Malformed):
        raise LocalProtocolError("Allow(...) can't be the reply to Malformed(...)")
    if type(reply.port) is not int or not 1 <= reply.port <= 65535:
        raise LocalProtocolError("Allow.port is no port from 1 to 65535")
    headers = [
        (b"Auth-Status", b"OK"),
        (b"Auth-Server", _address(_bytes("Allow.server", reply.server))),
        (b"Auth-Port", b"%d" % reply.port),
    ]
    asks_password = request.protocol in _WORDS
    if reply.user is not None:
        headers.append((b"Auth-User", _credential("Allow.user", reply.user)))
        if asks_password and not reply.user:
            raise LocalProtocolError("Allow.user is empty, and POP3 and IMAP have no such login")
    if reply.password is not None:
        headers.append((b"Auth-Pass", _credential("Allow.password", reply.password)))
    if asks_password and not reply.password and (request.salt or request.method in _NO_PASSWORD):
        raise LocalProtocolError(
            "Allow.password is missing: nginx has none of the client's to log in with at "
            "a POP3 or IMAP server"
        )
    return tuple(headers)


def _deny(reply: Deny, request: _Request, max_attempts: int) -> Headers:
    message = _bytes("Deny.message", reply.message)
    if not message or message != message.strip(b" ") or not _PRINTABLE.fullmatch(message):
        raise LocalProtocolError(
            "Deny.message has to be printable ASCII without blanks at its edges, and not empty: "
            "to nginx an empty one is success"
        )
    if message in (b"OK", b"WAIT"):
        raise LocalProtocolError("Deny.message is what nginx takes for another status")
    code = _bytes("Deny.code", reply.code)
    parts = _CODE.fullmatch(code)
    if code and (parts is None or parts[1] not in (None, code[:1])):
        raise LocalProtocolError(
            "Deny.code is none of the form b'535' or b'535 5.7.8', with 4 or 5 in front"
        )
    wait = 0 if reply.wait == 0 else _seconds("Deny.wait", reply.wait)
    challenge = _challenge(reply, request)
    headers = []
    if request.protocol in _WORDS:
        message = _in_words(message, code, _WORDS[request.protocol])
    elif code:
        headers.append((b"Auth-Error-Code", code))
    if wait and _may_wait(request, max_attempts):
        headers.append((b"Auth-Wait", b"%d" % wait))
    return ((b"Auth-Status", message), *headers, *challenge)


def _may_wait(request: _Request, max_attempts: int) -> bool:
    if isinstance(request, Malformed):
        return False  # who knows which attempt it is
    return not _has_digest(request) and 0 < request.attempt < max_attempts


def _has_digest(request: AuthRequest) -> bool:
    """Whether nginx has forgotten it. A request of one's own may lack its salt."""
    return bool(request.salt) or request.method in (APOP, CRAM_MD5)


def _in_words(message: bytes, code: bytes, words: Mapping[bytes, bytes]) -> bytes:
    word = words.get(code[:1], words.get(code[:3], b""))
    return message if message.startswith(b"[") else word + message


def _challenge(reply: Deny, request: _Request) -> Headers:
    if reply.challenge is None:
        return ()
    data = _bytes("Deny.challenge", reply.challenge)
    method = b"" if isinstance(request, Malformed) else request.method
    if method not in (XOAUTH2, OAUTHBEARER):
        raise LocalProtocolError("Deny.challenge is for XOAUTH2 and OAUTHBEARER")
    return ((b"Auth-Error-SASL", base64.b64encode(data)),)


def _wait(reply: Wait, request: _Request, _max_attempts: int) -> Headers:
    if isinstance(request, Malformed):
        raise LocalProtocolError("Wait(...) can't be the reply to Malformed(...)")
    if _has_digest(request):
        raise LocalProtocolError(
            "Wait(...) can't be the reply to a request with a salt, or to APOP and CRAM-MD5: nginx "
            "would ask again without the digest, or crash"
        )
    return (
        (b"Auth-Status", b"WAIT"),
        (b"Auth-Wait", b"%d" % _seconds("Wait.seconds", reply.seconds)),
    )


def _bytes(field: str, value: object) -> bytes:
    # Not a subclass: what its methods say of it need not be what is sent.
    if type(value) is not bytes:
        raise LocalProtocolError(f"{field} has to be bytes")
    return value


def _seconds(field: str, value: object) -> int:
    if type(value) is not int or not 1 <= value <= MAX_WAIT:
        # With WAIT and none, nginx asks again at once, and for ever.
        raise LocalProtocolError(f"{field} has to be from 1 to {MAX_WAIT} whole seconds")
    return value


def _credential(field: str, value: object) -> bytes:
    text = _bytes(field, value)
    if _CONTROLS.search(text) or text != text.strip(b" "):
        # Replies have no escapes, and control bytes would be commands to the next server.
        raise LocalProtocolError(
            f"{field} has a control byte, or a blank at its edge: nginx can't be told of that"
        )
    return text


# Backends are few, and a reader of addresses takes longer than all else here: 5 us.
@functools.lru_cache(maxsize=256)
def _address(text: bytes) -> bytes:
    try:
        good = b"%" not in text and bool(ipaddress.ip_address(text.decode("ascii")).version)
    except ValueError:
        good = False
    if not good:
        raise LocalProtocolError(
            "Allow.server has to be an IP address, without brackets, zone or port: nginx "
            "resolves no names"
        )
    if not is_address(text):
        raise LocalProtocolError(
            "Allow.server is an address that nginx does not take: 255.255.255.255, or a :: for "
            "the last group alone, where 0 will do"
        )
    return text


_ENCODERS: Final[Mapping[type, Callable[[Any, _Request, int], Headers]]] = {
    Allow: _allow,
    Deny: _deny,
    Wait: _wait,
}
