"""Serve any of the codecs on trio."""

from __future__ import annotations

import functools
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Generic

import trio

from ._contract import (
    CUT,
    IDLE,
    PLAIN_FAILURES,
    Dialogue,
    Event,
    Limits,
    Reply,
    Service,
    drop,
    logger,
    outcome_of,
    refuse_coroutine_function,
    shut,
    takes_more,
)
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
        self.call: Callable[..., Awaitable[Any]] | None = None  # how a handler is, if not directly
        if in_thread:
            refuse_coroutine_function(service)
            # trio's own limit is 40 threads for all.
            limiter = trio.CapacityLimiter(self.limits.connections)
            thread = trio.to_thread.run_sync
            self.call = functools.partial(thread, abandon_on_cancel=True, limiter=limiter)
        self.sessions: set[_Session[Event, Reply]] = set()
        self.stopping = False
        self._accepting = trio.CancelScope()
        self._empty = trio.Event()

    async def serve(
        self,
        *listeners: socket.socket,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve on these sockets until `stop` is called, and close them then."""
        streams = [trio.SocketListener(trio.socket.from_stdlib_socket(one)) for one in listeners]
        async with trio.open_nursery() as nursery:
            with self._accepting:
                task_status.started()
                await trio.serve_listeners(self._serve_one, streams, handler_nursery=nursery)
            for session in list(self.sessions):
                session.end_if_idle()
            with trio.move_on_after(self.limits.grace) as grace:
                if self.sessions:
                    await self._empty.wait()
            if grace.cancelled_caught:
                logger.warning(CUT, len(self.sessions))
                nursery.cancel_scope.cancel()

    def stop(self) -> None:
        """Take no more connections, and let what is under way end within the grace time."""
        self.stopping = True
        self._accepting.cancel()

    async def run(self, *listeners: socket.socket) -> None:
        """Serve until SIGTERM or SIGINT, then stop."""
        # Listened to until all has ended: a second signal must not kill what the first lets end.
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._stop_when_told, signals)
                logger.info("listening on %s", ", ".join(map(address_of, listeners)))
                await self.serve(*listeners)
                nursery.cancel_scope.cancel()

    async def _stop_when_told(self, signals: AsyncIterator[int]) -> None:
        async for _ in signals:
            self.stop()

    async def _serve_one(self, stream: trio.SocketStream) -> None:
        if self.limits.is_full(len(self.sessions)):
            await stream.aclose()
            return
        # A stream's own methods go through the scheduler once more for each call: 21 us a packet
        # in a loop that only echoes, and 12 without them.
        connection = socket.socket(fileno=stream.socket.detach())
        connection.settimeout(0)
        session = _Session(self, connection)
        self.sessions.add(session)
        try:
            await session.run()
        except Exception:
            # Not to the nursery, which would end all the others.
            logger.exception("a connection is closed")
        finally:
            trio.lowlevel.notify_closing(connection)
            connection.close()
            self.sessions.remove(session)
            if self.stopping and not self.sessions:
                self._empty.set()


class _Session(Generic[Event, Reply]):
    """One connection."""

    def __init__(self, server: Server[Event, Reply], connection: socket.socket) -> None:
        self._server = server
        self._socket = connection
        self._dialogue = Dialogue(server.service, server.limits, self._write, server.call)
        self._nursery: trio.Nursery
        self._brought = trio.lowlevel.ParkingLot()  # for the end of some work
        self._moved = trio.current_time()  # when something has come, or was last to be written
        self._waiting = False  # for bytes, and no handler is at work
        self._unsent = bytearray()
        self._sent = trio.lowlevel.ParkingLot()

    def end_if_idle(self) -> None:
        """End between two messages."""
        if self._waiting and self._dialogue.idle:
            shut(self._socket, socket.SHUT_RD)

    async def run(self) -> None:
        """Serve the connection to its end."""
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._watch)
            await self._converse()
            await self._until_sent()
            self._nursery.cancel_scope.cancel()
        self._dialogue.write = drop  # or the two would hold one another

    async def _watch(self) -> None:
        """Nothing may come, or be taken, for too long.

        A task for all of it: cancel scopes would cost a look-up 22 us, and this costs it nothing.
        """
        while True:
            await trio.sleep_until(self._moved + self._server.limits.idle_timeout)
            if trio.current_time() < self._moved + self._server.limits.idle_timeout:
                continue
            self._moved = trio.current_time()
            if self._unsent:
                shut(self._socket, socket.SHUT_RDWR)
            elif self._waiting and not self._dialogue.work:
                logger.info(IDLE, self._server.limits.idle_timeout)
                shut(self._socket, socket.SHUT_RD)

    async def _converse(self) -> None:
        """Hand out events and read more, in turn, to the end."""
        dialogue = self._dialogue
        while not dialogue.is_over or dialogue.work:
            if waits := dialogue.run():
                scope = dialogue.work[dialogue.request_of(waits[0])] = trio.CancelScope()
                self._nursery.start_soon(self._bring, scope, *waits)
            elif dialogue.held_up:
                await self._until_brought()
            elif dialogue.blocked:
                await self._until_sent()
            elif self._server.stopping and dialogue.idle:
                dialogue.receive(b"")
            elif not dialogue.is_over:
                self._waiting = True
                await self._read()
                self._waiting = False

    async def _bring(self, scope: trio.CancelScope, event: Event, returned: Awaitable[Any]) -> None:
        """Wait for what the handler has still to bring, while the connection goes on."""
        with scope:
            outcome = await outcome_of(returned, PLAIN_FAILURES)
        if not scope.cancelled_caught:
            self._dialogue.settle(event, *outcome)
            # It has its place until then: one that does not read asks no more.
            await self._until_sent()
        del self._dialogue.work[self._dialogue.request_of(event)]
        self._brought.unpark_all()
        if self._waiting and self._dialogue.ended:
            shut(self._socket, socket.SHUT_RD)
        elif self._server.stopping:
            self.end_if_idle()

    async def _until_brought(self) -> None:
        """Wait until no work holds up the rest, and look out for the connection's end."""
        dialogue, interval = self._dialogue, self._server.service.keep_alive_interval
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read_meanwhile)
            while dialogue.held_up:
                with trio.move_on_after(interval) as pause:
                    await self._brought.park()
                if pause.cancelled_caught and None in dialogue.work and takes_more(self._socket):
                    dialogue.keep_alive()
            nursery.cancel_scope.cancel()

    async def _read_meanwhile(self) -> None:
        """Take no more than a little."""
        while not (self._dialogue.ended or self._dialogue.is_full):
            await self._read()

    async def _read(self) -> None:
        """What comes next, or the end."""
        await trio.lowlevel.wait_readable(self._socket)
        self._moved = trio.current_time()
        try:
            data = self._socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._dialogue.receive(data)

    def _write(self, data: bytes) -> None:
        """At once, as far as it is taken; a task writes the rest."""
        self._unsent += data
        if len(self._unsent) > len(data):
            return
        self._send()
        if self._unsent:
            self._moved = trio.current_time()
            self._dialogue.blocked = True
            self._nursery.start_soon(self._send_rest)

    async def _send_rest(self) -> None:
        while self._unsent:
            await trio.lowlevel.wait_writable(self._socket)
            self._send()
        self._dialogue.blocked = False
        self._sent.unpark_all()

    def _send(self) -> None:
        try:
            del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self._unsent.clear()
            self._dialogue.write = drop
            self._dialogue.receive(b"")

    async def _until_sent(self) -> None:
        while self._unsent:
            await self._sent.park()
