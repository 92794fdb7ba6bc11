"""A timer for asyncio that is set anew again and again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


class Alarm:
    """Calls a function when so many seconds have passed since it was last set.

    What is set for each packet must cost little: it notes the time, and the loop's own timer
    looks at that when it is due. (Cancelling that one and making another costs 2 us, a sixth of
    all that the adapter does for a look-up.) Once it is set, to write `set_at` is enough.
    """

    def __init__(self, seconds: float, ring: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._seconds = seconds
        self._ring = ring
        self.set_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def set(self) -> None:
        """From now on."""
        self.set_at = time.monotonic()  # which is the loop's own clock
        if self._timer is None:
            self._timer = self._loop.call_at(self.set_at + self._seconds, self._look)

    def off(self) -> None:
        """Never, until it is set again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        due = self.set_at + self._seconds
        if self._loop.time() < due:
            self._timer = self._loop.call_at(due, self._look)
        else:
            self._timer = None
            self._ring()
