"""nginx asks a Starlette application whether a mail user may log in, and where his mail is."""

import logging
import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import nginxauth as ng

logger = logging.getLogger(__name__)

# As in nginx.conf: auth_http_header X-Auth-Key "...";
SECRET = os.environ.get("AUTH_SECRET", "change me").encode()
# Here your database comes in. APOP and CRAM-MD5 need passwords in the clear, PLAIN does not.
PASSWORDS = {b"ann@example.test": b"sesame", b"bob@example.test": "100% voilà".encode()}
BACKENDS = {b"smtp": (b"127.0.0.1", 10025), b"imap": (b"::1", 143), b"pop3": (b"::1", 110)}
# What Starlette and uvicorn add to the head, of which nginx reads 1024 bytes: content-length,
# date, server, connection.
RESERVE = 128


async def judge(request: ng.AuthRequest) -> ng.Reply:
    """Whether he may come in."""
    password = PASSWORDS.get(request.user)
    if password is None or not ng.verify(request, password):
        return ng.Deny(b"Wrong name or password", b"535 5.7.8", wait=2)
    server, port = BACKENDS[request.protocol]
    # nginx goes on with what the client said; after a digest (APOP, CRAM-MD5) it needs this.
    return ng.Allow(server, port, password=password if request.salt else None)


async def auth(http: Request) -> Response:
    """One question of nginx's."""
    request = ng.parse_request(http.headers.raw)
    if isinstance(request, ng.Malformed):
        return respond(ng.reply_headers(request.reply, request, RESERVE))
    if not ng.has_secret(request, b"X-Auth-Key", SECRET):
        return Response(status_code=403)  # not our nginx
    try:
        return respond(ng.reply_headers(await judge(request), request, RESERVE))
    except Exception:
        logger.exception("no answer")
        # The password may be right: what has failed here must not look like a refusal.
        later = ng.Deny(b"Temporary failure, try again later", b"451 4.3.0")
        return respond(ng.reply_headers(later, request, RESERVE))


def respond(headers: ng.Headers) -> Response:
    """Frameworks want text; latin-1 keeps every byte what it is."""
    return Response(headers={name.decode(): value.decode("latin-1") for name, value in headers})


app = Starlette(routes=[Route("/auth", auth)])
