"""Work and memory grow with the number of bytes.

Processor time, not the clock's, and never so many seconds. (A copy of the buffer for each piece is
too fast to show here: the buffers' own tests do.)
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Final

import pytest

from tests.steepness import assert_linear

from . import dovecot, milter, nginx, tables
from .source import Source
from .stream import Peer, play

SMALL: Final = 16_000
# So that eight times as much is still within the limits, and no minute of tests for one.
SIZES: Final = {
    "milter: many messages": 4_000,
    "dovecot: a request with many words": 2_000,
    "dovecot: no base64": 2_000,
    "dovecot: many mechanisms": 7_000,
    "nginx: many header fields": 7_000,
    "nginx: one long header field": 7_000,
    "nginx: a body": 7_000,
}
BYTES_A_BYTE: Final = 300  # a field-less event and its place in the trace, for a frame of 5 bytes

Make = Callable[[Source], Peer]
# The bytes before, those that are repeated, and those behind.
Case = tuple[Make, bytes, bytes, bytes]


def frame(code: bytes, payload: bytes) -> bytes:
    return (len(payload) + 1).to_bytes(4, "big") + code + payload


def table(source: Source) -> Peer:
    return tables.Answerer(source, netstrings=False)


def socketmap(source: Source) -> Peer:
    return tables.Answerer(source, netstrings=True)


OFFER: Final = frame(b"O", bytes.fromhex("00000006000001ff001fffff"))
GREETING: Final = b"VERSION\t1\t4\nCPID\t1\n"
AUTH: Final = b"AUTH\t1\tPLAIN\tservice=smtp"
HEAD: Final = b"GET / HTTP/1.0\r\n"

CASES: Final[dict[str, Case]] = {
    "milter: many frames": (milter.Filter, OFFER, frame(b"A", b""), b""),
    "milter: many messages": (
        milter.Filter,
        OFFER + frame(b"H", b"h\0"),
        frame(b"M", b"<a>\0") + frame(b"R", b"<b>\0") + frame(b"E", b""),
        b"",
    ),
    "milter: many header fields": (
        milter.MessageServer,
        OFFER + frame(b"M", b"<a>\0") + frame(b"R", b"<b>\0"),
        frame(b"L", b"Subject\0 x\0"),
        frame(b"E", b""),
    ),
    "milter: many macros": (milter.Filter, OFFER, frame(b"D", b"Mi\0q\0"), frame(b"M", b"<a>\0")),
    "milter: many replies": (milter.Asker, OFFER, frame(b"p", b""), b""),
    "tcp_table: many requests": (table, b"", b"get a%20b\n", b""),
    "tcp_table: many escapes": (table, b"get ", b"%41", b"\n"),
    "tcp_table: a line without end": (table, b"get ", b"x", b""),
    "socketmap: many requests": (socketmap, b"", b"5:m a b,", b""),
    "socketmap: a payload without end": (socketmap, b"131000:m ", b"x", b""),
    "dovecot: many requests": (dovecot.Server, GREETING, b"CANCEL\t1\n", b""),
    "dovecot: a request with many words": (dovecot.Server, GREETING + AUTH, b"\tx=\x011", b"\n"),
    "dovecot: no base64": (dovecot.Server, GREETING + AUTH + b"\tresp=", b"AAAA", b"!\n"),
    "dovecot: many mechanisms": (dovecot.Client, b"VERSION\t1\t2\n", b"MECH\tPLAIN\n", b""),
    "master: a query with many words": (
        dovecot.MasterServer,
        b"VERSION\t1\t1\nUSER\t1\tu\tservice=x",
        b"\tx=\x011",
        b"\n",
    ),
    "nginx: many header fields": (nginx.Server, HEAD, b"X: y\r\n", b"\r\n"),
    "nginx: one long header field": (nginx.Server, HEAD + b"Auth-User: ", b"%20", b"\r\n\r\n"),
    "nginx: a body": (nginx.Server, HEAD + b"Content-Length: 60000\r\n\r\n", b"x", b""),
    "nginx: an answer without end": (nginx.Client, b"HTTP/1.0 200 OK\r\n", b"X: y\r\n", b""),
}


def read(name: str, times: int) -> None:
    """All of it, in chunks that are small."""
    make, before, repeated, behind = CASES[name]
    size, piece = SIZES.get(name, SMALL), 2 if "without end" in name else 16
    stream = before + repeated * (size * times // len(repeated)) + behind
    chunks = [stream[at : at + piece] for at in range(0, len(stream), piece)]
    play(make(Source(b"")), [chunks])


@pytest.mark.parametrize("name", CASES)
def test_time(name: str) -> None:
    """In proportion, but for what is there once."""
    assert_linear(lambda times: read(name, times))


@pytest.mark.parametrize("name", CASES)
def test_memory(name: str) -> None:
    """What a stream takes at its worst, with all its events kept."""
    tracemalloc.start()
    try:
        read(name, 1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < SMALL * BYTES_A_BYTE
