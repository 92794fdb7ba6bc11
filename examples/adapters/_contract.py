"""What the adapters have in common: the connection they drive, and the service they give.

An adapter knows no protocol. It reads bytes, hands out events, calls the handler with each of
them, sends what the handler returns, and closes. All that differs from protocol to protocol is
said in a `Service`.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import functools
import inspect
import logging
import select
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterable
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeGuard, TypeVar, cast

import attrs

Event = TypeVar("Event")
Reply = TypeVar("Reply")
Event_co = TypeVar("Event_co", covariant=True)
Reply_contra = TypeVar("Reply_contra", contravariant=True)

logger = logging.getLogger("mailwire.adapters")
IDLE: Final = "connection closed: nothing came for %g s"
CUT: Final = "%d connections cut at the end of the grace time"

# What a coroutine may raise without harm to anybody else. SystemExit, for a library that it calls
# may well call sys.exit(), and would take down a server with all its connections.
FAILURES: Final = (Exception, SystemExit)
# And a plain function: since nobody cancels that, it has asked a future that was cancelled.
PLAIN_FAILURES: Final = (*FAILURES, asyncio.CancelledError)


class TryAgainError(Exception):
    """For a handler to raise that can't answer now, and knows why: its text is a line in the log.

    What any other exception says is logged with its traceback.
    """


class Connection(Protocol[Event_co, Reply_contra]):
    """The side of a codec that serves: what an adapter drives."""

    @property
    def state(self) -> enum.Enum:
        """CLOSED once nothing more can come."""

    @property
    def our_turn(self) -> bool:
        """Whether a reply is due."""

    @property
    def idle(self) -> bool:
        """Whether nothing is lost if the connection ends now."""

    def receive_data(self, data: bytes) -> None:
        """Store what came; empty means end of file."""

    def next_event(self) -> Event_co | None:
        """The next event, or None: feed me more."""

    def send(self, event: Reply_contra, /) -> bytes:
        """What to write for a reply."""


# What a handler returns: nothing, where no reply is due; one reply; or edits and a verdict.
Replies: TypeAlias = Reply | Iterable[Reply] | None
# Made anew for each connection, so what it remembers is that connection's. It gets the events in
# turn, and never two at a time. The last is the end of the connection, whichever side ended it;
# there is none if the peer broke the protocol or the grace time of a stop ran out. Where the
# adapter can wait, it may be a coroutine function. That is cancelled if the peer closes while a
# reply is due, for nobody waits for it any more; what needs no reply is done to its end.
#
# Where a protocol is multiplexed (`Service.request_of`), an event waits only for what is done for
# the same request: a coroutine for one request runs beside those for others. (Never in threads:
# there the events come in turn all the same, and a handler that blocks holds up its connection.)
# Another event for a request cancels what is still done for it, and so does the end of the
# connection: the peer has given that request up. What such a coroutine returns is dropped.
Handler: TypeAlias = Callable[[Event], Replies[Reply] | Awaitable[Replies[Reply]]]


@attrs.frozen
class Service(Generic[Event, Reply]):
    """A protocol and a user's handler, for an adapter to serve.

    ``connect`` makes the codec's connection, ``handler`` the function that gets its events. (A
    server of threads makes one of each at its start, to see what kind of function it is.)
    ``on_error`` says what is sent when the handler has failed at an event: replies, or none to
    close the connection. ``keep_alive`` is asked every ``keep_alive_interval`` seconds while a
    handler works; what it returns is sent. ``remote_error`` is what the codec raises when the peer
    has broken the protocol. ``silence`` is sent where a reply is due and the handler returns None.
    The handler does not get events of the kind ``skip``. ``request_of`` makes the service a
    multiplexed one: it gives the request that an event belongs to, such as its id; None for what is
    about the connection as a whole, which holds up all that comes after it. A handler that has
    failed at a request's event owes a reply whatever the turn; ``keep_alive`` is not asked for it.
    The codec has ``forget(request)``, for those that get no reply.
    """

    connect: Callable[[], Connection[Event, Reply]]
    handler: Callable[[Connection[Event, Reply]], Handler[Event, Reply]]
    on_error: Callable[[Event], Iterable[Reply]]
    remote_error: type[Exception]
    silence: Reply | None = None
    skip: type[object] | None = None
    request_of: Callable[[Event], Hashable | None] = lambda _: None
    keep_alive: Callable[[Connection[Event, Reply]], Reply | None] = lambda _: None
    keep_alive_interval: float = 5.0


@attrs.frozen
class Limits:
    """What one server takes on.

    ``connections``: how many at once; one more is closed at once, and the MTA's default action
    decides. ``idle_timeout``: seconds without a byte after which a connection is closed; more
    than an SMTP session may be idle, so 7210 s as in libmilter. ``grace``: seconds that a stop
    leaves to what is under way. ``unread``: bytes taken from a peer while events are waiting to
    be handled, before reading stops; not 0, for the end of the connection is to be seen, too.
    ``requests``: how many of one connection are worked on at once, where a protocol is multiplexed.
    """

    connections: int = 1000
    idle_timeout: float = 7210.0
    grace: float = 10.0
    unread: int = 65536
    requests: int = 100

    def is_full(self, count: int) -> bool:
        """Whether there is no room for one more connection; that is logged."""
        if count >= self.connections:
            logger.warning("connection refused: %d are open", count)
        return count >= self.connections


class Cancellable(Protocol):
    """A task, a scope: what an adapter keeps of something that is under way."""

    def cancel(self) -> object:
        """It is for nobody any more."""


def is_async(function: Callable[..., object]) -> bool:
    """Whether it is a coroutine function, or an object or a partial that stands for one.

    No one can say that of a lambda: what it returns must be looked at.
    """
    while isinstance(function, functools.partial):
        function = function.func
    kinds = (inspect.iscoroutinefunction, inspect.isasyncgenfunction)
    return any(kind(one) for kind in kinds for one in (function, type(function).__call__))


def refuse_coroutine_function(service: Service[Event, Reply]) -> None:
    """For a server that can't await: TypeError if the handler is a coroutine function."""
    handler = service.handler(service.connect())
    if is_async(handler):
        raise TypeError(f"{handler!r} is a coroutine function, and here nothing can await it")


