"""nginx's mail ``auth_http`` protocol, both roles, without I/O.

`nginxauth.xclient` has the XCLIENT and XFORWARD commands that carry on what was learned by it.
"""

from ._client import ClientConnection
from ._errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from ._events import (
    APOP,
    CRAM_MD5,
    EXTERNAL,
    NONE,
    OAUTHBEARER,
    PLAIN,
    TLS,
    XOAUTH2,
    Allow,
    AuthRequest,
    ConnectionClosed,
    Deny,
    Envelope,
    Headers,
    Malformed,
    ProxyProtocol,
    Reply,
    Wait,
)
from ._mail_reply import MailReply, mail_reply
from ._reply import DEFAULT_MAX_ATTEMPTS, MAX_REPLY, MAX_WAIT, reply_headers
from ._request import environ_headers, parse_request
from ._server import DEFAULT_MAX_REQUEST, ServerConnection
from ._state import State
from ._strict import WARNINGS
from ._verify import has_secret, verify

__all__ = [
    "APOP",
    "CRAM_MD5",
    "DEFAULT_MAX_ATTEMPTS",
    "DEFAULT_MAX_REQUEST",
    "EXTERNAL",
    "MAX_REPLY",
    "MAX_WAIT",
    "NONE",
    "OAUTHBEARER",
    "PLAIN",
    "TLS",
    "WARNINGS",
    "XOAUTH2",
    "Allow",
    "AuthRequest",
    "ClientConnection",
    "ConnectionClosed",
    "Deny",
    "Envelope",
    "Headers",
    "LocalProtocolError",
    "MailReply",
    "Malformed",
    "ProtocolError",
    "ProxyProtocol",
    "RemoteProtocolError",
    "Reply",
    "ServerConnection",
    "State",
    "Wait",
    "environ_headers",
    "has_secret",
    "mail_reply",
    "parse_request",
    "reply_headers",
    "verify",
]
