"""The look-up daemon: what it asks the database, and how it behaves as a program."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from urllib.request import urlopen

import pytest
from mailfront import table_daemon, userdb
from mailfront.table_daemon import Tables, names_in
from mailfront.userdb import Plan, UserDB

import tcptable as tt
from tcptable.__main__ import main as ask

PATIENCE = 20
PROGRAM = Path(table_daemon.__file__)


@pytest.mark.parametrize(
    ("table", "key", "names"),
    [
        ("recipients", b"ann@example.test", ["ann@example.test"]),
        ("recipients", b"Ann@Example.TEST", ["ann@example.test"]),
        ("recipients", b"ann+lists@a.test", ["ann+lists@a.test", "ann@a.test"]),
        ("recipients", b"+x@a.test", ["+x@a.test"]),
        ("recipients", b'"a b"@a.test', ["a b@a.test"]),
        ("recipients", b"a b@a.test", ["a b@a.test"]),
        ("recipients", rb'"a\"b\\"@a.test', ['a"b\\@a.test']),
        ("recipients", b'"a@b"@a.test', ["a@b@a.test"]),
        ("recipients", "jürgen@a.test".encode(), ["jürgen@a.test"]),
        ("transport", b"*", []),
        ("transport", b"<>", []),
        ("aliases", b'""', []),
        ("aliases", b"", []),
        ("aliases", b"@a.test", []),
        ("aliases", b"ann@", []),
        ("aliases", b"\xff@a.test", []),
        ("domains", b"Example.test", ["example.test"]),
        ("domains", b"", []),
    ],
)
def test_keys_as_postfix_really_sends_them(table: str, key: bytes, names: list[str]) -> None:
    """What is no address is in no map, and the database need not be asked."""
    assert names_in(table, key) == names


class Broken:
    """A database that is down until told otherwise."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.targets: str | None = "ann@example.test"

    async def alias(self, _address: str) -> str | None:
        if self.error is not None:
            raise self.error
        return self.targets


def tables(users: object, **changes: Any) -> Tables:
    settings: dict[str, Any] = {"fresh": 60, "fresh_negative": 10, "size": 100, "patience": 5}
    return Tables(cast("UserDB", users), {Plan.TRIAL: "smtp:trial"}, **{**settings, **changes})


async def answer(made: Tables, key: bytes, table: bytes = b"aliases") -> tt.Reply:
    return cast("tt.Reply", await cast("Any", made.lookup()(tt.Get(key, table))))


def test_a_database_that_is_down_is_a_temporary_error(caplog: pytest.LogCaptureFixture) -> None:
    """What is fresh is still answered; it is logged once, and recovery too."""
    caplog.set_level("INFO")

    async def test() -> None:
        users = Broken()
        made = tables(users)
        assert await answer(made, b"a@x.test") == tt.Found(b"ann@example.test")
        users.error = OSError("secret host is down\nmore")
        for _ in range(3):
            assert await answer(made, b"b@x.test") == tt.TempError(b"the database can't be asked")
        assert await answer(made, b"a@x.test") == tt.Found(b"ann@example.test")
        users.error = None
        assert await answer(made, b"b@x.test") == tt.Found(b"ann@example.test")

    asyncio.run(test())
    assert [record.getMessage() for record in caplog.records] == [
        "the database can't be asked: OSError: secret host is down",
        "the database answers again",
    ]


def test_a_database_that_takes_too_long_is_a_temporary_error() -> None:
    """Postfix waits a hundred seconds, its client may not."""

    async def test() -> None:
        class Slow:
            async def alias(self, _address: str) -> None:
                await asyncio.Event().wait()

        assert isinstance(await answer(tables(Slow(), patience=0.01), b"a@x.test"), tt.TempError)

    asyncio.run(test())


def test_an_unknown_map_is_a_fault_of_the_configuration() -> None:
    """And not an unknown user."""

    async def test() -> None:
        reply = await answer(tables(Broken()), b"a@x.test", b"allases")
        assert reply == tt.PermError(b"there is no such map")

    asyncio.run(test())


@contextmanager
def running(directory: Path, *arguments: str) -> Iterator[dict[str, str]]:
    """The program; the addresses by what they serve."""
    addresses = {}
    with subprocess.Popen(
        [sys.executable, "-W", "error", PROGRAM, *arguments],
        stderr=subprocess.PIPE,
        text=True,
        cwd=directory,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line == "INFO: ready\n":
                break
            what, _, where = line.removeprefix("INFO: ").strip().rpartition(" on ")
            addresses[what] = where.removeprefix("inet:")
        try:
            yield addresses
        finally:
            process.terminate()
            rest = process.stderr.read()
        assert (process.wait(PATIENCE), rest) == (0, "INFO: stopped\n")


def test_the_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Maps on ports of their own, from SQLite, with counters."""
    asyncio.run(userdb.main(f"sqlite+aiosqlite:///{tmp_path}/mail.db", demo=True))
    here = "inet:127.0.0.1:0"
    maps = [word for name in table_daemon.MAPS for word in ("--map", f"{name}={here}")]
    transports = ("--transport", "paid=smtp:paid", "--transport", "trial=smtp:trial")
    with running(tmp_path, *maps, *transports, "--metrics", "127.0.0.1:0") as addresses:
        keys = {
            "domains": ["example.test", "example.org"],
            "recipients": ["ann@example.test", "bob@example.org"],
            "aliases": ["team@example.test", "ann@example.test"],
            "transport": ["ann@example.test", "bob@example.test", "*"],
        }
        for name, asked in keys.items():
            ask(["get", addresses[f"{name} by tcp_table"], *asked])
        page = urlopen(f"http://{addresses['metrics']}/metrics", timeout=PATIENCE).read().decode()
    assert capsys.readouterr().out == (
        "example.test: found: OK\nexample.org: not found (not here)\n"
        "ann@example.test: found: example.test/ann/\nbob@example.org: not found (not here)\n"
        "team@example.test: found: ann@example.test, bob@example.test\n"
        "ann@example.test: not found (not here)\n"
        "ann@example.test: found: smtp:paid\nbob@example.test: found: smtp:trial\n"
        "*: not found (not here)\n"
    )
    assert 'table_lookups_total{map="recipients",result="Found",source="database"} 1.0' in page
    assert 'table_lookups_total{map="transport",result="NotFound",source="key"} 1.0' in page


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "nothing to serve"),
        (["--map", "users=inet:127.0.0.1:0"], "'users' is none of the maps: domains, "),
        (["--map", "domains"], "'domains' is not NAME=VALUE"),
        (["--transport", "gold=x", "--socketmap", "inet:127.0.0.1:0"], "'gold' is not a valid"),
        (["--socketmap", "inet:127.0.0.1:99999"], "can't start: 99999 is no port"),
        (["--socketmap", "inet:127.0.0.1:0", "--metrics", "x"], "can't start: 'x' is not HOST:"),
        (["--socketmap", "inet:127.0.0.1:0", "--database", "x"], "can't start: this database"),
    ],
)
def test_a_wrong_command_line_is_explained(arguments: list[str], complaint: str) -> None:
    """No traceback."""
    done = subprocess.run(
        [sys.executable, PROGRAM, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode != 0
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
