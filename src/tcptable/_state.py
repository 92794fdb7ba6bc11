"""Where a connection stands: one table, which knows no bytes and no role."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from ._events import (
    ConnectionClosed,
    Found,
    Get,
    Malformed,
    NotFound,
    PermError,
    Put,
    TempError,
)


class State(enum.Enum):
    """Where a connection stands; the same for both roles."""

    IDLE = enum.auto()
    """A request may come."""
    BUSY = enum.auto()
    """A reply is due."""
    CLOSED = enum.auto()
    FAILED = enum.auto()


REQUESTS: Final = (Get, Put, Malformed)
REPLIES: Final = (Found, NotFound, TempError, PermError)

# By the event alone: a request can come in IDLE only, a reply in BUSY only. (A table by state would
# hash an Enum for each event, which takes longer than all the rest of it.)
AFTER: Final[Mapping[type, State]] = {
    **dict.fromkeys(REQUESTS, State.BUSY),
    **dict.fromkeys(REPLIES, State.IDLE),
    ConnectionClosed: State.CLOSED,
}
"""The state after each event. An error of the peer's leads to FAILED from everywhere."""
