"""The user database, on SQLite."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import argon2
import pytest
from mailfront import userdb
from mailfront.userdb import Alias, Base, Domain, Plan, User, UserDB
from scramp import ScramClient, ScramMechanism
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError, OperationalError

PROGRAM = Path(userdb.__file__)


def run(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", PROGRAM, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=path,
    )


def test_one_command_makes_it_and_fills_it(tmp_path: Path) -> None:
    """Twice does no harm."""
    for _ in range(2):
        done = run(tmp_path, "--demo")
        assert done.stderr == ""
        assert (
            done.stdout == "sqlite+aiosqlite:///mail.db: the tables are there, with 8 demo rows\n"
        )

    async def look() -> None:
        users = UserDB.connect(f"sqlite+aiosqlite:///{tmp_path}/mail.db")
        ann = await users.user("ann@example.test")
        assert ann is not None
        assert (ann.plan, ann.mailbox) == (Plan.PAID, "example.test/ann/")
        assert await users.user("nobody@example.test") is None
        assert await users.alias("postmaster@example.test") == "ann@example.test"
        assert await users.alias("ann@example.test") is None
        assert await users.has_domain("example.test")
        assert not await users.has_domain("example.org")
        # Bound, never formatted.
        assert await users.user("' OR 1=1 --") is None
        await users.close()

    asyncio.run(look())


def test_what_is_stored_is_written_over(tmp_path: Path) -> None:
    """By its key."""

    async def test() -> None:
        users = UserDB.connect(f"sqlite+aiosqlite:///{tmp_path}/mail.db")
        await users.create_tables()
        await users.add([Domain("a.test"), Alias("x@a.test", "y@a.test")])
        await users.add([Alias("x@a.test", "z@a.test")])
        assert await users.alias("x@a.test") == "z@a.test"
        await users.close()

    asyncio.run(test())


def test_a_password_is_two_verifiers_and_never_seen() -> None:
    """An argon2 hash and a SCRAM verifier, which other libraries agree with."""
    user = User("ann@a.test", "a.test", Plan.PAID, "a.test/ann/")
    user.set_password("correct horse")
    assert user.argon2_hash is not None
    assert argon2.PasswordHasher().verify(user.argon2_hash, "correct horse")
    for secret in ("correct horse", user.argon2_hash, "argon2", repr(user.scram_stored_key)):
        assert secret not in repr(user)
    verifier = (
        user.scram_salt,
        user.scram_stored_key,
        user.scram_server_key,
        user.scram_iterations,
    )
    server = ScramMechanism("SCRAM-SHA-256").make_server(lambda _: verifier)
    client = ScramClient(["SCRAM-SHA-256"], "ann", "correct horse")
    server.set_client_first(client.get_client_first())
    client.set_server_first(server.get_server_first())
    server.set_client_final(client.get_client_final())
    client.set_server_final(server.get_server_final())


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("postgresql+asyncpg://ann:hunter2@127.0.0.1:1/mail", "Connect call failed"),
        ("sqlite+aiosqlite:////nonexistent/mail.db", "unable to open database file"),
        ("sqlite:///mail.db", "this database can't be used: The asyncio extension requires"),
        ("mysql+nodriver://ann:hunter2@x/y", "this database can't be used: "),
        ("hunter2", "this database can't be used: Could not parse"),
        ("postgresql+asyncpg://ann:hunter2@127.0.0.1:1/mail?foo=bar", "argument 'foo'"),
        ("postgresql+asyncpg://ann:hunter2@a..b/mail", "label"),
    ],
)
def test_a_database_that_is_not_there(tmp_path: Path, url: str, text: str) -> None:
    """One line, without the password."""
    done = run(tmp_path, "--database", url)
    assert done.returncode == 1
    assert text in done.stderr
    assert done.stderr.count("\n") == 1
    assert "hunter2" not in done.stderr


def url_of(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


def insert_user(path: Path, name: str, domain: str = "example.test", plan: str = "PAID") -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT INTO users (address, domain, plan, mailbox, blocked) VALUES (?, ?, ?, 'm', 0)",
            (f"{name}@{domain}", domain, plan),
        )


def test_the_file_is_replaced(tmp_path: Path) -> None:
    """By a backup, or by one made anew: what is in it then is what is answered."""
    mine, other = tmp_path / "a.db", tmp_path / "b.db"
    for path in (mine, other):
        asyncio.run(userdb.main(url_of(path), demo=True))
    insert_user(other, "new")

    async def test() -> None:
        users = UserDB.connect(url_of(mine))
        assert await users.mailbox("new@example.test") is None
        other.rename(mine)
        assert await users.mailbox("new@example.test") == "m"
        mine.unlink()
        with pytest.raises(OperationalError):
            await users.mailbox("ann@example.test")
        await users.create_tables(userdb.demo_rows())
        assert await users.mailbox("ann@example.test") is not None
        await users.close()

    asyncio.run(test())


@pytest.mark.parametrize("url", ["sqlite+aiosqlite://", "sqlite+aiosqlite:///:memory:"])
def test_a_database_in_memory(url: str) -> None:
    """Lasts as long as it is connected to."""

    async def test() -> None:
        users = UserDB.connect(url)
        await users.create_tables(userdb.demo_rows())
        assert await users.plan("ann@example.test") is Plan.PAID
        await users.close()

    asyncio.run(test())


@pytest.mark.parametrize(
    ("make", "stored"),
    [
        (lambda: Domain("Example.TEST").name, "example.test"),
        (lambda: Domain("xn--bcher-kva.test").name, "bücher.test"),
        (lambda: Alias("Team@Straße.test", "Ann@x").address, "team@strasse.test"),
        (lambda: Alias("team@a.test", "Ann@x.test").targets, "Ann@x.test"),
        (
            lambda: User('"Jo D"@xn--bcher-kva.test', "BÜCHER.test", Plan.PAID, "Jo").address,
            "jo d@bücher.test",
        ),
        (lambda: User("jo@A.test", "a.TEST", Plan.PAID, "Jo").domain, "a.test"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_rows_are_stored_by_the_names_they_are_found_by(
    make: Callable[[], str], stored: str
) -> None:
    """However they are written; values are left as they are."""
    assert make() == stored


@pytest.mark.parametrize(
    "make",
    [
        lambda: Domain(""),
        lambda: Domain("ann@example.test"),
        lambda: User("jo", "a.test", Plan.PAID, "m"),
        lambda: User("jo@a.test", "b.test", Plan.PAID, "m"),
        lambda: User("jo@a.test", "", Plan.PAID, "m"),
        lambda: User("jo@a.test", "a.test", Plan.PAID, ""),
        lambda: User("jo@a.test", "a.test", Plan.PAID, "a\0b"),
        lambda: Alias("team", "x@y"),
        lambda: Alias("team@a.test", " "),
        lambda: Alias("team@a.test", "a\0b"),
    ],
    ids=lambda make: str(make.__code__.co_firstlineno),
)
def test_rows_that_nobody_could_find_or_answer_are_refused(make: Callable[[], Base]) -> None:
    """When they are made, and not when mail comes for them."""
    with pytest.raises(ValueError):
        make()


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO domains VALUES ('Example.org')",
        "INSERT INTO domains VALUES ('')",
        "INSERT INTO aliases VALUES ('Team@example.test', 'x')",
        "INSERT INTO aliases VALUES ('team', 'x')",
        "INSERT INTO aliases VALUES ('team@', 'x')",
        "INSERT INTO aliases VALUES ('@example.test', 'x')",
        "INSERT INTO aliases VALUES ('a@example.test', '')",
        *(
            f"INSERT INTO users (address, domain, plan, mailbox, blocked) VALUES {values}"
            for values in (
                "('Jo@example.test', 'example.test', 'PAID', 'm', false)",
                "('jo@example.test', 'example.test', 'PAID', '', false)",
                "('jo@example.org', 'example.test', 'PAID', 'm', false)",
                "('joexample.test', 'example.test', 'PAID', 'm', false)",
                "('@example.test', 'example.test', 'PAID', 'm', false)",
            )
        ),
    ],
)
def test_the_database_refuses_them_too(tmp_path: Path, statement: str) -> None:
    """For those who fill it in another way."""
    asyncio.run(userdb.main(url_of(tmp_path / "mail.db"), demo=True))
    with (
        closing(sqlite3.connect(tmp_path / "mail.db")) as connection,
        pytest.raises(sqlite3.IntegrityError, match="CHECK"),
    ):
        connection.execute(statement)


def test_a_user_has_a_domain(tmp_path: Path) -> None:
    """On SQLite, too, where nobody looks unless told to; and nothing is stored then."""

    async def test() -> None:
        users = UserDB.connect(url_of(tmp_path / "mail.db"))
        await users.create_tables()
        stray = User("jo@elsewhere.test", "elsewhere.test", Plan.PAID, "m")
        with pytest.raises(IntegrityError):
            await users.add([Domain("a.test"), stray])
        assert not await users.has_domain("a.test")
        await users.close()

    asyncio.run(test())


def test_tables_come_with_their_rows_or_not_at_all(tmp_path: Path) -> None:
    """In between, a daemon would say of every user that he isn't there."""

    async def test() -> None:
        users = UserDB.connect(url_of(tmp_path / "mail.db"))
        stray = User("jo@elsewhere.test", "elsewhere.test", Plan.PAID, "m")
        with pytest.raises(IntegrityError):
            await users.create_tables([Domain("a.test"), stray])
        with pytest.raises(OperationalError, match="no such table"):
            await users.has_domain("a.test")
        await users.create_tables([Domain("a.test")])
        key = await users.site_key()
        await users.create_tables([Domain("b.test")])
        assert await users.has_domain("a.test")
        assert await users.has_domain("b.test")
        assert len(key) == 32
        assert await users.site_key() == key
        await users.close()

    asyncio.run(test())


