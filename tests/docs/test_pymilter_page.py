"""The page for those who come from pymilter names things that there are, and all of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

import milterproto as mp

PAGE = (Path(__file__).parents[2] / "docs" / "from_pymilter.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith(("| ---", "| pymilter"))
]
OURS = [
    snippet.replace("\\|", "|")
    for row in ROWS
    for snippet in re.findall(r"`([^`]*)`", row[1])
    if snippet.startswith("mp.")
]


@pytest.mark.parametrize("snippet", dict.fromkeys(OURS))
def test_what_is_named_is_there(snippet: str) -> None:
    """With these arguments, too, and it can be sent if it is a response."""
    names = {
        "name": b"Subject",
        "value": b"x",
        "idx": 1,
        "rcpt": b"<b@y.test>",
        "sender": b"<a@x.test>",
        "body": b"x",
        "reason": b"x",
        "event": mp.offer(),
        "wants": mp.Wants(),
    }
    made = eval(snippet, {"mp": mp, **names})
    if isinstance(made, mp.Edit | mp.Verdict):
        mp.encode_response(made)


def test_nothing_is_missing() -> None:
    """Every command, verdict and edit that a filter can meet has its place."""
    named = {match for snippet in OURS for match in re.findall(r"mp\.([A-Z]\w+)", snippet)}
    every = {
        kind.__name__ for union in (mp.Command, mp.Verdict, mp.Edit) for kind in get_args(union)
    }
    # The negotiation is mp.negotiate, and these two libmilter has no function for.
    assert every - named == {"Negotiate", "Shutdown", "ConnectionFailure"}
