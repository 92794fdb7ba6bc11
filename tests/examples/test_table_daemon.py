"""The look-up daemon: what it asks the database, and how it behaves as a program."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, cast
from urllib.request import urlopen

import pytest
from mailfront import table_daemon, userdb
from mailfront.table_daemon import Tables, names_in
from mailfront.userdb import Alias, Plan, UserDB
from prometheus_client import REGISTRY
from sqlalchemy.exc import OperationalError

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
        ("recipients", b"ann@xn--strae-oqa.test", ["ann@strasse.test"]),
        # `"\"ann\""`, with quotes of its own, as Postfix asks for it: outside, and then inside.
        ("recipients", rb'"\"ann\""@a.test', ['"ann"@a.test']),
        ("recipients", b'"ann"@a.test', []),
        ("recipients", b'"ann.lee"@a.test', []),
        ("recipients", '"jürgen"@a.test'.encode(), []),
        ("recipients", b'"ann."@a.test', ["ann.@a.test"]),
        ("recipients", b'"a\tb"@a.test', ["a\tb@a.test"]),
        ("recipients", b"x" * 5000 + b"@a.test", []),
        ("domains", b"Example.test", ["example.test"]),
        ("domains", "straße.test".encode(), ["strasse.test"]),
        ("domains", b"xn--bcher-kva.test", ["bücher.test"]),
        ("domains", b"", []),
        ("domains", b"\xff.test", []),
        ("domains", b"x" * 5000, []),
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
    settings: dict[str, Any] = {"fresh": 60, "fresh_negative": 10, "size": 100}
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
        "aliases: the database can't be asked: OSError: secret host is down",
        "aliases: the database answers again",
    ]


@pytest.mark.parametrize(
    "error",
    [
        OSError("down"),
        TimeoutError("slow"),
        OperationalError("SELECT", {}, Exception("locked")),
        TypeError("a driver's, of the URL"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "a driver's, of a row"),
        LookupError("no such plan"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_the_database_raises_is_a_temporary_error(error: Exception) -> None:
    """Never "no such user"."""

    async def test() -> None:
        users = Broken()
        users.error = error
        assert isinstance(await answer(tables(users), b"a@x.test"), tt.TempError)

    asyncio.run(test())


def test_failures_are_counted_by_questions() -> None:
    """However many wait for the answer."""

    async def test() -> None:
        users = Broken()
        users.error = OSError("down")
        made = tables(users)
        before = value_of("table_database_failures_total")
        await asyncio.gather(*(answer(made, b"a@x.test") for _ in range(10)))
        assert value_of("table_database_failures_total") == before + 1

    asyncio.run(test())


def test_one_wrong_row_is_told_of_and_is_no_broken_database(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Once, with its map and its name."""

    async def test() -> None:
        users = Broken()
        made = tables(users)
        for _ in range(3):
            users.error = LookupError("'gold' is not among the plans")
            assert isinstance(await answer(made, b"gold@x.test"), tt.TempError)
            users.error = None
            assert isinstance(await answer(made, b"ann@x.test"), tt.Found)

    asyncio.run(test())
    assert [record.getMessage() for record in caplog.records] == [
        "aliases: b'gold@x.test' is there, and can't be answered: 'gold' is not among the plans"
    ]


@pytest.mark.parametrize(
    ("table", "longest"), [("aliases", 4091), (None, 99_997)], ids=["tcp_table", "socketmap"]
)
def test_a_value_that_can_not_be_sent(
    caplog: pytest.LogCaptureFixture, table: str | None, longest: int
) -> None:
    """A temporary error, and counted as one; told of once."""

    async def test() -> None:
        users = Broken()
        lookup = tables(users, fresh=0).lookup(table)

        async def ask(targets: str) -> tt.Reply:
            users.targets = targets
            get = tt.Get(b"a@x.test", b"" if table else b"aliases")
            return cast("tt.Reply", await cast("Any", lookup)(get))

        assert await ask("x" * longest) == tt.Found(b"x" * longest)
        labels = {"map": "aliases", "result": "TempError", "source": "database"}
        before = value_of("table_lookups_total", labels)
        for value in ("x" * (longest + 1), "", "a\0b", "x" * (longest + 1)):
            assert await ask(value) == tt.TempError(b"what was found can't be told")
        assert value_of("table_lookups_total", labels) == before + 4

    asyncio.run(test())
    (record,) = caplog.records
    assert record.getMessage().startswith("aliases: b'a@x.test' is there, and can't be answered: ")


def test_an_unknown_map_is_a_fault_of_the_configuration() -> None:
    """And not an unknown user; counted, too, and not by what was asked."""

    async def test() -> None:
        labels = {"map": "unknown", "result": "PermError", "source": "key"}
        before = value_of("table_lookups_total", labels)
        reply = await answer(tables(Broken()), b"a@x.test", b"allases")
        assert reply == tt.PermError(b"there is no such map")
        assert value_of("table_lookups_total", labels) == before + 1

    asyncio.run(test())


