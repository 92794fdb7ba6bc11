"""How long one waits for a database."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
from mailfront import _patience
from mailfront._patience import Patience

PATIENCE = 20


def run(test: Callable[[], Awaitable[None]]) -> None:
    """And the loop has nothing to complain of."""
    complaints: list[object] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *args: complaints.append(args))
        async with asyncio.timeout(PATIENCE):
            await test()

    asyncio.run(main())
    assert complaints == []


async def never() -> None:
    await asyncio.Event().wait()


def test_the_answer_or_what_the_question_raises() -> None:
    """In time, it is as if nobody were there."""

    async def test() -> None:
        async def answer() -> int:
            return 1

        async def fail() -> int:
            raise OSError("down")

        patience = Patience(PATIENCE, 2)
        assert await patience.within(answer) == 1
        with pytest.raises(OSError, match="down"):
            await patience.within(fail)

    run(test)


def test_it_is_given_up_in_time() -> None:
    """Even if it takes no notice of that."""

    async def test() -> None:
        told: list[str] = []

        async def stubborn() -> None:
            try:
                await never()
            except asyncio.CancelledError:
                told.append("once")
                await asyncio.sleep(0.05)
                told.append("ended")
                raise OSError("nobody looks at this") from None

        patience = Patience(0.01, 2)
        with pytest.raises(TimeoutError, match=r"within 0\.01 s"):
            await patience.within(stubborn)
        assert told == []
        await patience.end()
        assert told == ["once", "ended"]

    run(test)


def test_one_who_goes_away_takes_his_question_with_him() -> None:
    """Or a database that is frozen would keep its place for ever."""

    async def test() -> None:
        patience = Patience(PATIENCE, 1)
        asking = asyncio.create_task(patience.within(never))
        while not patience._asking:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
        while patience._asking:  # noqa: ASYNC110
            await asyncio.sleep(0)

    run(test)


def test_only_some_ask_at_once() -> None:
    """The others wait for their turn, and their patience runs."""

    async def test() -> None:
        now: list[int] = []
        most: list[int] = []

        async def ask() -> None:
            now.append(1)
            most.append(len(now))
            await asyncio.sleep(0)
            now.pop()

        patience = Patience(PATIENCE, 3)
        await asyncio.gather(*(patience.within(ask) for _ in range(20)))
        assert max(most) == 3
        short = Patience(0.01, 1)
        answers = await asyncio.gather(
            *(short.within(never) for _ in range(3)), return_exceptions=True
        )
        assert [type(answer) for answer in answers] == [TimeoutError] * 3

    run(test)


def test_the_end_is_waited_for_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is asked still is told once, and some never end."""

    async def test() -> None:
        monkeypatch.setattr(_patience, "ENDING", 0.05)
        may_end = asyncio.Event()

        async def deaf() -> None:
            with_patience = asyncio.create_task(may_end.wait())
            while not with_patience.done():
                try:
                    await asyncio.shield(with_patience)
                except asyncio.CancelledError:
                    continue

        patience = Patience(0.01, 5)
        with pytest.raises(TimeoutError):
            await patience.within(deaf)
        begun = time.monotonic()
        await patience.end()
        assert 0.04 < time.monotonic() - begun < PATIENCE / 2
        may_end.set()
        await patience.end()
        await patience.end()
        assert not patience._asking

    run(test)
