"""How cost grows: time and memory while one thing gets ten times as much, again and again.

    python -m tests.benchmarks.bench_growth [--docs]

Nothing is asserted. What is linear has the same time for each one in every row, and a line of
slope 1 in the charts; a quadratic step would show as ten times the time for each. Memory is the
most that the codec held beyond what it held before, as tracemalloc counts it, with the piece of
input in hand; where input is kept by nobody, it must not grow at all.
"""

from __future__ import annotations

import itertools
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Sequence

import attrs
from rich.console import Console
from rich.table import Table

import dovecotauth as da
import milterproto as mp
from milterproto.message import Message, MessageFilter, Recipient
from tests.benchmarks import _milter_session as session
from tests.benchmarks import _page
from tests.benchmarks.milter_ours import ANSWER, CONTINUE, MAKE

ROUNDS = 5
PIECE = session.PIECE


def pieces(frames: Iterable[bytes]) -> Iterator[bytes]:
    """The frames' bytes, in reads of 64 KiB that are made when they are asked for."""
    waiting, size = [], 0
    for frame in frames:
        waiting.append(frame)
        size += len(frame)
        if size >= PIECE:
            stream = b"".join(waiting)
            whole = size - size % PIECE
            yield from (stream[at : at + PIECE] for at in range(0, whole, PIECE))
            waiting, size = [stream[whole:]], size - whole
    yield b"".join(waiting)


FRAMES = dict(
    zip(
        (step[0] for step in session.steps(1)),
        session.packets(1),
        strict=True,
    )
)
"""One frame for each code, but no macros."""


