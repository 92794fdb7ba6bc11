"""The SMTP reply inside a REPLYCODE packet: text rules that keep every MTA content.

Postfix drops the filter over a reply that Sendmail would pass on, and the other way round, so
`encode_reply` makes only what both take as meant. `decode_reply` is as strict as Postfix 3.12.
"""

from __future__ import annotations

import re
from typing import Final

from ._errors import LocalProtocolError, RemoteProtocolError
from ._events import ReplyCode

# libmilter's own limits (smfi_setreply, smfi_setmlreply): bytes of text in a line, lines.
MAX_REPLY_LINE: Final = 980
MAX_REPLY_LINES: Final = 32

_CODE: Final = re.compile(rb"[45][0-5][0-9]")  # RFC 5321, 4.2
# RFC 3463, 2: a class and two numbers of one to three digits, without leading zeros.
_ENHANCED: Final = re.compile(rb"[45]\.(?:0|[1-9][0-9]{0,2})\.(?:0|[1-9][0-9]{0,2})")
_PRINTABLE: Final = re.compile(rb"[ -~]*")

_LINE: Final = re.compile(rb"([45][0-9][0-9])([ -])(.*)", re.DOTALL)
_LEADING_ENHANCED: Final = re.compile(rb"[45]\.[0-9]{1,3}\.[0-9]{1,3}(?= |\Z)")
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_LONE_PERCENT: Final = re.compile(rb"(?<!%)(?:%%)*%(?!%)")


def encode_reply(reply: ReplyCode) -> bytes:
    """The reply as text, lines joined by CRLF, without a last line end and without NUL."""
    code, enhanced, lines = reply.code, reply.enhanced, reply.lines
    if not _CODE.fullmatch(code):
        raise LocalProtocolError(f"{code!r} is no reply code of the form 4xx or 5xx")
    if not _ENHANCED.fullmatch(enhanced):
        raise LocalProtocolError(f"{enhanced!r} is no enhanced status code such as b'5.7.1'")
    if enhanced[:1] != code[:1]:
        # Sendmail passes this on; Postfix drops the filter's connection.
        raise LocalProtocolError(f"enhanced code {enhanced!r} is not of the class of {code!r}")
    if not 1 <= len(lines) <= MAX_REPLY_LINES:
        # With no line at all, libmilter sends a reply whose last line never comes.
        raise LocalProtocolError(f"a reply has 1 to {MAX_REPLY_LINES} lines, not {len(lines)}")
    encoded = []
    for number, line in enumerate(lines, start=1):
        if not _PRINTABLE.fullmatch(line):
            raise LocalProtocolError(
                f"line {number} of the reply has bytes that are not printable ASCII; "
                "give each line as an item of its own"
            )
        # Both MTAs expand %-sequences: a lone one costs the whole text in Sendmail.
        text = line.replace(b"%", b"%%")
        if len(text) > MAX_REPLY_LINE:
            raise LocalProtocolError(
                f"line {number} of the reply has {len(text)} bytes (with each % doubled), "
                f"more than {MAX_REPLY_LINE}"
            )
        separator = b" " if number == len(lines) else b"-"
        encoded.append(code + separator + enhanced + (b" " + text if text else b""))
    return b"\r\n".join(encoded)


def decode_reply(text: bytes) -> ReplyCode:
    """Read what `encode_reply` makes, or what a filter with looser habits sends."""
    raw_lines = text.split(b"\r\n")
    code = enhanced = b""
    lines = []
    for number, raw in enumerate(raw_lines, start=1):
        match = _LINE.fullmatch(raw)
        if match is None:
            raise RemoteProtocolError("REPLYCODE line is not of the form '550 text'")
        line_code, separator, line = match.groups()
        if line[:1].isdigit() and line[:1] != line_code[:1]:
            raise RemoteProtocolError("REPLYCODE text begins with a digit of another class")
        if number == 1:
            code = line_code
            leading = _LEADING_ENHANCED.match(line)
            enhanced = leading.group() if leading else b""
        elif line_code != code:
            raise RemoteProtocolError("REPLYCODE lines have different codes")
        if (separator == b" ") != (number == len(raw_lines)):
            raise RemoteProtocolError("REPLYCODE lines are not joined as 550-first, 550 last")
        if _CONTROL.search(line):
            raise RemoteProtocolError("REPLYCODE text has control characters")
        if _LONE_PERCENT.search(line):
            raise RemoteProtocolError("REPLYCODE text has a % that is not doubled")
        if enhanced and (line == enhanced or line.startswith(enhanced + b" ")):
            line = line[len(enhanced) + 1 :]
        lines.append(line.replace(b"%%", b"%"))
    return ReplyCode(code, enhanced, tuple(lines))
