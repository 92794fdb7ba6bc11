"""Where a connection and each of its requests stand: tables, which know no bytes and no role."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final, TypeAlias

from ._events import (
    Auth,
    Cancel,
    Cancelled,
    ClientHello,
    Cont,
    Fail,
    Malformed,
    Ok,
    ServerHello,
    Version,
)
from ._master_events import MasterHello


class State(enum.Enum):
    """Where a connection stands; the same for both roles, and on a master socket."""

    # Enum's own is written in Python, and the tables are asked for each line.
    __hash__ = object.__hash__

    HANDSHAKE = enum.auto()
    """A side has not said all of its greeting."""
    OPEN = enum.auto()
    """Requests may be made."""
    CLOSED = enum.auto()
    FAILED = enum.auto()


class Greeting(enum.Enum):
    """How far one side is with its greeting."""

    NOTHING = enum.auto()
    VERSION = enum.auto()
    DONE = enum.auto()


GREETING: Final[Mapping[tuple[Greeting, type], Greeting]] = {
    (Greeting.NOTHING, Version): Greeting.VERSION,
    (Greeting.VERSION, ClientHello): Greeting.DONE,
    (Greeting.VERSION, ServerHello): Greeting.DONE,
    (Greeting.VERSION, MasterHello): Greeting.DONE,
}
"""How far a side is after what it has said; what is not in the table can't be said."""


class Phase(enum.Enum):
    """Where a request stands; the same for both roles."""

    __hash__ = object.__hash__  # as with `State`

    ASKED = enum.auto()
    """The server's move."""
    CHALLENGED = enum.auto()
    """The client's move."""
    BINDING = enum.auto()
    """The client's move, and what it owes is channel binding data."""
    REFUSED = enum.auto()
    """It could not be used: the server owes a Fail, and nothing else will do."""
    CANCELLED = enum.auto()
    """The client has given it up, and the server (from 1.4 on) owes a Cancelled."""


class OutOfBand(enum.Enum):
    """Never made: stands in the table for a `Cont` whose data is None."""


Step: TypeAlias = tuple[Phase | None, type]

REQUESTS: Final[Mapping[Step, Phase | None]] = {
    (None, Auth): Phase.ASKED,
    (Phase.ASKED, Cont): Phase.CHALLENGED,
    (Phase.ASKED, OutOfBand): Phase.BINDING,
    (Phase.CHALLENGED, Cont): Phase.ASKED,
    (Phase.BINDING, OutOfBand): Phase.ASKED,
    (Phase.ASKED, Ok): None,
    (Phase.ASKED, Fail): None,
    # No server does it by design, but who is refused has nothing to lose by hearing of it.
    (Phase.CHALLENGED, Fail): None,
    (Phase.BINDING, Fail): None,
    **{(phase, Malformed): Phase.REFUSED for phase in (None, *list(Phase)[:3])},
    (Phase.REFUSED, Fail): None,
    **{(phase, Cancel): Phase.CANCELLED for phase in (None, *Phase)},
    (Phase.CANCELLED, Cancelled): None,
}
"""A request's phase after each event; None is a request that is not there, or not any more.

Below 1.4 a Cancel leads to None, too.
"""

CLIENTS_MOVE: Final = frozenset({Phase.CHALLENGED, Phase.BINDING})


def kind(event: object) -> type:
    """What an event is to the tables."""
    return OutOfBand if type(event) is Cont and event.data is None else type(event)
