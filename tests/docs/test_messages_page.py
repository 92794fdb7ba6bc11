"""What the manual says of messages and of the test kit is what the code has in its tables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from milterproto._apply import _SENDMAIL_OWN, POSTFIX_HEADER_LIMIT
from milterproto._diff import MAX_HEADER_EDITS
from milterproto._events import COMMAND_CODES
from milterproto._filter import DEFAULT_MAX_SIZE
from milterproto._habits import MACROS, Habits

from .test_wire_page import table

PAGE = (Path(__file__).parents[2] / "docs" / "messages.md").read_text(encoding="utf-8")


def test_sendmails_own_fields() -> None:
    """Their names, in order; and the positions begin at 0."""
    rows = re.findall(r"^\| (\d+) \| (\S+) \|$", PAGE, re.MULTILINE)
    assert rows == [(str(at), name.decode()) for at, name in enumerate(_SENDMAIL_OWN)]


def test_limits() -> None:
    """The figures in the text."""
    assert f"{POSTFIX_HEADER_LIMIT:,} bytes for a field" in PAGE
    assert f"than {MAX_HEADER_EDITS:,} changes" in PAGE
    assert f"{DEFAULT_MAX_SIZE // 2**20} MiB unless" in PAGE


@pytest.mark.parametrize(
    ("habits", "column"), [(Habits.POSTFIX, "Postfix"), (Habits.SENDMAIL, "Sendmail †")]
)
def test_the_test_kit_sends_the_macros_of_the_wire_page(habits: Habits, column: str) -> None:
    """Those of each command by default, in their order."""
    rows = {row["command"]: row for row in table("Macros", "command")}
    on_page = {}
    for code, row in rows.items():
        names = row[column]
        if names.startswith("as "):
            names = rows[names.split()[1].rstrip(",")][column]
        if names == "the same":
            names = row["Sendmail †"]
        if names not in ("none", "never sent"):
            on_page[code] = tuple(re.findall(r"\{\w+\}|\b\w\b|(?<![\w{])_(?![\w}])", names))
    ours = {
        COMMAND_CODES[kind].decode(): tuple(name.decode() for name in names)
        for kind, names in MACROS[habits].items()
    }
    if habits is Habits.POSTFIX:
        assert on_page.pop("U") == ours.pop("U") == ()
    assert ours == on_page
