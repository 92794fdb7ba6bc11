"""What nginx then says to the mail client."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from types import NoneType
from typing import Final, final

import attrs

from ._errors import LocalProtocolError
from ._events import Deny

_INTERNAL: Final[Mapping[bytes, bytes]] = {
    b"smtp": b"451 4.3.2 Internal server error\r\n",
    b"pop3": b"-ERR internal server error\r\n",
    # Untagged, so that the client's command has no answer.
    b"imap": b"* BAD internal server error\r\n",
}
_DEFAULT_CODE: Final = b"535 5.7.0"


@final
@attrs.frozen
class MailReply:
    """``data`` is what the mail client reads, after ``delay`` seconds.

    Then nginx closes the session, or lets it try again. ``challenge``, if it is not empty, comes
    in its place, and ``data`` when the client has answered that: nginx's forks do so, after the
    OAuth methods (from their sources, not run).
    """

    data: bytes
    delay: int
    closes: bool
    challenge: bytes = b""


def mail_reply(reply: Deny | None, protocol: bytes, *, tag: bytes = b"A1") -> MailReply:
    """What the mail client gets if nginx is answered so; None: nothing that it could use.

    ``protocol``: ``b"smtp"``, ``b"imap"`` or ``b"pop3"``. ``tag`` is that of the IMAP client's
    command. After an `Allow` the client gets what the server behind makes of it, and after a
    `Wait` nothing, until nginx has asked again. Raises LocalProtocolError for those, for other
    protocols, and for what is not bytes.
    """
    if type(protocol) is not bytes or protocol not in _INTERNAL:
        raise LocalProtocolError("nginx knows the protocols smtp, imap and pop3")
    if reply is None:
        return MailReply(_INTERNAL[protocol], 0, closes=True)
    if type(reply) is not Deny:
        raise LocalProtocolError(f"{type(reply).__name__}(...) is no refusal")
    if any(type(text) is not bytes for text in (reply.message, reply.code, tag)):
        raise LocalProtocolError("the message, the code and the tag have to be bytes")
    if type(reply.challenge) not in (bytes, NoneType):
        raise LocalProtocolError("the challenge has to be bytes or None")
    before = {
        b"smtp": reply.code or _DEFAULT_CODE,
        b"pop3": b"-ERR",
        b"imap": tag + b" NO",
    }[protocol]
    challenge = b""
    if reply.challenge is not None:
        sign = b"334 " if protocol == b"smtp" else b"+ "
        challenge = sign + base64.b64encode(reply.challenge) + b"\r\n"
    data = before + b" " + reply.message + b"\r\n"
    return MailReply(data, reply.wait, reply.wait == 0, challenge)
