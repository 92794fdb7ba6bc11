"""What XCLIENT and XFORWARD tell, and what is made of them. All text is bytes, decoded.

Making one never fails; what may not be sent is found out when it is encoded. Each field is named
as its attribute is on the wire. None: the command does not have it.
"""

from __future__ import annotations

import enum
from typing import Final, Literal, TypeAlias, final

import attrs


class Special(enum.Enum):
    """Values that are no text; written in any case, and encoded or not, they mean the same."""

    UNAVAILABLE = b"[UNAVAILABLE]"
    """There is none, or it can't be known."""
    TEMPUNAVAIL = b"[TEMPUNAVAIL]"
    """It can't be known for now. XCLIENT's NAME and REVERSE_NAME only."""


UNAVAILABLE: Final = Special.UNAVAILABLE
TEMPUNAVAIL: Final = Special.TEMPUNAVAIL

Text: TypeAlias = bytes | Literal[Special.UNAVAILABLE] | None
Name: TypeAlias = bytes | Special | None
Port: TypeAlias = int | Literal[Special.UNAVAILABLE] | None


@final
@attrs.frozen(kw_only=True)
class XClient:
    """From now on, the client is this one.

    ``name``: what its address resolves to and back, and ``reverse_name``: what it resolves to at
    all. **Every address needs a name**, or UNAVAILABLE: without one, the server would keep that
    of the proxy. ``addr`` and ``destaddr`` are IP addresses as text, without brackets and without
    ``IPV6:``; sent, an IPv4 address in IPv6 becomes IPv4. ``destaddr`` and ``destport`` are the
    server's own. ``login``: the user, already authenticated; UNAVAILABLE if nobody is.
    ``proto``: ``b"SMTP"`` or ``b"ESMTP"``.

    In the order in which they are sent.
    """

    name: Name = None
    reverse_name: Name = None
    port: Port = None
    destaddr: Text = None
    destport: Port = None
    addr: Text = None
    login: Text = None
    helo: Text = None
    proto: bytes | None = None


@final
@attrs.frozen(kw_only=True)
class XForward:
    """The next message came from this client. For the server's log, not for its decisions.

    But ``source``, ``b"LOCAL"`` or ``b"REMOTE"``, decides whether headers are rewritten as in
    mail of one's own; Postfix takes UNAVAILABLE for LOCAL. ``ident`` is the message's queue id at
    the host before. The others are as in `XClient`; ``proto`` may be any text of 64 bytes.
    """

    name: Text = None
    addr: Text = None
    port: Port = None
    proto: Text = None
    helo: Text = None
    ident: Text = None
    source: Text = None


Command: TypeAlias = XClient | XForward


@final
@attrs.frozen
class Offer:
    """The attributes that a server takes from this peer, by command; with none, not the command.

    Names in upper case, in the server's order: ``Offer((b"NAME", b"ADDR"))``. A server may take
    others than those of `XClient` and `XForward`, such as Dovecot's ``SESSION``.
    """

    xclient: tuple[bytes, ...] = ()
    xforward: tuple[bytes, ...] = ()


@final
@attrs.frozen
class Refused:
    """A command that changes nothing.

    ``data`` is the command without its line end; ``reason`` says what is wrong (no part of
    ``data`` is in it); ``reply`` is what to answer, without a line end. ``close``: and close.
    """

    data: bytes
    reason: str
    reply: bytes
    close: bool = False


class Outcome(enum.Enum):
    """What a server's reply to the command means."""

    ACCEPTED = enum.auto()
    """XCLIENT: the session begins again, say EHLO. XFORWARD: go on."""
    REJECTED = enum.auto()
    """The server knows the client now, and does not want it. It is for the client to hear."""
    CLOSING = enum.auto()
    """421: the server closes, because of the client or for reasons of its own."""
    SYNTAX = enum.auto()
    """501. Postfix has applied what stood before the fault: close."""
    IN_TRANSACTION = enum.auto()
    """503: not between MAIL and the end of the message."""
    NOT_AUTHORISED = enum.auto()
    """550: not from you, or not again after ADDR."""
    UNKNOWN_COMMAND = enum.auto()
    """500 or 502: the server has no such command."""
