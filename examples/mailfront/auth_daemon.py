"""Checks passwords for Postfix's smtpd, against the user database.

    auth_daemon.py --listen unix:/var/spool/postfix/private/mailwire-auth --mode 666

and in main.cf: smtpd_sasl_type = dovecot, smtpd_sasl_path = private/mailwire-auth,
smtpd_sasl_auth_enable = yes, smtpd_tls_auth_only = yes. The mechanisms are PLAIN and LOGIN, under
TLS only, and SCRAM-SHA-256. CRAM-MD5 is not there: it needs the passwords in clear text.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import itertools
import logging
import os
import secrets
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import argon2
import cachetools
from adapters._contract import Limits
from adapters._listen import listen
from adapters.on_asyncio import Server
from adapters.services import AuthEvent, dovecot_auth

import dovecotauth as da
from mailfront._sasl import MECHANISMS, Conversation, Denied, Granted, ScramInfo
from mailfront.userdb import DEFAULT_DATABASE, User, UserDB

logger = logging.getLogger("auth_daemon")
# Every smtpd process holds one connection for its life. A stop waits for passwords under check, and
# not for long: of an exchange that was given up nobody says so.
LIMITS = Limits(connections=10_000, idle_timeout=86_400, grace=2)
ABANDONED = 150.0  # seconds; Postfix does not say that its client gave up. As in Dovecot.
# Seconds for the database, and for a wrong password at most: Postfix gives up after ten. A hash
# takes some 50 ms, so those that wait for theirs (--at-work) take one or two.
PATIENCE = 5.0
FIRST_DELAY, LAST_DELAY = 0.5, 4.0
BY_NAME = {mechanism.name: (mechanism, talk) for mechanism, talk in MECHANISMS.items()}


class Passwords:
    """The user database, for the mechanisms: what is slow is done elsewhere."""

    def __init__(self, users: UserDB, *, workers: int, at_work: int) -> None:
        self._users = users
        self._hasher = argon2.PasswordHasher()
        self._workers = ThreadPoolExecutor(workers)
        self._at_work = 0
        self._most_at_work = at_work
        # For those who are not there, so that a stranger can't tell by the time it takes.
        self._nobodys_hash = self._hasher.hash(secrets.token_hex())
        self._nobodys_key = secrets.token_bytes(32)

    async def user(self, name: str) -> User | None:
        """The user of that address; any case."""
        # Not asyncio.timeout(): a database that is frozen does not let a query be cancelled.
        task = asyncio.create_task(self._users.user(name.lower()))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.wait([task], timeout=PATIENCE)
        if not task.done():
            task.cancel()
            raise TimeoutError(f"no answer from the database within {PATIENCE:g} s")
        return task.result()

    async def is_right(self, user: User | None, password: str) -> bool:
        """Whether it is that user's password. RuntimeError where too many are asking."""
        if self._at_work >= self._most_at_work:
            raise RuntimeError("too many logins at once")
        known = user.argon2_hash if user is not None else None
        self._at_work += 1
        try:
            right = await asyncio.get_running_loop().run_in_executor(
                self._workers, self._verify, known or self._nobodys_hash, password
            )
        finally:
            self._at_work -= 1
        return right and known is not None

    def scram_info(self, name: str, user: User | None) -> ScramInfo:
        """The verifier; for a stranger one that is always the same, as a user's is."""
        if user is not None and user.scram_salt and user.scram_stored_key:
            assert user.scram_server_key is not None
            assert user.scram_iterations is not None
            return (
                user.scram_salt,
                user.scram_stored_key,
                user.scram_server_key,
                user.scram_iterations,
            )
        digest = hmac.digest(self._nobodys_key, name.lower().encode(), hashlib.sha256)
        return digest[:16], secrets.token_bytes(32), secrets.token_bytes(32), 4096

    def close(self) -> None:
        """Let the worker threads end."""
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _verify(self, known: str, password: str) -> bool:
        try:
            return self._hasher.verify(known, password)
        except argon2.exceptions.VerificationError:
            return False


class Delays:
    """Who guesses waits, longer each time; a right password is never held up."""

    def __init__(self) -> None:
        self._failures: cachetools.TTLCache[bytes, int] = cachetools.TTLCache(100_000, ttl=600)

    def after_failure(self, client: bytes) -> float:
        """Seconds to wait before that client is told."""
        count = self._failures[client] = self._failures.get(client, 0) + 1
        return min(FIRST_DELAY * 2.0 ** min(count - 1, 10), LAST_DELAY)


