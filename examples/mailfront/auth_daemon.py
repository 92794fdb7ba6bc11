"""Checks passwords for Postfix's smtpd, against the user database.

    auth_daemon.py --listen unix:/var/spool/postfix/private/mailwire-auth --mode 666

and in main.cf: smtpd_sasl_type = dovecot, smtpd_sasl_path = private/mailwire-auth,
smtpd_sasl_auth_enable = yes, smtpd_tls_auth_only = yes. The mechanisms are PLAIN and LOGIN, under
TLS only, and SCRAM-SHA-256. CRAM-MD5 is not there: it needs the passwords in clear text.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import logging
import os
import secrets
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import attrs
from adapters._contract import Limits, TryAgainError
from adapters.on_asyncio import Server
from adapters.services import AuthEvent, dovecot_auth

import dovecotauth as da
from mailfront._options import mode, number
from mailfront._passwords import Passwords
from mailfront._sasl import MECHANISMS, Conversation, Denied, Granted
from mailfront._sockets import listeners, room_for
from mailfront.userdb import DEFAULT_DATABASE, UserDB

logger = logging.getLogger("auth_daemon")
# Every smtpd process holds one connection for its life. A stop waits for passwords under check, and
# not for long: of an exchange that was given up nobody says so. Failures sleep, and take a place.
LIMITS = Limits(
    connections=10_000, idle_timeout=86_400, grace=2, requests=da.DEFAULT_MAX_OUTSTANDING
)
ABANDONED = 150.0  # seconds; Postfix does not say that its client gave up. As in Dovecot.
BY_NAME = {mechanism.name: (mechanism, talk) for mechanism, talk in MECHANISMS.items()}


@attrs.define(eq=False)
class Exchange:
    """One that is open: what was asked, how far it is, and what ends it if nobody else does."""

    auth: da.Auth
    talk: Conversation
    ending: asyncio.TimerHandle


class Logins:
    """One connection of an MTA's, and the exchanges that are open on it."""

    def __init__(
        self,
        conn: da.ServerConnection,
        passwords: Passwords,
        *,
        options: Options,
        abandoned: float = ABANDONED,
    ) -> None:
        self._conn = conn
        self._passwords = passwords
        self._options = options
        self._abandoned = abandoned
        # By id. What has ended has no place here, however it has ended: the id may come again.
        self._open: dict[int, Exchange] = {}

    async def handle(self, event: AuthEvent) -> da.FromServer | None:
        """One event."""
        match event:
            case da.Auth():
                return await self._begin(event)
            case da.Cont(id, data) if id in self._open and data is not None:
                return await self._go_on(id, self._open[id], data)
            case da.Cont(id):
                self._close(id)
                return da.Fail(id)
            case da.Cancel(id) | da.Malformed(reply=da.Fail(id)):
                self._close(id)
            case da.ConnectionClosed():
                for number in list(self._open):
                    self._close(number)
            case _:
                pass  # greetings are the adapter's business
        return None

    async def _begin(self, auth: da.Auth) -> da.FromServer | None:
        if self._options.for_postfix:
            # It asks for one at a time: with a new one it has given up what was open.
            for number in list(self._open):
                self._forget(number)
        mechanism, talk = BY_NAME[auth.mechanism]
        plaintext = da.Flags.PLAINTEXT in mechanism.flags
        if plaintext and not (self._options.plaintext or da.has(auth.parameters, b"secured")):
            return da.Fail(auth.id, reason=b"this mechanism needs TLS")
        self._close(auth.id)
        client = da.value_of(auth.parameters, b"rip") or b""
        exchange = Exchange(
            auth,
            talk(self._passwords.asked_by(client), auth.response),
            asyncio.get_running_loop().call_later(self._abandoned, self._forget, auth.id),
        )
        self._open[auth.id] = exchange
        return await self._go_on(auth.id, exchange, None)

    async def _go_on(
        self, number: int, exchange: Exchange, response: bytes | None
    ) -> da.FromServer | None:
        talk = exchange.talk
        try:
            said = await (anext(talk) if response is None else talk.asend(response))
        except BaseException as error:
            if self._open.get(number) is not exchange and isinstance(error, Exception):
                return None  # of no matter to the exchange that has taken its place
            self._close(number)
            raise
        auth = exchange.auth
        client = da.value_of(auth.parameters, b"rip") or b""
        if isinstance(said, Granted) and said.user.blocked:
            said = Denied(da.USER_DISABLED)
        if isinstance(said, Denied):
            logger.info("a login from %r has failed", client)
            await asyncio.sleep(self._passwords.delays.after_failure(client))
        if self._open.get(number) is not exchange:
            return None  # cancelled, or forgotten, while it was looked at
        if isinstance(said, bytes):
            return da.Cont(number, said)
        final = da.has(auth.parameters, b"final-resp-ok")
        if isinstance(said, Granted) and said.data is not None and not final:
            exchange.talk = heard(said)
            await anext(exchange.talk)
            return da.Cont(number, said.data)
        self._close(number)
        if isinstance(said, Denied):
            return da.Fail(number, code=said.code)
        logger.info("%s has logged in from %r", said.user.address, client)
        fields = ((b"plan", said.user.plan.value.encode()),)
        return da.Ok(number, said.user.address.encode(), fields, said.data)

    def _forget(self, number: int) -> None:
        """Its client has gone away, of which the MTA says nothing."""
        self._close(number)
        self._conn.forget(number)

    def _close(self, number: int) -> None:
        exchange = self._open.pop(number, None)
        if exchange is not None:
            exchange.ending.cancel()


