"""Serve any of the codecs on asyncio.

An `asyncio.Protocol`, not streams: an event that a plain function handles is answered in the very
call that brought its bytes, without a task or a context switch.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, cast

from ._contract import Dialogue, Event, Limits, Reply, Service, logger, refuse_coroutine_function
from ._listen import address_of


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
        self.workers: ThreadPoolExecutor | None = None
        if in_thread:
            refuse_coroutine_function(service)
            # Started as they are needed. asyncio's own pool has a handful of threads for all.
            self.workers = ThreadPoolExecutor(self.limits.connections)
        self.sessions: set[_Session[Event, Reply]] = set()
        self.stopping = False
        self._servers: list[asyncio.Server] = []
        self._empty = asyncio.Event()
        self._empty.set()

    async def listen(self, *listeners: socket.socket) -> None:
        """Serve on these sockets from now on; they are closed by `stop`."""
        create = asyncio.get_running_loop().create_server
        self._servers += [await create(lambda: _Session(self), sock=one) for one in listeners]

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
            logger.warning("%d connections cut at the end of the grace time", len(self.sessions))
            for session in list(self.sessions):
                session.cut()
            await self._empty.wait()
        if self.workers is not None:
            self.workers.shutdown(wait=False)

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
        if self.stopping or len(self.sessions) >= self.limits.connections:
            return False
        self.sessions.add(session)
        self._empty.clear()
        return True

    def left(self, session: _Session[Event, Reply]) -> None:
        """A connection has ended."""
        self.sessions.discard(session)
        if not self.sessions:
            self._empty.set()


class _Session(asyncio.Protocol, Generic[Event, Reply]):
    """One connection."""

    def __init__(self, server: Server[Event, Reply]) -> None:
        self._server = server
        self._limits = server.limits
        self._dialogue: Dialogue[Event, Reply]
        self.transport: asyncio.Transport
        self._loop = asyncio.get_running_loop()
        # What the handler has still to bring, if it is a coroutine or in a thread.
        self._work: asyncio.Future[Any] | None = None
        self._unread = 0
        self._blocked = self._lost = False
        self._idle_timer: asyncio.TimerHandle
        self._alive_timer: asyncio.TimerHandle

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        if not self._server.joined(self):
            logger.warning("connection refused: %d are open", len(self._server.sessions))
            self.transport.abort()
            return
        self._dialogue = Dialogue(self._server.service)
        self._start_idle_timer()
        self._go_on()

    def data_received(self, data: bytes) -> None:
        self._idle_timer.cancel()
        self._start_idle_timer()
        self._dialogue.receive(data)
        if self._work is None and not self._blocked:
            self._go_on()
        else:
            # Not stopped at once, for the end of the connection is to be seen, too.
            self._unread += len(data)
            if self._unread >= self._limits.unread:
                self.transport.pause_reading()

    def eof_received(self) -> bool:
        self._end()
        return True  # closed by ourselves, once what was in flight has been dealt with

    def connection_lost(self, _exc: Exception | None) -> None:
        self._lost = True
        if self in self._server.sessions:
            self._blocked = False
            self._end()

    def pause_writing(self) -> None:
        self._blocked = True

    def resume_writing(self) -> None:
        self._blocked = False
        if self._work is None:
            self._go_on()

    def end_if_idle(self) -> None:
        """End between two messages."""
        if self._work is None and self._dialogue.idle:
            self._end()

    def cut(self) -> None:
        """End now."""
        self._dialogue.abandon()
        self.transport.abort()
        if self._work is not None:
            self._work.cancel()

    def _go_on(self) -> None:
        """Hand out events for as long as each is handled at once."""
        self._unread = 0
        while not self._blocked and not self._dialogue.is_over:
            event = self._dialogue.next_event()
            if event is not None:
                if not self._handled(event):
                    return
            elif self._server.stopping and self._dialogue.idle:
                self._dialogue.receive(b"")
            else:
                break
        self._write()
        if not self._dialogue.is_over:
            self.transport.resume_reading()
            return
        self.transport.close()
        if self._lost:
            self._idle_timer.cancel()
            self._server.left(self)

    def _end(self) -> None:
        """Nothing more is to come: go on to the connection's end."""
        self._dialogue.receive(b"")
        if self._work is None:
            self._go_on()
        elif self._server.workers is None:
            # Nobody waits for its reply any more. A thread can't be cancelled.
            self._work.cancel()

    def _handled(self, event: Event) -> bool:
        """Handle an event; False if that takes longer, and `_go_on` is called afterwards."""
        try:
            workers = self._server.workers
            if workers is not None:
                call = self._dialogue.call_plain
                self._work = self._loop.run_in_executor(workers, call, event)
            else:
                returned = self._dialogue.call(event)
                if not inspect.isawaitable(returned):
                    self._dialogue.answer(event, returned)
                    self._write()
                    return True
                self._work = asyncio.ensure_future(returned)
        except Exception as error:
            self._dialogue.failed(event, error)
            return True
        self._work.add_done_callback(functools.partial(self._finished, event))
        self._start_alive_timer()
        return False

    def _finished(self, event: Event, work: asyncio.Future[Any]) -> None:
        self._work = None
        self._alive_timer.cancel()
        try:
            self._dialogue.answer(event, work.result())
        except asyncio.CancelledError:
            self._dialogue.receive(b"")  # the peer has gone, or is left
        except Exception as error:
            self._dialogue.failed(event, error)
        self._go_on()

    def _write(self) -> None:
        data = self._dialogue.data_to_send()
        if data and not self._lost:
            self.transport.write(data)

    def _start_idle_timer(self) -> None:
        self._idle_timer = self._loop.call_later(self._limits.idle_timeout, self._idle_for_long)

    def _idle_for_long(self) -> None:
        self._start_idle_timer()
        if self._blocked or self._dialogue.is_over:
            self.transport.abort()  # it takes nothing of what is written to it
        elif self._work is None:
            logger.info("connection closed: nothing came for %g s", self._limits.idle_timeout)
            self._end()

    def _start_alive_timer(self) -> None:
        interval = self._server.service.keep_alive_interval
        self._alive_timer = self._loop.call_later(interval, self._still_at_work)

    def _still_at_work(self) -> None:
        self._dialogue.keep_alive()
        self._write()
        self._start_alive_timer()