class Logins:
    """One connection of an MTA's, and the exchanges that are open on it."""

    def __init__(
        self, conn: da.ServerConnection, passwords: Passwords, delays: Delays, *, options: Options
    ) -> None:
        self._conn = conn
        self._passwords = passwords
        self._delays = delays
        self._options = options
        self._open: dict[int, tuple[float, da.Auth, Conversation]] = {}
        self._told: dict[int, da.Ok] = {}

    async def handle(self, event: AuthEvent) -> da.FromServer | None:
        """One event."""
        match event:
            case da.Auth():
                return await self._begin(event)
            case da.Cont(id, data) if id in self._told and not data:
                return self._told.pop(id)
            case da.Cont(id, data) if id in self._open and data is not None:
                return await self._go_on(id, data)
            case da.Cont(id):
                self._close(id)
                return da.Fail(id)
            case da.Cancel(id):
                self._close(id)
                return da.Cancelled(id) if self._conn.minor >= 4 else None
            case _:
                return None

    async def _begin(self, auth: da.Auth) -> da.FromServer:
        now = asyncio.get_running_loop().time()
        for number, (since, *_) in list(self._open.items()):
            # Postfix asks for one at a time: with a new one it has given up what was open.
            if self._options.for_postfix or now - since > ABANDONED:
                self._close(number)
                self._conn.forget(number)
        mechanism, talk = BY_NAME[auth.mechanism]
        plaintext = da.Flags.PLAINTEXT in mechanism.flags
        if plaintext and not (self._options.plaintext or da.has(auth.parameters, b"secured")):
            return da.Fail(auth.id, reason=b"this mechanism needs TLS")
        self._open[auth.id] = now, auth, talk(self._passwords, auth.response)
        return await self._go_on(auth.id, None)

    async def _go_on(self, number: int, response: bytes | None) -> da.FromServer:
        _, auth, talk = self._open[number]
        try:
            said = await (anext(talk) if response is None else talk.asend(response))
        except BaseException:
            self._close(number)
            raise
        if isinstance(said, bytes):
            return da.Cont(number, said)
        self._close(number)
        client = da.value_of(auth.parameters, b"rip") or b""
        if isinstance(said, Granted) and said.user.blocked:
            said = Denied(da.USER_DISABLED)
        if isinstance(said, Granted):
            logger.info("%s has logged in from %r", said.user.address, client)
            return self._granted(auth, said)
        await asyncio.sleep(self._delays.after_failure(client))
        logger.info("a login from %r has failed", client)
        return da.Fail(number, code=said.code)

    def _granted(self, auth: da.Auth, granted: Granted) -> da.FromServer:
        fields = ((b"plan", granted.user.plan.value.encode()),)
        user = granted.user.address.encode()
        if granted.data is None:
            return da.Ok(auth.id, user, fields)
        if da.has(auth.parameters, b"final-resp-ok"):
            return da.Ok(auth.id, user, fields, granted.data)
        self._told[auth.id] = da.Ok(auth.id, user, fields)
        return da.Cont(auth.id, granted.data)

    def _close(self, number: int) -> None:
        self._open.pop(number, None)
        self._told.pop(number, None)


class Options(argparse.Namespace):
    """The command line."""

    database: str
    listen: list[str]
    mode: str
    profile: str
    plaintext: bool
    workers: int
    at_work: int

    @property
    def for_postfix(self) -> bool:
        """Whether only Postfix asks."""
        return self.profile == "postfix"


async def serve(options: Options) -> None:
    """Until SIGTERM or SIGINT."""
    users = UserDB.connect(options.database)
    passwords = Passwords(users, workers=options.workers, at_work=options.at_work * options.workers)
    delays = Delays()
    numbers = itertools.count(1)

    def hello() -> da.ServerHello:
        cookie = secrets.token_hex(16).encode()
        return da.ServerHello(tuple(MECHANISMS), os.getpid(), next(numbers), cookie)

    service = dovecot_auth(
        lambda conn: Logins(conn, passwords, delays, options=options).handle,
        hello,
        temp_fail=not options.for_postfix,
    )
    try:
        listeners = [listen(address, mode=int(options.mode, 8)) for address in options.listen]
        await Server(service, LIMITS).run(*listeners)
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
    add("--listen", action="append", required=True, metavar="ADDRESS", help="unix:/path, inet:...")
    add("--mode", default="660", help="permissions of a unix socket: %(default)s")
    add(
        "--profile",
        choices=("postfix", "other"),
        default="postfix",
        help="when no answer can be had: close, which is 454 in Postfix, or say temp_fail",
    )
    add("--plaintext", action="store_true", help="take PLAIN and LOGIN without TLS, too")
    add("--workers", type=int, default=os.cpu_count() or 1, help="threads that hash: %(default)s")
    add("--at-work", type=int, default=25, help="passwords waiting for each: %(default)s")
    options = parser.parse_args(namespace=Options())
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    try:
        asyncio.run(serve(options))
    except (OSError, ValueError) as error:
        raise SystemExit(f"can't start: {error}") from None


if __name__ == "__main__":
    main()
