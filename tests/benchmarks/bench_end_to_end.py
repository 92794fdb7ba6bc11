"""Messages a second over a unix socket, one packet at a time as an MTA drives it.

    python -m tests.benchmarks.bench_end_to_end [--docs]

Our adapters, pymilter, a filter in C on libmilter, and the bare loops of `end_bare`; each runs in
a process of its own, and `end_load.c` plays the MTA to all of them in turn, over one connection
and over fifty. Nothing is asserted: the machine decides the figures, the ratios are what counts.
"""

from __future__ import annotations

import contextlib
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

import attrs
from rich.console import Console
from rich.table import Table

from tests.benchmarks import _milter_session as session
from tests.benchmarks import _page
from tests.benchmarks._end_sides import (
    ADAPTERS,
    BARE,
    LIBMILTER,
    NO_REPLY,
    PYMILTER,
    SCRIPT,
    Served,
    Side,
    compiled,
    serving,
)

# Processes are started anew, for one of them may be faster than the next by some per cent.
STARTS: Final = 5
ROUNDS: Final = 7
Load: TypeAlias = tuple[int, int]
"""Connections at once, and messages on each of them."""
# Short, so that what else the machine has to do hits those alike that are compared.
LOADS: Final[Mapping[str, Load]] = {"1 connection": (1, 40), "50 connections": (50, 4)}
IDLE: Final = 1000
FILTERS: Final = (*ADAPTERS.values(), NO_REPLY, PYMILTER, LIBMILTER)
# In their turns: each adapter beside its loops, and pymilter beside the best of them.
TURNS: Final = tuple(
    side
    for style, adapter in ADAPTERS.items()
    for side in (adapter, *(loops[style] for loops in BARE.values()))
)
BESIDE: Final = 2 * (1 + len(BARE))  # asyncio, uvloop, and the loops of these
EVERYBODY: Final = (*TURNS[:BESIDE], PYMILTER, NO_REPLY, LIBMILTER, *TURNS[BESIDE:])


@attrs.frozen
class Figure:
    """Of each round: messages a second by the clock, and seconds of the side's CPU for one."""

    rates: list[float] = attrs.field(factory=list)
    cpu: list[float] = attrs.field(factory=list)


Figures: TypeAlias = dict[str, dict[str, Figure]]
"""By load, then by the side's name."""


def drive(program: Path, served: Served, load: Load) -> tuple[float, float]:
    """Messages a second, and seconds of CPU for a message."""
    connections, messages = load
    before = served.cpu()
    done = subprocess.run(
        [program, served.path, str(connections), str(messages), *["echo"] * served.side.echo],
        input=SCRIPT,
        capture_output=True,
        check=False,
    )
    cpu = served.cpu() - before
    if done.returncode:
        raise SystemExit(f"{served.side.name}: {done.returncode}, {done.stderr.decode().strip()}")
    count, seconds = map(float, done.stdout.split())
    return count / seconds, cpu / count


def compare(sides: Sequence[Side], loads: Mapping[str, Load], starts: int, rounds: int) -> Figures:
    """All sides in turn, a round after the other."""
    program = compiled("end_load")
    figures: Figures = {load: {} for load in loads}
    able = [side for side in sides if _can_be_made(side)]
    for _ in range(starts):
        _add(figures, program, able, loads, rounds)
    return figures


def _can_be_made(side: Side) -> bool:
    try:
        side.command()
    except subprocess.CalledProcessError as exc:
        print(f"{side.name} is left out, it can't be made: {exc}", file=sys.stderr)
        return False
    return True


def _add(
    figures: Figures, program: Path, sides: Sequence[Side], loads: Mapping[str, Load], rounds: int
) -> None:
    """What is measured until the next start."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mailwire-")))
        everybody = [stack.enter_context(serving(side, directory)) for side in sides]
        for number in range(rounds + 1):
            for load, what in loads.items():
                for served in everybody[:: -1 if number % 2 else 1]:
                    rate, cpu = drive(program, served, what)
                    figure = figures[load].setdefault(served.side.name, Figure())
                    if number:  # the first is for warming up
                        figure.rates.append(rate)
                        figure.cpu.append(cpu)


def idle_memory(side: Side, count: int) -> tuple[int, int]:
    """Bytes resident, before any connection and with all of them: each has said HELO, and waits."""
    packets = session.packets(1)
    begin = [packets[0], packets[1] + packets[2], packets[3] + packets[4]]
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mailwire-")))
        served = stack.enter_context(serving(side, directory))
        before = served.memory()
        for _ in range(count):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(str(served.path))
            for packet in begin:
                client.sendall(packet)
                assert client.recv(4096)
        return before, served.memory()


def ratios(one: Sequence[float], other: Sequence[float]) -> list[float]:
    """Round by round."""
    return [mine / theirs for mine, theirs in zip(one, other, strict=True)]


def spread(values: Sequence[float]) -> str:
    """The median, and the middle half."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


