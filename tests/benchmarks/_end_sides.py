"""Who is at the end of the socket: processes that serve a filter, or a bare loop."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import attrs

from tests.benchmarks import _milter_session as session
from tests.benchmarks._compare import ENVIRONMENTS, ROOT, python_of

HERE: Final = Path(__file__).parent
STYLES: Final = ("asyncio", "uvloop", "threads", "trio")
SCRIPT: Final = b"".join(session.packets(session.SIZES["10 kB"])) + session.ANSWERS[b"E"]
"""For `end_load.c`: what the MTA says, and the right answer at the end of the message."""


def compiled(name: str, *libraries: str) -> Path:
    """A program of this folder's, from its C source."""
    ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
    program = ENVIRONMENTS / name
    made = ENVIRONMENTS / f"{name}.{os.getpid()}"
    if shutil.which("cc") is None:
        raise SystemExit("cc is missing: make servers")
    command = ["cc", "-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([*command, "-o", made, HERE / f"{name}.c", *libraries], check=True)
    made.replace(program)  # tests in another process may be running it
    return program


@attrs.frozen
class Side:
    """What serves: a module of this folder with its arguments, or else a C program."""

    name: str
    module: str = ""
    arguments: Sequence[str] = ()
    package: str | None = None
    echo: bool = False

    def command(self) -> Sequence[str | Path]:
        """To which the socket's path is added."""
        if not self.module:
            return [compiled("end_libmilter", "-lmilter", "-lpthread")]
        return [python_of(self.package), "-m", f"tests.benchmarks.{self.module}", *self.arguments]


def ours(name: str, style: str) -> Side:
    """One of our adapters."""
    return Side(name, "end_ours", (style,), "uvloop" if style == "uvloop" else None)


def bare(style: str, what: str) -> Side:
    """The loop that such an adapter is compared with."""
    package = "uvloop" if style == "uvloop" else None
    return Side(f"{style}, {what}", "end_bare", (style, what), package, echo=what == "echo")


ADAPTERS: Final = {style: ours(style, style) for style in STYLES}
NO_REPLY: Final = ours("asyncio, no replies", "no-reply")
PYMILTER: Final = Side("pymilter", "end_pymilter", (), "pymilter")
LIBMILTER: Final = Side("libmilter, in C")
BARE: Final = {
    what: {style: bare(style, what) for style in STYLES} for what in ("echo", "floor", "codec")
}


class Served:
    """A side's process, and its socket."""

    def __init__(self, side: Side, process: subprocess.Popen[str], path: Path) -> None:
        self.side = side
        self.path = path
        self._pid = process.pid

    def cpu(self) -> float:
        """Seconds of CPU of all its threads so far: the clock of clock_getcpuclockid(3)."""
        return time.clock_gettime((~self._pid << 3) | 2)

    def memory(self) -> int:
        """Bytes that are resident."""
        status = Path(f"/proc/{self._pid}/status").read_text(encoding="ascii")
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024


@contextlib.contextmanager
def serving(side: Side, directory: Path) -> Iterator[Served]:
    """From the moment that it listens until the block ends."""
    path = directory / side.name
    # What is imported here can be imported there, in an environment with one package more; but
    # not in that of a peer.
    borrowed = "uvloop" in (side.package or "uvloop")
    search = os.pathsep.join([*sys.path, str(ROOT / "examples")]) if borrowed else ""
    with subprocess.Popen(
        [*side.command(), path],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": search},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "listening\n":
                raise SystemExit(f"{side.name} has ended: {process.wait()}")
            yield Served(side, process, path)
        finally:
            # Not by SIGTERM: libmilter looks for that every five seconds only.
            process.kill()
