"""Checking passwords against the user database, for the daemons that are asked to."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import argon2
import cachetools

from mailfront._addresses import address_name
from mailfront._sasl import ScramInfo
from mailfront.userdb import SCRAM_ITERATIONS, SCRAM_SALT_SIZE, User, UserDB

# Seconds for a wrong password: Postfix gives up after ten, of which the database may take five. A
# hash takes some 50 ms, so those that wait for theirs take one or two.
FIRST_DELAY: Final = 0.5
LAST_DELAY: Final = 4.0


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
        self._site_key = b""

    async def user(self, name: str) -> User | None:
        """The user of that address, in any form that it may have."""
        return await self._users.user(known) if (known := known_as(name)) else None

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

    async def scram_info(self, name: str, user: User | None) -> ScramInfo:
        """The verifier; for a stranger one that looks like a user's, and is always the same."""
        # First, and once, so that it takes no longer for a stranger than for a user.
        if not self._site_key:
            self._site_key = await self._users.site_key()
        if user is not None and user.scram_salt and user.scram_stored_key:
            assert user.scram_server_key is not None
            assert user.scram_iterations is not None
            return (
                user.scram_salt,
                user.scram_stored_key,
                user.scram_server_key,
                user.scram_iterations,
            )
        known = known_as(name) or name.casefold()
        digest = hmac.digest(self._site_key, known.encode(), hashlib.sha256)
        unknown = secrets.token_bytes(32)
        return digest[:SCRAM_SALT_SIZE], unknown, unknown, SCRAM_ITERATIONS

    def close(self) -> None:
        """Let the worker threads end."""
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _verify(self, known: str, password: str) -> bool:
        try:
            return self._hasher.verify(known, password)
        except argon2.exceptions.VerificationError:
            return False


def known_as(name: str) -> str | None:
    """What a user of that name is called in the database; None if there can be no such user."""
    try:
        return address_name(name)
    except ValueError:
        return None


class Delays:
    """Who guesses waits, longer each time; a right password is never held up."""

    def __init__(self) -> None:
        self._failures: cachetools.TTLCache[bytes, int] = cachetools.TTLCache(100_000, ttl=600)

    def after_failure(self, client: bytes) -> float:
        """Seconds to wait before that client is told."""
        count = self._failures[client] = self._failures.get(client, 0) + 1
        return min(FIRST_DELAY * 2.0 ** min(count - 1, 10), LAST_DELAY)
