"""Several sides do the same tasks in turn, each in a process and an environment of its own.

A side is a module that calls `_side.serve`. That of a peer runs in an environment under
build/bench/ that is made here, with nothing but the peer in it. Rounds are short and go from side
to side, so that what else the machine has to do hits all of them; what counts is the ratio of a
side's time to ours in the same round. All processes are started anew several times, for where its
memory happens to lie makes one of them faster than the next by some per cent.
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
from rich.console import Console
from rich.table import Table

from tests.benchmarks import _page

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / "build" / "bench"
STARTS = 7
ROUNDS = 11
# Seconds of CPU for one side in one round: shorter than what a scheduler gives at a time.
SLICE = 0.005


@attrs.frozen
class Side:
    """One of those that are compared; `package` is its name on PyPI, None for our own code."""

    name: str
    module: str
    package: str | None = None
    remark: str = ""


@attrs.frozen
class Figure:
    """Seconds of CPU for one go in each round, and the same as a multiple of ours."""

    seconds: Sequence[float]
    ratios: Sequence[float]

    @property
    def median(self) -> float:
        """Of the ratios."""
        return statistics.median(self.ratios)

    def __add__(self, other: Figure) -> Figure:
        """Both, as one."""
        return Figure([*self.seconds, *other.seconds], [*self.ratios, *other.ratios])


Figures = dict[str, dict[str, Figure]]
"""By task, then by the side's name."""


def python_of(package: str | None) -> Path:
    """The interpreter of the environment that has this package."""
    if package is None:
        return Path(sys.executable)
    folder = ENVIRONMENTS / package
    python = folder / "bin" / "python"
    done = folder / "installed"
    if not done.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        pip = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check", package]
        subprocess.run(pip, check=True, capture_output=True, text=True)
        done.touch()
    return python


class Running:
    """A side's process."""

    def __init__(self, side: Side, process: subprocess.Popen[str]) -> None:
        self.side = side
        self._process = process
        self.tasks = self._read().split("\t")

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().rstrip("\n")
        if not line:
            raise SystemExit(f"{self.side.name} has ended: {self._process.wait()}")
        return line

    def run(self, task: str, count: int) -> tuple[float, str]:
        """Seconds for one go, and a digest of what was written."""
        assert self._process.stdin is not None
        print(task, count, sep="\t", file=self._process.stdin, flush=True)
        seconds, digest = self._read().split()
        return float(seconds), digest


@contextlib.contextmanager
def running(side: Side) -> Iterator[Running]:
    """In its own environment, until the block ends."""
    command = [str(python_of(side.package)), "-m", side.module]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Running(side, process)
        finally:
            process.terminate()


def compare(sides: Sequence[Side], starts: int = STARTS, rounds: int = ROUNDS) -> Figures:
    """All tasks of the first side, which is ours, by everybody who can do them."""
    together: Figures = {}
    able = [side for side in sides if _installs(side)]
    for _ in range(starts):
        for task, by_side in _one_start(able, rounds).items():
            known = together.setdefault(task, {})
            for name, figure in by_side.items():
                known[name] = known[name] + figure if name in known else figure
    return together


def _installs(side: Side) -> bool:
    try:
        python_of(side.package)
    except subprocess.CalledProcessError as exc:
        last = (exc.stderr or str(exc)).strip().splitlines()[-1:]
        print(f"{side.name} is left out, it does not install: {last}", file=sys.stderr)
        return False
    return True


def _one_start(sides: Sequence[Side], rounds: int) -> Figures:
    with contextlib.ExitStack() as stack:
        everybody = [stack.enter_context(running(side)) for side in sides]
        return {task: _one_task(task, everybody, rounds) for task in everybody[0].tasks}


def _one_task(task: str, everybody: Sequence[Running], rounds: int) -> dict[str, Figure]:
    able = [one for one in everybody if task in one.tasks]
    first = [one.run(task, 1) for one in able]
    if len({digest for _, digest in first}) > 1:
        raise SystemExit(f"{task}: not everybody has written the same bytes")
    counts = [max(1, int(SLICE / seconds)) for seconds, _ in first]
    seconds: list[list[float]] = [[] for _ in able]
    for number in range(rounds):
        turns = list(zip(able, counts, seconds, strict=True))
        for one, count, found in turns if number % 2 else turns[::-1]:
            found.append(one.run(task, count)[0])
    return {
        one.side.name: Figure(
            found, [mine / ours for mine, ours in zip(found, seconds[0], strict=True)]
        )
        for one, found in zip(able, seconds, strict=True)
    }


def spread(figure: Figure) -> str:
    """The ratios' middle half."""
    low, _, high = statistics.quantiles(figure.ratios, n=4)
    return f"{low:.2f} to {high:.2f}"


def show(title: str, sides: Sequence[Side], figures: Figures) -> None:
    """On the terminal."""
    table = Table("task", "side", "median", "times ours", "middle half", title=title)
    for task, by_side in figures.items():
        for name, figure in by_side.items():
            table.add_row(
                task,
                name,
                f"{statistics.median(figure.seconds) * 1e6:,.0f} us",
                f"{figure.median:.2f}",
                spread(figure),
            )
        table.add_section()
    Console().print(table)
    for side in sides:
        if side.remark:
            Console().print(f"{side.name}: {side.remark}", highlight=False)


def markdown(figures: Figures) -> str:
    """A row for each side, a column for each task: the median, and how often ours goes into it."""
    names = list(dict.fromkeys(name for by_side in figures.values() for name in by_side))
    rows = [["", *figures]]
    for name in names:
        cells = [
            f"{statistics.median(by_side[name].seconds) * 1e6:,.0f} µs ({by_side[name].median:.2f})"
            if name in by_side
            else "-"
            for by_side in figures.values()
        ]
        rows.append([name, *cells])
    return _page.table(rows)
