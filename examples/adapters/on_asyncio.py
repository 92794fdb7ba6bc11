"""Serve any of the codecs on asyncio.

An `asyncio.Protocol`, not streams: an event that a plain function handles is answered in the very
call that brought its bytes, without a task or a context switch.
"""

from __future__ import annotations

import asyncio
import inspect
import signal
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Generic, cast

from ._contract import Event, Limits, Replies, Reply, Service, as_replies, is_over, logger


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
            session.close_if_idle()
        try:
            async with asyncio.timeout(self.limits.grace):
                await self._empty.wait()
        except TimeoutError:
            logger.warning("%d connections cut at the end of the grace time", len(self.sessions))
            for session in list(self.sessions):
                session.transport.abort()
            await self._empty.wait()

    async def run(self, *listeners: socket.socket) -> None:
        """Serve until SIGTERM or SIGINT, then stop."""
        loop = asyncio.get_running_loop()
        told = asyncio.Event()
        signals = (signal.SIGTERM, signal.SIGINT)
        for number in signals:
            loop.add_signal_handler(number, told.set)
        try:
            await self.listen(*listeners)
            await told.wait()
            await self.stop()
        finally:
            for number in signals:
                loop.remove_signal_handler(number)

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
        self._service = server.service
        self._limits = server.limits
        self._conn = self._service.connect()
        self.transport: asyncio.Transport
        self._loop = asyncio.get_running_loop()
        handler = self._service.handler(self._conn)
        self._call: Callable[[Event], Any] = handler
        if server.in_thread:
            self._call = lambda event: self._loop.run_in_executor(None, handler, event)
        # The handler at work on an event, if it is a coroutine or in a thread.
        self._work: asyncio.Task[None] | None = None
        self._unread = 0
        self._blocked = False
        self._idle_timer: asyncio.TimerHandle | None = None
        self._alive_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        if not self._server.joined(self):
            logger.warning("connection refused: %d are open", len(self._server.sessions))
            self.transport.abort()
            return
        self._restart_idle_timer()

    def data_received(self, data: bytes) -> None:
        self._restart_idle_timer()
        self._conn.receive_data(data)
        if self._work is None and not self._blocked:
            self._go_on()
        else:
            # Not stopped at once, for the end of the connection is to be seen, too.
            self._unread += len(data)
            if self._unread >= self._limits.unread:
                self.transport.pause_reading()

    def eof_received(self) -> bool:
        self._conn.receive_data(b"")
        if self._work is not None:
            # Nobody waits for its reply any more.
            self._work.cancel()
        else:
            self._go_on()
        return True  # closed by ourselves, once what was in flight has been dealt with

    def connection_lost(self, _exc: Exception | None) -> None:
        for timer in filter(None, (self._idle_timer, self._alive_timer)):
            timer.cancel()
        if self._work is not None:
            self._work.cancel()
        self._server.left(self)

    def pause_writing(self) -> None:
        self._blocked = True

    def resume_writing(self) -> None:
        self._blocked = False
        if self._work is None:
            self._go_on()

    def close_if_idle(self) -> None:
        """Close between two messages."""
        if self._work is None and self._conn.idle:
            self.transport.close()

    def _go_on(self) -> None:
        """Hand out events for as long as each is handled at once."""
        self._unread = 0
        while not self.transport.is_closing() and not self._blocked:
            try:
                event = self._conn.next_event()
            except self._service.remote_error as error:
                self._broken(error)
                return
            if event is None:
                break
            if not self._handled(event):
                return
            if is_over(self._conn):
                self.transport.close()
        if self._server.stopping:
            self.close_if_idle()
        self.transport.resume_reading()

    def _handled(self, event: Event) -> bool:
        """Handle an event; False if that takes longer, and `_go_on` is called afterwards."""
        try:
            returned = self._call(event)
            if not inspect.isawaitable(returned):
                self._answer(event, returned)
                return True
        except Exception:
            self._failed(event)
            return True
        self._work = self._loop.create_task(self._finish(event, returned))
        self._restart_alive_timer()
        return False

    async def _finish(self, event: Event, returned: Awaitable[Replies[Reply]]) -> None:
        try:
            self._answer(event, await returned)
        except asyncio.CancelledError:
            pass  # the peer has gone, and its connection goes on to its end
        except Exception:
            self._failed(event)
        self._work = None
        if self._alive_timer is not None:
            self._alive_timer.cancel()
        self._go_on()

    def _answer(self, event: Event, returned: Replies[Reply]) -> None:
        for reply in as_replies(returned):
            self.transport.write(self._conn.send(reply))
        if self._conn.our_turn:
            raise RuntimeError(f"the handler has given no verdict on {type(event).__name__}")

    def _failed(self, event: Event) -> None:
        """The handler has raised, or returned what can't be sent."""
        logger.exception("the handler has failed at %s", type(event).__name__)
        if self._conn.our_turn:
            for reply in self._service.on_error(event):
                self.transport.write(self._conn.send(reply))
        if self._conn.our_turn:
            # No reply is better than a wrong one: the peer has a default of its own.
            self.transport.close()

    def _broken(self, error: Exception) -> None:
        logger.warning("connection dropped: %s", error)
        hint = getattr(error, "hint", None)
        if hint is not None:
            self.transport.write(self._conn.send(hint))
        self.transport.close()

    def _restart_idle_timer(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        self._idle_timer = self._loop.call_later(self._limits.idle_timeout, self._idle_for_long)

    def _idle_for_long(self) -> None:
        if self._work is not None:
            self._restart_idle_timer()
            return
        logger.info("connection closed: nothing came for %g s", self._limits.idle_timeout)
        self.transport.close()

    def _restart_alive_timer(self) -> None:
        interval = self._service.keep_alive_interval
        self._alive_timer = self._loop.call_later(interval, self._still_at_work)

    def _still_at_work(self) -> None:
        reply = self._service.keep_alive(self._conn)
        if reply is not None:
            self.transport.write(self._conn.send(reply))
        self._restart_alive_timer()
