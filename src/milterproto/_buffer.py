"""Bytes in, frames out: a four-byte length, a code byte, a payload."""

from __future__ import annotations

import struct
from collections import deque
from typing import Final, TypeAlias

from ._errors import RemoteProtocolError

# libmilter refuses a payload over 65535 bytes, but Postfix and Sendmail set no limit on what
# they read, and builds with the MDS extension write up to 1048575: this takes all of them.
DEFAULT_MAX_PAYLOAD: Final = 1024 * 1024

Frame: TypeAlias = tuple[int, bytes]

_HEADER: Final = 5  # the length and the code byte
_read_header: Final = struct.Struct("!LB").unpack_from

# What people point at a milter port by mistake. Each begins like a length far over any limit.
_STRANGERS: Final = (
    ((b"\x16\x03",), "a TLS handshake"),
    ((b"GET ", b"POST", b"HEAD", b"PUT ", b"OPTI", b"PRI ", b"CONN"), "an HTTP request"),
    ((b"EHLO", b"ehlo", b"HELO", b"helo", b"QUIT", b"quit"), "an SMTP client"),
    ((b"220 ", b"220-"), "an SMTP server's greeting"),
    ((b"SSH-",), "an SSH greeting"),
)


class FrameBuffer:
    """Cuts a stream of bytes, in whatever pieces it comes, into frames.

    While frames lie whole in the newest piece, it is read at an offset and each payload is
    copied once; so it is if a frame begins in one piece and ends in the next. Only a frame in
    more pieces is put together in a bytearray.

    ``empty``: whether every byte that has come was used up by a frame; read it, and no more.
    """

    __slots__ = ("_chunk", "_codes", "_later", "_max_length", "_offset", "_partial", "empty")

    def __init__(self, codes: frozenset[int], max_payload: int) -> None:
        self._codes = codes
        self._max_length = max_payload + 1
        self._chunk = b""
        self._offset = 0
        self._later: deque[bytes] = deque()
        # While a frame is put together here, the piece is used up: what comes is for `_later`.
        self._partial = bytearray()
        self.empty = True

    def feed(self, data: bytes) -> None:
        """Keep `data`, which is not empty, for `next_frame`."""
        if self.empty:
            self._chunk = data
            self._offset = 0
            self.empty = False
        else:
            self._later.append(data)

    def clear(self) -> None:
        """Forget everything."""
        self._chunk = b""
        self._later.clear()
        self._partial.clear()
        self.empty = True

    def next_frame(self) -> Frame | None:
        """The next frame's code and payload, or None until more bytes have come.

        Raises RemoteProtocolError as soon as a length or a code shows that no frame follows,
        before the frame itself is waited for.
        """
        # Here nearly all frames are cut: header read and checked without a call of ours, 0.3 us
        # a frame, where `_check` and a slice for the header make it 0.5.
        chunk, start = self._chunk, self._offset
        if start + _HEADER <= len(chunk):
            length, code = _read_header(chunk, start)
            if not 0 < length <= self._max_length or code not in self._codes:
                self._check(length, chunk[start : start + _HEADER])
            end = start + 4 + length
            if end < len(chunk):
                self._offset = end
                return code, chunk[start + _HEADER : end]
            if end == len(chunk):
                self._offset = end
                self.empty = not self._later
                return code, chunk[start + _HEADER :]
        return self._next_across_pieces()

    def _next_across_pieces(self) -> Frame | None:
        """The next frame, of which this piece has not all."""
        while True:
            chunk, start = self._chunk, self._offset
            if not self._partial and start + _HEADER <= len(chunk):
                if not self._later:
                    return None
                length, code = _read_header(chunk, start)
                end = start + 4 + length
                if end - len(chunk) <= len(self._later[0]):
                    return code, self._join(end)
            frame = self._assemble()
            if frame is not None:
                self.empty = self._offset == len(self._chunk) and not self._later
                return frame
            if not self._later:
                return None
            self._chunk = self._later.popleft()
            self._offset = 0
            if not self._partial:
                return self.next_frame()

    def _join(self, end: int) -> bytes:
        """The payload of a frame that begins in this piece and ends in the next one.

        A body piece and a read are both 64 KiB, so that body pieces mostly end up here.
        """
        head = memoryview(self._chunk)[self._offset + _HEADER :]
        self._offset = end - len(self._chunk)
        self._chunk = self._later.popleft()
        self.empty = self._offset == len(self._chunk) and not self._later
        return b"".join((head, memoryview(self._chunk)[: self._offset]))

    def _assemble(self) -> Frame | None:
        """Add to the straddling frame what belongs to it, and no byte more."""
        partial = self._partial
        self._take(_HEADER - len(partial))
        if len(partial) < 4:
            return None
        length = int.from_bytes(partial[:4], "big")
        self._check(length, partial)
        if len(partial) < _HEADER:
            return None
        self._take(4 + length - len(partial))
        if len(partial) < 4 + length:
            return None
        with memoryview(partial) as view:
            frame = partial[4], bytes(view[_HEADER:])
        partial.clear()
        return frame

    def _take(self, count: int) -> None:
        piece = self._chunk[self._offset : self._offset + max(count, 0)]
        self._partial += piece
        self._offset += len(piece)

    def _check(self, length: int, head: bytes | bytearray) -> None:
        """Raise if no frame begins like this; `head` has the length, and perhaps the code."""
        if length == 0:
            # Waiting for the code byte, as libmilter does, would eat the next frame's first.
            raise RemoteProtocolError("frame of length 0, without even a command byte")
        if length > self._max_length:
            raise RemoteProtocolError(
                f"frame of {length} bytes, more than the {self._max_length} allowed"
                + _looks_like(head)
            )
        if len(head) >= _HEADER and head[4] not in self._codes:
            raise RemoteProtocolError(f"unknown code byte 0x{head[4]:02x}")


def _looks_like(start: bytes | bytearray) -> str:
    for prefixes, what in _STRANGERS:
        if start.startswith(prefixes):
            return f"; it looks like {what}"
    return ""
