"""A thread for one connection's handler, on a loop that can't be held up."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, Final

_END: Final = None


class Worker:
    """Calls plain functions, one after the other, in a thread of its own.

    Not a ThreadPoolExecutor, whose threads Python waits for at the end of the program: a handler
    that never returns would hold up a stop for ever.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What the function returns or raises there."""
        if self._thread is None:
            thread = threading.Thread(target=self._work, daemon=True, name="handler")
            thread.start()  # fails if there are too many, and the next call may have more luck
            self._thread = thread
        # For a tuple of both, since there are exceptions that no future takes, as StopIteration.
        future = self._loop.create_future()

        def work() -> None:
            outcome: tuple[Any, BaseException | None]
            try:
                outcome = function(*arguments), None
            except BaseException as error:
                outcome = None, error
            with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits
                self._loop.call_soon_threadsafe(_settle, future, outcome)

        self._calls.put(work)
        returned, error = await future
        if error is not None:
            raise error
        return returned

    def end(self) -> None:
        """End the thread, once it is out of the user's code."""
        self._calls.put(_END)

    def _work(self) -> None:
        while (work := self._calls.get()) is not _END:
            work()


def _settle(future: asyncio.Future[Any], outcome: tuple[Any, BaseException | None]) -> None:
    if not future.cancelled():
        future.set_result(outcome)
