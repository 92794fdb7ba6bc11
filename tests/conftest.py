"""What all tests share: Hypothesis profiles, and what to do about a missing server."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# No deadlines: on a busy machine they fail tests that are right. Under CI the same examples
# every time, so that a red run can be repeated and is never the next change's fault; the
# search for new ones goes on on every developer's machine.
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.register_profile("dev", deadline=None, print_blob=True)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev")
)

# Debian keeps servers where an ordinary user's PATH does not look.
_SYSTEM_PATH = ("/usr/local/sbin", "/usr/sbin", "/sbin")


_INTEROP = Path(__file__).parent / "interop"


# First, so that `-m` sees the mark.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies under tests/interop: a module that forgot to would run as a unit test."""
    for item in items:
        if item.path.is_relative_to(_INTEROP):
            item.add_marker(pytest.mark.interop)


@pytest.fixture(scope="session")
def require_program() -> Callable[[str, str], Path]:
    """Find what an interop test needs, or skip it, or fail.

    `require_program("postfix", "postfix")` gives the program's path. Instead of a program's
    name it takes the absolute path of any file, such as a C header. Where it is missing, the
    test is skipped with the name of the Debian package (the second argument); with
    MAILWIRE_REQUIRE_SERVERS=1, as in CI, it fails.
    """
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_SYSTEM_PATH))

    def require(program: str, package: str) -> Path:
        if Path(program).is_absolute():
            found = program if Path(program).exists() else None
        else:
            found = shutil.which(program, path=path)
        if found is not None:
            return Path(found)
        reason = f"{program} is missing: Debian package {package} (`make servers` installs it)"
        if os.environ.get("MAILWIRE_REQUIRE_SERVERS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)

    return require
