"""How long a daemon waits for its database."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Answer = TypeVar("Answer")


async def within(seconds: float, question: Coroutine[Any, Any, Answer]) -> Answer:
    """The answer, or what the question raises; TimeoutError if there is neither in time.

    Not asyncio.timeout(), which waits until what it cancels has ended: a database that answers
    nothing does not even let a query be cancelled.
    """
    task = asyncio.create_task(question)
    # If nobody waits for it any more, nobody looks at its failure.
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    await asyncio.wait([task], timeout=seconds)
    if not task.done():
        task.cancel()
        raise TimeoutError(f"no answer from the database within {seconds:g} s")
    return task.result()
