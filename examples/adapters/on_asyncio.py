"""Serve any of the codecs on asyncio.

A protocol, not streams: what a plain function handles is answered without a task.
"""

from __future__ import annotations

import asyncio
import functools
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Coroutine, Hashable
from typing import Any, Generic, cast

from ._alarm import Alarm
from ._contract import (
    CUT,
    IDLE,
    Dialogue,
    Event,
    Limits,
    Reply,
    Service,
    logger,
    outcome_of,
    refuse_coroutine_function,
)
from ._listen import BACKLOG, address_of
from ._worker import Worker

READ = 65536  # bytes at a time


class Server(Generic[Event, Reply]):
    """Serves one service on any number of listening sockets, until it is stopped.

    With ``in_thread`` the handler, a plain function, runs in a worker thread, so that it may
    block. Connections are served side by side, the events of one connection in turn.
    """

    def __init__(
        self,
        service: Service[Event, Reply],
        limits: Limits | None = None,
        *,
        in_thread: bool = False,
    ) -> None:
        self.service = service
        self.limits = limits or Limits()
        self.in_thread = in_thread
        if in_thread:
            refuse_coroutine_function(service)
        self.sessions: set[_Session[Event, Reply]] = set()
        self.stopping = False
        # All connections read into it, for what was read is copied at once. asyncio itself makes
        # 256 KiB for each read: 16 us where these come from the kernel each time, and not 2.
        self.buffer = memoryview(bytearray(READ))
        self._servers: list[asyncio.Server] = []
        self._empty = asyncio.Event()
        self._empty.set()

    async def listen(self, *listeners: socket.socket) -> None:
        """Serve on these sockets from now on; they are closed by `stop`."""
        create = asyncio.get_running_loop().create_server
        for one in listeners:
            server = await create(lambda: _Session(self), sock=one, backlog=BACKLOG)
            self._servers.append(server)

    async def stop(self) -> None:
        """Take no more connections, and let what is under way end within the grace time."""
        self.stopping = True
        for server in self._servers:
            server.close()
        for session in list(self.sessions):
            session.end_if_idle()
        try:
            async with asyncio.timeout(self.limits.grace):
                await self._empty.wait()
        except TimeoutError:
            logger.warning(CUT, len(self.sessions))
            for session in list(self.sessions):
                session.cut()
            await self._empty.wait()

    async def run(self, *listeners: socket.socket) -> None:
        """Serve until SIGTERM or SIGINT, then stop."""
        told = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, told.set)
        await self.listen(*listeners)
        logger.info("listening on %s", ", ".join(map(address_of, listeners)))
        await told.wait()
        await self.stop()

    def joined(self, session: _Session[Event, Reply]) -> bool:
        """Take a connection in, if there is room."""
        if self.stopping or self.limits.is_full(len(self.sessions)):
            return False
        self.sessions.add(session)
        self._empty.clear()
        return True

    def left(self, session: _Session[Event, Reply]) -> None:
        """A connection has ended."""
        self.sessions.discard(session)
        if not self.sessions:
            self._empty.set()


