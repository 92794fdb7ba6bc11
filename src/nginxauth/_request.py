"""Header fields -> the request, for our server and for those who have one already."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeVar

from ._errors import LocalProtocolError
from ._escape import unescape
from ._events import (
    APOP,
    CRAM_MD5,
    EXTERNAL,
    NONE,
    TLS,
    AuthRequest,
    Deny,
    Envelope,
    Headers,
    Malformed,
    ProxyProtocol,
)

T = TypeVar("T")

# All of these are there, or none.
_PROXY_PROTOCOL: Final = (
    b"proxy-protocol-addr",
    b"proxy-protocol-port",
    b"proxy-protocol-server-addr",
    b"proxy-protocol-server-port",
)
_ENVELOPE: Final = (b"auth-smtp-helo", b"auth-smtp-from", b"auth-smtp-to")
# To the fields of `TLS`.
_TLS: Final[Mapping[bytes, str]] = {
    b"auth-ssl-protocol": "protocol",
    b"auth-ssl-cipher": "cipher",
    b"auth-ssl-verify": "verify",
    b"auth-ssl-subject": "subject",
    b"auth-ssl-issuer": "issuer",
    b"auth-ssl-serial": "serial",
    b"auth-ssl-fingerprint": "fingerprint",
    b"auth-ssl-cert": "certificate",
}
_KNOWN: Final = frozenset(
    {
        b"host",
        b"auth-method",
        b"auth-user",
        b"auth-pass",
        b"auth-salt",
        b"auth-protocol",
        b"auth-login-attempt",
        b"client-ip",
        b"client-host",
        b"auth-ssl",
        *_PROXY_PROTOCOL,
        *_ENVELOPE,
        *_TLS,
    }
)

_ATTEMPT: Final = re.compile(rb"[1-9][0-9]{0,9}")  # what a 32-bit nginx can count
_PORT: Final = re.compile(rb"[0-9]{1,5}")
_CONTROLS: Final = re.compile(rb"[\x00-\x1f\x7f]")

# Not the user's fault, as far as one can see: he is told to try again.
_TRY_AGAIN: Final = Deny(b"Temporary authentication failure", b"451 4.3.0")
_REFUSED: Final = Deny(b"Authentication failed", b"535 5.7.8")


class _Unusable(Exception):  # noqa: N818 - never leaves this file
    """Why there is no request in these headers, and what is said to it."""

    def __init__(self, reason: str, reply: Deny = _TRY_AGAIN) -> None:
        self.reason = reason
        self.reply = reply


def parse_request(
    headers: Iterable[tuple[bytes, bytes]], *, allow_controls: bool = False
) -> AuthRequest | Malformed:
    """What nginx asks, from the header fields of its HTTP request, in order and as they came.

    Names may be in any case. ASGI's ``scope["headers"]`` is just that; for WSGI there is
    `environ_headers`. `Malformed`, with the reply for it, is what no sound nginx sends: a field
    missing, or there twice; a wrong escape; ``apop`` or ``cram-md5`` without a salt, and ``none``
    without an envelope; and what must not get by: the method ``external`` without a certificate
    that nginx has verified, and, unless ``allow_controls``, a login or password with control
    bytes, with which a client can put commands of its own into what nginx sends on.

    Raises LocalProtocolError if the headers are not pairs of bytes.
    """
    try:
        given = [(name, value) for name, value in headers]
    except (TypeError, ValueError):
        raise LocalProtocolError("the headers have to be pairs of bytes") from None
    fields: dict[bytes, bytes] = {}
    try:
        rest = _sort_out(given, fields)
        return _request(fields, rest, allow_controls=allow_controls)
    except _Unusable as error:
        data = b"".join(b"%b: %b\r\n" % header for header in given)
        return Malformed(data, error.reason, error.reply, _protocol(fields))


def is_known(name: bytes) -> bool:
    """Whether nginx sends a header of that name itself; in any case."""
    return name.lower() in _KNOWN


def environ_headers(environ: Mapping[str, object]) -> Headers:
    """The header fields of a WSGI request, for `parse_request`; names are in lower case.

    Raises LocalProtocolError if a text has characters that WSGI does not have (PEP 3333: latin-1),
    for then nobody knows what bytes it was made of.
    """
    try:
        return tuple(
            (key[5:].replace("_", "-").lower().encode("latin-1"), value.encode("latin-1"))
            for key, value in environ.items()
            if key.startswith("HTTP_") and isinstance(value, str)
        )
    except UnicodeError:
        raise LocalProtocolError("a header that is no latin-1, as it is in WSGI") from None


def _sort_out(headers: list[tuple[bytes, bytes]], fields: dict[bytes, bytes]) -> Headers:
    """Put nginx's own into `fields`; the rest."""
    rest: list[tuple[bytes, bytes]] = []
    doubled: list[bytes] = []
    for name, value in headers:
        if type(name) is not bytes or type(value) is not bytes:
            raise LocalProtocolError("the names and the values of headers have to be bytes")
        key = name.lower()
        if key not in _KNOWN:
            rest.append((name, value))
        elif key in fields:
            doubled.append(key)
        else:
            fields[key] = value.strip(b" \t")
    if doubled:
        # Not before all have been seen: the protocol decides in which words this is said.
        for key in set(doubled):
            del fields[key]
        raise _Unusable(f"{_name(doubled[0])} is there twice")
    return tuple(rest)


