"""Serve any of the codecs on trio."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
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
    is_awaitable,
    logger,
    outcome_of,
    refuse_coroutine_function,
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
        self.workers: trio.CapacityLimiter | None = None
        if in_thread:
            refuse_coroutine_function(service)
            # trio's own limit is 40 threads for all.
            self.workers = trio.CapacityLimiter(self.limits.connections)
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
                while self.sessions:
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
        async with stream:
            if self.limits.is_full(len(self.sessions)):
                return
            session = _Session(self, stream)
            self.sessions.add(session)
            try:
                await session.run()
            except Exception:
                # Not to the nursery, which would end all the others.
                logger.exception("a connection is closed")
            finally:
                self.sessions.remove(session)
                if not self.sessions:
                    self._empty.set()
                    self._empty = trio.Event()


class _Session(Generic[Event, Reply]):
    """One connection."""

    def __init__(self, server: Server[Event, Reply], stream: trio.SocketStream) -> None:
        self._server = server
        self._limits = server.limits
        self._stream = stream
        self._dialogue = Dialogue(server.service)
        self._nursery: trio.Nursery
        # What is done for requests, where the protocol is multiplexed; and who waits for its end.
        self._requests: dict[Hashable, trio.CancelScope] = {}
        self._held_up = trio.lowlevel.ParkingLot()
        self._moved = trio.current_time()  # when something has come, or was last to be written
        self._unread = 0
        self._waiting = False  # for bytes, and no handler is at work
        self._writing = False
        self._written = trio.lowlevel.ParkingLot()
        self._lost = False

    def end_if_idle(self) -> None:
        """End between two messages."""
        if self._waiting and self._dialogue.idle and not self._requests:
            self._shut(socket.SHUT_RD)

    async def run(self) -> None:
        """Serve the connection to its end."""
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._watch)
            await self._converse()
            self._nursery.cancel_scope.cancel()

    async def _watch(self) -> None:
        """Nothing may come, or be taken, for too long.

        A task for that, and the ends of a socket, cost a look-up nothing: 32 us with it, and 54
        with a cancel scope for each read and write.
        """
        while True:
            due = self._moved + self._limits.idle_timeout
            if trio.current_time() < due:
                await trio.sleep_until(due)
                continue
            self._moved = trio.current_time()
            if self._writing:
                self._shut(socket.SHUT_RDWR)
            elif self._waiting and not self._requests:
                logger.info(IDLE, self._limits.idle_timeout)
                self._shut(socket.SHUT_RD)

    async def _converse(self) -> None:
        """Hand out events and read more, in turn, to the end."""
        while not self._dialogue.is_over:
            event = self._dialogue.next_event()
            if event is not None:
                await self._handle(event)
            elif not self._dialogue.is_over:
                self._unread = 0
                self._receive(await self._read_when_free())
            await self._write()
            if self._requests:
                await self._let_requests_end()

    async def _let_requests_end(self) -> None:
        """All of them at the connection's end; else one, if they are too many."""
        if self._dialogue.ended:
            self._give_up()
            await self._until(lambda: not self._requests)
        elif len(self._requests) >= self._limits.requests:
            await self._until(lambda: len(self._requests) < self._limits.requests)

    async def _handle(self, event: Event) -> None:
        if self._requests and (before := self._requests.get(self._dialogue.request_of(event))):
            before.cancel()
            await self._until(lambda: before not in self._requests.values())
            if self._dialogue.ended:
                return
        work: Awaitable[Any]
        try:
            if self._server.workers is not None:
                work = trio.to_thread.run_sync(
                    self._dialogue.call_plain,
                    event,
                    abandon_on_cancel=True,
                    limiter=self._server.workers,
                )
            else:
                returned = self._dialogue.call(event)
                if not is_awaitable(returned):
                    self._dialogue.answer(event, returned)
                    return
                work = returned
        except PLAIN_FAILURES as error:
            self._dialogue.failed(event, error)
            return
        request = None if self._server.workers else self._dialogue.request_of(event)
        if request is None:
            for outcome in await self._wait_for(work):
                self._dialogue.settle(event, *outcome)
        else:
            self._requests[request] = trio.CancelScope()
            self._nursery.start_soon(self._serve_request, request, event, work)

    async def _serve_request(self, request: Hashable, event: Event, work: Awaitable[Any]) -> None:
        """Beside what follows."""
        scope = self._requests[request]
        with scope:
            outcome = await outcome_of(work, PLAIN_FAILURES)
        if not scope.cancelled_caught:
            self._dialogue.settle(event, *outcome, given_up=scope.cancel_called)
            await self._write()  # it has its place until then: one that does not read asks no more
        del self._requests[request]
        self._held_up.unpark_all()
        if self._waiting and self._dialogue.ended:
            self._shut(socket.SHUT_RD)
        elif self._server.stopping:
            self.end_if_idle()

    def _give_up(self) -> None:
        for scope in self._requests.values():
            scope.cancel()

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Wait for requests to end, and look out for the connection's end."""
        async with trio.open_nursery() as nursery:
            if not self._dialogue.ended:
                nursery.start_soon(self._read_meanwhile, nursery.cancel_scope)
            while not condition():
                await self._held_up.park()
            nursery.cancel_scope.cancel()

    async def _wait_for(self, work: Awaitable[Any]) -> list[tuple[Any, BaseException | None]]:
        """What the handler brings; nothing if the peer goes before."""
        outcome: list[tuple[Any, BaseException | None]] = []
        async with trio.open_nursery() as nursery:
            if not self._dialogue.ended:
                nursery.start_soon(self._read_meanwhile, nursery.cancel_scope)
            nursery.start_soon(self._stay_alive)
            outcome.append(await outcome_of(work, PLAIN_FAILURES))
            nursery.cancel_scope.cancel()
        return outcome

    async def _read_when_free(self) -> bytes:
        """What comes next; empty for the end, when it takes too long, and when we are to stop."""
        if self._server.stopping and self._dialogue.idle and not self._requests:
            return b""
        self._waiting = True
        data = await self._read()
        self._waiting = False
        return data

    async def _read_meanwhile(self, work: trio.CancelScope) -> None:
        """See the end of the connection while a handler works; take no more than a little."""
        while self._unread < self._limits.unread:
            data = await self._read()
            self._receive(data)
            if not data:
                self._give_up()
                if self._server.workers is None and self._dialogue.reply_due:
                    # Nobody waits for it any more. A thread can't be cancelled.
                    work.cancel()
                return

    async def _stay_alive(self) -> None:
        while True:
            await trio.sleep(self._server.service.keep_alive_interval)
            if takes_more(self._stream.socket):
                self._dialogue.keep_alive()
                with trio.CancelScope(shield=True):  # half a frame would be worse than none
                    await self._write()

    def _receive(self, data: bytes) -> None:
        self._moved = trio.current_time()
        self._unread += len(data)
        self._dialogue.receive(data)

    async def _read(self) -> bytes:
        try:
            return bytes(await self._stream.receive_some(65536))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""

    async def _write(self) -> None:
        data = self._dialogue.data_to_send()
        if not data:
            return
        while self._writing:
            await self._written.park()
        if self._lost:
            self._written.unpark()  # for the next one there is nothing to be done, either
            return
        self._writing = True
        self._moved = trio.current_time()
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._lost = True
            self._dialogue.receive(b"")
        finally:
            self._writing = False
            self._written.unpark()

    def _shut(self, how: int) -> None:
        with contextlib.suppress(OSError):
            self._stream.socket.shutdown(how)
