"""What `apply` says of edits is what a real Postfix makes of them, to the byte; and so `diff`."""

from __future__ import annotations

import random

import pytest

import milterproto as mp
from milterproto.message import Message, apply

from . import _edits
from ._postfix_bed import Bed

pytestmark = pytest.mark.interop

both_spaces = pytest.mark.parametrize(
    "leading_space", [False, True], ids=["value", "leading-space"]
)
MESSAGES = 250


def contents(rng: random.Random, *, leading_space: bool) -> list[bytes]:
    return [_edits.a_content(rng, at, leading_space=leading_space) for at in range(MESSAGES)]


@both_spaces
def test_generated_edits(bed: Bed, leading_space: bool) -> None:
    """Hundreds of messages, each with its own edits of all kinds."""
    rng = random.Random(8)
    decide = _edits.by_apply(rng, leading_space=leading_space)
    sent = contents(rng, leading_space=leading_space)
    assert _edits.run(bed, decide, sent, leading_space=leading_space) == []


@both_spaces
def test_generated_changes(bed: Bed, leading_space: bool) -> None:
    """Hundreds of messages, each changed as an object."""
    rng = random.Random(9)
    decide = _edits.by_diff(rng, leading_space=leading_space)
    sent = contents(rng, leading_space=leading_space)
    assert _edits.run(bed, decide, sent, leading_space=leading_space) == []


LIMIT = 60_000
LONG = [b"v" * (LIMIT - 3 + more) for more in (-1, 0, 1)] + [
    b"v" * (start - 4) + b"\n " + b"v" * (LIMIT - start - 1 + more)
    for start in (LIMIT // 2, LIMIT * 9 // 10 - 1, LIMIT * 9 // 10, LIMIT * 9 // 10 + 1)
    for more in (-1, 0, 1, 3000)
]


def test_fields_as_long_as_postfix_allows(bed: Bed) -> None:
    """And a byte more or less; cut within a line, or before it."""
    rng = random.Random(11)
    sent = [_edits.a_content(rng, at, leading_space=False) for at in range(len(LONG))]
    values = iter(LONG)

    def decide(message: Message) -> tuple[list[mp.Edit], Message]:
        edits: list[mp.Edit] = [mp.AddHeader(b"X", next(values))]
        return edits, apply(message, edits)

    assert _edits.run(bed, decide, sent, leading_space=False) == []
