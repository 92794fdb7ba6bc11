"""All seeds and all inputs that fuzzing has kept, through the oracles; no fuzzer is needed."""

from __future__ import annotations

import random

import pytest

from . import mutate
from .targets import CORPUS, TARGETS, seeds


def test_each_has_a_corpus() -> None:
    """And no corpus is left of a target that has gone."""
    assert {file.stem for file in CORPUS.iterdir()} == set(TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_seeds(name: str) -> None:
    """The committed corpus has what once went wrong, too."""
    for data in seeds(name):
        TARGETS[name].run(data)


@pytest.mark.parametrize("name", TARGETS)
def test_mutated_seeds(name: str) -> None:
    """A few of what the structure-aware mutators make of them."""
    target, rng = TARGETS[name], random.Random(name)
    format_, pool = target.format(), seeds(name)

    def bytewise(data: bytes) -> bytes:
        at = rng.randrange(len(data) + 1)
        return data[:at] + rng.randbytes(1) + data[at + rng.randrange(2) :]

    for _ in range(100):
        data = rng.choice(pool)
        for _ in range(4):
            data = mutate.mutated(format_, data, bytewise, rng)
        target.run(data)
