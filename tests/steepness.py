"""How processor time grows with the size of what is done, on a machine that may be busy."""

from __future__ import annotations

import time
from collections.abc import Callable

FACTOR = 8
ROUNDS = 5


def assert_linear(run: Callable[[int], object]) -> None:
    """Eight times the size takes eight times as long, and not sixty-four.

    ``run(1)`` and ``run(8)`` side by side, and one pair of five as it should be is enough:
    what else a machine does makes pairs steep now and then, and a square makes all of them so. (A
    flat one says nothing, for then something else took most of the time, or the large one was cut
    short by a limit.) No time by itself is asserted.
    """
    ratios: list[float] = []
    while len(ratios) < ROUNDS:
        small, large = _seconds(run, 1), _seconds(run, FACTOR)
        ratios.append(large / max(small, 1e-6))
        if FACTOR / 2 < ratios[-1] < FACTOR * FACTOR**0.5:  # half-way, as factors go
            return
    raise AssertionError(f"{FACTOR} times the size took {ratios} times as long")


def _seconds(run: Callable[[int], object], times: int) -> float:
    """Of the processor, in all threads."""
    start = time.process_time()
    run(times)
    return time.process_time() - start