async def heard(granted: Granted) -> Conversation:
    """The mechanism's last word has gone out as a challenge; an empty response ends it."""
    response = yield b""
    yield Denied() if response else Granted(granted.user)


class Options(argparse.Namespace):
    """The command line."""

    database: str
    listen: list[str]
    mode: int
    profile: str
    plaintext: bool
    workers: int

    @property
    def for_postfix(self) -> bool:
        """Whether only Postfix asks."""
        return self.profile == "postfix"


async def serve(options: Options) -> None:
    """Until SIGTERM or SIGINT."""
    users = UserDB.connect(options.database)
    passwords = Passwords(users, workers=options.workers)
    numbers = itertools.count(1)

    def hello() -> da.ServerHello:
        cookie = secrets.token_hex(16).encode()
        return da.ServerHello(tuple(MECHANISMS), os.getpid(), next(numbers), cookie)

    service = dovecot_auth(
        lambda conn: Logins(conn, passwords, options=options).handle,
        hello,
        temp_fail=not options.for_postfix,
    )
    look = asyncio.create_task(look_for_site_key(passwords))
    try:
        sockets = listeners(options.listen, mode=options.mode)
        limits = attrs.evolve(LIMITS, connections=room_for(LIMITS.connections))
        await Server(service, limits).run(*sockets)
    finally:
        look.cancel()
        passwords.close()
        await users.close()
    logger.info("stopped")


async def look_for_site_key(passwords: Passwords) -> None:
    """So that its lack is in the log before the first login; nothing waits for this."""
    try:
        await passwords.site_key()
    except TryAgainError as error:
        logger.warning("as it stands nobody can log in by SCRAM: %s", error)


def main() -> None:
    """Read the command line, and serve."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--database", default=DEFAULT_DATABASE, metavar="URL", help="%(default)s")
    add("--listen", action="append", default=[], metavar="ADDRESS", help="unix:/path, inet:...")
    add("--mode", type=mode, default=0o660, help="permissions of a unix socket, octal: 660")
    add(
        "--profile",
        choices=("postfix", "other"),
        default="postfix",
        help="when no answer can be had: close, which is 454 in Postfix and a deferral in Exim; or "
        "say temp_fail, to clients that read that",
    )
    add("--plaintext", action="store_true", help="take PLAIN and LOGIN without TLS, too")
    add("--workers", type=number(int, 1, 1000), default=os.cpu_count() or 1, help="%(default)s")
    options = parser.parse_args(namespace=Options())
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    try:
        asyncio.run(serve(options))
    except (OSError, ValueError) as error:
        raise SystemExit(f"can't start: {error}") from None


if __name__ == "__main__":
    main()
