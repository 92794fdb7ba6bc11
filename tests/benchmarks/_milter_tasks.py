"""The tasks of the milter benchmark, for one implementation of one role."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from tests.benchmarks import _milter_session as session
from tests.benchmarks._side import Task

Filter = Callable[[Sequence[bytes]], Sequence[bytes]]
MTA = Callable[[Sequence[tuple[session.Step, bytes]]], Sequence[bytes]]


def filter_tasks(answer: Filter) -> dict[str, Task]:
    """What `answer` gives for what the MTA says, in two sizes and two ways to cut it."""
    return {
        f"filter, {name}, {how}": functools.partial(answer, cut(size))
        for name, size in session.SIZES.items()
        for how, cut in (("64 KiB pieces", session.pieces), ("by packet", session.packets))
    }


def mta_tasks(ask: MTA) -> dict[str, Task]:
    """What `ask` writes for each step; with each step, what the filter answers to it."""
    return {
        f"MTA, {name}, by packet": functools.partial(
            ask, [(step, session.ANSWERS[step[0]]) for step in session.steps(size)]
        )
        for name, size in session.SIZES.items()
    }
