"""nginx asks a WSGI application whether a mail user may log in, and where his mail is."""

import logging
import os
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIEnvironment

import nginxauth as ng

logger = logging.getLogger(__name__)

SECRET = os.environ.get("AUTH_SECRET", "change me").encode()
PASSWORDS = {b"ann@example.test": b"sesame", b"bob@example.test": "100% voilà".encode()}
BACKENDS = {b"smtp": (b"127.0.0.1", 10025), b"imap": (b"::1", 143), b"pop3": (b"::1", 110)}
RESERVE = 128  # for date, server, connection


def judge(request: ng.AuthRequest) -> ng.Reply:
    """Whether he may come in."""
    password = PASSWORDS.get(request.user)
    if password is None or not ng.verify(request, password):
        return ng.Deny(b"Wrong name or password", b"535 5.7.8", wait=2)
    server, port = BACKENDS[request.protocol]
    return ng.Allow(server, port, password=password if request.salt else None)


def answer(request: ng.AuthRequest | ng.Malformed) -> ng.Headers:
    """A failure of ours must not look like a refusal."""
    if isinstance(request, ng.Malformed):
        return ng.reply_headers(request.reply, request, RESERVE)
    try:
        return ng.reply_headers(judge(request), request, RESERVE)
    except Exception:
        logger.exception("no answer")
        later = ng.Deny(b"Temporary failure, try again later", b"451 4.3.0")
        return ng.reply_headers(later, request, RESERVE)


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """One question of nginx's."""
    request = ng.parse_request(ng.environ_headers(environ))
    is_ours = isinstance(request, ng.Malformed) or ng.has_secret(request, b"X-Auth-Key", SECRET)
    if not is_ours:
        start_response("403 Forbidden", [])
        return []
    headers = [(name.decode(), value.decode("latin-1")) for name, value in answer(request)]
    start_response("200 OK", headers)
    return []
