"""EHLO lines and command lines, read: whatever bytes come, the outcome is a value."""

from __future__ import annotations

import re
from typing import Any, Final

import attrs

from ._errors import LocalProtocolError
from ._xclient_events import Command, Offer, Refused, XClient, XForward
from ._xclient_values import MAX_VALUE, XCLIENT_ATTRIBUTES, XFORWARD_ATTRIBUTES
from ._xtext import Xtext

# Postfix's line_length_limit, with the line end: newer releases refuse what is longer, older
# ones cut it and obey the rest.
DEFAULT_MAX_LINE: Final = 2048

_CODE: Final = re.compile(rb"[0-9]{3}[- ]")
_BLANK: Final = re.compile(rb"[ \t]+")
_BREAKS: Final = re.compile(rb"[\0\r\n]")
_TOKEN: Final = re.compile(rb"[A-Za-z0-9_-]+")

_COMMANDS: Final = {
    b"XCLIENT": (XClient, XCLIENT_ATTRIBUTES),
    b"XFORWARD": (XForward, XFORWARD_ATTRIBUTES),
}

TRANSACTION: Final = b"503 5.5.1 Error: MAIL transaction in progress"
NOT_AUTHORISED: Final = b"550 5.7.0 Error: insufficient authorization"
PIPELINED: Final = b"554 5.5.0 Error: SMTP protocol synchronization"

EVERYTHING: Final = Offer(tuple(XCLIENT_ATTRIBUTES), tuple(XFORWARD_ATTRIBUTES))
"""Every attribute of both commands, LOGIN included."""


# --- EHLO ----------------------------------------------------------------------------------


def parse_ehlo(reply: bytes) -> Offer:
    """What the server's reply to EHLO offers; all of the reply, the line with its name first.

    With or without ``250-``, lines ended by CR LF or LF: as it came, or as smtplib keeps it in
    ``ehlo_resp``. Exim's two blanks and any letter case will do.
    """
    found: dict[bytes, tuple[bytes, ...]] = {}
    for line in _bytes(reply).split(b"\n")[1:]:
        code = _CODE.match(line)
        keyword, *names = (line[code.end() :] if code else line).upper().split() or [b""]
        # The first line of a keyword counts.
        found.setdefault(keyword, tuple(dict.fromkeys(names)))
    return Offer(found.get(b"XCLIENT", ()), found.get(b"XFORWARD", ()))


def check_offer(offer: Offer) -> None:
    """LocalProtocolError for what is none, such as the server's reply itself."""
    if type(offer) is not Offer:
        raise LocalProtocolError(f"{type(offer).__name__} is no Offer; parse_ehlo makes one")


def ehlo_lines(offer: Offer) -> tuple[bytes, ...]:
    """The keyword lines that make an offer, without ``250-`` and line ends; none for no offer.

    Raises LocalProtocolError for an attribute that is no name, and for what is no offer.
    """
    check_offer(offer)
    lines = []
    for keyword, names in ((b"XCLIENT", offer.xclient), (b"XFORWARD", offer.xforward)):
        for name in names:
            if type(name) is not bytes or not _TOKEN.fullmatch(name):
                raise LocalProtocolError("an offer is made of the names of attributes, in bytes")
        if names:
            lines.append(b" ".join((keyword, *names)))
    return tuple(lines)


# --- commands ------------------------------------------------------------------------------


@attrs.frozen
class Line:
    """A command line, cut at its blanks."""

    data: bytes
    keyword: bytes
    words: tuple[bytes, ...]

    def refused(self, reply: bytes, reason: str, *, close: bool = False) -> Refused:
        """The refusal of this line."""
        return Refused(self.data, reason, reply, close)

    def syntax(self, text: str) -> Refused:
        """The refusal with Postfix's words, but without what it repeats of the line."""
        return self.refused(b"501 5.5.4 " + text.encode(), text)


def split_line(line: bytes, max_line: int = DEFAULT_MAX_LINE) -> Line | Refused:
    """Cut a line, with or without its end, at its blanks."""
    data = _bytes(line).removesuffix(b"\n").removesuffix(b"\r")
    # CR and LF, which may or may not be there, count as in Postfix.
    if len(data) + 2 > max_line:
        return Refused(data, f"over {max_line} bytes", b"500 5.5.2 Error: command too long")
    keyword, *words = _BLANK.split(data.strip(b" \t"))
    cut = Line(data, keyword.upper(), tuple(words))
    if cut.keyword not in _COMMANDS:
        return cut.refused(b"500 5.5.2 Error: command not recognized", "another command")
    if _BREAKS.search(data):
        return cut.syntax("Error: NUL, CR or LF in the command")
    return cut


def parse_line(line: Line, offer: Offer, *, xtext: Xtext, lenient: bool) -> Command | Refused:
    """What a line tells, if it has attributes of the offer only, each with a good value."""
    kind, attributes = _COMMANDS[line.keyword]
    taken = offer.xclient if kind is XClient else offer.xforward
    name_of = line.keyword.decode()
    if not line.words:
        return line.syntax(f"Syntax: {name_of} attribute=value...")
    fields: dict[str, Any] = {}
    for word in line.words:
        name, _, text = word.partition(b"=")
        name = name.upper()
        if not text:
            return line.syntax("Error: attribute=value expected")
        if len(text) > MAX_VALUE:
            return line.syntax("Error: attribute value too long")
        attribute = attributes.get(name)
        if attribute is None or name not in taken:
            return line.syntax(f"Bad {name_of} attribute name")
        value = attribute.decode(text, xtext, lenient=lenient)
        if value is None:
            return line.syntax(f"Bad {attribute.name.decode()} syntax")
        # Of one that comes twice, the last counts, as in Postfix.
        fields[attribute.field] = value
    command: Command = kind(**fields)
    return command


def parse_command(
    line: bytes,
    offer: Offer = EVERYTHING,
    *,
    xtext: Xtext = Xtext.STRICT,
    lenient: bool = False,
    max_line: int = DEFAULT_MAX_LINE,
) -> Command | Refused:
    """What a command line tells; with or without its line end.

    ``offer``: the attributes that are taken. ``xtext``: how values are read. ``lenient`` takes
    what Dovecot, and nginx before 1.5.9, sends: an IPv6 address without ``IPV6:``, and the
    protocol ``LMTP``. ``max_line``: the longest line, in bytes and with its CR LF.

    Whether the command may come now and from this peer, a `Receiver` knows.
    """
    cut = split_line(line, max_line)
    return cut if type(cut) is Refused else parse_line(cut, offer, xtext=xtext, lenient=lenient)


def _bytes(data: bytes) -> bytes:
    try:
        return bytes(memoryview(data))
    except TypeError:
        raise LocalProtocolError("a line is given in bytes") from None