async def outcome_of(
    work: Awaitable[Any], failures: tuple[type[BaseException], ...] = FAILURES
) -> tuple[Any, BaseException | None]:
    """What the handler's coroutine returns, or what it raises."""
    try:
        return await work, None
    except failures as error:
        return None, error
    except BaseExceptionGroup as group:
        if group.split(failures)[1] is not None:
            raise
        return None, group


# These two ask for the method, since isinstance() takes ten times as long for a class of abc's.


def is_awaitable(returned: object) -> TypeGuard[Awaitable[Any]]:
    """Whether the handler's result has still to come."""
    return hasattr(returned, "__await__")


def is_many(returned: object) -> TypeGuard[Iterable[Any]]:
    """Whether it is not one reply: events are attrs classes, and none can be iterated over."""
    if hasattr(returned, "__aiter__"):
        raise TypeError("a handler can't be an async generator: return a list of replies")
    return hasattr(returned, "__iter__")


def takes_more(connection: Any) -> bool:
    """Whether the peer reads, so that a few bytes more block nobody."""
    poll = select.poll()
    poll.register(connection, select.POLLOUT)
    return bool(poll.poll(0))


def shut(connection: Any, how: int) -> None:
    """End one direction of a socket, or both; it may have ended already."""
    with contextlib.suppress(OSError):
        connection.shutdown(how)


