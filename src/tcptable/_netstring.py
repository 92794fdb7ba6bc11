"""Bytes in, netstrings out: a length in decimal, a colon, so many bytes, a comma."""

from __future__ import annotations

import re
from typing import Final, cast

from ._buffer import looks_like
from ._errors import RemoteProtocolError

_HEAD: Final = re.compile(rb"([0-9]*)(:?)")
_COMMA: Final = ord(",")
_STRICT: Final = re.compile(rb"0|[1-9][0-9]*")
# Postfix reads leading zeros, and no digits at all as 0.
_LENIENT: Final = re.compile(rb"[0-9]*")


def encode_netstring(payload: bytes) -> bytes:
    """The one way to write it."""
    return b"%d:%b," % (len(payload), payload)


class NetstringBuffer:
    """Cuts a stream of bytes, in whatever pieces it comes, into the payloads of netstrings."""

    __slots__ = ("_data", "_digits", "_max_digits", "_max_payload", "_offset")

    def __init__(self, max_payload: int, *, lenient: bool) -> None:
        self._max_payload = max_payload
        self._digits = _LENIENT if lenient else _STRICT
        # How many leading zeros a lenient reader takes is anybody's guess.
        self._max_digits = 20 if lenient else len(str(max_payload))
        self._data = bytearray()
        self._offset = 0

    def __bool__(self) -> bool:
        """Whether any byte has come that no netstring has used up."""
        return self._offset < len(self._data)

    def feed(self, data: bytes) -> None:
        """Keep `data` for `next`."""
        if self._offset:
            del self._data[: self._offset]
            self._offset = 0
        self._data += data

    def clear(self) -> None:
        """Forget everything."""
        self._data.clear()
        self._offset = 0

    def next(self) -> bytes | None:
        """The next payload, or None until more bytes have come.

        Raises RemoteProtocolError as soon as it is clear that no netstring follows, or one
        that is too long: before its payload is waited for.
        """
        start = self._offset
        # It matches nothing at all, too.
        head = cast("re.Match[bytes]", _HEAD.match(self._data, start, start + self._max_digits + 1))
        digits, colon = head.groups()
        length = int(digits or b"0")
        if length > self._max_payload:
            raise RemoteProtocolError(f"a netstring longer than {self._max_payload} bytes")
        if not colon:
            if head.end() == len(self._data) and len(digits) <= self._max_digits:
                return None
            hint = looks_like(bytes(self._data[start : start + 8]))
            raise RemoteProtocolError(f"no netstring: {hint or 'it begins with no length'}")
        if not self._digits.fullmatch(digits):
            raise RemoteProtocolError(
                "no netstring: a length without digits, or with leading zeros"
            )
        end = head.end() + length
        if len(self._data) <= end:
            return None
        if self._data[end] != _COMMA:
            raise RemoteProtocolError("no netstring: no comma at its end")
        payload = bytes(self._data[head.end() : end])
        self._offset = end + 1
        return payload
