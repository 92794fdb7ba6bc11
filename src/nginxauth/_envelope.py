"""A client's MAIL or RCPT command, taken apart. nginx passes it on without a look at it."""

from __future__ import annotations

import re
from typing import Final

# RFC 5321, 4.1.2, with the blank after the colon that many clients send. In a quoted local part
# ">" means nothing. A backslash outside of quotes is refused: receivers differ over it.
_COMMAND: Final = re.compile(
    rb"([A-Za-z]+[ \t]+[A-Za-z]+):[ \t]*"
    rb'(<(?:[^\x00-\x20\x7f"<>\\]|"(?:[^\x00-\x1f\x7f"\\]|\\[^\x00-\x1f\x7f])*")*+>)'
    rb"((?:[ \t]+[^\x00-\x20\x7f]+)*+)[ \t]*"
)


def split_command(line: bytes, verb: bytes) -> tuple[bytes, tuple[bytes, ...]] | None:
    """The address in its angle brackets, and the parameters; None if it is no such command.

    ``verb``: ``b"MAIL FROM"`` or ``b"RCPT TO"``; the client may have written it in any case.
    """
    parts = _COMMAND.fullmatch(line)
    if parts is None or b" ".join(parts[1].split()).upper() != verb:
        return None
    return parts[2], tuple(parts[3].split())
