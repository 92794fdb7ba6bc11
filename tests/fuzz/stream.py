"""The oracles that hold for every connection, whatever the protocol.

- Any chunking gives the same events, the same replies, the same end.
- Nothing but LocalProtocolError and RemoteProtocolError is raised, and the latter repeats.
- No more is held back than the limit allows.
- A send() that is refused has changed nothing.
"""

from __future__ import annotations

import copy
import functools
import random
import zlib
from collections.abc import Callable, Iterator, Sequence, Sized
from typing import Any, Protocol

import pytest

from .source import SEGMENT, Source, taken_apart

Trace = list[Any]


class Peer(Protocol):
    """Our side of a connection, and how it behaves."""

    conn: Any
    limit: int  # how many bytes it may hold back

    @property
    def remote_error(self) -> type[Exception]:
        """The package's RemoteProtocolError."""

    def answer(self, event: Any) -> Any:
        """Do what is due after an event; what was done is compared."""

    def ask(self) -> Any:
        """Do what one does unasked, at the beginning and after each segment."""

    def held(self) -> int:
        """How many bytes wait to become an event."""


def check(make: Callable[[Source], Peer], data: bytes) -> None:
    """Play an input in three chunkings, and compare."""
    script, stream = taken_apart(data)
    segments = stream.split(SEGMENT)
    whole = play(make(Source(script)), [[segment] for segment in segments])
    by_byte = play(make(Source(script)), [bytes_of(segment) for segment in segments])
    assert by_byte == whole, f"byte by byte:\n{by_byte}\nat once:\n{whole}"
    rng = random.Random(zlib.crc32(data))
    pieces = [cut_up(segment, rng) for segment in segments]
    cut = play(make(Source(script)), pieces, rng)
    assert cut == whole, f"in pieces:\n{cut}\nat once:\n{whole}"


def bytes_of(data: bytes) -> list[bytes]:
    """Each of them."""
    return [data[at : at + 1] for at in range(len(data))]


def cut_up(data: bytes, rng: random.Random) -> list[bytes]:
    """In pieces of very different lengths."""
    pieces, at = [], 0
    while at < len(data):
        size = rng.choice((1, 2, 3, 5, 17, 300))
        pieces.append(data[at : at + size])
        at += size
    return pieces


def play(
    peer: Peer, segments: Sequence[Sequence[bytes]], late: random.Random | None = None
) -> Trace:
    """All that happens. With `late`, more may come before the events are taken."""
    trace: Trace = []
    alive = _go(peer, trace, peer.ask)
    for segment in segments:
        chunks = list(filter(None, segment))
        for number, chunk in enumerate(chunks, 1):
            peer.conn.receive_data(chunk)
            if late is not None and number < len(chunks) and late.random() < 0.3:
                continue
            alive = alive and drain(peer, trace)
            held = peer.held()
            assert held <= (peer.limit if alive else 0), f"{held} bytes are held back"
        alive = alive and _go(peer, trace, peer.ask)
        keeps_little(peer)
    peer.conn.receive_data(b"")
    if alive and drain(peer, trace):
        trace.append(("end", peer.conn.state.name))
        assert peer.conn.state.name == "CLOSED"
        assert peer.conn.next_event() is None
    return trace


def drain(peer: Peer, trace: Trace) -> bool:
    """Take all events there are; False if there was an error."""
    while True:
        try:
            event = peer.conn.next_event()
        except peer.remote_error as error:
            trace.append(failed(peer, error))
            return False
        if event is None:
            return True
        trace.append((event, peer.conn.state.name))
        if not _go(peer, trace, functools.partial(peer.answer, event)):
            return False


def _go(peer: Peer, trace: Trace, step: Callable[[], Any]) -> bool:
    try:
        trace.append(step())
    except peer.remote_error as error:
        trace.append(failed(peer, error))
        return False
    return True


def failed(peer: Peer, error: Any) -> Any:
    """An error repeats, in the same words. Chunkings may differ in those: a guess needs bytes."""
    assert peer.conn.state.name == "FAILED"
    assert not getattr(peer.conn, "our_turn", False)
    for _ in range(2):
        with pytest.raises(peer.remote_error) as again:
            peer.conn.next_event()
        assert str(again.value) == str(error)
    hint = getattr(error, "hint", None)
    sent = peer.conn.send(hint) if hint is not None else b""
    return ("error", hint, sent)


def refused(conn: Any, local_error: type[Exception], event: Any) -> bytes | None:
    """What `send` makes of an event; None if it is refused, which has changed nothing."""
    before = look(conn)
    try:
        data: bytes = conn.send(event)
    except local_error:
        assert look(conn) == before
        return None
    return data


def arrives(conn: Any, data: bytes, said: Any) -> None:
    """What one side of a linked pair has said is what the other hears."""
    conn.receive_data(data)
    event = conn.next_event()
    assert event == said, f"{said!r} arrived as {event!r}"


def keeps_little(peer: Peer) -> None:
    """Nothing that a connection has grows with each message."""
    most = max(peer.limit, 2 * getattr(peer, "most", 0), 100)
    for name, value in vars(peer.conn).items():
        if isinstance(value, Sized):
            assert len(value) <= most, f"{name} has {len(value)} items"


def look(conn: Any) -> dict[str, Any]:
    """A connection's state, and what can't be seen of it, too; its containers as they are now."""
    return {
        name: copy.copy(value) if isinstance(value, dict | list | set) else value
        for name, value in vars(conn).items()
    }


def buffered(buffer: Any) -> int:
    """The bytes in a buffer of ours that are in no event yet."""
    if hasattr(buffer, "_later"):
        later = sum(map(len, buffer._later))
        return int(buffer.size - buffer.offset + later)
    return int(len(buffer._data) - getattr(buffer, "_offset", 0))


def many(source: Source, most: int) -> Iterator[int]:
    """As often as the script says."""
    yield from range(source.byte() % (most + 1))
