"""The conftest of a module's tests while its mutants run: each mutant is imported anew.

mutmut forks the run of a mutant off a process that has imported the original, and has noted which
test calls which function. What a module makes when it is imported, such as a table of decoders,
would be the original's in every run, and count as called by the first test alone.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

import pytest
from mutmut.state import state

_called_at_import: Final[set[str]] = set()


def pytest_configure() -> None:
    """Forget what was imported from here, before the tests are."""
    here = f"{Path.cwd()}{os.sep}"
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(here):
            del sys.modules[name]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Name a test as a whole: there are names of cases that pytest gives, but does not find again.

    mutmut would take that for a failure, and every mutant for noticed.
    """
    for item in items:
        item._nodeid = item.nodeid.partition("[")[0]  # type: ignore[attr-defined]  # a slot


def pytest_collection_finish() -> None:
    """What was called until now is tested by all tests."""
    _called_at_import.update(state()._stats)


def pytest_runtest_setup() -> None:
    """mutmut looks there after each test."""
    state()._stats.update(_called_at_import)
