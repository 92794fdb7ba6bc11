"""The oracle of time and memory: each byte more takes so much of both, and no more.

Part of an input is repeated, and four times as often. What is counted does not depend on the
machine: lines of Python that the codecs run, and bytes that are in use at the worst moment. What C
does for one line, such as a copy of a buffer, is not seen: `test_growth` and the buffers' tests do.
"""

from __future__ import annotations

import itertools
import random
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from . import mutate
from .source import put_together, taken_apart

PACKAGES: Final = ("dovecotauth", "milterproto", "nginxauth", "tcptable")
FACTOR: Final = 4
# Between the factor and its square, and so much more for what is there once.
MOST: Final = 6
LINES: Final = 2000
BYTES: Final = 100_000
# What a byte more may take at all, in all three chunkings; three times what it ever does: where a
# line of one byte is an event, which is kept three times to be compared.
LINES_A_BYTE: Final = 500
BYTES_A_BYTE: Final = 3000
LONGEST: Final = 100  # of what is repeated
SEPARATORS: Final = b"\0\t =:,\n"
BYTES_REPEATED: Final = 200


def of_a_codec(path: str) -> bool:
    """Whether it is one of the packages' files, wherever they are installed."""
    return any(f"/{package}/" in path for package in PACKAGES) and "/tests/" not in path


Run = Callable[[bytes], None]
Cost = tuple[int, int]


def check(run: Run, format_: mutate.Format, data: bytes) -> None:
    """AssertionError if what is repeated costs more each time."""
    streams = [stretched(format_, data, FACTOR**step) for step in range(3)]
    costs: list[Cost] = [cost(run, streams[0])]
    # A third step if the second is steep: a limit, or a padding, may be reached there once.
    for small, large in itertools.pairwise(streams):
        costs.append(cost(run, large))
        if not steep(costs[-2], costs[-1], len(large) - len(small)):
            return
    raise AssertionError(
        f"lines run, and bytes in use: {costs}, for {list(map(len, streams))} bytes"
    )


def steep(small: Cost, large: Cost, more: int) -> bool:
    """Whether one of the two has grown like a square, or by far too much for so many bytes."""
    allowed = (
        min(small[0] * MOST, small[0] + more * LINES_A_BYTE) + LINES,
        min(small[1] * MOST, small[1] + more * BYTES_A_BYTE) + BYTES,
    )
    return large[0] > allowed[0] or large[1] > allowed[1]


def stretched(format_: mutate.Format, data: bytes, times: int) -> bytes:
    """An input with one message, or a part of one, again and again; always the same one."""
    script, stream = taken_apart(data)
    rng = random.Random(zlib.crc32(data))
    units = mutate.units_of(format_, stream) or [b""]
    at = rng.randrange(len(units))
    done: list[bytes] = []

    def repeated(part: bytes) -> bytes:
        # Mostly short, for of those there are many; and mostly from where something begins.
        begins = [start for start, byte in enumerate(part) if byte in SEPARATORS]
        if not begins and rng.random() < 0.8:
            return part
        any_ = rng.randrange(len(part))
        start = rng.choice(begins) if begins and rng.random() < 0.8 else any_
        piece = part[start : start + rng.choice((1, 2, 3, 3, 5, 10, LONGEST))]
        done.append(piece)
        return part[:start] + often(piece, times) + part[start + len(piece) :]

    if rng.random() < 0.5 and 0 < len(units[at]) <= LONGEST:
        units[at] = often(units[at], times)
    else:
        unit = units[at]
        while not done:  # now and then it swaps something instead, or leaves it out
            units[at] = format_.inside(unit, repeated, rng)
    return put_together(script, b"".join(units))


def often(piece: bytes, times: int) -> bytes:
    """So often that there is something to count, and so many times more."""
    return piece * (max(BYTES_REPEATED // len(piece), 1) * times)


def cost(run: Run, data: bytes) -> Cost:
    """Lines run and bytes in use, for all that a target does with an input."""
    lines = 0

    def local(_frame: FrameType, event: str, _: object) -> Any:
        nonlocal lines
        lines += event == "line"
        return local

    def trace(frame: FrameType, _event: str, _: object) -> Any:
        return local if of_a_codec(frame.f_code.co_filename) else None

    before = sys.gettrace()
    tracemalloc.start()
    sys.settrace(trace)
    try:
        run(data)
    finally:
        sys.settrace(before)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return lines, peak
