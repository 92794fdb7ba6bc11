"""What can go wrong, in two kinds: your mistake, or the peer's."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._events import Deny


class ProtocolError(Exception):
    """Base of the two errors below; nothing else ever leaves this package."""


class LocalProtocolError(ProtocolError):
    """You asked for something the protocol does not allow here.

    Nothing happened: no byte was made, no state has moved. Correct the call and go on.
    """


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol, and the connection can no longer be trusted.

    The connection's state is now ``State.FAILED`` and every further ``next_event()`` raises
    the same error. Close the socket.

    ``hint`` is an event that may still be sent, once, before closing, or None. A server gets a
    `Deny` where the client waits for an answer: it goes out as HTTP 400, which nginx shows to
    its client as a temporary error.
    """

    def __init__(self, message: str, *, hint: Deny | None = None) -> None:
        super().__init__(message)
        self.hint = hint