Row: TypeAlias = Sequence[str]


def filters(by_side: Mapping[str, Figure]) -> dict[str, Figure]:
    """Those that are no bare loop, and were there."""
    return {side.name: by_side[side.name] for side in FILTERS if side.name in by_side}


def figure_rows(figures: Figures, memory: Mapping[str, tuple[int, int]]) -> list[Row]:
    """A row for each filter. ``memory``: bytes without a connection, and with all of them."""
    heads = [f"{load}: {what}" for load in figures for what in ("messages/s", "CPU of one")]
    rows: list[Row] = [["", *heads, f"{IDLE:,} idle connections"]]
    for name in filters(next(iter(figures.values()))):
        cells = []
        for by_side in figures.values():
            cells.append(f"{statistics.median(by_side[name].rates):,.0f}")
            cells.append(f"{statistics.median(by_side[name].cpu) * 1e6:,.0f} µs")
        held = "-"
        if name in memory:
            before, after = memory[name]
            held = f"{after / 2**20:.0f} MiB ({before / 2**20:.0f} with none)"
        rows.append([name, *cells, held])
    return rows


def ratio_rows(figures: Figures) -> list[Row]:
    """How fast one is as a part of another in the same round: by the clock, and by CPU time."""
    pairs = [(BARE["floor"][style], echo) for style, echo in BARE["echo"].items()]
    pairs += [
        (adapter, loops[style]) for loops in BARE.values() for style, adapter in ADAPTERS.items()
    ]
    pairs += [(side, PYMILTER) for side in FILTERS if side is not PYMILTER]
    heads = [f"{load}: {what}" for load in figures for what in ("messages/s", "by CPU")]
    rows: list[Row] = [["", *heads]]
    for side, other in pairs:
        if not {side.name, other.name} <= set(next(iter(figures.values()))):
            continue
        cells = []
        for by_side in figures.values():
            mine, theirs = by_side[side.name], by_side[other.name]
            cells.append(spread(ratios(mine.rates, theirs.rates)))
            cells.append(spread(ratios(theirs.cpu, mine.cpu)))
        rows.append([f"{side.name} / {other.name}", *cells])
    return rows


def show(title: str, rows: Sequence[Row]) -> None:
    """On the terminal."""
    table = Table(*rows[0], title=title)
    for row in rows[1:]:
        table.add_row(*row)
    Console().print(table)


def chart(figures: Figures) -> str:
    """The filters' times for a message, by the clock and of CPU."""
    groups = {}
    for load, by_side in figures.items():
        named = filters(by_side)
        groups[f"{load}, by the clock"] = {
            name: 1e6 / statistics.median(figure.rates) for name, figure in named.items()
        }
        groups[f"{load}, CPU"] = {
            name: statistics.median(figure.cpu) * 1e6 for name, figure in named.items()
        }
    return _page.bars("A message over a unix socket: µs, shorter is better", groups)


def main() -> None:
    """Measure, and print."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    figures = compare(EVERYBODY, LOADS, STARTS, ROUNDS)
    there = set(next(iter(figures.values()))) - {NO_REPLY.name}  # whose adapter is there twice
    memory = {side.name: idle_memory(side, IDLE) for side in FILTERS if side.name in there}
    measured = figure_rows(figures, memory)
    shares = ratio_rows(figures)
    show("over a unix socket", measured)
    show("as a part of another's speed: median, middle half", shares)
    if "--docs" in sys.argv[1:]:
        _page.put("end-to-end", _page.table(measured))
        _page.put("end-to-end-ratios", _page.table(shares))
        (_page.DOCS / "benchmarks_end_to_end.svg").write_text(chart(figures), encoding="utf-8")


if __name__ == "__main__":
    main()
