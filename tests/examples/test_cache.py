"""The cache in front of the database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from mailfront._cache import Cache

KEY = ("recipients", "ann@example.test")


class Database:
    """Counts questions, and answers when told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.now = 0.0
        self.answer: str | Exception | None = "here"
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def ask(self, key: tuple[str, str]) -> str | None:
        self.asked.append(key)
        await self.may_answer.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def cache(self, size: int = 10) -> Cache[str | None]:
        return Cache(self.ask, lambda answer: 10 if answer else 1, size, clock=lambda: self.now)


def run(test: Callable[[Database], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(20):
            await test(Database())

    asyncio.run(main())


def test_an_answer_stays_for_its_time() -> None:
    """A positive one longer than a negative one."""

    async def test(database: Database) -> None:
        cache = database.cache()
        assert await cache.get(KEY) == ("here", False)
        database.now = 9.9
        assert await cache.get(KEY) == ("here", True)
        database.now = 10.1
        database.answer = None
        assert await cache.get(KEY) == (None, False)
        assert await cache.get(KEY) == (None, True)
        database.now = 11.2
        assert await cache.get(KEY) == (None, False)

    run(test)


def test_one_question_in_flight_for_a_key() -> None:
    """However many ask; one who goes away takes nothing from the others."""

    async def test(database: Database) -> None:
        cache = database.cache()
        database.may_answer.clear()
        asking = [asyncio.create_task(cache.get(KEY)) for _ in range(100)]
        while not database.asked:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0)
        asking[0].cancel()
        database.may_answer.set()
        answers = await asyncio.gather(*asking, return_exceptions=True)
        assert isinstance(answers[0], asyncio.CancelledError)
        assert answers[1:] == [("here", False)] * 99
        assert database.asked == [KEY]

    run(test)


def test_a_failure_is_not_kept() -> None:
    """All who ask now get it; the next one asks anew. Fresh answers are given meanwhile."""

    async def test(database: Database) -> None:
        cache = database.cache()
        await cache.get(KEY)
        database.answer = OSError("down")
        other = ("aliases", "x@example.test")
        with pytest.raises(OSError, match="down"):
            await cache.get(other)
        assert await cache.get(KEY) == ("here", True)
        database.answer = "back"
        assert await cache.get(other) == ("back", False)

    run(test)


def test_a_failure_that_nobody_waits_for() -> None:
    """Is no error of the loop's."""

    async def test(database: Database) -> None:
        complaints: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda *args: complaints.append(args))
        cache = database.cache()
        database.answer = OSError("down")
        database.may_answer.clear()
        asking = asyncio.create_task(cache.get(KEY))
        while not database.asked:  # noqa: ASYNC110
            await asyncio.sleep(0)
        asking.cancel()
        database.may_answer.set()
        while cache._asking:  # noqa: ASYNC110
            await asyncio.sleep(0)
        del asking
        assert complaints == []

    run(test)


def test_what_can_not_be_kept_is_answered_all_the_same() -> None:
    """A cache of no size is none, and no reason to have no answer."""

    async def test(database: Database) -> None:
        cache = database.cache(size=0)
        for _ in range(2):
            assert await cache.get(KEY) == ("here", False)

    run(test)


def test_its_size_is_bounded() -> None:
    """What was asked for least recently goes first."""

    async def test(database: Database) -> None:
        cache = database.cache(size=2)
        for name in ("a", "b", "a", "c"):
            await cache.get(("t", name))
        assert (await cache.get(("t", "a")))[1]
        assert not (await cache.get(("t", "b")))[1]

    run(test)
