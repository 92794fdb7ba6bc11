"""What the adapters have in common: the connection they drive, and the service they give.

An adapter knows no protocol. It reads bytes, hands out events, calls the handler with each of
them, sends what the handler returns, and closes. All that differs from protocol to protocol is
said in a `Service`.
"""

from __future__ import annotations

import enum
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Generic, Protocol, TypeAlias, TypeVar, cast

import attrs

Event = TypeVar("Event")
Reply = TypeVar("Reply")
Event_co = TypeVar("Event_co", covariant=True)
Reply_contra = TypeVar("Reply_contra", contravariant=True)

logger = logging.getLogger("mailwire.adapters")


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
# adapter can wait, it may be a coroutine function.
Handler: TypeAlias = Callable[[Event], Replies[Reply] | Awaitable[Replies[Reply]]]


@attrs.frozen
class Service(Generic[Event, Reply]):
    """A protocol and a user's handler, for an adapter to serve.

    ``connect`` makes the codec's connection, ``handler`` the function that gets its events.
    ``on_error`` says what is sent when the handler has failed at an event: replies, or none to
    close the connection. ``keep_alive`` is asked every ``keep_alive_interval`` seconds while a
    handler works; what it returns is sent. ``remote_error`` is what the codec raises when the
    peer has broken the protocol.
    """

    connect: Callable[[], Connection[Event, Reply]]
    handler: Callable[[Connection[Event, Reply]], Handler[Event, Reply]]
    on_error: Callable[[Event], Iterable[Reply]]
    remote_error: type[Exception]
    keep_alive: Callable[[Connection[Event, Reply]], Reply | None] = lambda _: None
    keep_alive_interval: float = 5.0


@attrs.frozen
class Limits:
    """What one server takes on.

    ``connections``: how many at once; one more is closed at once, and the MTA's default action
    decides. ``idle_timeout``: seconds without a byte after which a connection is closed; more
    than an SMTP session may be idle, so 7210 s as in libmilter. ``grace``: seconds that a stop
    leaves to what is under way. ``unread``: bytes taken from a peer whose event is still being
    handled, before reading stops.
    """

    connections: int = 1000
    idle_timeout: float = 7210.0
    grace: float = 10.0
    unread: int = 65536


def refuse_coroutine_function(service: Service[Event, Reply]) -> None:
    """For a server that can't await: TypeError if the handler is a coroutine function."""
    handler = service.handler(service.connect())
    if any(map(inspect.iscoroutinefunction, (handler, type(handler).__call__))):
        raise TypeError(f"{handler!r} is a coroutine function, and here nothing can await it")


class Dialogue(Generic[Event, Reply]):
    """One connection and its handler: what all adapters do alike. It does no I/O.

    Bytes go in by `receive`, events come out, what the handler returns goes to `answer` and
    what it raises to `failed`; after each of them `data_to_send` has what is to be written.
    """

    def __init__(self, service: Service[Event, Reply]) -> None:
        self._service = service
        self._conn = service.connect()
        self._ended = False
        # Nothing more can come: write what is left, and close.
        self.is_over = False
        self._output: list[bytes] = []
        self._handler: Handler[Event, Reply]
        try:
            self._handler = service.handler(self._conn)
        except Exception:
            logger.exception("a connection is closed: no handler could be made for it")
            self.abandon()

    @property
    def idle(self) -> bool:
        """Whether nothing is lost if the connection ends now."""
        return self._conn.idle

    def receive(self, data: bytes) -> None:
        """What came; empty for end of file, and if nothing more is to come for another reason."""
        if not self._ended:
            self._ended = not data
            self._conn.receive_data(data)

    def abandon(self) -> None:
        """The handler gets no more events."""
        self.is_over = True

    def next_event(self) -> Event | None:
        """The next event for the handler; None if there is none, or the peer is talking rubbish."""
        try:
            event = self._conn.next_event()
        except self._service.remote_error as error:
            logger.warning("connection dropped: %s", error)
            hint = getattr(error, "hint", None)
            if hint is not None:
                self._output.append(self._conn.send(hint))
            self.is_over = True
            return None
        if event is None and self._conn.state.name == "CLOSED":
            self.is_over = True  # and the handler has heard of it
        return event

    def call(self, event: Event) -> Replies[Reply] | Awaitable[Replies[Reply]]:
        """Call the handler."""
        return self._handler(event)

    def call_plain(self, event: Event) -> Iterable[Reply]:
        """Call a handler that is no coroutine function, and go through all that it yields."""
        return tuple(_as_replies(cast("Replies[Reply]", self._handler(event))))

    def answer(self, event: Event, returned: Replies[Reply]) -> None:
        """The handler has returned, or its coroutine has."""
        for reply in _as_replies(returned):
            self._output.append(self._conn.send(reply))
        if self._conn.our_turn:
            raise RuntimeError(f"the handler has given no verdict on {type(event).__name__}")

    def failed(self, event: Event, error: BaseException) -> None:
        """The handler has raised, or `answer` has."""
        logger.error("the handler has failed at %s", type(event).__name__, exc_info=error)
        if not self._conn.our_turn:
            return
        try:
            for reply in self._service.on_error(event):
                self._output.append(self._conn.send(reply))
        except Exception:
            logger.exception("what on_error gives for %s can't be sent", type(event).__name__)
        if self._conn.our_turn:
            # No reply is better than a wrong one: the peer has a default of its own.
            self.receive(b"")

    def keep_alive(self) -> None:
        """The handler is at work, and has been for some time."""
        reply = self._service.keep_alive(self._conn)
        if reply is not None:
            self._output.append(self._conn.send(reply))

    def data_to_send(self) -> bytes:
        """What is to be written now; each byte once."""
        data = b"".join(self._output)
        self._output.clear()
        return data


def _as_replies(returned: Replies[Reply]) -> Iterable[Reply]:
    if returned is None:
        return ()
    # Events are attrs classes, and none of them can be iterated over.
    return returned if isinstance(returned, Iterable) else (returned,)
