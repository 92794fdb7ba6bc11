"""Is this he, and is this really our nginx? Compared in a time that tells nothing."""

from __future__ import annotations

import functools
import hashlib
import hmac
from collections.abc import Callable, Mapping
from typing import Final

from ._errors import LocalProtocolError
from ._events import APOP, CRAM_MD5, PLAIN, AuthRequest

# RFC 1939 and RFC 2195 want MD5, which a hardened Python keeps for such purposes only.
_md5: Final = functools.partial(hashlib.md5, usedforsecurity=False)


def _apop(salt: bytes, password: bytes) -> bytes:
    return _md5(salt + password).hexdigest().encode()


def _cram_md5(salt: bytes, password: bytes) -> bytes:
    return hmac.new(password, salt, _md5).hexdigest().encode()


_EXPECTED: Final[Mapping[bytes, Callable[[bytes, bytes], bytes]]] = {
    PLAIN: lambda _, password: password,
    b"login": lambda _, password: password,  # as Dovecot's Lua scripts name it; nginx: plain
    APOP: _apop,
    CRAM_MD5: _cram_md5,
}


def verify(request: AuthRequest, password: bytes) -> bool:
    """Whether the client has proved that it knows ``password``, which is the clear one.

    For ``plain``, ``apop`` and ``cram-md5``; for all other methods, which prove nothing of
    a password, False. So it is for a digest without a salt: he who has seen one has it for ever.
    Raises LocalProtocolError if ``password`` is not bytes, or ``request`` is none, such as
    a `Malformed`.
    """
    _check(request)
    if type(password) is not bytes:
        raise LocalProtocolError("the password has to be bytes")
    expected = _EXPECTED.get(request.method)
    if expected is None or (request.method in (APOP, CRAM_MD5) and not request.salt):
        return False
    try:
        return hmac.compare_digest(request.password, expected(request.salt, password))
    except TypeError:
        raise LocalProtocolError("the request has a password or a salt that is not bytes") from None


def has_secret(request: AuthRequest, name: bytes, secret: bytes) -> bool:
    """Whether nginx sent this secret, so that it is no stranger who asks.

    ``name``, in any case, and ``secret`` are what ``auth_http_header`` has in nginx.conf. A
    field that is missing, or there twice, is no. Raises LocalProtocolError if they are not
    bytes, or ``secret`` is empty, or begins or ends with a blank, which HTTP takes off; and
    if ``request`` is none, such as a `Malformed`.
    """
    _check(request)
    if type(name) is not bytes or type(secret) is not bytes:
        raise LocalProtocolError("the header's name and the secret have to be bytes")
    if not secret or secret != secret.strip(b" \t"):
        raise LocalProtocolError("no secret, or one with a blank at its edge, could ever arrive")
    values = [value for key, value in request.headers if key.lower() == name.lower()]
    return len(values) == 1 and hmac.compare_digest(values[0].strip(b" \t"), secret)


def _check(request: AuthRequest) -> None:
    if type(request) is not AuthRequest:
        raise LocalProtocolError(f"{type(request).__name__}(...) is no AuthRequest")
