"""What the adapters have in common: the connection they drive, and the service they give.

An adapter knows no protocol. It reads bytes, hands out events, calls the handler with each of
them, sends what the handler returns, and closes. All that differs from protocol to protocol is
said in a `Service`.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Generic, Protocol, TypeAlias, TypeVar

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
        """Among others CLOSED and FAILED."""

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
# Made anew for each connection, so what it remembers is that connection's. It gets every event,
# the end of the connection too. Where the adapter can wait, it may be a coroutine function.
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


def is_over(connection: Connection[Event, Reply]) -> bool:
    """Whether nothing more can come."""
    return connection.state.name in ("CLOSED", "FAILED")


def as_replies(returned: Replies[Reply]) -> Iterable[Reply]:
    """What a handler returned, one by one."""
    if returned is None:
        return ()
    # Events are attrs classes, and none of them can be iterated over.
    return returned if isinstance(returned, Iterable) else (returned,)
