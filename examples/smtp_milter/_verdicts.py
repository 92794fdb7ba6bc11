"""A gateway's reply -> the milter's: what every MTA takes, and passes on as it was meant."""

from __future__ import annotations

import enum
import re
from typing import Final

import milterproto as mp
from smtp_milter._replies import Reply

# Longer lines are legal in a milter's reply (980 bytes), and not in SMTP: RFC 5321, 4.5.3.1.5.
MAX_TEXT: Final = 490
MAX_LINES: Final = 32  # libmilter's limit

_ENHANCED: Final = re.compile(rb"([245])(\.(?:0|[1-9][0-9]{0,2})\.(?:0|[1-9][0-9]{0,2}))(?: +|\Z)")
_UNPRINTABLE: Final = re.compile(rb"[^ -~]")
_CODE: Final = re.compile(rb"[45][0-5][0-9]")


class Stage(enum.Enum):
    """What a reply is about; the value is the rest of the enhanced code where it has none."""

    SESSION = b".0.0"
    SENDER = b".1.8"
    RECIPIENT = b".1.2"
    CONTENT = b".7.1"


def verdict(reply: Reply, stage: Stage) -> mp.ReplyCode:
    """What to tell the MTA for a refusal: 4xx or 5xx, to the line.

    A 421 becomes 451 4.3.2, for from a filter it makes MTAs hang up on the client. A missing
    enhanced code is supplied, one of another class corrected. What is not printable becomes "?".
    """
    code = b"%03d" % reply.code
    if reply.code == 421 or not _CODE.fullmatch(code):
        # There is no 499, and MTAs refuse what does not exist.
        code = b"451" if reply.code < 500 else b"550"
    lines, enhanced = [], b""
    for number, line in enumerate(reply.lines[:MAX_LINES]):
        found = _ENHANCED.match(line)
        if number == 0 and found:
            enhanced = code[:1] + found[2]
        # Every line has it, in most servers; `ReplyCode` puts it back on all of them.
        text = line[found.end() :] if found and enhanced[1:] == found[2] else line
        lines.append(_UNPRINTABLE.sub(b"?", text)[:MAX_TEXT])
    if reply.code == 421:
        enhanced = b"4.3.2"
    return mp.ReplyCode(code, enhanced or code[:1] + stage.value, tuple(lines) or (b"",))


def summary(reply: Reply) -> str:
    """For a log: the code and a little of the first line."""
    text = _UNPRINTABLE.sub(b"?", reply.lines[0][:100]).decode("ascii")
    return f"{reply.code} {text}".rstrip()
