"""An answer's bytes in, its head taken apart, as nginx reads it. It does not read on."""

from __future__ import annotations

import re
from typing import Final

import attrs

from ._errors import RemoteProtocolError
from ._reply import MAX_REPLY

_STATUS: Final = re.compile(rb"HTTP/[^\r\n]*\r?")
# Nothing in it is the empty line. A name may stand alone, which is a name with an empty value.
_LINE: Final = re.compile(rb"(?:([A-Za-z0-9][A-Za-z0-9-]*)(?::([^\r\n]*))?)?\r?")
_BLANKS: Final = (b" ", b"\t")
# An alert, and a hello.
_TLS: Final = (b"\x15", b"\x16")


@attrs.frozen
class Answer:
    """The status line, if there was one, and the headers: names in lower case, values trimmed.

    Only blanks are trimmed: a TAB is part of the value. The value is None if there was no colon.
    ``size`` is in bytes, with the empty line.
    """

    status: bytes | None
    headers: tuple[tuple[bytes, bytes | None], ...] = attrs.field(repr=False)
    size: int


class AnswerBuffer:
    """Reads as far as the empty line."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._start = 0
        self._status: bytes | None = None
        self._headers: list[tuple[bytes, bytes | None]] = []

    def __bool__(self) -> bool:
        return bool(self._data)

    def feed(self, data: bytes) -> None:
        """Keep it, and no more than is needed to see that it is too much."""
        self._data += data[: MAX_REPLY + 1 - len(self._data)]

    def clear(self) -> None:
        """It has done its work."""
        self._data.clear()

    def next(self) -> Answer | None:
        """The answer, once the empty line is there; RemoteProtocolError if nginx would give up."""
        while True:
            end = self._data.find(b"\n", self._start, MAX_REPLY)
            line = bytes(self._data[self._start : end if end >= 0 else MAX_REPLY])
            first = self._start == 0 and line.startswith(b"HTTP/")
            pattern = _STATUS if first else _LINE
            # Both find something at the start of every line, and as much as is good.
            match = next(pattern.finditer(line))
            if match.end() < len(line):
                raise RemoteProtocolError(_why(line, match.end()))
            if end < 0:
                if len(self._data) > MAX_REPLY:
                    raise RemoteProtocolError(f"a head of more than {MAX_REPLY} bytes")
                return None
            self._start = end + 1
            if first:
                self._status = line.rstrip(b"\r")
            elif match[1] is None:
                return Answer(self._status, tuple(self._headers), self._start)
            else:
                value = None if match[2] is None else match[2].strip(b" ")
                self._headers.append((match[1].lower(), value))


def _why(line: bytes, good: int) -> str:
    """What is wrong behind the good bytes; of the rest only the first is sure to be there."""
    if line[:good].endswith(b"\r"):
        return "a CR that ends no line"
    if good == 0 and line[:1] in _BLANKS:
        return "a folded header"
    if good == 0 and line[:1] in _TLS:
        return "this is TLS, and nginx speaks HTTP only"
    return "a header name with something else than letters, digits and -"
