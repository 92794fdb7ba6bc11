"""Checking passwords against the user database, for the daemons that are asked to."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import hashlib
import hmac
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import argon2
import attrs
from adapters._contract import TryAgainError
from sqlalchemy.exc import SQLAlchemyError

from mailfront._addresses import address_name
from mailfront._delays import Delays, household
from mailfront._places import Places
from mailfront._sasl import ScramInfo
from mailfront.userdb import SCRAM_ITERATIONS, SCRAM_SALT_SIZE, User, UserDB, prepared

# Seconds from the question until a hash is begun, which takes some 50 ms; the database may have
# taken some of them. Postfix gives up after ten.
PATIENCE: Final = 8.0
# What scramp asks of a verifier; RFC 7677 has the number of rounds.
LEAST_SALT: Final = 12


class Passwords:
    """The user database, for the mechanisms: what is slow is done elsewhere.

    ``workers`` hash at once; a password whose turn does not come within ``patience`` seconds is
    not checked. Who has failed before, or asks for many, waits behind those who do
    not, so that guessers hold up one another, and nobody who knows his password.
    """

    def __init__(self, users: UserDB, *, workers: int, patience: float = PATIENCE) -> None:
        self.delays = Delays()
        self._patience = patience
        self._users = users
        self._hasher = argon2.PasswordHasher()
        self._workers = ThreadPoolExecutor(workers)
        self._places = Places(workers)
        # How many passwords each client has under check, or waiting for that.
        self._asked: collections.Counter[object] = collections.Counter()
        # For those who are not there, so that a stranger can't tell by the time it takes.
        self._nobodys_hash = self._hasher.hash(secrets.token_hex())
        self._site_key = b""

    def asked_by(self, client: bytes) -> Asked:
        """The same, for one client: its IP address."""
        return Asked(self, client)

    async def user(self, name: str) -> User | None:
        """The user of that address, in any form that it may have."""
        try:
            return await self._users.user(known) if (known := known_as(name)) else None
        except (SQLAlchemyError, OSError) as error:
            raise TryAgainError(f"the database can't be asked: {first_line(error)}") from None

    async def is_right(
        self, user: User | None, password: str, client: bytes, *, spent: float = 0
    ) -> bool:
        """Whether it is that user's password. TryAgainError where that can't be said.

        ``spent``: the seconds that the client has waited already.
        """
        known = user.argon2_hash if user is not None else None
        try:
            with self._counted(client) as already:
                await self._places.take(
                    self.delays.failures(client) + already, self._patience - spent
                )
                right = await asyncio.shield(self._begin(known or self._nobodys_hash, password))
        except TimeoutError:
            raise TryAgainError("too many passwords to check") from None
        except (argon2.exceptions.Argon2Error, argon2.exceptions.InvalidHashError) as error:
            # Memory is short, or the hash is none: nothing that its user can help.
            name = "a stranger" if user is None else user.address
            raise TryAgainError(
                f"the password of {name} can't be checked: {first_line(error)}"
            ) from None
        return right and known is not None

    async def scram_info(self, name: str, user: User | None) -> ScramInfo:
        """The verifier; for a stranger one that looks like a user's, and is always the same."""
        # First, and once, so that it takes no longer for a stranger than for a user.
        key = await self.site_key()
        if user is not None and has_verifier(user):
            return verifier_of(user)
        known = known_as(name) or name.casefold()
        digest = hmac.digest(key, known.encode(), hashlib.sha256)
        unknown = secrets.token_bytes(32)
        return digest[:SCRAM_SALT_SIZE], unknown, unknown, SCRAM_ITERATIONS

    async def site_key(self) -> bytes:
        """What strangers' salts are made of. TryAgainError where there is none to be had."""
        if not self._site_key:
            try:
                self._site_key = await self._users.site_key()
            except (SQLAlchemyError, OSError, LookupError) as error:
                raise TryAgainError(f"no site key: {first_line(error)}") from None
        return self._site_key

    def close(self) -> None:
        """Let the worker threads end."""
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _begin(self, known: str, password: str) -> asyncio.Future[bool]:
        """Let a thread check it. The place is given back when the thread is free."""
        loop = asyncio.get_running_loop()
        try:
            work = loop.run_in_executor(self._workers, self._verify, known, password)
        except RuntimeError:  # there can be no more threads
            self._places.give()
            raise TryAgainError("no thread can be started to check a password") from None
        work.add_done_callback(self._give_place)
        return work

    @contextlib.contextmanager
    def _counted(self, client: bytes) -> Iterator[int]:
        """How many the client has asked for beside this one."""
        key = household(client)
        already = self._asked[key]
        self._asked[key] += 1
        try:
            yield already
        finally:
            self._asked[key] -= 1
            if not self._asked[key]:
                del self._asked[key]

    def _give_place(self, work: asyncio.Future[bool]) -> None:
        self._places.give()
        if not work.cancelled():
            work.exception()  # if nobody waits for it any more, nobody looks at it

    def _verify(self, known: str, password: str) -> bool:
        try:
            text, is_one = prepared(password), True
        except ValueError:
            text, is_one = password, False
        try:
            self._hasher.verify(known, text)
        except argon2.exceptions.VerifyMismatchError:
            return False
        return is_one


@attrs.define
class Asked:
    """What the mechanisms ask, for one client."""

    _passwords: Passwords
    _client: bytes
    _since: float = 0

    async def user(self, name: str) -> User | None:
        """The user of that name."""
        self._since = asyncio.get_running_loop().time()
        return await self._passwords.user(name)

    async def is_right(self, user: User | None, password: str) -> bool:
        """Whether it is that user's password."""
        spent = asyncio.get_running_loop().time() - self._since
        return await self._passwords.is_right(user, password, self._client, spent=spent)

    async def scram_info(self, name: str, user: User | None) -> ScramInfo:
        """The verifier."""
        return await self._passwords.scram_info(name, user)


def has_verifier(user: User) -> bool:
    """Whether there is any of it; then it has to be whole."""
    parts = (
        *(user.scram_salt, user.scram_iterations),
        *(user.scram_stored_key, user.scram_server_key),
    )
    return any(part is not None for part in parts)


def verifier_of(user: User) -> ScramInfo:
    """What SCRAM needs of a user; TryAgainError if that is broken, which is not his fault."""
    salt, stored, server = user.scram_salt, user.scram_stored_key, user.scram_server_key
    rounds = user.scram_iterations
    if (
        salt is None
        or stored is None
        or server is None
        or rounds is None
        or len(salt) < LEAST_SALT
        or (len(stored), len(server)) != (32, 32)
        or rounds < SCRAM_ITERATIONS
    ):
        raise TryAgainError(f"the SCRAM verifier of {user.address} is broken")
    return salt, stored, server, rounds


def known_as(name: str) -> str | None:
    """What a user of that name is called in the database; None if there can be no such user."""
    try:
        return address_name(name)
    except ValueError:
        return None


def first_line(error: BaseException) -> str:
    """SQLAlchemy's texts have the statement behind it, and a link."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