def test_what_was_found_is_kept_longer_than_what_was_not() -> None:
    """Each for its own time."""

    async def test() -> None:
        users = Broken()
        made = tables(users, fresh=60, fresh_negative=0)
        assert isinstance(await answer(made, b"a@x.test"), tt.Found)
        users.targets = None
        assert isinstance(await answer(made, b"a@x.test"), tt.Found)
        assert isinstance(await answer(made, b"b@x.test"), tt.NotFound)
        users.targets = "x"
        assert isinstance(await answer(made, b"b@x.test"), tt.Found)

    asyncio.run(test())


def value_of(name: str, labels: dict[str, str] | None = None) -> float:
    """A counter's."""
    return REGISTRY.get_sample_value(name, labels or {}) or 0.0


@contextmanager
def running(
    directory: Path, *arguments: str, files: str = "", said: str = ""
) -> Iterator[dict[str, str]]:
    """The program; the addresses by what they serve.

    ``files`` are ulimit's options and its number. ``said`` is what is in the log after the stop.
    """
    addresses = {}
    shell = ["sh", "-c", f'ulimit {files} && exec "$@"', "sh"] if files else []
    with subprocess.Popen(
        [*shell, sys.executable, "-W", "error", PROGRAM, *arguments],
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
        addresses["pid"] = str(process.pid)
        try:
            yield addresses
        finally:
            process.terminate()
            rest = process.stderr.read()
        assert process.wait(PATIENCE) == 0
        assert sorted(rest.splitlines()) == sorted(f"{said}INFO: stopped".splitlines())


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
            "logins": ["ANN+x@example.test", "team@example.test", "bob@example.org"],
        }
        for name, asked in keys.items():
            ask(["get", addresses[f"{name} by tcp_table"], *asked])
        page = urlopen(f"http://{addresses['metrics']}/metrics", timeout=PATIENCE).read().decode()
    assert capsys.readouterr().out == (
        "example.test: found: OK\nexample.org: not found (not here)\n"
        "ann@example.test: found: example.test/ann/\nbob@example.org: not found (not here)\n"
        "team@example.test: found: ann@example.test,bob@example.test\n"
        "ann@example.test: not found (not here)\n"
        "ann@example.test: found: smtp:paid\nbob@example.test: found: smtp:trial\n"
        "*: not found (not here)\n"
        "ANN+x@example.test: found: ann@example.test\n"
        "team@example.test: found: ann@example.test,bob@example.test\n"
        "bob@example.org: not found (not here)\n"
    )
    assert 'table_lookups_total{map="recipients",result="Found",source="database"} 1.0' in page
    assert 'table_lookups_total{map="transport",result="NotFound",source="key"} 1.0' in page


def test_answers_are_kept_as_long_as_one_says(tmp_path: Path) -> None:
    """Each kind for its own time."""
    url = f"sqlite+aiosqlite:///{tmp_path}/mail.db"
    asyncio.run(userdb.main(url, demo=True))

    async def add() -> None:
        users = UserDB.connect(url)
        await users.add([Alias("new@example.test", "x"), Alias("team@example.test", "y")])
        await users.close()

    keys = ["new@example.test", "team@example.test"]
    options = ("--fresh", "3600", "--fresh-negative", "0", "--map", "aliases=inet:127.0.0.1:0")
    with running(tmp_path, *options) as addresses:
        address = addresses["aliases by tcp_table"]
        assert [ask(["get", address, key]) for key in keys] == [1, 0]
        asyncio.run(add())
        assert replies(address, keys) == [b"200 x\n", b"200 ann@example.test,bob@example.test\n"]


def test_nothing_is_kept(tmp_path: Path) -> None:
    """Which is no reason to have no answer."""
    asyncio.run(userdb.main(f"sqlite+aiosqlite:///{tmp_path}/mail.db", demo=True))
    with running(tmp_path, "--cache", "0", "--map", "domains=inet:127.0.0.1:0") as addresses:
        address = addresses["domains by tcp_table"]
        assert replies(address, ["example.test"] * 2) == [b"200 OK\n"] * 2


def replies(address: str, keys: list[str]) -> list[bytes]:
    """As they come, from one connection."""
    host, _, port = address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), PATIENCE) as sock,
        sock.makefile("rb") as lines,
    ):
        answers = []
        for key in keys:
            sock.sendall(b"get %b\n" % key.encode())
            answers.append(lines.readline())
        return answers


def test_more_connections_than_files(tmp_path: Path) -> None:
    """There are more files to be had than one is given at first."""
    asyncio.run(userdb.main(f"sqlite+aiosqlite:///{tmp_path}/mail.db", demo=True))
    maps = ("--map", "domains=inet:127.0.0.1:0")
    with running(tmp_path, *maps, files="-Sn 150") as addresses, ExitStack() as stack:
        host, _, port = addresses["domains by tcp_table"].rpartition(":")
        for number in range(200):
            sock = stack.enter_context(socket.create_connection((host, int(port)), PATIENCE))
            sock.sendall(b"get d%d\n" % number)
            assert sock.recv(100) == b"500 not%20here\n"


