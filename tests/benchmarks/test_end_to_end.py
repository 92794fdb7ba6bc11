"""The end-to-end benchmark: a short run, and what its load generator says and takes."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import milterproto as mp
from tests.benchmarks import _page
from tests.benchmarks import bench_end_to_end as bench
from tests.benchmarks._end_sides import (
    ADAPTERS,
    BARE,
    LIBMILTER,
    NO_REPLY,
    SCRIPT,
    Side,
    compiled,
)
from tests.benchmarks.end_ours import VERDICT, WANTS

PATIENCE = 20
BEFORE: list[type] = [mp.Negotiate, mp.Connect, mp.Helo]
MESSAGE: list[type] = [
    *[mp.MailFrom, mp.RcptTo, mp.RcptTo, mp.Data],
    *[mp.Header] * 20,
    *[mp.EndOfHeaders, mp.Body, mp.EndOfMessage],
]
AFTER: list[type] = [mp.Quit, mp.ConnectionClosed]


@pytest.fixture(scope="module")
def load(require_program: Callable[[str, str], Path]) -> Path:
    """The compiled load generator."""
    require_program("cc", "gcc")
    return compiled("end_load")


def run(load: Path, path: Path, messages: int) -> subprocess.CompletedProcess[bytes]:
    """All over one connection."""
    command: list[str | Path] = [load, path, "1", str(messages)]
    return subprocess.run(command, input=SCRIPT, capture_output=True, timeout=PATIENCE, check=False)


@contextlib.contextmanager
def filtering(
    path: Path, wants: mp.Wants, **wrong: bytes
) -> Iterator[tuple[list[bytes], list[type]]]:
    """Serve one connection: what each read gives, and the events. ``wrong`` answers, by event."""
    reads: list[bytes] = []
    kinds: list[type] = []

    def answer(conn: mp.FilterConnection, event: mp.Command | mp.ConnectionClosed) -> bytes:
        if isinstance(event, mp.Negotiate):
            data = conn.send(mp.negotiate(event, wants))
        elif isinstance(event, mp.EndOfMessage):
            data = b"".join([conn.send(reply) for reply in VERDICT])
        else:
            data = conn.send(mp.Continue()) if conn.our_turn else b""
        return wrong.get(type(event).__name__, data)

    def serve(listener: socket.socket) -> None:
        conn = mp.FilterConnection()
        # Whoever leaves over a wrong answer may leave some of it unread.
        with contextlib.suppress(ConnectionError), listener.accept()[0] as connection:
            connection.settimeout(PATIENCE)
            while conn.state is not mp.State.CLOSED:
                reads.append(connection.recv(65536))
                conn.receive_data(reads[-1])
                for event in conn.events():
                    if not isinstance(event, mp.Macros):
                        kinds.append(type(event))
                    if data := answer(conn, event):
                        connection.sendall(data)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.settimeout(PATIENCE)
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            yield reads, kinds
        finally:
            thread.join(PATIENCE)
            assert not thread.is_alive()


def test_it_says_all_in_lock_step(load: Path, tmp_path: Path) -> None:
    """A command and its macros in one write, and the next one after the answer."""
    with filtering(tmp_path / "filter", WANTS) as (reads, kinds):
        done = run(load, tmp_path / "filter", 2)
    assert done.stdout.startswith(b"2 "), done.stderr
    assert kinds == [*BEFORE, *[*MESSAGE, mp.Abort] * 2, *AFTER]
    # ABORT has no answer, and goes with what follows.
    assert len(reads) == len([*BEFORE, *MESSAGE * 2, mp.Quit])


def test_what_is_not_wanted_or_not_answered(load: Path, tmp_path: Path) -> None:
    """The one is not said, the other not waited for."""
    wants = mp.Wants(events={mp.RcptTo, mp.Body}, replies={mp.RcptTo}, actions=WANTS.actions)
    with filtering(tmp_path / "filter", wants) as (reads, kinds):
        done = run(load, tmp_path / "filter", 2)
    assert done.stdout.startswith(b"2 "), done.stderr
    message = [mp.RcptTo, mp.RcptTo, mp.Body, mp.EndOfMessage, mp.Abort]
    assert kinds == [mp.Negotiate, *message * 2, *AFTER]
    answered = [mp.RcptTo, mp.RcptTo, mp.EndOfMessage]
    assert len(reads) == len([mp.Negotiate, *answered * 2, mp.Quit])


@pytest.mark.parametrize(
    ("event", "answer"),
    [
        ("Negotiate", b"\0\0\0\x01c"),
        ("RcptTo", b"\0\0\0\x01t"),
        ("RcptTo", b"\0\0\0\x01c" * 2),
        ("EndOfMessage", b"\0\0\0\x01c"),
        ("Abort", b"\0\0\0\x01c"),
    ],
)
def test_a_wrong_answer_is_a_failure(load: Path, tmp_path: Path, event: str, answer: bytes) -> None:
    """Whoever answers something else is not measured."""
    with filtering(tmp_path / "filter", WANTS, **{event: answer}):
        done = run(load, tmp_path / "filter", 2)
    assert done.returncode == 1
    assert b"a wrong answer to" in done.stderr


def measured(*sides: Side, starts: int = 1) -> bench.Figures:
    """A short run of these."""
    return bench.compare(sides, {"one": (1, 2), "two": (2, 3)}, starts, rounds=2)


def test_a_short_run(load: Path) -> None:
    """Every figure is there, for filters and for bare loops."""
    sides = [*ADAPTERS.values(), NO_REPLY]
    sides += [side for loops in BARE.values() for side in loops.values()]
    sides = [side for side in sides if side.package is None]
    for by_side in measured(*sides).values():
        assert list(by_side) == [side.name for side in sides]
        for figure in by_side.values():
            assert len(figure.rates) == len(figure.cpu) == 2
            assert min(figure.rates) > 0
            assert min(figure.cpu) > 0


def test_the_filter_on_libmilter(load: Path, require_program: Callable[[str, str], Path]) -> None:
    """It compiles, and gives the right answers."""
    require_program("/usr/include/libmilter/mfapi.h", "libmilter-dev")
    figures = measured(LIBMILTER, starts=2)
    assert set(figures) == {"one", "two"}
    assert len(figures["one"][LIBMILTER.name].rates) == 4  # of both starts


def test_idle_connections() -> None:
    """They take memory, each of them."""
    before, after = bench.idle_memory(ADAPTERS["asyncio"], 100)
    assert before < after


def test_tables_and_chart() -> None:
    """A row for each filter, and for each pair that is compared."""
    figure = bench.Figure([100.0, 200.0, 300.0], [0.001, 0.002, 0.003])
    figures = {"a load": dict.fromkeys((side.name for side in bench.EVERYBODY), figure)}
    memory = dict.fromkeys((side.name for side in bench.FILTERS), (1 << 20, 3 << 20))
    rows = bench.figure_rows(figures, memory)
    assert rows[1] == ["asyncio", "200", "2,000 µs", "3 MiB (1 with none)"]
    equal = "1.00 (1.00 to 1.00)"
    ratios = bench.ratio_rows(figures)
    assert ["asyncio, floor / asyncio, echo", equal, equal] in ratios
    assert ["asyncio / asyncio, echo", equal, equal] in ratios
    assert _page.table(rows).splitlines()[1] == "|---|---:|---:|---:|"
    assert bench.chart(figures).count("<path") == 2 * len(bench.FILTERS)
