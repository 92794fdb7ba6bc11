"""Dovecot's own client, doveadm, asks the authentication daemon."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mailfront import userdb

from ._postfix import PATIENCE
from ._program import Program

CONFIG = """\
protocols =
ssl = no
listen = 127.0.0.1
base_dir = {root}/run
log_path = {root}/log
"""


@pytest.fixture(scope="module")
def ask(
    require_program: Callable[[str, str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., tuple[int, str]]]:
    """``doveadm auth test``: its exit status, and what it says."""
    doveadm = require_program("doveadm", "dovecot-core")
    root = tmp_path_factory.mktemp("doveadm")
    config = root / "conf"
    config.write_text(CONFIG.format(root=root))
    database = f"sqlite+aiosqlite:///{root}/mail.db"
    asyncio.run(userdb.main(database, demo=True))
    options = ("--profile", "other", "--plaintext", "--listen", f"unix:{root}/auth")

    def run(user: str, password: str, *more: str) -> tuple[int, str]:
        done = subprocess.run(
            [doveadm, "-c", config, "auth", "test", "-a", root / "auth", *more, user, password],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    with Program("mailfront/auth_daemon.py", "--database", database, *options):
        yield run


def test_a_right_password(ask: Callable[..., tuple[int, str]]) -> None:
    """With the name as we have it, and the fields that we add."""
    status, text = ask("Ann@Example.test", "ann", "-x", "rip=192.0.2.1")
    assert status == 0
    assert "auth succeeded" in text
    assert "user=ann@example.test" in text
    assert "plan=paid" in text


@pytest.mark.parametrize(
    ("user", "password", "why"),
    [
        ("ann@example.test", "wrong", ""),
        ("nobody@example.test", "ann", ""),
        ("tim@trial.example.test", "tim", "code=user_disabled"),
    ],
)
def test_what_is_refused(
    ask: Callable[..., tuple[int, str]], user: str, password: str, why: str
) -> None:
    """And for the blocked the reason, in the form of 1.2."""
    status, text = ask(user, password)
    assert status == 77  # EX_NOPERM
    assert "auth failed" in text
    assert why in text


def test_to_be_somebody_else_is_refused(ask: Callable[..., tuple[int, str]]) -> None:
    """A master user's name comes as the one to act as."""
    status, text = ask("ann@example.test", "bob", "-M", "bob@example.test")
    assert status == 77
    assert "code=authz_fail" in text
