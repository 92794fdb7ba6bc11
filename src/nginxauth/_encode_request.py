"""The request -> the bytes that nginx writes for it, in nginx's order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from ._errors import LocalProtocolError
from ._escape import escape
from ._events import APOP, CRAM_MD5, NONE, PLAIN, TLS, AuthRequest, Envelope, ProxyProtocol
from ._request import is_known

# What ends a line, and what no HTTP server should take; then what none keeps.
_BREAKS: Final = re.compile(rb"[\x00\r\n]|\A[ \t]|[ \t]\Z")
# A URI and a host stand between blanks.
_NO_BLANKS: Final = re.compile(rb"[^\x00-\x20\x7f]+")
_LOWER: Final = re.compile(rb"[!-@\[-~]+")
_NAME: Final = re.compile(rb"[0-9A-Za-z!#$%&'*+.^_`|~-]+")  # RFC 9110, 5.6.2


def check_target(host: bytes, uri: bytes) -> None:
    """LocalProtocolError if a request can't have them."""
    if not _matches(_NO_BLANKS, host):
        raise LocalProtocolError("the host has to be bytes, with no blank or control byte in it")
    if not _matches(_NO_BLANKS, uri) or not uri.startswith(b"/"):
        raise LocalProtocolError(
            "the URI has to be bytes that begin with a slash, with no blank or control byte"
        )


def encode_request(request: AuthRequest, host: bytes, uri: bytes) -> bytes:
    """All of it. Raises LocalProtocolError, which names the field, for what can't be sent."""
    if type(request) is not AuthRequest:
        raise LocalProtocolError(f"{type(request).__name__}(...) is no request")
    lines = b"".join(b"%b: %b\r\n" % header for header in _headers(request))
    return b"GET %b HTTP/1.0\r\nHost: %b\r\n%b\r\n" % (uri, host, lines)


def _headers(request: AuthRequest) -> Iterator[tuple[bytes, bytes]]:
    yield b"Auth-Method", _word("method", request.method)
    yield b"Auth-User", _escaped("user", request.user)
    yield b"Auth-Pass", _escaped("password", request.password)
    if salt := _salt(request):
        yield b"Auth-Salt", salt
    yield b"Auth-Protocol", _word("protocol", request.protocol)
    yield b"Auth-Login-Attempt", _number("attempt", request.attempt, 1, 10**10 - 1)
    yield b"Client-IP", _text("client_ip", request.client_ip)
    if request.client_host is not None:
        yield b"Client-Host", _text("client_host", request.client_host)
    if request.proxy_protocol is not None:
        yield from _proxy_protocol(request.proxy_protocol)
    if (request.method == NONE) is (request.envelope is None):
        raise LocalProtocolError("an envelope goes with the method none, and with no other")
    if request.envelope is not None:
        yield from _envelope(request.envelope)
    if request.tls is not None:
        yield from _tls(request.tls)
    yield from _custom(request.headers)


def _salt(request: AuthRequest) -> bytes:
    salt = _raw("salt", request.salt)
    if salt and request.method == PLAIN:
        raise LocalProtocolError("a salt does not go with the method plain")
    if not salt and request.method in (APOP, CRAM_MD5):
        raise LocalProtocolError("the methods apop and cram-md5 go with a salt")
    return salt


def _proxy_protocol(proxy: ProxyProtocol) -> Iterator[tuple[bytes, bytes]]:
    _is("proxy_protocol", proxy, ProxyProtocol)
    yield b"Proxy-Protocol-Addr", _text("address", proxy.address)
    yield b"Proxy-Protocol-Port", _number("port", proxy.port, 0, 65535)
    yield b"Proxy-Protocol-Server-Addr", _text("server_address", proxy.server_address)
    yield b"Proxy-Protocol-Server-Port", _number("server_port", proxy.server_port, 0, 65535)


def _envelope(envelope: Envelope) -> Iterator[tuple[bytes, bytes]]:
    _is("envelope", envelope, Envelope)
    yield b"Auth-SMTP-Helo", _raw("helo", envelope.helo)
    yield b"Auth-SMTP-From", _raw("mail", envelope.mail)
    yield b"Auth-SMTP-To", _raw("rcpt", envelope.rcpt)


def _tls(tls: TLS) -> Iterator[tuple[bytes, bytes]]:
    _is("tls", tls, TLS)
    yield b"Auth-SSL", b"on"
    for name, value in (
        (b"Auth-SSL-Protocol", _raw("protocol", tls.protocol)),
        (b"Auth-SSL-Cipher", _raw("cipher", tls.cipher)),
        (b"Auth-SSL-Verify", _raw("verify", tls.verify)),
        (b"Auth-SSL-Subject", _raw("subject", tls.subject)),
        (b"Auth-SSL-Issuer", _raw("issuer", tls.issuer)),
        (b"Auth-SSL-Serial", _raw("serial", tls.serial)),
        (b"Auth-SSL-Fingerprint", _raw("fingerprint", tls.fingerprint)),
        (b"Auth-SSL-Cert", _escaped("certificate", tls.certificate)),
    ):
        if value:
            yield name, value


def _custom(headers: object) -> Iterator[tuple[bytes, bytes]]:
    if not isinstance(headers, tuple):
        raise LocalProtocolError("the headers have to be a tuple of pairs of bytes")
    for header in headers:
        if not isinstance(header, tuple) or len(header) != 2 or not _matches(_NAME, header[0]):
            raise LocalProtocolError("a header has to be a pair of bytes, the name an HTTP token")
        name, value = header
        if is_known(name):
            raise LocalProtocolError("one of the headers has a name that is nginx's own")
        yield name, _raw("headers", value)


# --- values; no error shows one ------------------------------------------------------------


def _is(field: str, value: object, kind: type) -> None:
    if type(value) is not kind:
        raise LocalProtocolError(f"{field} has to be a {kind.__name__}(...) or None")


def _matches(pattern: re.Pattern[bytes], value: object) -> bool:
    return type(value) is bytes and pattern.fullmatch(value) is not None


def _escaped(field: str, value: object) -> bytes:
    if type(value) is not bytes:
        raise LocalProtocolError(f"{field} has to be bytes")
    return escape(value)


def _raw(field: str, value: object) -> bytes:
    if type(value) is not bytes:
        raise LocalProtocolError(f"{field} has to be bytes")
    if _BREAKS.search(value):
        raise LocalProtocolError(
            f"{field} has NUL, CR or LF in it, or white space at its edge, and is not escaped"
        )
    return value


def _text(field: str, value: object) -> bytes:
    text = _raw(field, value)
    if not text:
        raise LocalProtocolError(f"{field} is empty")
    return text


def _word(field: str, value: object) -> bytes:
    if type(value) is not bytes or not _LOWER.fullmatch(value):
        raise LocalProtocolError(f"{field} has to be bytes, printable and in lower case")
    return value


def _number(field: str, value: object, least: int, most: int) -> bytes:
    if type(value) is not int or not least <= value <= most:
        raise LocalProtocolError(f"{field} has to be a number from {least} to {most}")
    return b"%d" % value
