"""Content that may be large: in memory up to a point, from there on in a file without a name."""

from __future__ import annotations

import hashlib
import tempfile
import weakref
from collections.abc import Iterator
from typing import Final, final

# Bytes; most mail is shorter, and a daemon has some hundred messages at once.
IN_MEMORY: Final = 1024 * 1024
_CHUNK: Final = 64 * 1024


@final
class Spool:
    """Bytes to be written once, and read as often as need be. The file ends with the object."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self.size = 0

    def write(self, data: bytes) -> None:
        """Add to the end. OSError if the disk is full."""
        self._file.seek(0, 2)
        self._file.write(data)
        self.size += len(data)

    def chunks(self, start: int = 0) -> Iterator[bytes]:
        """All of it, from a place on."""
        self._file.seek(start)
        while data := self._file.read(_CHUNK):
            yield data
            start += len(data)
            self._file.seek(start)

    def head(self, size: int) -> bytes:
        """The first bytes."""
        self._file.seek(0)
        return self._file.read(size)

    def digest(self, start: int = 0) -> bytes:
        """A hash of the bytes from a place on."""
        hashed = hashlib.sha256()
        for data in self.chunks(start):
            hashed.update(data)
        return hashed.digest()
