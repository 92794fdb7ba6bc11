"""Every event of the milter protocol, in both directions.

All text is ``bytes``, exactly as it stands on the wire. Making an event never fails; what may
not be sent is found out by ``send()``. Field order is wire order. Layouts and legal places are
described in the manual's wire-format page.
"""

from __future__ import annotations

import enum
import functools
import ipaddress
from collections.abc import Mapping
from typing import TypeAlias, final

import attrs

from ._flags import Actions, Steps

MacroLists: TypeAlias = tuple[tuple[int, tuple[bytes, ...]], ...]


class Family(enum.Enum):
    """Address family of the SMTP client; the value is the byte on the wire."""

    UNKNOWN = b"U"
    UNIX = b"L"
    INET = b"4"
    INET6 = b"6"


# --- both directions ---------------------------------------------------------------------


@final
@attrs.frozen
class Negotiate:
    """Option negotiation (``SMFIC_OPTNEG``): the MTA's offer, and the filter's answer to it.

    ``macros`` only travels in the answer: pairs of a ``Stage`` number and the names wanted at
    that stage, ``b"i"`` or ``b"{auth_authen}"``. Unknown stage numbers are kept as they came.
    """

    version: int
    actions: Actions
    steps: Steps
    macros: MacroLists = ()


# --- commands: MTA to filter -------------------------------------------------------------


@final
@attrs.frozen
class Macros:
    """Macro values (``SMFIC_MACRO``) for the command that follows; never answered.

    ``command`` is that command's code byte, such as ``b"M"``; ``raw`` the name and value
    strings, each ended by NUL, kept unread until somebody looks at ``values``.
    """

    command: bytes
    raw: bytes

    @functools.cached_property
    def values(self) -> Mapping[bytes, bytes]:
        """The values by name, names as on the wire: ``b"i"``, ``b"{daemon_name}"``.

        Never raises: bytes after the last NUL and a name without a value are left out. The
        first of two equal names wins, as it does in libmilter.
        """
        strings = self.raw.split(b"\0")
        values: dict[bytes, bytes] = {}
        # The last string is what follows the last NUL: nothing, if the frame is in order.
        for i in range(0, len(strings) - 2, 2):
            values.setdefault(strings[i], strings[i + 1])
        return values

    @classmethod
    def of(cls, command: type[Command], values: Mapping[bytes, bytes]) -> Macros:
        """The macros to send before ``command``, an event class such as ``MailFrom``."""
        raw = b"".join(name + b"\0" + value + b"\0" for name, value in values.items())
        return cls(COMMAND_CODES[command], raw)


