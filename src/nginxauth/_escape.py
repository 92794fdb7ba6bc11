"""nginx's escapes: of login, password and certificate, in requests only. Replies have none."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

# Control bytes, blank and %. DEL and everything from 0x80 on stays as it is.
_UNSAFE: Final = re.compile(rb"[\x00-\x20%]")
_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def escape(text: bytes) -> bytes:
    """Escape as nginx does, with upper-case digits."""
    return _UNSAFE.sub(lambda found: b"%%%02X" % found[0][0], text)


def unescape(text: bytes) -> bytes | None:
    """Undo the escapes, once; None if a % is not followed by two hex digits. A + is a plus."""
    if b"%" not in text:
        return text
    return None if _BAD_ESCAPE.search(text) else unquote_to_bytes(text)
