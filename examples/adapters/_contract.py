"""What the adapters have in common: the connection they drive, and the service they give.

An adapter knows no protocol. It reads bytes, hands out events, calls the handler with each of
them, sends what the handler returns, and closes. All that differs from protocol to protocol is
said in a `Service`.
"""

from __future__ import annotations

import asyncio
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
    handler works; what it returns is sent. ``remote_error`` is what the codec raises when the
    peer has broken the protocol. ``silence`` is sent where a reply is due and the handler returns
    None. ``request_of`` makes the service a multiplexed one: it gives the request that an event
    belongs to, such as its id; None for what is about the connection as a whole, which holds up
    all that comes after it. A handler that has failed at a request's event owes a reply whatever
    the turn; ``keep_alive`` is not asked for it. The codec has ``forget(request)``, for those that
    get no reply.
    """

    connect: Callable[[], Connection[Event, Reply]]
    handler: Callable[[Connection[Event, Reply]], Handler[Event, Reply]]
    on_error: Callable[[Event], Iterable[Reply]]
    remote_error: type[Exception]
    silence: Reply | None = None
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


class Dialogue(Generic[Event, Reply]):
    """One connection and its handler: what all adapters do alike. It does no I/O.

    Bytes go in by `receive`, events come out, what the handler returns goes to `answer` and
    what it raises to `failed`; after each of them `data_to_send` has what is to be written.
    """

    def __init__(self, service: Service[Event, Reply]) -> None:
        self._service = service
        # The peer, or we, have ended the connection; the handler may have to hear of it.
        self.ended = False
        # Nothing more can come: write what is left, and close.
        self.is_over = False
        self._output = b""
        self._conn: Connection[Event, Reply]
        self._handler: Handler[Event, Reply]
        try:
            self._conn = service.connect()
            self._closed = type(self._conn.state)["CLOSED"]
            self._handler = service.handler(self._conn)
        except PLAIN_FAILURES:
            logger.exception("a connection is closed: no handler could be made for it")
            self.abandon()

    @property
    def idle(self) -> bool:
        """Whether nothing is lost if the connection ends now."""
        return self.is_over or self._conn.idle

    @property
    def reply_due(self) -> bool:
        """Whether the peer waits for a reply."""
        return self._conn.our_turn

    def request_of(self, event: Event) -> Hashable | None:
        """The request that an event belongs to, if the protocol is multiplexed."""
        return self._service.request_of(event)

    def receive(self, data: bytes) -> None:
        """What came; empty for end of file, and if nothing more is to come for another reason."""
        if self.ended:
            return
        self.ended = not data
        try:
            self._conn.receive_data(data)
        except Exception as error:
            self._broken(error)

    def abandon(self) -> None:
        """The handler gets no more events."""
        self.is_over = self.ended = True

    def next_event(self) -> Event | None:
        """The next event for the handler; None if there is none, or the peer is talking rubbish."""
        try:
            event = self._conn.next_event()
            while (
                self.ended and event is not None and (request := self.request_of(event)) is not None
            ):
                # Nobody waits for what is done for a request any more.
                cast("Any", self._conn).forget(request)
                event = self._conn.next_event()
        except self._service.remote_error as error:
            logger.warning("connection dropped: %s", error)
            hint = getattr(error, "hint", None)
            if hint is not None:
                self._output += self._conn.send(hint)
            self.abandon()
            return None
        except Exception as error:
            self._broken(error)
            return None
        if event is None and self._conn.state is self._closed:
            self.abandon()  # it has heard of the end
        return event

    def _broken(self, error: Exception) -> None:
        """The codec's fault. For an adapter it is one broken connection more."""
        logger.error("a connection is closed", exc_info=error)
        self.abandon()

    def call(self, event: Event) -> Replies[Reply] | Awaitable[Replies[Reply]]:
        """Call the handler."""
        return self._handler(event)

    def call_plain(self, event: Event) -> Iterable[Reply] | None:
        """Call a handler that is no coroutine function, and go through all that it yields."""
        returned = self._handler(event)
        if is_awaitable(returned):
            if isinstance(returned, Coroutine):
                returned.close()
            raise TypeError(f"{returned!r} must be awaited, and here nothing can")
        return None if returned is None else _as_replies(returned)

    def answer(self, event: Event, returned: Any) -> None:
        """The handler has returned, or its coroutine has.

        All of it is sent, or nothing: edits without the verdict that belongs to them would stand
        beside the one of ``on_error``.
        """
        conn = self._conn
        if returned is None and conn.our_turn:
            returned = self._service.silence
        if returned is None or is_many(returned):
            self._send(_as_replies(returned))
        else:
            # One reply, as nearly always: half of the time that the way above takes.
            data = conn.send(returned)
            if not conn.our_turn:
                self._output += data
        if conn.our_turn:
            raise RuntimeError(f"the handler has given no verdict on {type(event).__name__}")

    def settle(
        self,
        event: Event,
        returned: Any,
        error: BaseException | None,
        *,
        given_up: bool = False,
    ) -> None:
        """The handler has come to its end, elsewhere: what it has returned, or raised.

        ``given_up``: another event for the same request has come meanwhile.
        """
        if given_up or (self.ended and self.request_of(event) is not None):
            if error is not None:
                self._log_failure(event, error)
            return
        if error is None:
            try:
                self.answer(event, returned)
            except PLAIN_FAILURES as wrong:
                error = wrong
        if error is not None:
            self.failed(event, error)

    def failed(self, event: Event, error: BaseException) -> None:
        """The handler has raised, or `answer` has."""
        self._log_failure(event, error)
        try:
            if self._conn.our_turn or self.request_of(event) is not None:
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
                self._output += self._conn.send(reply)
        except PLAIN_FAILURES:
            logger.exception("no sign of life can be given")

    def _send(self, replies: Iterable[Reply]) -> None:
        made: list[bytes] = []
        try:
            for reply in replies:
                made.append(self._conn.send(reply))  # noqa: PERF401 - keeps what came before an error
        finally:
            # A verdict that was followed by something wrong has been given all the same.
            if not self._conn.our_turn:
                self._output += b"".join(made)

    def data_to_send(self) -> bytes:
        """What is to be written now; each byte once."""
        data, self._output = self._output, b""
        return data


def _as_replies(returned: Any) -> tuple[Any, ...]:
    if returned is None:
        return ()
    return tuple(returned) if is_many(returned) else (returned,)
