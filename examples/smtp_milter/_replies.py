"""SMTP replies, read: each byte of their text is kept, and nothing is made up.

Ready-made clients lose what is needed here. aiosmtplib joins the lines of a reply, and does not
look at the codes of the lines before the last; smtpproto takes a refusal that it does not expect
(554 to MAIL, any 421) for a broken protocol.
"""

from __future__ import annotations

import re
from typing import Final, final

import attrs

# Bytes in a line: Postfix's line_length_limit. RFC 5321 allows 512.
DEFAULT_MAX_LINE: Final = 2048
# Bytes of text in a whole reply; EHLO's are the longest, with some thirty lines.
DEFAULT_MAX_REPLY: Final = 32 * 1024

_LINE: Final = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)


class ReplyError(Exception):
    """What came is no SMTP reply, or none that can be trusted. Its text has no part of it."""


@final
@attrs.frozen
class Reply:
    """``code`` from 200 to 599; ``lines`` are the text lines, without code, ``-`` and line end."""

    code: int
    lines: tuple[bytes, ...]

    @property
    def is_positive(self) -> bool:
        """2xx: what was asked for is done."""
        return self.code < 300

    @property
    def is_refusal(self) -> bool:
        """4xx or 5xx."""
        return self.code >= 400


@final
class ReplyReader:
    """Bytes in, replies out. Once it has raised, it raises again."""

    def __init__(
        self, *, max_line: int = DEFAULT_MAX_LINE, max_reply: int = DEFAULT_MAX_REPLY
    ) -> None:
        self._max_line = max_line
        self._max_reply = max_reply
        self._buffer = bytearray()
        self._looked = 0  # bytes of the buffer that are known to have no line end
        self._code = b""
        self._lines: list[bytes] = []
        self._size = 0
        self._fault = ""

    @property
    def is_empty(self) -> bool:
        """Whether nothing has come that was not handed out."""
        return not (self._buffer or self._lines)

    def receive_data(self, data: bytes) -> None:
        """Store what came."""
        self._buffer += data

    def next_reply(self) -> Reply | None:
        """The next reply, or None: feed me more. Raises ReplyError."""
        if self._fault:
            raise ReplyError(self._fault)
        try:
            return self._next_reply()
        except ReplyError as error:
            self._fault = str(error)
            raise

    def _next_reply(self) -> Reply | None:
        while (line := self._next_line()) is not None:
            match = _LINE.fullmatch(line)
            if match is None:
                raise ReplyError("a line that is not of the form '250 text'")
            code, separator, text = match.groups()
            if self._lines and code != self._code:
                raise ReplyError("the lines of a reply have different codes")
            self._code = code
            self._lines.append(text or b"")
            self._size += len(line)
            if self._size > self._max_reply:
                raise ReplyError(f"a reply of over {self._max_reply} bytes")
            if separator != b"-":
                reply = Reply(int(code), tuple(self._lines))
                self._lines.clear()
                self._size = 0
                return reply
        return None

    def _next_line(self) -> bytes | None:
        end = self._buffer.find(b"\n", self._looked)
        if (len(self._buffer) if end < 0 else end) > self._max_line:
            raise ReplyError(f"a line of over {self._max_line} bytes")
        if end < 0:
            self._looked = len(self._buffer)
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._looked = 0
        return line.removesuffix(b"\r")
