"""The limits that the manual lists are those of the code, all of them, with their defaults."""

from __future__ import annotations

import contextlib
import inspect
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

import attrs
import pytest
from adapters._contract import Limits

import dovecotauth
import dovecotauth as da
import dovecotauth.master
import milterproto
import milterproto.message
import nginxauth
import nginxauth.xclient
import tcptable
import tcptable.socketmap
from dovecotauth._client import MAX_HANDSHAKE
from tests.fuzz.targets import TARGETS
from tests.mutate.__main__ import MODULES as MUTATED
from tests.mutate.__main__ import reasons

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")

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


def test_limits_of_the_adapters() -> None:
    """All of them, in their order."""
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+)[ a-z]* \| [^|`]+ \|$", PAGE, re.MULTILINE)
    assert [(name, float(number)) for name, number in rows] == [
        (field.name, field.default) for field in attrs.fields(Limits)
    ]


SECRET = b"s3cr3t"


@pytest.mark.parametrize(
    "event",
    [
        da.Auth(1, b"PLAIN", ((b"pass", SECRET),), SECRET),
        da.Cont(1, SECRET, SECRET),
        da.Malformed(SECRET, "", da.Fail(1)),
        da.Ok(1, b"u", ((b"pass", SECRET),), SECRET),
        da.Fail(1, fields=((b"pass", SECRET),), response=SECRET),
        da.ServerHello((), 1, 1, SECRET),
        dovecotauth.master.Request(1, 1, 1, SECRET, ((b"token", SECRET),)),
        dovecotauth.master.PassFound(1, b"u", ((b"password", SECRET),)),
        nginxauth.AuthRequest(b"plain", b"u", SECRET, b"imap", 1, b"::1"),
        nginxauth.Allow(b"::1", 1, b"u", SECRET),
        nginxauth.Malformed(SECRET, "", nginxauth.Deny(b"no")),
    ],
    ids=lambda event: f"{type(event).__module__}.{type(event).__name__}",
)
def test_secrets_are_not_shown(event: object) -> None:
    """In a log or a traceback."""
    assert "***" in repr(event)
    assert SECRET.decode() not in repr(event)


def test_what_was_run_can_be_run() -> None:
    """The commands and the files that the page names are there, and so are the peers' scripts."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`make (\w+)", PAGE):
        assert f".PHONY: {target}\n" in makefile
    for path in re.findall(r"`((?:examples|tests|src)/[\w/.]+)`", PAGE):
        assert (ROOT / path).exists(), path
    peers = re.findall(r"^\| (\w+) [\d.]+ \|", PAGE, re.MULTILINE)
    assert len(peers) == 4
    for script in [*map(str.lower, peers), "soak"]:
        assert f" tests.benchmarks.long_{script}\n" in makefile


def test_how_many_targets() -> None:
    """As many as `make fuzz` has."""
    assert f"{len(TARGETS)} targets" in PAGE


def test_mutants() -> None:
    """Each module is there; survivors have reasons; of what can be killed, 95 % at least is."""
    row = r"^\| `(\w+)/(\w+)\.py` \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$"
    explained = {line.partition(": ")[0] for line in reasons()}
    rows = re.findall(row, PAGE, re.MULTILINE)
    every = [(package, name) for package, names in MUTATED.items() for name in names.split()]
    assert sorted((package, module) for package, module, *_ in rows) == sorted(every)
    total = killable = 0
    for package, module, *figures in rows:
        made, killed, texts, excused = map(int, figures)
        assert made == killed + texts + excused
        assert (f"{package}/{module}.py" in explained) == bool(excused)
        total += killed
        killable += made - texts
    assert total / killable >= 0.95


def test_where_to_report_to() -> None:
    """The page says that there is no address as long as the package's metadata has none."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    known = "urls" in project or any("email" in author for author in project["authors"])
    assert ("no public tracker and no address" in PAGE) == (not known)
