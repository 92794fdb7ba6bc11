"""Common subsequences, exact and quick."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milterproto import _matches
from milterproto._matches import matches
from tests.steepness import assert_linear

items = st.lists(st.sampled_from("abcd"), max_size=14)


def longest(a: Sequence[str], b: Sequence[str]) -> int:
    """By the textbook's table."""
    row = [0] * (len(b) + 1)
    for one in a:
        new = [0]
        for j, other in enumerate(b):
            new.append(row[j] + 1 if one == other else max(row[j + 1], new[j]))
        row = new
    return row[-1]


def check(a: Sequence[object], b: Sequence[object]) -> list[tuple[int, int]]:
    """What holds of any result."""
    found = matches(a, b)
    assert all(a[i] == b[j] for i, j in found)
    for pair, following in itertools.pairwise(found):
        assert pair[0] < following[0]
        assert pair[1] < following[1]
    return found


@given(items, items)
def test_as_many_as_there_can_be(a: list[str], b: list[str]) -> None:
    """Pairs of equal items that do not cross, and no more are possible."""
    assert len(check(a, b)) == longest(a, b)


@pytest.mark.parametrize(
    ("a", "b", "found"),
    [
        ("", "", []),
        ("", "ab", []),
        ("abc", "abc", [(0, 0), (1, 1), (2, 2)]),
        ("abc", "xabcy", [(0, 1), (1, 2), (2, 3)]),
        ("abxcd", "abcd", [(0, 0), (1, 1), (3, 2), (4, 3)]),
        ("aa", "aaa", [(0, 0), (1, 1)]),
    ],
)
def test_examples(a: str, b: str, found: list[tuple[int, int]]) -> None:
    """What is equal at both ends is matched there."""
    assert matches(a, b) == found


@given(items, items)
def test_the_quick_way_is_sound(a: list[str], b: list[str]) -> None:
    """It may find less, but nothing that is wrong."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_matches, "_MAX_DIFFERENCES", 1)
        check(a, b)


@given(items, st.sets(st.integers(0, 13)))
def test_the_quick_way_finds_all_where_items_only_went(a: list[str], gone: set[int]) -> None:
    """Such as a filter that takes away all fields of one kind."""
    b = [item for at, item in enumerate(a) if at not in gone]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_matches, "_MAX_DIFFERENCES", -1)
        assert len(check(a, b)) == len(b)


def test_the_exact_search_is_given_up() -> None:
    """Its time grows with the square of the differences."""
    assert _matches._shortest(range(100), ()) == []
    assert _matches._shortest(range(1000), ()) is None


def test_long_and_different(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client may send a header of any length."""
    monkeypatch.setattr(_matches, "_MAX_DIFFERENCES", 10)

    def differ(times: int) -> None:
        a = [at % 2 and at for at in range(2000 * times)]
        b = [item for item in a if item]
        assert len(check(a, b)) == len(b)
        assert len(check(b, a)) == len(b)
        check(a, list(reversed(a)))

    assert_linear(differ)
