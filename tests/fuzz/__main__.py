"""Coverage-guided fuzzing of every decoder: ``python -m tests.fuzz [--seconds N] [TARGET...]``.

Each target is run for so many seconds, as many at a time as there are processors. One that raises,
or takes too long over an input, is shown with that input, which is left in build/fuzz; run again
with ``--input FILE`` to see it alone.
``--keep`` puts what reaches further than the seeds into the committed corpus.
"""

from __future__ import annotations

import argparse
import functools
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias

from .growth import of_a_codec
from .targets import CORPUS, TARGETS, seeds

BUILD = Path("build/fuzz")
MAX_INPUT = 5000  # tcp_table's limit is 4096
# For what never ends. (What takes too long for its bytes, `growth` finds, on a busy machine, too.)
SLOW_INPUT = 30  # seconds
MEMORY = 1024  # MiB

Step: TypeAlias = tuple[str, int, int]


def fuzz(name: str, seconds: int, *, keep: bool) -> bool:
    """Whether a target went well."""
    with tempfile.TemporaryDirectory() as directory:
        corpus = Path(directory) / "corpus"
        _write(corpus, seeds(name))
        artifacts = BUILD / name
        artifacts.mkdir(parents=True, exist_ok=True)
        status, output = _run(
            name,
            f"-max_total_time={seconds}",
            f"-max_len={MAX_INPUT}",
            f"-timeout={SLOW_INPUT}",
            f"-rss_limit_mb={MEMORY}",
            f"-artifact_prefix={artifacts}/",
            "-print_final_stats=1",
            str(corpus),
        )
        runs = re.search(r"stat::number_of_executed_units: *(\d+)", output)
        seen = re.findall(r" cov: (\d+) ft: (\d+) corp: (\d+)", output)
        # Not by its last words: an assertion that shows Dovecot's greeting has DONE in it, too.
        good = status == 0 and runs is not None
        count = runs[1] if runs else "?"
        cov, features, kept = seen[-1] if seen else ("?", "?", "?")
        line = f"{name:18} {count:>9} runs, coverage {cov}, features {features}, corpus {kept}"
        print(f"{line}: no finding" if good else f"{line}: FAILED\n{output[-6000:]}", flush=True)
        if good and keep:
            _keep(name, corpus)
        return good


def _run(name: str, *options: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz._one", name, *options],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return done.returncode, done.stdout.decode(errors="replace")


def _write(directory: Path, inputs: list[bytes]) -> None:
    directory.mkdir()
    for number, data in enumerate(inputs):
        (directory / f"seed-{number}").write_bytes(data)


def _keep(name: str, corpus: Path) -> None:
    """Of what was found, the smallest inputs that run some step that none before them runs."""
    file = CORPUS / f"{name}.txt"
    known = file.read_text(encoding="ascii").split() if file.exists() else []
    seen: set[Step] = set()
    for data in seeds(name):
        seen |= _steps(name, data)
    found = sorted(
        {path.read_bytes() for path in corpus.iterdir()}, key=lambda one: (len(one), one)
    )
    for data in found:
        steps = _steps(name, data)
        if not steps <= seen:
            seen |= steps
            known.append(data.hex())
    CORPUS.mkdir(exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in known), encoding="ascii")


def _steps(name: str, data: bytes) -> set[Step]:
    """From which line to which the codecs go with an input."""
    steps: set[Step] = set()
    last: dict[FrameType, int] = {}

    def trace(frame: FrameType, event: str, _: object) -> Any:
        path = frame.f_code.co_filename
        if not of_a_codec(path):
            return None
        if event == "line":
            steps.add((path, last.get(frame, 0), frame.f_lineno))
            last[frame] = frame.f_lineno
        return trace

    sys.settrace(trace)
    try:
        TARGETS[name].run(data)
    finally:
        sys.settrace(None)
    return steps


def main() -> int:
    """How many targets have failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=10, help="for each target (10)")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--input", type=Path, help="run the one target with this file, and no more")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    options = parser.parse_args()
    names = options.targets or list(TARGETS)
    if options.input is not None:
        for name in names:
            TARGETS[name].check(options.input.read_bytes())
        return 0
    one = functools.partial(fuzz, seconds=options.seconds, keep=options.keep)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return sum(not good for good in pool.map(one, names))


if __name__ == "__main__":
    sys.exit(main())
