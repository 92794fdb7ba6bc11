"""The real peers that test modules share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ._postfix_bed import Bed


@pytest.fixture(scope="session")
def postfix_program(require_program: Callable[[str, str], Path]) -> Path:
    """The postfix command, for who may start it."""
    program = require_program("postfix", "postfix")
    if os.geteuid() != 0:
        reason = "only root can start Postfix, which changes its user id"
        if os.environ.get("MAILWIRE_REQUIRE_SERVERS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return program


@pytest.fixture(scope="session")
def _bed(postfix_program: Path) -> Iterator[Bed]:
    """One Postfix for all tests: they take milliseconds, and its start takes seconds."""
    with Bed(postfix_program) as bed:
        yield bed


@pytest.fixture
def bed(_bed: Bed) -> Iterator[Bed]:
    """Postfix with filter and sink, for a test that looks at every message that arrives."""
    position = _bed.postfix.log_position
    yield _bed
    left = _bed.settle()
    # Shown with a test that fails.
    print(_bed.postfix.log(position))
    assert left == []