class _Session(asyncio.BufferedProtocol, Generic[Event, Reply]):
    """One connection."""

    def __init__(self, server: Server[Event, Reply]) -> None:
        self._server = server
        self._dialogue: Dialogue[Event, Reply]
        self.transport: asyncio.Transport
        self._worker = Worker() if server.in_thread else None
        self._idle = Alarm(server.limits.idle_timeout, self._idle_for_long)
        self._alive = Alarm(server.service.keep_alive_interval, self._still_at_work)
        self._lost = self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        if not self._server.joined(self):
            self.transport.abort()
            return
        server, call = self._server, self._worker.call if self._worker else None
        self._dialogue = Dialogue(server.service, server.limits, self._write, call)
        self._idle.set()
        self._go_on()

    def get_buffer(self, _hint: int) -> memoryview:
        return self._server.buffer

    def buffer_updated(self, count: int) -> None:
        self._idle.set_at = time.monotonic()
        self._dialogue.receive(bytes(self._server.buffer[:count]))
        self._go_on()

    def eof_received(self) -> bool:
        self._end()
        return True  # closed by ourselves, once what was in flight has been dealt with

    def connection_lost(self, _exc: Exception | None) -> None:
        self._lost = True
        if self in self._server.sessions:
            self._dialogue.blocked = False
            self._end()

    def pause_writing(self) -> None:
        self._dialogue.blocked = True

    def resume_writing(self) -> None:
        self._dialogue.blocked = False
        self._go_on()

    def end_if_idle(self) -> None:
        """End between two messages."""
        if self._dialogue.idle:
            self._end()

    def cut(self) -> None:
        """End now."""
        self._dialogue.abandon()
        self.transport.abort()
        if (work := self._dialogue.work.get(None)) is not None:
            work.cancel()

    def _end(self) -> None:
        """Nothing more is to come: go on to the connection's end."""
        self._dialogue.receive(b"")
        self._go_on()

    def _go_on(self) -> None:
        """Hand out events for as long as none has to wait."""
        dialogue = self._dialogue
        while waits := dialogue.run():
            self._wait_for(*waits)
        if self._server.stopping and not dialogue.ended and dialogue.idle:
            self._end()
        elif dialogue.is_full is not self._paused:
            self._paused = not self._paused
            (self.transport.pause_reading if self._paused else self.transport.resume_reading)()
        if dialogue.is_over and not dialogue.work:
            self.transport.close()
            if self._lost:
                self._leave()

    def _leave(self) -> None:
        self._idle.off()
        self._alive.off()
        if self._worker is not None:
            self._worker.end()
        self._server.left(self)

    def _wait_for(self, event: Event, returned: Awaitable[Any]) -> None:
        """For what the handler has still to bring; others go on."""
        work = _begin(outcome_of(returned))
        if work.done():
            self._settle(event, work)
            return
        request = self._dialogue.request_of(event)
        self._dialogue.work[request] = work
        work.add_done_callback(functools.partial(self._finished, request, event, returned))
        if request is None:
            self._alive.set()

    def _finished(
        self, request: Hashable, event: Event, returned: object, work: asyncio.Task[Any]
    ) -> None:
        if isinstance(returned, Coroutine):
            returned.close()  # it may have been given up before its first step
        del self._dialogue.work[request]
        self._settle(event, work)
        self._go_on()

    def _settle(self, event: Event, work: asyncio.Task[Any]) -> None:
        if not work.cancelled():
            self._dialogue.settle(event, *work.result())
        elif not self._dialogue.ended:
            self._dialogue.settle(event, None, asyncio.CancelledError("by the handler itself"))

    def _write(self, data: bytes) -> None:
        # A transport that is lost, which is told later, logs each write but the first few.
        if not self.transport.is_closing():
            self.transport.write(data)

    def _idle_for_long(self) -> None:
        self._idle.set()
        if self._dialogue.blocked or self._dialogue.is_over:
            self.transport.abort()  # it takes nothing of what is written to it
        elif not self._dialogue.work:
            logger.info(IDLE, self._server.limits.idle_timeout)
            self._end()

    def _still_at_work(self) -> None:
        if None not in self._dialogue.work:
            return
        if not self.transport.get_write_buffer_size():
            self._dialogue.keep_alive()
        self._alive.set()


def _begin(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """A task for the coroutine; from Python 3.12 on it may have ended already.

    What need not wait, as a look-up that is answered from a cache, then takes 10 us and not 16.
    """
    if sys.version_info >= (3, 12):
        # Without `loop`, 3.12 and 3.13 can't begin it at once.
        return asyncio.Task(work, loop=asyncio.get_running_loop(), eager_start=True)
    return asyncio.create_task(work)
