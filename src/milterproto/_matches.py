"""What two sequences have in common, in order: the heart of `diff`."""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import Final, TypeAlias

Matches: TypeAlias = list[tuple[int, int]]

# Time and memory of the exact search grow with the square of this; a client may send 100,000
# header fields, and a filter take every second one away.
_MAX_DIFFERENCES: Final = 300


def matches(before: Sequence[Hashable], after: Sequence[Hashable]) -> Matches:
    """Pairs of positions of equal items, both ascending: as many as there can be.

    Beyond some hundred differences there may be more than are found.
    """
    start = 0
    shorter = min(len(before), len(after))
    while start < shorter and before[start] == after[start]:
        start += 1
    end = 0
    while end < shorter - start and before[-1 - end] == after[-1 - end]:
        end += 1
    a, b = before[start : len(before) - end], after[start : len(after) - end]
    found = _shortest(a, b)
    middle = _greedy(a, b) if found is None else found
    return [
        *((at, at) for at in range(start)),
        *((start + i, start + j) for i, j in middle),
        *((len(before) - at, len(after) - at) for at in range(end, 0, -1)),
    ]


def _shortest(a: Sequence[Hashable], b: Sequence[Hashable]) -> Matches | None:
    """E. Myers, An O(ND) difference algorithm (1986); None if it would take too long."""
    furthest = {1: 0}  # by diagonal, which is i - j
    trail: list[dict[int, int]] = []
    for cost in range(min(len(a) + len(b), _MAX_DIFFERENCES) + 1):
        trail.append(dict(furthest))
        for diagonal in range(-cost, cost + 1, 2):
            i, _ = _step(furthest, diagonal, cost)
            j = i - diagonal
            while i < len(a) and j < len(b) and a[i] == b[j]:
                i += 1
                j += 1
            furthest[diagonal] = i
            if i >= len(a) and j >= len(b):
                return _back(trail, len(a), len(b))
    return None


def _step(furthest: dict[int, int], diagonal: int, cost: int) -> tuple[int, bool]:
    """Where one more difference leads to on a diagonal, and whether it is an insertion."""
    if diagonal == -cost or (diagonal != cost and furthest[diagonal - 1] < furthest[diagonal + 1]):
        return furthest[diagonal + 1], True
    return furthest[diagonal - 1] + 1, False


def _back(trail: list[dict[int, int]], i: int, j: int) -> Matches:
    """The matches on the way that led here."""
    found: Matches = []
    for cost in range(len(trail) - 1, -1, -1):
        diagonal = i - j
        start, inserted = _step(trail[cost], diagonal, cost)
        while i > start:
            i -= 1
            j -= 1
            found.append((i, j))
        if inserted:
            j -= 1
        else:
            i -= 1
    found.reverse()
    return found


def _greedy(a: Sequence[Hashable], b: Sequence[Hashable]) -> Matches:
    """For each item of `b` the next of `a` that is equal: all there is where items only went."""
    places: dict[Hashable, list[int]] = defaultdict(list)
    for at, item in enumerate(a):
        places[item].append(at)
    found: Matches = []
    following = 0
    for j, item in enumerate(b):
        candidates = places.get(item, [])
        at = bisect.bisect_left(candidates, following)
        if at < len(candidates):
            found.append((candidates[at], j))
            following = candidates[at] + 1
    return found
