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

HEADER: Final = 5  # the length, which counts from the code byte on, and the code byte
read_header: Final = struct.Struct("!LB").unpack_from

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
    copied once; so it is if a frame begins in one piece and ends in the next. Only where a frame is
    in more pieces, or its header in two, pieces are put together in a bytearray.

    What has no underscore is for `FilterConnection.next_event`, which cuts by itself what lies
    whole in ``chunk``, from ``offset`` to ``size`` at most. No frame in a chunk can be over the
    limit, and no piece has come after it: what is otherwise is held where only `next_frame` cuts.
    """

    __slots__ = ("_codes", "_held", "_later", "_max_length", "chunk", "offset", "size")

    def __init__(self, codes: frozenset[int], max_payload: int) -> None:
        self._codes = codes
        self._max_length = max_payload + 1
        self._later: deque[bytes] = deque()
        # The bytes that are being cut stand here or in `chunk`; pieces are put together here.
        self._held: bytes | bytearray = b""
        self.chunk = b""
        self.offset = 0
        self.size = 0

    @property
    def empty(self) -> bool:
        """Whether every byte that has come was used up by a frame."""
        return self.offset == self.size

    def feed(self, data: bytes) -> None:
        """Keep `data`, which is not empty, to be cut."""
        if self.offset != self.size:
            self._later.append(data)
            self._held = self._held or self.chunk
            self.chunk = b""
        elif len(data) <= self._max_length:
            # As `_begin`, without the call: in lock-step, each packet comes here.
            self.chunk = data
            self.offset = 0
            self.size = len(data)
        else:
            self._begin(data)

    def clear(self) -> None:
        """Forget everything."""
        self._later.clear()
        self._begin(b"")

    def _begin(self, piece: bytes) -> None:
        """Cut this piece from now on, all before it being used up."""
        self.offset = 0
        self.size = size = len(piece)
        if size <= self._max_length and not self._later:
            self._held = b""
            self.chunk = piece
        else:
            self._held = piece
            self.chunk = b""

    def next_frame(self) -> Frame | None:
        """The next frame's code and payload, or None until more bytes have come.

        Raises RemoteProtocolError as soon as a length or a code shows that no frame follows,
        before the frame itself is waited for.
        """
        while True:
            held, start, size = self._held or self.chunk, self.offset, self.size
            if start + HEADER <= size:
                length, code = read_header(held, start)
                end = start + 4 + length
                # `_check` in short, for that and a slice for it take a quarter of an MTA's time.
                if end <= size and 0 < length <= self._max_length and code in self._codes:
                    payload = bytes(held[start + HEADER : end])
                    self._use(end)
                    return code, payload
                self._check(length, held[start : start + HEADER])
                if self._later and end - size <= len(self._later[0]):
                    return code, self._join(held, end - size)
            elif start + 4 == size:
                self._check(int.from_bytes(held[start:], "big"), held[start:])
            if not self._later:
                return None
            self._gather(held)

    def _use(self, end: int) -> None:
        self.offset = end
        if end == self.size and self._held:
            self._begin(self._later.popleft() if self._later else b"")

    def _join(self, held: bytes | bytearray, lacking: int) -> bytes:
        """The payload of a frame that begins in what is held and ends in the next piece.

        A body piece and a read are both 64 KiB, so that body pieces mostly end up here.
        """
        begun = memoryview(held)[self.offset + HEADER :]
        piece = self._later.popleft()
        payload = b"".join((begun, memoryview(piece)[:lacking]))
        self._begin(piece)
        self._use(lacking)
        return payload

    def _gather(self, held: bytes | bytearray) -> None:
        """Put the next piece behind what is held."""
        if isinstance(held, bytearray):
            del held[: self.offset]
        else:
            held = bytearray(held[self.offset :])
        held += self._later.popleft()
        self._held = held
        self.chunk = b""
        self.offset = 0
        self.size = len(held)

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
        if len(head) >= HEADER and head[4] not in self._codes:
            raise RemoteProtocolError(unknown_code(head[4]))


def unknown_code(code: int) -> str:
    """What to say of a code that begins no frame."""
    return f"unknown code byte 0x{code:02x}"


def _looks_like(start: bytes | bytearray) -> str:
    for prefixes, what in _STRANGERS:
        if start.startswith(prefixes):
            return f"; it looks like {what}"
    return ""
