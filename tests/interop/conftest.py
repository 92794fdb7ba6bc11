"""The real peers that test modules share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ._dovecot import Dovecot
from ._nginx import MODULE
from ._postfix_bed import Bed


def _as_root(program: Path, name: str) -> Path:
    if os.geteuid() != 0:
        reason = f"only root can start {name}, which changes its user id"
        if os.environ.get("MAILWIRE_REQUIRE_SERVERS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return program


@pytest.fixture(scope="session")
def postfix_program(require_program: Callable[[str, str], Path]) -> Path:
    """The postfix command, for who may start it."""
    return _as_root(require_program("postfix", "postfix"), "Postfix")


@pytest.fixture(scope="session")
def dovecot_program(require_program: Callable[[str, str], Path]) -> Path:
    """The dovecot command, for who may start it."""
    return _as_root(require_program("dovecot", "dovecot-core"), "Dovecot")


@pytest.fixture(scope="module")
def dovecot(dovecot_program: Path) -> Iterator[Dovecot]:
    """A Dovecot that does nothing but authenticate."""
    with Dovecot(dovecot_program) as running:
        yield running
        # Shown with a test that fails.
        print(running.log())


@pytest.fixture(scope="session")
def nginx_program(require_program: Callable[[str, str], Path]) -> Path:
    """The nginx command, whose mail proxy is there, too."""
    require_program(MODULE, "libnginx-mod-mail")
    return require_program("nginx", "nginx")


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
