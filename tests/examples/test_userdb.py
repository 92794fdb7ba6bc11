"""The user database, on SQLite."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import argon2
import pytest
from mailfront import userdb
from mailfront.userdb import Alias, Domain, Plan, User, UserDB
from scramp import ScramClient, ScramMechanism

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
    ],
)
def test_a_database_that_is_not_there(tmp_path: Path, url: str, text: str) -> None:
    """One line, without the password."""
    done = run(tmp_path, "--database", url)
    assert done.returncode == 1
    assert text in done.stderr
    assert done.stderr.count("\n") == 1
    assert "hunter2" not in done.stderr
