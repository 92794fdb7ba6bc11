"""The look-up daemon on a real PostgreSQL, whose connections are cut, and in two replicas."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mailfront import table_daemon, userdb

import tcptable as tt
from tcptable.__main__ import main as ask

from ._postfix import PATIENCE, free_port
from ._postgresql import PostgreSQL, programs
from ._table_daemon import TableDaemon

NOTHING_KEPT = ("--fresh", "0", "--fresh-negative", "0")


@pytest.fixture(scope="module")
def database(require_program: Callable[[str, str], Path]) -> Iterator[PostgreSQL]:
    with PostgreSQL(programs(require_program)) as running:
        asyncio.run(userdb.main(running.url, demo=True))
        yield running


class Asker(threading.Thread):
    """Asks for a user that there is and for one that there isn't, over and over.

    Goes to the next address when a connection is lost, as behind a balancer. ``answers`` counts
    the replies by key and kind.
    """

    def __init__(self, ports: list[int]) -> None:
        super().__init__()
        self.ports = ports
        self.enough = threading.Event()
        self.changed = threading.Condition()
        self.answers: collections.Counter[tuple[bytes, str]] = collections.Counter()
        self.lost = 0

    def run(self) -> None:
        while not self.enough.is_set():
            try:
                with socket.create_connection(("127.0.0.1", self.ports[0]), PATIENCE) as sock:
                    self.converse(sock)
            except OSError:
                self.lost += 1
                self.ports = self.ports[1:] + self.ports[:1]

    def converse(self, sock: socket.socket) -> None:
        conn = tt.ClientConnection()
        while not self.enough.is_set():
            for key in (b"ann@example.test", b"nobody@example.test"):
                if conn.state is tt.State.CLOSED:
                    return
                sock.sendall(conn.send(tt.Get(key)))
                while (event := conn.next_event()) is None:
                    conn.receive_data(sock.recv(4096))
                if isinstance(event, tt.ConnectionClosed):
                    raise ConnectionError
                with self.changed:
                    self.answers[key, type(event).__name__] += 1
                    self.changed.notify_all()

    def wait_for(self, key: bytes, kind: str, more: int) -> None:
        """Until there are so many more of these answers."""
        with self.changed:
            wanted = self.answers[key, kind] + more
            found = self.changed.wait_for(lambda: self.answers[key, kind] >= wanted, PATIENCE)
            assert found, self.answers


@contextlib.contextmanager
def asking(count: int, ports: list[int]) -> Iterator[list[Asker]]:
    askers = [Asker(ports[at % len(ports) :] + ports[: at % len(ports)]) for at in range(count)]
    for asker in askers:
        asker.start()
    try:
        yield askers
    finally:
        for asker in askers:
            asker.enough.set()
        for asker in askers:
            asker.join(PATIENCE)
    for asker in askers:
        kinds = set(asker.answers)
        # A user that there is, is never said not to be; and the other way round.
        assert (b"ann@example.test", "NotFound") not in kinds
        assert (b"nobody@example.test", "Found") not in kinds


def test_connections_cut_while_queries_run(database: PostgreSQL) -> None:
    """Some look-ups fail for the moment, none is answered wrongly, and it goes on by itself."""
    port = free_port()
    with (
        TableDaemon(database.url, *NOTHING_KEPT, recipients=port),
        asking(10, [port]) as askers,
    ):
        for _ in range(5):
            for asker in askers:
                asker.wait_for(b"ann@example.test", "Found", 5)
            database.cut_connections()
        for asker in askers:
            asker.wait_for(b"nobody@example.test", "NotFound", 5)


def test_a_frozen_database(database: PostgreSQL) -> None:
    """Its connections stand, and nothing comes: a temporary error after the patience is over."""
    port = free_port()
    with (
        TableDaemon(database.url, *NOTHING_KEPT, "--patience", "0.3", recipients=port),
        asking(3, [port]) as askers,
    ):
        askers[0].wait_for(b"ann@example.test", "Found", 5)
        database.freeze()
        try:
            for asker in askers:
                asker.wait_for(b"ann@example.test", "TempError", 1)
        finally:
            database.thaw()
        for asker in askers:
            asker.wait_for(b"ann@example.test", "Found", 5)


@pytest.mark.parametrize("asked", [False, True], ids=["idle", "asked"])
def test_a_frozen_database_holds_up_no_stop(database: PostgreSQL, asked: bool) -> None:
    """Its connections can't be closed in the usual way; the daemon ends in time all the same."""
    port = free_port()
    with TableDaemon(database.url, *NOTHING_KEPT, "--patience", "1", recipients=port) as daemon:
        address = f"127.0.0.1:{port}"
        assert ask(["get", address, "ann@example.test"]) == 0
        database.freeze()
        try:
            if asked:
                assert ask(["get", address, "ann@example.test"]) == 2
            daemon.terminate()
            assert daemon.wait() == 0
        finally:
            database.thaw()
    assert not any("Traceback" in line for line in daemon.log), daemon.log


