"""Bytes in, lines out. LF ends a line; one CR before it goes too, as with Dovecot."""

from __future__ import annotations

from typing import Final

from ._errors import RemoteProtocolError

# What people point at such a port by mistake, by what the first line begins with.
_LOOKS: Final = {
    b"\x16\x03": "a TLS handshake",
    b"EHLO ": "an SMTP client",
    b"HELO ": "an SMTP client",
    b"GET /": "an HTTP request",
    b"POST /": "an HTTP request",
    b"SSH-": "an SSH greeting",
}
_STRANGERS: Final = tuple(_LOOKS)
_FIRST: Final = bytes({prefix[0] for prefix in _LOOKS})


class LineBuffer:
    """Cuts a stream of bytes, in whatever pieces it comes, into lines; looks at none twice.

    While lines lie whole in the newest piece, they are cut out of it; only what straddles two
    pieces is put together.
    """

    __slots__ = ("_data", "_max_line", "_offset", "_searched")

    def __init__(self, max_line: int) -> None:
        self._max_line = max_line
        self._data: bytes | bytearray = b""
        self._offset = 0  # where the next line begins
        self._searched = 0  # from there to here, there is no line end

    def __bool__(self) -> bool:
        """Whether any byte has come that no line has used up."""
        return self._offset < len(self._data)

    def feed(self, data: bytes) -> None:
        """Keep `data` for `next`."""
        if self._offset == len(self._data):
            self._data = data
            self._offset = self._searched = 0
            return
        partial = self._data if isinstance(self._data, bytearray) else bytearray(self._data)
        del partial[: self._offset]
        partial += data
        self._searched -= self._offset
        self._offset = 0
        self._data = partial

    def clear(self) -> None:
        """Forget everything."""
        self._data = b""
        self._offset = self._searched = 0

    def next(self) -> bytes | None:
        """The next line without its end, or None until more bytes have come.

        Raises RemoteProtocolError for a line that is too long, as soon as that is clear, and at
        once for what is no such protocol at all.
        """
        data, start = self._data, self._offset
        end = data.find(b"\n", self._searched)
        if end < 0:
            self._check(len(data))
            self._searched = len(data)
            return None
        if data[start] in _FIRST or end - start >= self._max_line:
            self._check(end)
        self._offset = self._searched = end + 1
        return bytes(data[start:end]).removesuffix(b"\r")

    def _check(self, end: int) -> None:
        """Refuse what there is up to `end`, or don't."""
        data, start = self._data, self._offset
        if data.startswith(_STRANGERS, start):
            hint = looks_like(bytes(data[start : start + 8]))
            raise RemoteProtocolError(f"not the protocol of Dovecot: {hint}")
        if end - start >= self._max_line:
            raise RemoteProtocolError(f"a line of more than {self._max_line} bytes")


def looks_like(start: bytes) -> str:
    """What a peer seems to be that speaks like this; empty if one can't say."""
    found = [what for prefix, what in _LOOKS.items() if start.startswith(prefix)]
    return f"it looks like {found[0]}" if found else ""
