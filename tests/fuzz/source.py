"""What a target decides by: bytes of the input, in turn, and zeros when they are used up.

An input is one byte, the length of its script (up to 31), the script, and the stream. The script
says what our side does, the stream is what the peer says. At each `SEGMENT` in a stream a side
that asks says something; it is not fed to anybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

T = TypeVar("T")

MAX_SCRIPT: Final = 31
SEGMENT: Final = b"<|>"


class Source:
    """Decisions, the same ones each time that it is made of the same bytes."""

    def __init__(self, script: bytes) -> None:
        self._script = script
        self._at = 0

    def byte(self) -> int:
        """The next one."""
        self._at += 1
        return self._script[self._at - 1] if self._at <= len(self._script) else 0

    def choice(self, many: Sequence[T]) -> T:
        """One of them; the first one when the script has ended."""
        return many[self.byte() % len(many)]

    @property
    def over(self) -> bool:
        """Whether nothing is left."""
        return self._at >= len(self._script)


def taken_apart(data: bytes) -> tuple[bytes, bytes]:
    """The script and the stream of an input."""
    end = 1 + (data[0] if data else 0) % (MAX_SCRIPT + 1)
    return data[1:end], data[end:]


def put_together(script: bytes, stream: bytes) -> bytes:
    """The input with these two; a script that is too long is cut."""
    script = script[:MAX_SCRIPT]
    return bytes([len(script)]) + script + stream