def test_a_site_without_a_key(tmp_path: Path) -> None:
    """Is none that a stranger's salt could be made for."""

    async def test() -> None:
        users = UserDB.connect(url_of(tmp_path / "mail.db"))
        await users.create_tables()
        with closing(sqlite3.connect(tmp_path / "mail.db")) as connection, connection:
            connection.execute("DELETE FROM secrets")
        with pytest.raises(LookupError, match="no site key"):
            await users.site_key()
        await users.close()

    asyncio.run(test())


def test_who_checks_no_password_reads_no_hash(tmp_path: Path) -> None:
    """Nor anything else that he has no use for: a role may be kept from it."""
    asyncio.run(userdb.main(url_of(tmp_path / "mail.db"), demo=True))
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    async def test() -> None:
        users = UserDB.connect(url_of(tmp_path / "mail.db"))
        event.listen(users.engine.sync_engine, "before_cursor_execute", note)
        ann, nobody = "ann@example.test", "nobody@example.test"
        assert await users.mailbox(ann) == "example.test/ann/"
        assert await users.mailbox(nobody) is None
        assert await users.has_user(ann)
        assert not await users.has_user(nobody)
        assert await users.plan(ann) is Plan.PAID
        assert await users.plan(nobody) is None
        await users.close()

    asyncio.run(test())
    selected = [
        statement.split("FROM")[0].replace('"', "").removeprefix("SELECT ").strip()
        for statement in statements
    ]
    assert selected == [
        *["users.mailbox"] * 2,
        *["users.address"] * 2,
        *["users.plan"] * 2,
    ]


