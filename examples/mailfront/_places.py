"""A few places for many who want one: who has failed least comes first, nobody waits for long."""

from __future__ import annotations

import asyncio
from typing import Final

RANKS: Final = 8


class Places:
    """So many places. To be used on one event loop."""

    def __init__(self, count: int) -> None:
        self._free = count
        # By rank, in the order in which they came.
        self._waiting: list[dict[asyncio.Future[None], None]] = [{} for _ in range(RANKS)]

    async def take(self, rank: int, patience: float) -> None:
        """Wait for a place; lower ranks come first. TimeoutError after ``patience`` seconds.

        Whoever has one must `give` it back.
        """
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        queue = self._waiting[min(rank, RANKS - 1)]
        queue[turn] = None
        try:
            async with asyncio.timeout(patience):
                await turn
        except BaseException:
            if queue.pop(turn, turn) is turn and not turn.cancelled():
                self.give()  # it has got a place, and at the same moment gone away
            raise

    def give(self) -> None:
        """Give a place back, to the next in turn."""
        for queue in self._waiting:
            while queue:
                turn = next(iter(queue))
                del queue[turn]
                if not turn.done():  # given up, and not yet gone
                    turn.set_result(None)
                    return
        self._free += 1
