"""What `apply` says of edits is what a real Postfix makes of them, to the byte; and so `diff`."""

from __future__ import annotations

import random

import pytest

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
