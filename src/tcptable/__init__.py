"""Postfix's tcp_table(5) look-ups, both roles, without I/O; `tcptable.socketmap` has its kin."""

from ._connection import ClientConnection, ServerConnection
from ._errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from ._events import (
    ConnectionClosed,
    Found,
    Get,
    Malformed,
    NotFound,
    PermError,
    Put,
    Reply,
    Request,
    TempError,
)
from ._state import State
from ._wire import DEFAULT_MAX_REQUEST, MAX_REPLY, encode_reply

__all__ = [
    "DEFAULT_MAX_REQUEST",
    "MAX_REPLY",
    "ClientConnection",
    "ConnectionClosed",
    "Found",
    "Get",
    "LocalProtocolError",
    "Malformed",
    "NotFound",
    "PermError",
    "ProtocolError",
    "Put",
    "RemoteProtocolError",
    "Reply",
    "Request",
    "ServerConnection",
    "State",
    "TempError",
    "encode_reply",
]
