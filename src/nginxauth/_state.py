"""Where a connection stands: one table, which knows no bytes and no role."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from ._events import Allow, AuthRequest, ConnectionClosed, Deny, Malformed, Wait


class State(enum.Enum):
    """Where a connection stands; the same for both roles."""

    IDLE = enum.auto()
    """The request may come."""
    BUSY = enum.auto()
    """The reply is due."""
    CLOSED = enum.auto()
    FAILED = enum.auto()


REQUESTS: Final = (AuthRequest, Malformed)
REPLIES: Final = (Allow, Deny, Wait)

AFTER: Final[Mapping[type, State]] = {
    **dict.fromkeys(REQUESTS, State.BUSY),
    # One request on each connection: nginx closes it when it has read the reply's head.
    **dict.fromkeys(REPLIES, State.CLOSED),
    ConnectionClosed: State.CLOSED,
}
"""The state after each event. An error of the peer's leads to FAILED from everywhere."""
