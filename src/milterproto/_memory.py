"""A filter of ours at the end of a wire that is not there: for tests."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol, TypeAlias, final

import attrs

from ._connection import FilterConnection
from ._errors import LocalProtocolError
from ._events import Command, ConnectionClosed, Continue, Macros, Negotiate, Response
from ._negotiation import Wants, negotiate

Replies: TypeAlias = Response | Iterable[Response] | None
Handler: TypeAlias = Callable[[Command | ConnectionClosed], Replies | Awaitable[Replies]]
Run: TypeAlias = Callable[[Any], Any]


class Filter(Protocol):
    """What a filter of ours is: `MessageFilter` and `EventFilter` are."""

    @property
    def session(self) -> Callable[[FilterConnection], Handler]:
        """Called for each connection: makes what gets its events."""

    @property
    def wants(self) -> Wants:
        """What is to be negotiated."""


@final
@attrs.frozen
class EventFilter:
    """A filter that handles events, as `examples/adapters` serves them.

    ``session`` is called for each connection of the MTA and returns a function that gets its
    events: all but two, the negotiation, which follows ``wants``, and macros, which are looked up
    in the connection. That function returns a reply, several, or None: nothing, or Continue if a
    reply is due. It may be a coroutine function. ``allow_shutdown`` as in `FilterConnection`.
    """

    session: Callable[[FilterConnection], Handler]
    wants: Wants
    allow_shutdown: bool = attrs.field(default=False, kw_only=True)


class Wire(Protocol):
    """The MTA's end of a connection to a filter. A connected, blocking `socket.socket` is one."""

    def sendall(self, data: bytes, /) -> object:
        """Give all of it to the filter."""

    def recv(self, size: int, /) -> bytes:
        """Wait for bytes from the filter; none when it has closed."""

    def shutdown(self, how: int, /) -> object:
        """Say (with 1) that nothing more will come."""


def run_alone(coroutine: Any) -> Any:
    """Run a coroutine that does not really wait for anything."""
    steps = coroutine.__await__()
    try:
        next(steps)
    except StopIteration as end:
        return end.value
    steps.close()
    raise LocalProtocolError(
        "the filter waits for something, and here is nothing to run it: pass run=asyncio.run"
    )


class MemoryWire:
    """A `Wire` with the filter at its other end, which does its work within `sendall`.

    What the filter raises comes out there, as does what `FilterConnection` says of a wrong reply.
    """

    def __init__(self, tested: Filter, run: Run = run_alone) -> None:
        allow_shutdown = isinstance(tested, EventFilter) and tested.allow_shutdown
        self._conn = FilterConnection(allow_shutdown=allow_shutdown)
        self._handle = tested.session(self._conn)
        self._wants = tested.wants
        self._run = run
        self._answers: list[bytes] = []

    def sendall(self, data: bytes, /) -> None:
        self._conn.receive_data(data)
        while (event := self._conn.next_event()) is not None:
            if type(event) is Macros:
                continue
            for reply in self._replies(event):
                self._answers.append(self._conn.send(reply))
            if self._conn.our_turn:
                raise LocalProtocolError(f"the filter has given no verdict on {event!r}")

    def recv(self, _size: int, /) -> bytes:
        data = b"".join(self._answers)
        self._answers.clear()
        return data

    def shutdown(self, _how: int, /) -> None:
        self.sendall(b"")

    def _replies(self, event: Command | ConnectionClosed) -> Iterable[Response]:
        if isinstance(event, Negotiate):
            return [negotiate(event, self._wants)]
        returned: Any = self._handle(event)
        if inspect.isawaitable(returned):
            returned = self._run(returned)
        if returned is None:
            return [Continue()] if self._conn.our_turn else []
        # Events are attrs classes, and none of them can be iterated over.
        return returned if isinstance(returned, Iterable) else [returned]
