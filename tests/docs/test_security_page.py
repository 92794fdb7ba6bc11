"""The limits that the manual lists are those of the code, all of them, with their defaults."""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Iterable
from pathlib import Path

import dovecotauth
import dovecotauth.master
import milterproto
import milterproto.message
import nginxauth
import nginxauth.xclient
import tcptable
import tcptable.socketmap
from dovecotauth._client import MAX_HANDSHAKE
from tests.fuzz.targets import TARGETS

PAGE = (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8")

MODULES = (
    milterproto,
    milterproto.message,
    tcptable,
    tcptable.socketmap,
    dovecotauth,
    dovecotauth.master,
    nginxauth,
    nginxauth.xclient,
)


def parameters_of(thing: object) -> Iterable[inspect.Parameter]:
    """None of what can't be called, and of exceptions."""
    if callable(thing):
        with contextlib.suppress(ValueError):
            return inspect.signature(thing).parameters.values()
    return ()


def test_every_limit_is_there() -> None:
    """Each argument that begins with max_, of all that is public."""
    rows = re.findall(r"^\| `([\w.]+)` \| `(max_\w+)` \| (\d+)[ a-z]* \|$", PAGE, re.MULTILINE)
    in_code = {
        (f"{module.__name__}.{name}", parameter.name, str(parameter.default))
        for module in MODULES
        for name in module.__all__
        for parameter in parameters_of(getattr(module, name))
        if parameter.name.startswith("max_")
    }
    assert len(rows) == len(set(rows))
    assert set(rows) == in_code


def test_fixed_limits() -> None:
    """Those of the peers."""
    rows = dict(re.findall(r"^\| ([^|`]+) \| (\d+) \|$", PAGE, re.MULTILINE))
    assert rows == {
        "a reply of tcp_table, with its LF": str(tcptable.MAX_REPLY),
        "the greeting of a Dovecot server, to our client": str(MAX_HANDSHAKE),
        "an answer to nginx, to its empty line": str(nginxauth.MAX_REPLY),
        "an attribute's value of XCLIENT": str(nginxauth.xclient.MAX_VALUE),
    }


def test_how_many_targets() -> None:
    """As many as `make fuzz` has."""
    assert f"{len(TARGETS)} targets" in PAGE
