r"""Tells nginx who may log in, and to which Postfix he belongs, by the user database.

    nginx_daemon.py --listen inet:127.0.0.1:9143 --route paid=127.0.0.1:10025 \
        --route trial=127.0.0.1:10026 --secret-file /etc/nginx/mailwire-secret

and in nginx.conf: auth_http 127.0.0.1:9143/auth; auth_http_header X-Auth-Key "...";
smtp_auth plain login none. Who logs in goes to the Postfix of his plan; mail for which nobody
logs in (none) goes to that of its first recipient. CRAM-MD5 and APOP are refused: they need the
passwords in clear text.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import math
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))

import attrs
from adapters._contract import Limits, TryAgainError
from adapters.on_asyncio import Server
from adapters.services import auth_http
from sqlalchemy.exc import SQLAlchemyError

import nginxauth as na
from mailfront._addresses import names_of
from mailfront._options import address, mode, number, pair
from mailfront._passwords import Passwords, first_line
from mailfront._sockets import listeners, room_for
from mailfront.userdb import DEFAULT_DATABASE, Plan, UserDB

logger = logging.getLogger("nginx_daemon")
# nginx makes a connection for each question, and waits for its answer for a minute.
LIMITS = Limits(connections=10_000, idle_timeout=60, grace=5)
PATIENCE: Final = 30.0  # seconds for a password to be checked
SECRET_HEADER: Final = b"X-Auth-Key"

# nginx writes the login into XCLIENT as it is (up to 1.29.1), and Postfix takes the line apart at
# blanks, in quotes and escapes, and decodes what follows a plus.
UNSAFE: Final = re.compile(rb'[^!-~]|[+=<"\\]')

WRONG: Final = b"Authentication failed", b"535 5.7.8"
BLOCKED: Final = b"This account is blocked", b"525 5.7.13"
NOT_OFFERED: Final = b"This way to log in is not offered", b"504 5.5.4"
GARBLED: Final = b"This name can't log in here", b"535 5.7.8"
NO_RECIPIENT: Final = b"This is no recipient's address", b"501 5.1.3"
NO_RELAY: Final = b"Relay access denied", b"554 5.7.1"
UNKNOWN: Final = b"No such user here", b"550 5.1.1"
STRANGER: Final = b"The mail front is set up wrongly", b"451 4.3.5"


class Front:
    """What nginx is told."""

    def __init__(
        self,
        users: UserDB,
        passwords: Passwords,
        routes: Mapping[Plan, tuple[bytes, int]],
        *,
        secret: bytes = b"",
    ) -> None:
        self._users = users
        self._passwords = passwords
        self._routes = routes
        self._secret = secret

    async def answer(self, request: na.AuthRequest) -> na.Reply:
        """For one request. What this raises is told as a temporary failure, never as a refusal."""
        if self._secret and not na.has_secret(request, SECRET_HEADER, self._secret):
            logger.error("a request without our secret, or with another one")
            return na.Deny(*STRANGER)
        match request.method:
            case na.PLAIN:
                return await self._log_in(request)
            case na.NONE if request.envelope is not None:
                try:
                    return await self._take_in(request.envelope)
                except (SQLAlchemyError, OSError) as error:
                    raise TryAgainError(f"the database: {first_line(error)}") from None
            case _:
                return na.Deny(*NOT_OFFERED)

    async def _log_in(self, request: na.AuthRequest) -> na.Reply:
        try:
            name, password = request.user.decode(), request.password.decode()
        except UnicodeDecodeError:
            return self._wrong(request)
        user = await self._passwords.user(name)
        client = request.client_ip
        if not await self._passwords.is_right(user, password, client) or user is None:
            return self._wrong(request)
        if user.blocked:
            return na.Deny(*BLOCKED, wait=1)  # or nginx would close, and many a client asks again
        # The name as we have it: it goes on to Postfix, which binds senders to it.
        name_there = user.address.encode()
        if UNSAFE.search(name_there):
            logger.error("%s can't log in by nginx: XCLIENT would garble the name", user.address)
            return na.Deny(*GARBLED, wait=1)
        logger.info("%s has logged in from %s", user.address, request.client_ip.decode())
        return na.Allow(*self._routes[user.plan], user=name_there)

    def _wrong(self, request: na.AuthRequest) -> na.Deny:
        """Nginx holds it back, for longer each time, and closes after some attempts."""
        logger.info("a login from %s has failed", request.client_ip.decode())
        return na.Deny(
            *WRONG, wait=math.ceil(self._passwords.delays.after_failure(request.client_ip))
        )

    async def _take_in(self, envelope: na.Envelope) -> na.Reply:
        """Mail from outside: only nginx's first question of a session, so Postfix looks, too."""
        names = names_of(envelope.recipient.strip(b"<>")) if envelope.recipient else []
        if not names:
            return na.Deny(*NO_RECIPIENT, wait=1)  # another recipient may be a better one
        for name in names:
            plan = await self._users.plan(name)
            if plan is not None:
                return na.Allow(*self._routes[plan])
            if await self._users.alias(name) is not None:
                return na.Allow(*self._routes[Plan.PAID])  # from where it goes on to each
        domain = names[0].rpartition("@")[2]
        is_ours = await self._users.has_domain(domain)
        return na.Deny(*(UNKNOWN if is_ours else NO_RELAY), wait=1)


async def serve(options: argparse.Namespace) -> None:
    """Until SIGTERM or SIGINT."""
    routes = dict(options.route)
    missing = [plan.value for plan in Plan if plan not in routes]
    if missing:
        raise ValueError(f"no --route for the plan {', '.join(missing)}")
    secret = options.secret_file.read_bytes().strip() if options.secret_file else b""
    users = UserDB.connect(options.database)
    passwords = Passwords(users, workers=options.workers, patience=PATIENCE)
    front = Front(users, passwords, routes, secret=secret)
    try:
        sockets = listeners(options.listen, mode=options.mode)
        limits = attrs.evolve(LIMITS, connections=room_for(LIMITS.connections))
        await Server(auth_http(front.answer), limits).run(*sockets)
    finally:
        passwords.close()
        await users.close()
    logger.info("stopped")


def main() -> None:
    """Read the command line, and serve."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--database", default=DEFAULT_DATABASE, metavar="URL", help="%(default)s")
    add("--listen", action="append", default=[], metavar="ADDRESS", help="inet:..., unix:/path")
    add("--mode", type=mode, default=0o660, help="permissions of a unix socket, octal: 660")
    add("--route", type=pair(Plan, address), action="append", default=[], metavar="PLAN=IP:PORT")
    add("--secret-file", type=Path, metavar="FILE", help="has what nginx sends as X-Auth-Key")
    add("--workers", type=number(int, 1, 1000), default=os.cpu_count() or 1, help="%(default)s")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    try:
        asyncio.run(serve(options))
    except (OSError, ValueError) as error:
        raise SystemExit(f"can't start: {error}") from None


if __name__ == "__main__":
    main()
