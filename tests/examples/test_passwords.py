"""Passwords are checked in turn, and nobody is told that his is wrong where that is not known."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from unittest.mock import AsyncMock

import argon2
import pytest
from adapters._contract import TryAgainError
from mailfront import _passwords
from mailfront._passwords import Passwords
from mailfront.userdb import Plan, User, UserDB

PATIENCE = 20


def user(password: str = "sesame", **fields: Any) -> User:
    made = User("ann@example.test", "example.test", Plan.PAID, "ann/")
    made.set_password(password)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


@pytest.fixture(scope="module")
def ann() -> User:
    return user()


def run(
    test: Callable[[Passwords], Awaitable[Any]], *, patience: float = _passwords.PATIENCE
) -> Any:
    users = AsyncMock(spec=UserDB)
    users.site_key.return_value = b"k" * 32

    async def within() -> Any:
        passwords = Passwords(users, workers=1, patience=patience)
        try:
            async with asyncio.timeout(PATIENCE):
                return await test(passwords)
        finally:
            passwords.close()

    return asyncio.run(within())


def test_right_and_wrong(ann: User) -> None:
    """And what can be no password is wrong, after as much work."""

    async def test(passwords: Passwords) -> list[bool]:
        tries = ("sesame", "Sesame", "", "ses\x07ame")
        return [await passwords.is_right(ann, one, b"") for one in tries]

    assert run(test) == [True, False, False, False]


@pytest.mark.parametrize(
    ("stored", "typed"),
    [
        ("p\u00e4ss wort", "pa\u0308ss\u00a0wort"),  # a blank that does not break, and NFD
        ("\u2168", "IX"),
    ],
)
def test_one_password_typed_in_two_ways(stored: str, typed: str) -> None:
    """SASLprep for all mechanisms, as RFC 4616 and 5802 have it."""

    async def test(passwords: Passwords) -> bool:
        return await passwords.is_right(user(stored), typed, b"")

    assert run(test)


@pytest.mark.parametrize("password", ["", "\x07bell", "emoji\U0001f984", "\u00ad"])
def test_what_can_be_no_password_changes_nothing(ann: User, password: str) -> None:
    """Both are made, or neither."""
    before = ann.argon2_hash, ann.scram_salt, ann.scram_stored_key
    with pytest.raises(ValueError, match="no password"):
        ann.set_password(password)
    assert (ann.argon2_hash, ann.scram_salt, ann.scram_stored_key) == before


@pytest.mark.parametrize(
    "error",
    [
        argon2.exceptions.VerificationError("Memory allocation error"),
        argon2.exceptions.InvalidHashError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_memory_is_short(ann: User, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is no wrong password, of a user or of a stranger; and the next is checked."""

    def verify(*_: object) -> bool:
        raise error

    async def test(passwords: Passwords) -> bool:
        with monkeypatch.context() as patch:
            patch.setattr(argon2.PasswordHasher, "verify", verify)
            for one in (ann, None):
                with pytest.raises(TryAgainError, match="can't be checked"):
                    await passwords.is_right(one, "sesame", b"")
        return await passwords.is_right(ann, "sesame", b"")

    assert run(test)


@pytest.mark.parametrize("broken", ["!", "$argon2id$v=19$m=65536,t=3,p=4$AAAA", "$2b$12$x"])
def test_a_hash_that_is_none(broken: str) -> None:
    """The database is at fault, and not the one who logs in; the log says whose hash it is."""

    async def test(passwords: Passwords) -> None:
        with pytest.raises(TryAgainError, match=r"of ann@example\.test can't be checked"):
            await passwords.is_right(user(argon2_hash=broken), "sesame", b"")

    run(test)


@pytest.mark.parametrize(
    "field",
    [
        {"scram_salt": None},
        {"scram_salt": b"short"},
        {"scram_iterations": None},
        {"scram_iterations": 1000},
        {"scram_stored_key": b"x"},
        {"scram_stored_key": None},
        {"scram_stored_key": b""},
        {"scram_server_key": None},
    ],
    ids=repr,
)
def test_a_verifier_that_is_broken(field: dict[str, Any]) -> None:
    """Likewise."""

    async def test(passwords: Passwords) -> None:
        with pytest.raises(TryAgainError, match="verifier"):
            await passwords.scram_info("ann@example.test", user(**field))

    run(test)