def test_a_plan_that_is_none(tmp_path: Path) -> None:
    """Disturbs only those who ask for it."""
    asyncio.run(userdb.main(url_of(tmp_path / "mail.db"), demo=True))
    insert_user(tmp_path / "mail.db", "gold", plan="GOLD")

    async def test() -> None:
        users = UserDB.connect(url_of(tmp_path / "mail.db"))
        assert await users.mailbox("gold@example.test") == "m"
        with pytest.raises(LookupError):
            await users.plan("gold@example.test")
        await users.close()

    asyncio.run(test())


def test_a_locked_database_gives_up_before_we_do(tmp_path: Path) -> None:
    """So that nothing is cut off in the middle; and it ends, however many were asking."""
    asyncio.run(userdb.main(url_of(tmp_path / "mail.db"), demo=True))

    async def test() -> None:
        users = UserDB.connect(url_of(tmp_path / "mail.db"), patience=1)
        with closing(sqlite3.connect(tmp_path / "mail.db", isolation_level=None)) as locker:
            locker.execute("BEGIN EXCLUSIVE")
            questions = [users.mailbox(f"{number}@x") for number in range(5)]
            answers = await asyncio.gather(*questions, return_exceptions=True)
            assert [type(answer) for answer in answers] == [OperationalError] * 5
            asking = [asyncio.create_task(users.mailbox(f"{number}@x")) for number in range(40)]
            await asyncio.wait(asking, timeout=0.1)
            begun = time.monotonic()
            await users.close()
            assert time.monotonic() - begun < 5
            await asyncio.wait(asking)
            assert len(asyncio.all_tasks()) == 1

    asyncio.run(test())


def test_a_connection_that_was_given_up_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    """The pool has a traceback for each; anything else is told."""
    logger = logging.getLogger("sqlalchemy.pool.impl.AsyncAdaptedQueuePool")
    logger.error("given up", exc_info=asyncio.CancelledError())
    logger.error("broken", exc_info=OSError())
    logger.error("plain")
    assert [record.getMessage() for record in caplog.records] == ["broken", "plain"]
