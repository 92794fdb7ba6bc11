"""Content on its way to a gateway: line ends that nobody can read in two ways, and dots doubled."""

from __future__ import annotations

import re
from typing import Final, final

_STRAY: Final = re.compile(rb"\r(?!\n)|(?<!\r)\n")


@final
class Normalizer:
    """Makes every line end CRLF, over any chunks; at the end `finish` gives what is missing.

    A CR or LF alone is a line end to some servers and not to others, and in between a message
    can hide (SMTP smuggling). LF alone becomes a line end, CR alone a blank, as in Postfix's
    cleanup_replace_stray_cr_lf.
    """

    def __init__(self) -> None:
        self._cr = False  # withheld: only what follows tells what it is
        self._last = b"\n"

    def feed(self, data: bytes) -> bytes:
        """What can be said of it already."""
        if self._cr:
            data = b"\r" + data
        self._cr = data.endswith(b"\r")
        if self._cr:
            data = data[:-1]
        data = normalized(data)
        self._last = data[-1:] or self._last
        return data

    def finish(self) -> bytes:
        """The end of the last line, if it had none."""
        rest = b" " if self._cr else b""
        return rest + (b"" if self._last == b"\n" and not rest else b"\r\n")


def normalized(data: bytes) -> bytes:
    """The same for what is not in chunks, without an end to the last line."""
    return _STRAY.sub(lambda found: b"\r\n" if found[0] == b"\n" else b" ", data)


@final
class DotStuffer:
    """Doubles a dot that begins a line, over any chunks of normalized text (RFC 5321, 4.5.2)."""

    def __init__(self) -> None:
        self._line_begins = True

    def feed(self, data: bytes) -> bytes:
        """The data as it goes over the wire."""
        if not data:
            return b""
        first = b"." if self._line_begins and data[:1] == b"." else b""
        self._line_begins = data.endswith(b"\n")
        return first + data.replace(b"\n.", b"\n..")

    def finish(self) -> bytes:
        """What ends the message."""
        return b".\r\n" if self._line_begins else b"\r\n.\r\n"


@final
class DotReader:
    """The other way: what follows DATA on the wire, in any chunks, up to the line with the dot.

    Only CRLF ends a line, so that LF . LF is content. `feed` gives what is content for certain;
    afterwards ``rest`` is None, or what came behind the end.
    """

    def __init__(self) -> None:
        self._held = b"\r\n"  # a line begins here
        self._first = True
        self.rest: bytes | None = None

    def feed(self, data: bytes) -> bytes:
        """The content without the dots."""
        text = self._held + data
        end = text.find(b"\r\n.\r\n")
        if end >= 0:
            self.rest = text[end + 5 :]
            text = text[: end + 2]
            self._held = b""
        else:
            # The longest end of it that may be the beginning of a mark.
            keep = next(n for n in (4, 3, 2, 1, 0) if text.endswith(b"\r\n.\r\n"[:n]))
            self._held = text[len(text) - keep :]
            text = text[: len(text) - keep]
        # In the next chunk only what is not held back is content, so a dot is seen with its CRLF.
        content = text.replace(b"\r\n.", b"\r\n")
        if self._first and content:
            self._first = False
            content = content[2:]
        return content