def test_a_role_that_may_read_no_passwords(database: PostgreSQL) -> None:
    """With the rights that the page gives it, and no more."""
    page = (Path(__file__).parents[2] / "docs" / "user_database.md").read_text(encoding="utf-8")
    (statements,) = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    database.query(statements)
    url = database.url.replace("mailwire@", "table_daemon@")
    ports = {name: free_port() for name in table_daemon.MAPS}
    with TableDaemon(url, "--transport", "paid=x", **ports) as daemon:
        keys = {"domains": "example.test", "aliases": "team@example.test"}
        for name, port in ports.items():
            assert ask(["get", f"127.0.0.1:{port}", keys.get(name, "ann@example.test")]) == 0
    assert not any("ERROR" in line for line in daemon.log), daemon.log


def test_the_constraints_are_postgresqls_too(database: PostgreSQL) -> None:
    """And with what is in order it has no quarrel."""
    users = "INSERT INTO users (address, domain, plan, mailbox, blocked) VALUES "
    database.query("INSERT INTO domains VALUES ('bücher.test')")
    database.query(users + "('jürgen@bücher.test', 'bücher.test', 'PAID', 'm', false)")
    database.query("INSERT INTO aliases VALUES ('jörg@bücher.test', 'x')")
    for statement in (
        "INSERT INTO domains VALUES ('BÜCHER.test')",
        "INSERT INTO aliases VALUES ('Jo@example.test', 'x')",
        "INSERT INTO aliases VALUES ('jo', 'x')",
        users + "('Jo@example.test', 'example.test', 'PAID', 'm', false)",
        users + "('jo@example.test', 'bücher.test', 'PAID', 'm', false)",
        users + "('@example.test', 'example.test', 'PAID', 'm', false)",
    ):
        with pytest.raises(AssertionError, match="violates check constraint"):
            database.query(statement)


def test_a_plan_that_the_daemon_does_not_know(database: PostgreSQL) -> None:
    """Disturbs nobody but the transport map, and there that user only."""
    database.query("ALTER TYPE plan ADD VALUE 'GOLD'")
    database.query("UPDATE users SET plan = 'GOLD' WHERE address = 'bob@example.test'")
    ports = {name: free_port() for name in ("recipients", "transport")}
    with TableDaemon(database.url, "--transport", "paid=x", **ports) as daemon:
        recipients, transport = (f"127.0.0.1:{port}" for port in ports.values())
        assert ask(["get", recipients, "bob@example.test"]) == 0
        for _ in range(2):
            assert ask(["get", transport, "bob@example.test"]) == 2
        assert ask(["get", transport, "ann@example.test"]) == 0
    told = [line for line in daemon.log if "ERROR" in line]
    assert len(told) == 1
    assert "transport: b'bob@example.test' is there, and can't be answered" in told[0]


def test_a_connection_that_has_died_is_seen_before_it_is_used(database: PostgreSQL) -> None:
    """So the first one who asks after a restart of the database gets an answer."""
    port = free_port()
    with TableDaemon(database.url, *NOTHING_KEPT, recipients=port) as daemon:
        assert ask(["get", f"127.0.0.1:{port}", "ann@example.test"]) == 0
        database.cut_connections()
        assert ask(["get", f"127.0.0.1:{port}", "ann@example.test"]) == 0
    assert not any("ERROR" in line for line in daemon.log), daemon.log


def test_two_replicas_one_killed_under_load(database: PostgreSQL) -> None:
    """The other one takes over at once, for it holds nothing that the first had."""
    ports = [free_port(), free_port()]
    with (
        TableDaemon(database.url, recipients=ports[0]) as first,
        TableDaemon(database.url, recipients=ports[1]),
        asking(10, ports) as askers,
    ):
        for asker in askers:
            asker.wait_for(b"ann@example.test", "Found", 20)
        first.kill()
        for asker in askers:
            asker.wait_for(b"ann@example.test", "Found", 100)
            asker.wait_for(b"nobody@example.test", "NotFound", 100)
        assert sum(asker.lost for asker in askers) >= 5
    assert not any(kind == "TempError" for asker in askers for _, kind in asker.answers)
