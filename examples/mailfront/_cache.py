"""A cache in front of a slow question: bounded, with one question in flight for a key."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from cachetools import TLRUCache

Answer = TypeVar("Answer")


class Cache(Generic[Answer]):
    """Answers from memory while they are fresh; failures are never kept.

    ``lifetime`` gives the seconds for which an answer stays, ``size`` how many are kept: those
    asked for least recently go first.
    """

    def __init__(
        self,
        ask: Callable[[tuple[str, str]], Awaitable[Answer]],
        lifetime: Callable[[Answer], float],
        size: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask = ask
        self._fresh: TLRUCache[tuple[str, str], Answer] = TLRUCache(
            size, ttu=lambda _key, answer, now: now + lifetime(answer), timer=clock
        )
        self._asking: dict[tuple[str, str], asyncio.Task[Answer]] = {}

    async def get(self, key: tuple[str, str]) -> tuple[Answer, bool]:
        """The answer, and whether it was in memory. Raises what the question raises."""
        try:
            return self._fresh[key], True
        except KeyError:
            pass
        task = self._asking.get(key)
        if task is None:
            task = asyncio.create_task(self._fetch(key))
            self._asking[key] = task
            # If all who asked go away, nobody looks at its failure.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        # One who asks may go away, and the others still wait for the same answer.
        return await asyncio.shield(task), False

    async def _fetch(self, key: tuple[str, str]) -> Answer:
        try:
            answer = await self._ask(key)
            with contextlib.suppress(ValueError):  # it is kept by nobody who keeps nothing
                self._fresh[key] = answer
            return answer
        finally:
            del self._asking[key]