def test_more_connections_than_there_can_be_files(tmp_path: Path) -> None:
    """Those that there is no room for are closed, and the others are answered."""
    asyncio.run(userdb.main(f"sqlite+aiosqlite:///{tmp_path}/mail.db", demo=True))
    maps = ("--map", "domains=inet:127.0.0.1:0", "--map", "aliases=inet:127.0.0.1:0")
    refused = "WARNING: connection refused: 25 are open\n"
    with (
        running(tmp_path, *maps, files="-n 150", said=5 * refused) as addresses,
        ExitStack() as stack,
    ):
        host, _, port = addresses["domains by tcp_table"].rpartition(":")
        answers = []
        for number in range(30):
            sock = stack.enter_context(socket.create_connection((host, int(port)), PATIENCE))
            with suppress(ConnectionError):
                sock.sendall(b"get d%d\n" % number)
            try:
                answers.append(sock.recv(100))
            except ConnectionError:
                answers.append(b"")
        assert answers == [b"500 not%20here\n"] * 25 + [b""] * 5


def test_all_maps_are_stopped_at_once(tmp_path: Path) -> None:
    """Look-ups under way are waited for together, and nobody else is let in meanwhile."""
    path = tmp_path / "mail.db"
    asyncio.run(userdb.main(f"sqlite+aiosqlite:///{path}", demo=True))
    tables = ("recipients", "aliases", "transport", "logins")
    maps = [word for name in tables for word in ("--map", f"{name}=inet:127.0.0.1:0")]
    reason = "OperationalError: (sqlite3.OperationalError) database is locked"
    said = [f"ERROR: {name}: the database can't be asked: {reason}\n" for name in tables]
    with (
        closing(sqlite3.connect(path, isolation_level=None)) as locker,
        ExitStack() as stack,
        running(tmp_path, *maps, "--patience", "10", said="".join(said)) as addresses,
    ):
        locker.execute("BEGIN EXCLUSIVE")
        pid = int(addresses.pop("pid"))
        places = [("127.0.0.1", int(one.rpartition(":")[2])) for one in addresses.values()]
        waiting = [stack.enter_context(socket.create_connection(one, PATIENCE)) for one in places]
        for sock in waiting:
            sock.sendall(b"get \n")  # which nobody has to be asked for
            assert sock.recv(100) == b"500 not%20here\n"
            sock.sendall(b"get x@example.test\n")
        os.kill(pid, signal.SIGTERM)
        for one in places:
            while not is_free(one):
                pass
        assert select.select(waiting, [], [], 0)[0] == []
        assert {sock.recv(100) for sock in waiting} == {
            b"400 the%20database%20can't%20be%20asked\n"
        }


def is_free(address: tuple[str, int]) -> bool:
    """Whether nobody listens there; found out without a connection."""
    try:
        socket.create_server(address).close()
    except OSError:
        return False
    return True


def test_a_database_that_is_not_there_is_told_of_at_the_start(tmp_path: Path) -> None:
    """And nothing else: it may come."""
    url = f"sqlite+aiosqlite:///{tmp_path}/mail.db"
    said = "INFO: domains: the database answers again\n"
    with running(tmp_path, "--map", "domains=inet:127.0.0.1:0", said=said) as addresses:
        assert addresses[""] == (
            "ERROR: domains: the database can't be asked: OperationalError: "
            "(sqlite3.OperationalError) no such table: domains"
        )
        address = addresses["domains by tcp_table"]
        assert replies(address, ["example.test"]) == [b"400 the%20database%20can't%20be%20asked\n"]
        asyncio.run(userdb.main(url, demo=True))
        assert replies(address, ["example.test"]) == [b"200 OK\n"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "nothing to serve"),
        (["--map", "users=inet:127.0.0.1:0"], "'users' is none of the maps: domains, "),
        (["--map", "domains"], "'domains' is not NAME=VALUE"),
        (["--transport", "gold=x", "--socketmap", "inet:127.0.0.1:0"], "'gold' is not a valid"),
        (["--socketmap", "inet:127.0.0.1:99999"], "can't start: 99999 is no port"),
        (["--socketmap", "inet:127.0.0.1:0", "--metrics", "x"], "'x' is not HOST:PORT"),
        (["--socketmap", "inet:127.0.0.1:0", "--metrics", "a:99999"], "'a:99999' is not HOST:"),
        (
            ["--socketmap", "inet:127.0.0.1:0", "--metrics", "192.0.2.1:0"],
            "can't start: 192.0.2.1:0: Cannot assign",
        ),
        (["--socketmap", "inet:192.0.2.1:0"], "can't start: inet:192.0.2.1:0: Cannot assign"),
        (["--patience", "0"], "argument --patience: '0' is no number from"),
        (["--patience", "nan"], "argument --patience: 'nan' is no number from"),
        (["--fresh", "nan"], "argument --fresh: 'nan' is no number from"),
        (["--fresh-negative", "-1"], "argument --fresh-negative: '-1' is no number from"),
        (["--cache", "-1"], "argument --cache: '-1' is no number from"),
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