def message(*, recipients: int = 1, headers: int = 1, body: int = 1) -> Iterator[bytes]:
    """A session with one message, frame by frame."""
    yield from (FRAMES[code] for code in (b"O", b"C", b"H", b"M"))
    yield from itertools.repeat(FRAMES[b"R"], recipients)
    yield FRAMES[b"T"]
    yield from itertools.repeat(FRAMES[b"L"], headers)
    yield FRAMES[b"N"]
    piece = session.frame(b"B", bytes(session.CHUNK))
    yield from itertools.repeat(piece, body // session.CHUNK)
    if rest := body % session.CHUNK:
        yield session.frame(b"B", bytes(rest))
    yield from (FRAMES[code] for code in (b"E", b"A", b"Q"))


def milter(chunks: Iterable[bytes]) -> None:
    """A filter that keeps nothing."""
    conn = mp.FilterConnection()
    for chunk in chunks:
        conn.receive_data(chunk)
        while (event := conn.next_event()) is not None:
            if conn.our_turn:
                conn.send(ANSWER if type(event) is mp.Negotiate else CONTINUE)
    assert conn.state is mp.State.CLOSED


def mark(message: Message) -> mp.Verdict:
    """Something to be found out by comparing the whole message with what it was."""
    message.headers.set(b"X-Header", b"marked")
    message.headers.insert(0, b"X-First", b"yes")
    return mp.Accept()


def whole_messages(
    chunks: Iterable[bytes], function: Callable[[Message], mp.Verdict | None] = mark
) -> None:
    """A message filter, which keeps the message, and edits it."""
    conn = mp.FilterConnection()
    handle = MessageFilter(function, max_size=1 << 30).session(conn)
    for chunk in chunks:
        conn.receive_data(chunk)
        while (event := conn.next_event()) is not None:
            answers = handle(event)
            assert isinstance(answers, Sequence)  # and nothing to wait for
            for answer in answers:
                conn.send(answer)
    assert conn.state is mp.State.CLOSED


def editing(count: int) -> None:
    """A message filter that takes all recipients away but the last, and adds as many others."""

    def change(message: Message) -> None:
        message.recipients = [
            *message.recipients[-1:],
            *(Recipient(b"<%d@example.net>" % number) for number in range(count)),
        ]

    many = (session.frame(b"R", b"<%d@example.org>\0" % number) for number in range(count))
    frames = message()
    head = list(itertools.islice(frames, 4))
    whole_messages(pieces(itertools.chain(head, many, frames)), change)


def asking(count: int) -> None:
    """The MTA's side: so many edits, which are there in one read."""
    conn = mp.MTAConnection()
    edits = session.frame(b"h", b"X-Header\0value\0") * count
    for code, fields in session.steps(1):
        conn.send(MAKE[code](*fields))
        answer = session.ANSWERS[code]
        if answer:
            conn.receive_data(edits + answer if code == b"E" else answer)
        while not conn.our_turn and conn.next_event() is not None:
            pass
    assert conn.state is mp.State.CLOSED


def authentications(count: int) -> None:
    """All asked before the first is answered."""
    server = da.ServerConnection(max_outstanding=count)
    client = da.ClientConnection()
    assert server.next_event() == da.Connected()
    client.receive_data(
        server.send(
            da.ServerHello((da.Mechanism(b"PLAIN"),), 1, 1, bytes(range(16)).hex().encode())
        )
    )
    server.receive_data(client.send(da.ClientHello(1)))
    list(client.events())
    list(server.events())
    for number in range(1, count + 1):
        asked = da.Auth(number, b"PLAIN", ((b"service", b"smtp"),), b"\0ann\0secret")
        server.receive_data(client.send(asked))
    for number, event in enumerate(server.events(), start=1):
        assert type(event) is da.Auth, event
        client.receive_data(server.send(da.Ok(number, b"ann")))
    assert sum(type(event) is da.Ok for event in client.events()) == count


@attrs.frozen
class Growth:
    """One thing that grows."""

    name: str
    sizes: tuple[int, ...]
    run: Callable[[int], None]


def _tens(low: int, high: int) -> tuple[int, ...]:
    return tuple(10**power for power in range(low, high + 1))


GROWTHS = (
    Growth("headers", _tens(1, 4), lambda count: milter(pieces(message(headers=count)))),
    Growth("recipients", _tens(0, 3), lambda count: milter(pieces(message(recipients=count)))),
    Growth("bytes of body", _tens(3, 8), lambda size: milter(pieces(message(body=size)))),
    Growth(
        "bytes, one by one",
        _tens(2, 6),
        lambda size: milter(bytes([byte]) for frame in message(body=size) for byte in frame),
    ),
    Growth(
        "headers, whole message",
        _tens(1, 4),
        lambda count: whole_messages(pieces(message(headers=count))),
    ),
    Growth(
        "bytes of body, whole message",
        _tens(3, 8),
        lambda size: whole_messages(pieces(message(body=size))),
    ),
    Growth("recipients, all replaced", _tens(0, 4), editing),
    Growth("edits, MTA's side", _tens(1, 5), asking),
    Growth("open authentications", _tens(0, 4), authentications),
)


def seconds(run: Callable[[int], None], size: int) -> float:
    """CPU time of one go: the least of a few, each of 20 ms or more."""
    start = time.process_time()
    run(size)
    once = max(time.process_time() - start, 1e-6)
    if once > 1:
        return once
    count, best = max(1, int(0.02 / once)), once
    for _ in range(ROUNDS):
        start = time.process_time()
        for _ in range(count):
            run(size)
        best = min(best, (time.process_time() - start) / count)
    return best


def peak(run: Callable[[int], None], size: int) -> int:
    """Bytes, at most."""
    tracemalloc.start()
    try:
        run(size)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def main() -> None:
    """Measure, and print."""
    heads = ("what grows", "to", "time", "for each one", "memory at most")
    table = Table(*heads)
    rows = [heads]
    times: dict[str, list[tuple[float, float]]] = {}
    memory: dict[str, list[tuple[float, float]]] = {}
    for growth in GROWTHS:
        for size in growth.sizes:
            took, held = seconds(growth.run, size), peak(growth.run, size)
            times.setdefault(growth.name, []).append((size, took * 1e3))
            memory.setdefault(growth.name, []).append((size, held / 1024))
            cells = (
                growth.name,
                f"{size:,}",
                f"{took * 1e3:,.3f} ms",
                f"{took / size * 1e9:,.2f} ns",
                f"{held / 1024:,.0f} KiB",
            )
            table.add_row(*cells)
            rows.append(cells)
        table.add_section()
    Console().print(table)
    if "--docs" in sys.argv[1:]:
        _page.put("growth", _page.table(rows))
        for name, unit, curves in (("time", "ms", times), ("memory", "KiB", memory)):
            chart = _page.lines(f"How {name} grows", "how many", unit, curves)
            (_page.DOCS / f"benchmarks_{name}.svg").write_text(chart, encoding="utf-8")


if __name__ == "__main__":
    main()