class Dialogue(Generic[Event, Reply]):
    """One connection and its handler: what all adapters do alike. It does no I/O.

    Bytes go in by `receive`. Then `run` hands out the events and calls the handler, and gives
    ``write`` what is to be sent. What a handler has still to bring is left to the adapter, which
    keeps it in `work` and comes back with `settle`. A handler that must be called elsewhere, as in
    a thread, is a plain one: ``call`` gets a function, the handler and the event.
    """

    def __init__(
        self,
        service: Service[Event, Reply],
        limits: Limits,
        write: Callable[[bytes], object],
        call: Callable[[Callable[..., Any], Callable[[Event], Any], Event], Any] | None = None,
    ) -> None:
        self._service = service
        self._limits = limits
        self.write = write
        # The peer, or we, have ended the connection; the handler may have to hear of it.
        self.ended = False
        # Nothing more can come: write what is left, and close.
        self.is_over = False
        # What is written is not taken, so no event is handed out.
        self.blocked = False
        # What the handler has still to bring, by `request_of`: anything that can be cancelled.
        self.work: dict[Hashable, Cancellable] = {}
        # Comes as soon as what is done for its request has ended.
        self._next: Event | None = None
        # Bytes that came while events were waiting to be handled.
        self._unread = 0
        self._in_turn = call is not None
        self._conn: Connection[Event, Reply]
        self._call: Callable[[Event], Any]
        try:
            self._conn = service.connect()
            self._closed = type(self._conn.state)["CLOSED"]
            self._call = service.handler(self._conn)
            if call is not None:
                self._call = functools.partial(call, _all_of, self._call)
        except PLAIN_FAILURES:
            logger.exception("a connection is closed: no handler could be made for it")
            self.abandon()

    @property
    def idle(self) -> bool:
        """Whether nothing is lost if the connection ends now."""
        return self.is_over or (not self.work and self._conn.idle)

    @property
    def is_full(self) -> bool:
        """Whether so much waits to be handled that no more should be read."""
        return self._unread >= self._limits.unread

    @property
    def held_up(self) -> bool:
        """Whether the next event has to wait until something is there for which `work` waits."""
        return bool(self.work) and (
            self.ended
            or None in self.work
            or len(self.work) >= self._limits.requests
            or (self._next is not None and self.request_of(self._next) in self.work)
        )

    def request_of(self, event: Event) -> Hashable | None:
        """The request that an event belongs to; None if it holds up all that comes after it."""
        return None if self._in_turn else self._service.request_of(event)

    def receive(self, data: bytes) -> None:
        """What came; empty for end of file, and if nothing more is to come for another reason."""
        if self.ended:
            return
        try:
            self._conn.receive_data(data)
        except Exception as error:
            self._broken(error)
        self._unread += len(data)
        if not data:
            self._end()

    def abandon(self) -> None:
        """The handler gets no more events."""
        self.is_over = True
        self._end()

    def _end(self) -> None:
        """Cancel what nobody waits for any more."""
        if self.ended:
            return
        self.ended = True
        for request, work in list(self.work.items()):
            # What is done for another event of its request has been cancelled already. What needs
            # no reply is done to its end, and so is what a thread does.
            asked = request is not None or (self._conn.our_turn and not self._in_turn)
            if asked and (self._next is None or request != self.request_of(self._next)):
                work.cancel()

    def run(self) -> tuple[Event, Awaitable[Any]] | None:
        """Handle events, up to one for which the handler has still something to bring.

        Returns that event and what is to be awaited, to be kept in `work`. None: there is no
        event, or it has to wait.
        """
        try:
            conn, call, silence = self._conn, self._call, self._service.silence
            skip = self._service.skip
            while not (self.blocked or self.is_over or (self.work and self.held_up)):
                if (event := self._next) is not None:
                    self._next = None
                elif (event := conn.next_event()) is None:
                    self._unread = 0
                    if conn.state is self._closed:
                        self.abandon()  # it has heard of the end
                    break
                if type(event) is skip:
                    continue
                if self.ended and self._is_for_nobody(event):
                    continue
                if self.work and (before := self.work.get(self.request_of(event))) is not None:
                    self._next = event
                    before.cancel()
                    break
                try:
                    returned = call(event)
                    if returned is None and silence is not None:
                        # Nearly every event of a milter: 3 % of what the asyncio adapter takes.
                        if conn.our_turn:
                            self.write(conn.send(silence))
                    elif is_awaitable(returned):
                        return event, returned
                    else:
                        self._answer(event, returned)
                except PLAIN_FAILURES as error:
                    self._failed(event, error)
        except self._service.remote_error as error:
            logger.warning("connection dropped: %s", error)
            hint = getattr(error, "hint", None)
            if hint is not None:
                self.write(self._conn.send(hint))
            self.abandon()
        except Exception as error:
            self._broken(error)
        return None

    def _is_for_nobody(self, event: Event) -> bool:
        """Whether it asks for something that nobody waits for any more."""
        request = self._service.request_of(event)
        if request is not None:
            cast("Any", self._conn).forget(request)
        return request is not None

    def _broken(self, error: Exception) -> None:
        """The codec's fault. For an adapter it is one broken connection more."""
        logger.error("a connection is closed", exc_info=error)
        self.abandon()

    def settle(self, event: Event, returned: Any, error: BaseException | None) -> None:
        """The handler has come to its end after all: what it has returned, or raised."""
        request = self._service.request_of(event)
        given_up = self._next is not None and request == self._service.request_of(self._next)
        if given_up or (self.ended and request is not None):
            if error is not None and not isinstance(error, asyncio.CancelledError):
                self._log_failure(event, error)
            return
        if error is None:
            try:
                self._answer(event, returned)
            except PLAIN_FAILURES as wrong:
                error = wrong
        if error is not None:
            self._failed(event, error)

    def _answer(self, event: Event, returned: Any) -> None:
        """All of it is sent, or nothing.

        Edits without the verdict that belongs to them would stand beside the one of ``on_error``.
        """
        conn = self._conn
        if returned is None:
            if not conn.our_turn:
                return
            if self._service.silence is not None:
                self.write(conn.send(self._service.silence))
                return
        elif is_many(returned):
            self._send(tuple(returned))
        else:
            # One reply, as nearly always: half of the time that the way above takes.
            data = conn.send(returned)
            if not conn.our_turn:
                self.write(data)
                return
        if conn.our_turn:
            raise RuntimeError(f"the handler has given no verdict on {type(event).__name__}")

    def _failed(self, event: Event, error: BaseException) -> None:
        """The handler has raised, or has said what can't be sent."""
        self._log_failure(event, error)
        try:
            if self._conn.our_turn or self._service.request_of(event) is not None:
                self._excuse(event)
        except Exception as wrong:
            self._broken(wrong)

    def _excuse(self, event: Event) -> None:
        replies: tuple[Reply, ...] = ()
        try:
            replies = _as_replies(self._service.on_error(event))
            self._send(replies)
        except PLAIN_FAILURES:
            logger.exception("what on_error gives for %s can't be sent", type(event).__name__)
        if self._conn.our_turn or not replies:
            # No reply is better than a wrong one: the peer has a default of its own.
            self.receive(b"")

    def _log_failure(self, event: Event, error: BaseException) -> None:
        if isinstance(error, TryAgainError):
            logger.warning("no answer to %s: %s", type(event).__name__, error)
            return
        logger.error("the handler has failed at %s", type(event).__name__, exc_info=error)

    def keep_alive(self) -> None:
        """The handler is at work, and has been for some time."""
        try:
            reply = self._service.keep_alive(self._conn)
            if reply is not None:
                self.write(self._conn.send(reply))
        except PLAIN_FAILURES:
            logger.exception("no sign of life can be given")

    def _send(self, replies: Iterable[Reply]) -> None:
        made: list[bytes] = []
        try:
            for reply in replies:
                made.append(self._conn.send(reply))  # noqa: PERF401 - keeps what came before an error
        finally:
            # A verdict that was followed by something wrong has been given all the same.
            if made and not self._conn.our_turn:
                self.write(b"".join(made))


def drop(_data: bytes) -> None:
    """In place of `Dialogue.write` once the peer takes nothing more."""


def _all_of(handler: Callable[[Event], Any], event: Event) -> tuple[Any, ...] | None:
    """Call a handler that is no coroutine function, and go through all that it yields."""
    returned = handler(event)
    if returned is None:
        return None
    if is_awaitable(returned):
        if isinstance(returned, Coroutine):
            returned.close()
        raise TypeError(f"{returned!r} must be awaited, and here nothing can")
    return _as_replies(returned)


def _as_replies(returned: Any) -> tuple[Any, ...]:
    if returned is None:
        return ()
    return tuple(returned) if is_many(returned) else (returned,)
