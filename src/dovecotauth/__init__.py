"""Dovecot's authentication protocol, 1.0 to 1.4, both roles, without I/O.

`dovecotauth.master` has what a delivery agent or an IMAP server asks: users, not passwords.
"""

from ._client import ClientConnection
from ._errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from ._events import (
    AUTHZ_FAIL,
    INVALID_BASE64,
    NO_FLAGS,
    PASS_EXPIRED,
    TEMP_FAIL,
    USER_DISABLED,
    Auth,
    Cancel,
    Cancelled,
    ClientHello,
    Connected,
    ConnectionClosed,
    Cont,
    Fail,
    Flags,
    FromClient,
    FromServer,
    Malformed,
    Mechanism,
    Ok,
    Parameters,
    ServerHello,
    Version,
    has,
    value_of,
)
from ._fields import join_fields, split_fields
from ._handshake import NEWEST
from ._server import DEFAULT_MAX_OUTSTANDING, Received, ServerConnection
from ._state import Phase, State
from ._wire import MAX_LINE

__all__ = [
    "AUTHZ_FAIL",
    "DEFAULT_MAX_OUTSTANDING",
    "INVALID_BASE64",
    "MAX_LINE",
    "NEWEST",
    "NO_FLAGS",
    "PASS_EXPIRED",
    "TEMP_FAIL",
    "USER_DISABLED",
    "Auth",
    "Cancel",
    "Cancelled",
    "ClientConnection",
    "ClientHello",
    "Connected",
    "ConnectionClosed",
    "Cont",
    "Fail",
    "Flags",
    "FromClient",
    "FromServer",
    "LocalProtocolError",
    "Malformed",
    "Mechanism",
    "Ok",
    "Parameters",
    "Phase",
    "ProtocolError",
    "Received",
    "RemoteProtocolError",
    "ServerConnection",
    "ServerHello",
    "State",
    "Version",
    "has",
    "join_fields",
    "split_fields",
    "value_of",
]
