"""Bytes in, the head of one HTTP request out: what is there before h11 sees any of it."""

from __future__ import annotations

import re
from typing import Final

from ._errors import RemoteProtocolError

_METHOD: Final = b"GET "
_REQUEST_LINE: Final = re.compile(rb"GET [!-~]+ HTTP/1\.[01]\r?")
_HEAD_END: Final = re.compile(rb"\n\r?\n")

# What else speaks to a port like this, by what it begins with.
_LOOKS: Final = {
    b"\x16\x03": "a TLS handshake",
    b"EHLO ": "an SMTP client",
    b"HELO ": "an SMTP client",
    b"SSH-": "an SSH greeting",
    b"PROXY ": "a PROXY header",
    b"POST /": "an HTTP request of another kind",
    b"HEAD /": "an HTTP request of another kind",
}
_LONGEST: Final = max(map(len, _LOOKS))


class StrangerError(RemoteProtocolError):
    """It is not even somebody who could read an answer."""


class HeadBuffer:
    """Collects a head in whatever pieces it comes, and what follows it; `max_head` in bytes."""

    __slots__ = ("_data", "_has_line", "_max_head", "_searched")

    def __init__(self, max_head: int) -> None:
        self._data = bytearray()
        self._max_head = max_head
        self._searched = 0  # up to here, no head has ended
        self._has_line = False  # the request line has come, and is good

    def __bool__(self) -> bool:
        """Whether there is any byte that was not taken."""
        return bool(self._data)

    def feed(self, data: bytes) -> None:
        """Keep `data`, and no more than is needed to see that it is too much."""
        self._data += data[: self._max_head - len(self._data)]

    def clear(self) -> None:
        """Forget everything."""
        self._data.clear()

    def head(self) -> bytes | None:
        """The head with its empty line, or None until more bytes have come.

        Raises RemoteProtocolError as soon as it is clear that none will come, or a longer one.
        """
        if not self._has_line:
            self._check_line()
        end = _HEAD_END.search(self._data, max(self._searched - 2, 0))
        if end is not None:
            return self.take(end.end())
        if len(self._data) >= self._max_head:
            raise RemoteProtocolError(f"a head of more than {self._max_head} bytes")
        self._searched = len(self._data)
        return None

    def take(self, count: int) -> bytes:
        """Up to so many bytes, and no longer kept."""
        taken = bytes(self._data[:count])
        del self._data[:count]
        return taken

    def _check_line(self) -> None:
        """Refuse what is no request of this protocol: nginx's is GET, and so is anybody's."""
        start = bytes(self._data[:_LONGEST])
        if start[: len(_METHOD)] != _METHOD[: len(start)]:
            _refuse(start)
            return
        end = self._data.find(b"\n", self._searched)
        if end < 0:
            return
        if not _REQUEST_LINE.fullmatch(self._data, 0, end):
            raise RemoteProtocolError("a GET request that is not of HTTP/1.0 or HTTP/1.1")
        self._has_line = True


def _refuse(start: bytes) -> None:
    """Say what it looks like; not yet, if a byte more may tell."""
    found = [what for prefix, what in _LOOKS.items() if start.startswith(prefix)]
    if found:
        raise StrangerError(f"no GET request: it looks like {found[0]}")
    if not any(prefix.startswith(start) for prefix in _LOOKS):
        raise StrangerError("no GET request")
