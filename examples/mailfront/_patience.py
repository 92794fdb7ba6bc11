"""How long a daemon waits for its database, and with how many questions at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

Answer = TypeVar("Answer")
# Seconds for a question that was given up to let go of its connection: asyncpg takes two.
ENDING: Final = 3.0


class Patience:
    """Asks ``at_once`` questions side by side, and gives each up after ``seconds``."""

    def __init__(self, seconds: float, at_once: int) -> None:
        self._seconds = seconds
        self._places = asyncio.Semaphore(at_once)
        self._asking: set[asyncio.Task[Any]] = set()

    async def within(self, question: Callable[[], Awaitable[Answer]]) -> Answer:
        """The answer, or what the question raises; TimeoutError if there is neither in time.

        Not asyncio.timeout(), which waits until what it cancels has ended: a database that answers
        nothing does not even let a query be cancelled.
        """
        task = asyncio.create_task(self._ask(question))
        self._asking.add(task)
        task.add_done_callback(self._ended)
        try:
            await asyncio.wait([task], timeout=self._seconds)
        finally:
            task.cancel()  # which does nothing to one that has ended
        if not task.done():
            raise TimeoutError(f"no answer from the database within {self._seconds:g} s")
        return task.result()

    async def end(self) -> None:
        """Give up what is asked still, and wait until it has ended; but not for ever.

        A driver that is cut off in the middle may wait for its own end, and nothing would end then.
        """
        for task in self._asking:
            if not task.cancelling():
                task.cancel()
        if self._asking:
            await asyncio.wait(self._asking, timeout=self._seconds + ENDING)

    async def _ask(self, question: Callable[[], Awaitable[Answer]]) -> Answer:
        async with self._places:
            return await question()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._asking.discard(task)
        if not task.cancelled():
            task.exception()  # if nobody waits for it any more, nobody looks at it
