"""What can go wrong, in two kinds: your mistake, or the peer's."""

from __future__ import annotations

from typing import Final


class ProtocolError(Exception):
    """Base of the two errors below; nothing else ever leaves this package.

    No error's text holds anything of what a peer or a user said, so none can hold a secret.
    """


class LocalProtocolError(ProtocolError):
    """You asked for something the protocol does not allow here.

    Nothing happened: no byte was made, no state has moved. Correct the call and go on.
    """


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol, and the connection can no longer be trusted.

    The connection's state is now ``State.FAILED`` and every further ``next_event()`` raises
    the same error. Close the socket: all requests on it are lost, as they are with Dovecot.

    ``hint`` is None, always: a reply belongs to one request, and this error to none.
    """

    hint: Final = None