def _request(fields: Mapping[bytes, bytes], rest: Headers, *, allow_controls: bool) -> AuthRequest:
    method = _needed(fields, b"auth-method").lower()
    user = _unescaped(fields, b"auth-user")
    password = _unescaped(fields, b"auth-pass")
    tls = _tls(fields)
    if method == EXTERNAL and (tls is None or tls.verify != b"SUCCESS"):
        raise _Unusable("EXTERNAL without a certificate that nginx has verified", _REFUSED)
    if method in (EXTERNAL, NONE):
        password = b""
    if method == NONE:
        user = b""
    if not allow_controls:
        for key, text in ((b"auth-user", user), (b"auth-pass", password)):
            if _CONTROLS.search(text):
                raise _Unusable(f"{_name(key)} has a control byte", _REFUSED)
    salt = fields.get(b"auth-salt", b"")
    if method in (APOP, CRAM_MD5) and not salt:
        raise _Unusable("Auth-Salt is missing or empty, without which a digest proves nothing")
    envelope = _together(fields, _ENVELOPE, Envelope)
    if method == NONE and envelope is None:
        raise _Unusable(f"of {', '.join(map(_name, _ENVELOPE))} one is missing")
    return AuthRequest(
        method=method,
        user=user,
        password=password,
        protocol=_needed(fields, b"auth-protocol") and _protocol(fields),
        attempt=_attempt(fields),
        client_ip=_needed(fields, b"client-ip"),
        client_host=fields.get(b"client-host"),
        salt=salt,
        proxy_protocol=_together(fields, _PROXY_PROTOCOL, _proxy_protocol),
        envelope=envelope,
        tls=tls,
        headers=rest,
    )


def _name(key: bytes) -> str:
    return key.decode("ascii").title()


def _protocol(fields: Mapping[bytes, bytes]) -> bytes:
    return fields.get(b"auth-protocol", b"").lower()


def _needed(fields: Mapping[bytes, bytes], key: bytes) -> bytes:
    value = fields.get(key)
    if not value:
        raise _Unusable(f"{_name(key)} is missing or empty")
    return value


def _unescaped(fields: Mapping[bytes, bytes], key: bytes) -> bytes:
    if key not in fields:
        raise _Unusable(f"{_name(key)} is missing")
    text = unescape(fields[key])
    if text is None:
        raise _Unusable(f"{_name(key)} has a % without two hexadecimal digits")
    return text


def _attempt(fields: Mapping[bytes, bytes]) -> int:
    # Some that speak this protocol count none. 0 is no attempt that may wait.
    key = b"auth-login-attempt"
    return _number(fields[key], key, _ATTEMPT) if key in fields else 0


def _number(text: bytes, key: bytes, pattern: re.Pattern[bytes]) -> int:
    if not pattern.fullmatch(text):
        raise _Unusable(f"{_name(key)} is not such a number as it should be")
    return int(text)


def _together(
    fields: Mapping[bytes, bytes], keys: tuple[bytes, ...], make: Callable[..., T]
) -> T | None:
    """What belongs together is all there, or none of it."""
    values = [fields[key] for key in keys if key in fields]
    if not values:
        return None
    if len(values) < len(keys):
        raise _Unusable(f"of {', '.join(map(_name, keys))} one is missing")
    return make(*values)


def _proxy_protocol(
    address: bytes, port: bytes, server_address: bytes, server_port: bytes
) -> ProxyProtocol:
    return ProxyProtocol(
        address,
        _number(port, b"proxy-protocol-port", _PORT),
        server_address,
        _number(server_port, b"proxy-protocol-server-port", _PORT),
    )


def _tls(fields: Mapping[bytes, bytes]) -> TLS | None:
    if fields.get(b"auth-ssl") != b"on":
        return None
    told = {name: fields[key] for key, name in _TLS.items() if key in fields}
    if "certificate" in told:
        told["certificate"] = _unescaped(fields, b"auth-ssl-cert")
    return TLS(**told)