@final
@attrs.frozen
class Connect:
    """An SMTP client has connected (``SMFIC_CONNECT``).

    ``hostname`` is the verified reverse name, or the address in brackets, or ``unknown``.
    ``address`` is a dotted quad, an IPv6 address (Sendmail puts ``IPv6:`` before it), or a
    path; with ``Family.UNKNOWN`` there is neither port nor address (0 and empty).
    """

    hostname: bytes
    family: Family
    port: int = 0
    address: bytes = b""

    @property
    def ip(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """The client's address, with ``IPv6:`` and brackets taken off; None if it is not IP."""
        if self.family not in (Family.INET, Family.INET6):
            return None
        text = self.address.decode("ascii", "replace").removeprefix("[").removesuffix("]")
        if text[:5].lower() == "ipv6:":
            text = text[5:]
        try:
            return ipaddress.ip_address(text)
        except ValueError:
            return None


@final
@attrs.frozen
class Helo:
    """HELO or EHLO (``SMFIC_HELO``) with the name that the client gave. May come again."""

    name: bytes


@final
@attrs.frozen
class MailFrom:
    """A message begins (``SMFIC_MAIL``).

    ``sender`` is the envelope sender as the client wrote it: usually in angle brackets, but
    not always; the null sender is ``b"<>"`` from SMTP and empty in Postfix's local mail.
    ``parameters`` are the ESMTP ones, each ``b"KEY=VALUE"`` or ``b"KEY"``.
    """

    sender: bytes
    parameters: tuple[bytes, ...] = ()


@final
@attrs.frozen
class RcptTo:
    """One recipient (``SMFIC_RCPT``), brackets and parameters as in `MailFrom`."""

    recipient: bytes
    parameters: tuple[bytes, ...] = ()


@final
@attrs.frozen
class Data:
    """The client sent DATA (``SMFIC_DATA``, version 4 and later)."""


@final
@attrs.frozen
class Header:
    """One header line (``SMFIC_HEADER``), in order.

    ``value`` keeps its folding as LF and the white space that follows, has no CR and no line
    end. Unless ``Steps.HDR_LEADSPC`` was negotiated, one leading space has been taken off.
    """

    name: bytes
    value: bytes


@final
@attrs.frozen
class EndOfHeaders:
    """The header has ended (``SMFIC_EOH``)."""


@final
@attrs.frozen
class Body:
    """A piece of the body (``SMFIC_BODY``), CRLF line ends, 1 to 65535 bytes.

    A CR may end one piece and its LF begin the next.
    """

    data: bytes


@final
@attrs.frozen
class EndOfMessage:
    """The message is complete (``SMFIC_BODYEOB``): edits are due, and one verdict.

    ``data`` is a last piece of the body. No MTA known to us puts anything there, but it is
    legal, and it belongs to the body.
    """

    data: bytes = b""


@final
@attrs.frozen
class Abort:
    """Forget the current message (``SMFIC_ABORT``), usually RSET; never answered.

    Connection and HELO stand. Postfix sends it after every message, and repeatedly.
    """


@final
@attrs.frozen
class Quit:
    """The SMTP session is over (``SMFIC_QUIT``); never answered, the filter closes."""


@final
@attrs.frozen
class QuitNewConnection:
    """This SMTP client is gone and a new one's `Connect` follows (``SMFIC_QUIT_NC``)."""


@final
@attrs.frozen
class Unknown:
    """A command that the MTA does not know (``SMFIC_UNKNOWN``, version 3 and later).

    ``command`` is the whole line; only its first word from Postfix before 3.10.
    """

    command: bytes


# --- verdicts: filter to MTA -------------------------------------------------------------


@final
@attrs.frozen
class Continue:
    """Go on (``SMFIR_CONTINUE``); at end of message: the message is fine."""


@final
@attrs.frozen
class Accept:
    """Accept without further questions (``SMFIR_ACCEPT``): the message, or the connection."""


@final
@attrs.frozen
class Reject:
    """Refuse for good (``SMFIR_REJECT``), with the MTA's own 5xx text."""


@final
@attrs.frozen
class TempFail:
    """Refuse for now (``SMFIR_TEMPFAIL``), with the MTA's own 4xx text."""


@final
@attrs.frozen
class Discard:
    """Tell the client that all is well, and throw the message away (``SMFIR_DISCARD``)."""


@final
@attrs.frozen
class ReplyCode:
    """Refuse with a reply of your own (``SMFIR_REPLYCODE``).

    ``code`` is three digits, ``b"550"`` (4xx or 5xx). ``enhanced`` is the enhanced status code
    (RFC 3463) of the same class, ``b"5.7.1"``; it is required when sending and empty if a
    filter sent none. ``lines`` are the text lines, without codes, line ends or doubled ``%``.
    """

    code: bytes
    enhanced: bytes
    lines: tuple[bytes, ...]

    @classmethod
    def text(cls, code: int, enhanced: str | None, *lines: str) -> ReplyCode:
        """A reply from str. ``enhanced=None`` gives ``4.0.0`` or ``5.0.0``, as libmilter does.

        Text that can't be sent (8-bit, control characters) is refused by ``send()``.
        """
        digits = str(code)
        return cls(
            digits.encode(),
            (enhanced or f"{digits[0]}.0.0").encode("utf-8", "surrogateescape"),
            tuple(line.encode("utf-8", "surrogatepass") for line in lines or ("",)),
        )


@final
@attrs.frozen
class Skip:
    """No more body, please (``SMFIR_SKIP``, version 6); `EndOfMessage` still comes."""


@final
@attrs.frozen
class Shutdown:
    """421 and disconnect the client (``SMFIR_SHUTDOWN``): Postfix only, an error to Sendmail.

    Not for a message's contents, where Postfix 3.7 would lose the mail; a `ReplyCode` of 421
    does the same everywhere.
    """


@final
@attrs.frozen
class ConnectionFailure:
    """``SMFIR_CONN_FAIL``. It has a code, but no MTA takes it; so it can't be sent."""


# --- edits: filter to MTA, at end of message only ----------------------------------------


@final
@attrs.frozen
class AddHeader:
    """Add a header (``SMFIR_ADDHEADER``): at the end in Postfix; see the manual for Sendmail.

    ``value`` is folded with LF and white space, without a line end.
    """

    name: bytes
    value: bytes


@final
@attrs.frozen
class InsertHeader:
    """Insert a header (``SMFIR_INSHEADER``); ``index`` counts all headers, from 0."""

    index: int
    name: bytes
    value: bytes


@final
@attrs.frozen
class ChangeHeader:
    """Change the ``index``-th header of that name, from 1 (``SMFIR_CHGHEADER``).

    An empty ``value`` deletes it. To delete several, go from the highest index down.
    """

    index: int
    name: bytes
    value: bytes


@final
@attrs.frozen
class ReplaceBody:
    """Replace the body (``SMFIR_REPLBODY``), CRLF line ends.

    The first of a message empties the body, further ones append. They must follow one another
    with no other edit between them. Data longer than a packet is split for you.
    """

    data: bytes


@final
@attrs.frozen
class AddRecipient:
    """Add an envelope recipient (``SMFIR_ADDRCPT``, ``SMFIR_ADDRCPT_PAR`` with parameters)."""

    recipient: bytes
    parameters: tuple[bytes, ...] = ()


@final
@attrs.frozen
class DeleteRecipient:
    """Remove an envelope recipient (``SMFIR_DELRCPT``), written just as it was received."""

    recipient: bytes


@final
@attrs.frozen
class ChangeSender:
    """Replace the envelope sender (``SMFIR_CHGFROM``), in angle brackets; null is ``b"<>"``."""

    sender: bytes
    parameters: tuple[bytes, ...] = ()


@final
@attrs.frozen
class Quarantine:
    """Hold the message (``SMFIR_QUARANTINE``); not a verdict, one must still follow."""

    reason: bytes


@final
@attrs.frozen
class Progress:
    """Still working on it (``SMFIR_PROGRESS``): restarts the MTA's read timeout.

    At end of message only, and not between the pieces of a new body.
    """


# --- not on the wire ---------------------------------------------------------------------


@final
@attrs.frozen
class ConnectionClosed:
    """The peer has gone, after `Quit` or without it; given once, and the last event."""


Command: TypeAlias = (
    Negotiate
    | Macros
    | Connect
    | Helo
    | MailFrom
    | RcptTo
    | Data
    | Header
    | EndOfHeaders
    | Body
    | EndOfMessage
    | Abort
    | Quit
    | QuitNewConnection
    | Unknown
)
"""What an MTA says."""

Verdict: TypeAlias = (
    Continue
    | Accept
    | Reject
    | TempFail
    | Discard
    | ReplyCode
    | Skip
    | Shutdown
    | ConnectionFailure
)
"""What ends a filter's turn."""

Edit: TypeAlias = (
    AddHeader
    | InsertHeader
    | ChangeHeader
    | ReplaceBody
    | AddRecipient
    | DeleteRecipient
    | ChangeSender
    | Quarantine
)
"""What a filter may do to the message at end of message, before its verdict."""

Response: TypeAlias = Negotiate | Verdict | Edit | Progress
"""What a filter says."""

COMMAND_CODES: Mapping[type[Command], bytes] = {
    Negotiate: b"O",
    Macros: b"D",
    Connect: b"C",
    Helo: b"H",
    MailFrom: b"M",
    RcptTo: b"R",
    Data: b"T",
    Header: b"L",
    EndOfHeaders: b"N",
    Body: b"B",
    EndOfMessage: b"E",
    Abort: b"A",
    Quit: b"Q",
    QuitNewConnection: b"K",
    Unknown: b"U",
}
"""The code byte of each command (``SMFIC_*``), as `Macros.command` uses it."""