def test_no_thread_can_be_started(ann: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """A temporary failure, and the place is there for the next."""

    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def test(passwords: Passwords) -> bool:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            for _ in range(3):
                with pytest.raises(TryAgainError, match="no thread"):
                    await passwords.is_right(ann, "sesame", b"")
        return await passwords.is_right(ann, "sesame", b"")

    assert run(test)


def test_what_the_database_has_taken_counts(ann: User, gate: threading.Semaphore) -> None:
    """The place has to come within what is left."""

    async def test(passwords: Passwords) -> None:
        at_work = asyncio.create_task(passwords.is_right(ann, "x", b""))
        await asyncio.sleep(0)
        asked = passwords.asked_by(b"")
        asked._since = asyncio.get_running_loop().time() - _passwords.PATIENCE
        with pytest.raises(TryAgainError, match="too many"):
            await asked.is_right(ann, "x")
        gate.release()
        assert await at_work

    run(test)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Semaphore]:
    """A check ends for each release."""
    gate = threading.Semaphore(0)

    def verify(_passwords: Passwords, _known: str, _password: str) -> bool:
        assert gate.acquire(timeout=PATIENCE)
        return True

    monkeypatch.setattr(Passwords, "_verify", verify)
    yield gate
    gate.release(100)


def test_who_has_failed_waits_behind_who_has_not(ann: User, gate: threading.Semaphore) -> None:
    """However many guess, the next place is his who knows."""

    async def test(passwords: Passwords) -> None:
        done: list[bytes] = []

        async def check(client: bytes) -> None:
            await passwords.is_right(ann, "x", client)
            done.append(client)

        passwords.delays.after_failure(b"192.0.2.1")
        guesses = [asyncio.create_task(check(b"192.0.2.1")) for _ in range(50)]
        await asyncio.sleep(0)
        right = asyncio.create_task(check(b"192.0.2.2"))
        await asyncio.sleep(0)
        gate.release(2)
        await right
        assert len(done) == 2  # one guess was at work already
        gate.release(100)
        await asyncio.gather(*guesses)

    run(test)


def test_who_asks_for_many_waits_behind_who_does_not(ann: User, gate: threading.Semaphore) -> None:
    """Before the first of them has failed."""

    async def test(passwords: Passwords) -> None:
        done: list[bytes] = []

        async def check(client: bytes) -> None:
            await passwords.is_right(ann, "x", client)
            done.append(client)

        guesses = [asyncio.create_task(check(b"192.0.2.%d" % (n % 2))) for n in range(50)]
        await asyncio.sleep(0)
        right = asyncio.create_task(check(b"192.0.2.9"))
        await asyncio.sleep(0)
        gate.release(3)
        await right
        assert len(done) == 3  # one guess was at work, and the other address has its first
        gate.release(100)
        await asyncio.gather(*guesses)
        assert not passwords._asked

    run(test)


def test_nobody_waits_for_long(ann: User, gate: threading.Semaphore) -> None:
    """Then it is a temporary failure, while Postfix still listens."""

    async def test(passwords: Passwords) -> None:
        at_work = asyncio.create_task(passwords.is_right(ann, "x", b""))
        await asyncio.sleep(0)
        with pytest.raises(TryAgainError, match="too many"):
            await passwords.is_right(ann, "x", b"")
        gate.release()
        assert await at_work

    run(test, patience=0.01)


def test_who_goes_away_leaves_his_thread_at_work(ann: User, gate: threading.Semaphore) -> None:
    """So his place is free when the thread is, and not before: nobody can make a heap of work."""

    async def test(passwords: Passwords) -> None:
        first, second = (asyncio.create_task(passwords.is_right(ann, "x", b"")) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert passwords._places._free == 0
        gate.release(2)
        assert await second

    run(test)
