"""A few places for many who want one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from mailfront._places import RANKS, Places

FOREVER = 3600.0


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def within() -> None:
        async with asyncio.timeout(20):
            await test()

    asyncio.run(within())


async def queue(places: Places, *ranks: int) -> tuple[list[int], list[asyncio.Task[None]]]:
    """They all wait, in this order; and the list of those who have got a place."""
    got: list[int] = []

    async def one(number: int, rank: int) -> None:
        await places.take(rank, FOREVER)
        got.append(number)

    tasks = [asyncio.create_task(one(number, rank)) for number, rank in enumerate(ranks)]
    await asyncio.sleep(0)
    return got, tasks


def test_lower_ranks_come_first_and_then_who_came_first() -> None:
    """Ranks beyond the last are the last."""

    async def test() -> None:
        places = Places(1)
        await places.take(0, FOREVER)
        got, tasks = await queue(places, 3, RANKS + 9, 0, RANKS - 1, 0)
        for _ in tasks:
            places.give()
        await asyncio.gather(*tasks)
        assert got == [2, 4, 0, 1, 3]

    run(test)


def test_as_many_as_there_are_places() -> None:
    """And no more; what is given back is there again."""

    async def test() -> None:
        places = Places(2)
        for _ in range(2):
            await places.take(5, FOREVER)
        with pytest.raises(TimeoutError):
            await places.take(0, 0)
        places.give()
        await places.take(5, 0)
        with pytest.raises(TimeoutError):
            await places.take(0, 0)

    run(test)


def test_who_goes_away_takes_no_place() -> None:
    """Before his turn, in the very moment of it, and both."""

    async def test() -> None:
        places = Places(1)
        await places.take(0, FOREVER)
        got, tasks = await queue(places, 0, 0, 0)
        tasks[0].cancel()
        places.give()  # which the first has not seen yet, and can't take any more
        tasks[1].cancel()  # the second has it, and is gone before he knows
        await asyncio.gather(*tasks, return_exceptions=True)
        assert got == [2]
        with pytest.raises(TimeoutError):
            await places.take(0, 0)
        places.give()
        await places.take(0, 0)

    run(test)
