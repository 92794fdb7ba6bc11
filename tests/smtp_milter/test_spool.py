"""Bytes are kept, in memory and on disk."""

from __future__ import annotations

import hashlib

import pytest
from smtp_milter._spool import IN_MEMORY, Spool


@pytest.mark.parametrize("size", [0, 1, 65536, IN_MEMORY + 70_000])
def test_what_is_written_is_read(size: int) -> None:
    """More than once, from any place, and between writes."""
    data = bytes(range(251)) * (size // 251 + 1)
    spool = Spool()
    spool.write(data[: size // 2])
    assert b"".join(spool.chunks()) == data[: size // 2]
    spool.write(data[size // 2 : size])
    assert spool.size == size
    for start in (0, size // 3):
        assert b"".join(spool.chunks(start)) == data[start:size]
        assert spool.digest(start) == hashlib.sha256(data[start:size]).digest()
    assert spool.head(100) == data[: min(100, size)]
    reading = spool.chunks()
    next(reading, b"")
    spool.head(1)  # something else looks at it meanwhile
    assert sum(map(len, reading)) == max(0, size - 65536)
