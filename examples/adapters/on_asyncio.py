"""Serve any of the codecs on asyncio.

An `asyncio.Protocol`, not streams: what a plain function handles is answered without a task.
"""

from __future__ import annotations

import asyncio
import functools
import signal
import socket
import sys
from collections.abc import Coroutine, Hashable
from typing import Any, Generic, cast

from ._alarm import Alarm
from ._contract import (
    CUT,
    IDLE,
    PLAIN_FAILURES,
    Dialogue,
    Event,
    Limits,
    Reply,
    Service,
    is_awaitable,
    logger,
    outcome_of,
    refuse_coroutine_function,
)
from ._listen import BACKLOG, address_of
from ._worker import Worker


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


class _Session(asyncio.Protocol, Generic[Event, Reply]):
    """One connection."""

    def __init__(self, server: Server[Event, Reply]) -> None:
        self._server = server
        self._limits = server.limits
        self._dialogue: Dialogue[Event, Reply]
        self.transport: asyncio.Transport
        self._loop = asyncio.get_running_loop()
        self._worker = Worker() if server.in_thread else None
        # What the handler has still to bring, if it is a coroutine or in a thread; by request.
        self._work: dict[Hashable, asyncio.Task[Any]] = {}
        self._next: Event | None = None  # comes as soon as what is done for its request has ended
        self._idle = Alarm(server.limits.idle_timeout, self._idle_for_long)
        self._alive = Alarm(server.service.keep_alive_interval, self._still_at_work)
        self._unread = 0
        self._blocked = self._lost = self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        if not self._server.joined(self):
            self.transport.abort()
            return
        self._dialogue = Dialogue(self._server.service)
        self._idle.set()
        self._go_on()

    def data_received(self, data: bytes) -> None:
        self._idle.set()
        self._dialogue.receive(data)
        self._unread += len(data)
        self._go_on()

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
        self._go_on()

    def end_if_idle(self) -> None:
        """End between two messages."""
        if not self._work and self._dialogue.idle:
            self._end()

    def cut(self) -> None:
        """End now."""
        self._dialogue.abandon()
        self.transport.abort()
        for work in self._work.values():
            work.cancel()

    def _is_held_up(self) -> bool:
        """Whether the next event has to wait for what is under way."""
        return (
            None in self._work
            or self._next is not None
            or len(self._work) >= self._limits.requests
            or self._dialogue.ended
        )

    def _go_on(self) -> None:
        """Hand out events for as long as none has to wait."""
        dialogue = self._dialogue
        while not (self._blocked or dialogue.is_over or (self._work and self._is_held_up())):
            event = dialogue.next_event()
            if event is not None:
                self._handle(event)
                self._write()  # which may block
            elif self._server.stopping and dialogue.idle and not self._work:
                dialogue.receive(b"")
            else:
                self._unread = 0
                break
        if (self._unread >= self._limits.unread) is not self._paused:
            self._paused = not self._paused
            (self.transport.pause_reading if self._paused else self.transport.resume_reading)()
        if dialogue.ended:
            self._come_to_an_end()

    def _come_to_an_end(self) -> None:
        self._write()
        for request, work in self._work.items():
            if request is not None and not work.cancelling():
                work.cancel()
        if not self._work and self._dialogue.is_over:
            self.transport.close()
            if self._lost:
                self._idle.off()
                self._alive.off()
                if self._worker is not None:
                    self._worker.end()
                self._server.left(self)

    def _end(self) -> None:
        """Nothing more is to come: go on to the connection's end."""
        self._dialogue.receive(b"")
        work = self._work.get(None)
        if work is None:
            self._go_on()
        elif self._worker is None and self._dialogue.reply_due and not work.cancelling():
            # Nobody waits for it any more. A thread can't be cancelled.
            work.cancel()

    def _handle(self, event: Event) -> None:
        """Handle an event, or begin to: `_finished` is called afterwards."""
        if self._work and (before := self._work.get(self._request_of(event))):
            self._next = event
            before.cancel()
            return
        try:
            worker, dialogue = self._worker, self._dialogue
            returned = worker.call(dialogue.call_plain, event) if worker else dialogue.call(event)
            if not is_awaitable(returned):
                self._dialogue.answer(event, returned)
                return
        except PLAIN_FAILURES as error:
            self._dialogue.failed(event, error)
            return
        work = _begin(outcome_of(returned), self._loop)
        if work.done():
            self._settle(event, work)
            return
        request = self._request_of(event)
        self._work[request] = work
        work.add_done_callback(functools.partial(self._finished, event, returned))
        if request is None:
            self._alive.set()

    def _finished(self, event: Event, returned: object, work: asyncio.Task[Any]) -> None:
        if isinstance(returned, Coroutine):
            returned.close()  # it may have been given up before its first step
        request = self._request_of(event)
        del self._work[request]
        following = self._next
        given_up = following is not None and self._request_of(following) == request
        self._settle(event, work, given_up=given_up)
        if given_up:
            self._next = None
            if following is not None and not self._dialogue.ended:
                self._handle(following)
        self._write()
        self._go_on()

    def _settle(self, event: Event, work: asyncio.Task[Any], *, given_up: bool = False) -> None:
        if not work.cancelled():
            self._dialogue.settle(event, *work.result(), given_up=given_up)
        elif not (given_up or self._dialogue.ended):
            self._dialogue.failed(event, asyncio.CancelledError("by the handler itself"))

    def _request_of(self, event: Event) -> Hashable | None:
        return self._dialogue.request_of(event) if self._worker is None else None

    def _write(self) -> None:
        data = self._dialogue.data_to_send()
        # Not `_lost`, which is set later: until then asyncio logs each write but the first few.
        if data and not self.transport.is_closing():
            self.transport.write(data)

    def _idle_for_long(self) -> None:
        self._idle.set()
        if self._blocked or self._dialogue.is_over:
            self.transport.abort()  # it takes nothing of what is written to it
        elif not self._work:
            logger.info(IDLE, self._limits.idle_timeout)
            self._end()

    def _still_at_work(self) -> None:
        if None not in self._work:
            return
        if not self.transport.get_write_buffer_size():
            self._dialogue.keep_alive()
            self._write()
        self._alive.set()


def _begin(work: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop) -> asyncio.Task[Any]:
    """A task for the coroutine; from Python 3.12 on it may have ended already.

    What need not wait, as a look-up that is answered from a cache, then takes 10 us and not 16.
    """
    if sys.version_info >= (3, 12):
        return asyncio.Task(work, loop=loop, eager_start=True)
    return loop.create_task(work)
