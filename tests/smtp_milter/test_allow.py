"""The allow-list: by what names a sender is found, and what the database says."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from mailfront.userdb import UserDB
from smtp_milter._allow import AllowedSender, AllowList, senders_of
from sqlalchemy.exc import SQLAlchemyError

ROWS = (
    ("ann@example.test", "@example.org"),
    ("bob@example.test", "carol+x@example.net"),
    ("bob@example.test", "<>"),
    ("dan@example.test", "*"),
)


def test_names() -> None:
    """From the most to the least."""
    assert senders_of(b"Carol+x@Example.NET") == [
        *("*", "carol+x@example.net", "carol@example.net", "@example.net"),
    ]
    assert senders_of(b"") == ["*", "<>"]
    assert senders_of(b"no address") == ["*"]
    assert senders_of(b"\xff@example.org") == ["*"]


@pytest.mark.parametrize(
    ("recipient", "sender", "listed"),
    [
        (b"<Ann+tag@example.test>", b"<x@EXAMPLE.org>", True),
        (b"ann@example.test", b"x@sub.example.org", False),
        (b"<ann@example.test>", b"<>", False),
        (b"<bob@example.test>", b"<>", True),
        (b"<bob@example.test>", b"<carol+x@example.net>", True),
        (b"<bob@example.test>", b"<carol@example.net>", False),
        (b"<dan@example.test>", b"<whoever>", True),
        (b"<postmaster>", b"<x@example.org>", False),
    ],
)
def test_who_is_listed(tmp_path: Path, recipient: bytes, sender: bytes, listed: bool) -> None:
    """Each recipient has his own."""

    async def ask() -> bool:
        users = UserDB.connect(f"sqlite+aiosqlite:///{tmp_path}/users.db")
        allow_list = AllowList(users)
        try:
            with pytest.raises(SQLAlchemyError):
                await allow_list.has(b"<a@b>", b"<>")
            await users.create_tables()
            await users.add([AllowedSender(*row) for row in ROWS])
            return await allow_list.has(recipient, sender)
        finally:
            await users.close()

    assert asyncio.run(ask()) is listed
