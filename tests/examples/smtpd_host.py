"""`examples/smtpd_with_milters.py`, run in a thread of this process."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Iterator

from smtpd_with_milters import serve

from milterproto.message import Message

PATIENCE = 20


@contextlib.contextmanager
def smtpd(*milters: str) -> Iterator[tuple[int, queue.Queue[Message]]]:
    """Its port, and the messages that it has taken."""
    loop = asyncio.new_event_loop()
    taken: queue.Queue[Message] = queue.Queue()
    started: queue.Queue[int] = queue.Queue()
    stop = asyncio.Event()

    async def main() -> None:
        server = await serve("127.0.0.1", 0, milters, taken.put)
        async with server:
            started.put(server.sockets[0].getsockname()[1])
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(main(),))
    thread.start()
    try:
        yield started.get(timeout=PATIENCE), taken
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(PATIENCE)
        loop.close()
