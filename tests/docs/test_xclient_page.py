"""The page about XCLIENT is held to the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from nginxauth import xclient as xc
from nginxauth._xclient_values import XCLIENT_ATTRIBUTES, XFORWARD_ATTRIBUTES

PAGE = (Path(__file__).parents[2] / "docs" / "xclient_wire.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    """The cells of the table whose head begins like that."""
    table = []
    for line in PAGE[PAGE.index(heading) :].splitlines()[2:]:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split("|")])
    assert table
    return table


def codes(cell: str) -> list[str]:
    return re.findall(r"`([^`]*)`", cell)


@pytest.mark.parametrize(
    ("keyword", "attributes"), [("XCLIENT", XCLIENT_ATTRIBUTES), ("XFORWARD", XFORWARD_ATTRIBUTES)]
)
def test_the_attributes(keyword: str, attributes: Any) -> None:
    """In the order in which they are sent, with their special values."""
    said = [(row[0].strip("`"), set(codes(row[2]))) for row in rows(f"| {keyword} | value |")]
    assert said == [
        (name.decode(), {special.name for special in attribute.kind.specials})
        for name, attribute in attributes.items()
    ]


def test_the_replies_and_what_they_mean() -> None:
    """Every outcome has its codes, and none is missing."""
    plan = xc.Plan((), (), resets=True)
    table = rows("| reply | `Outcome` |")
    for reply, outcome, _ in table:
        for code in reply.split(", "):
            assert plan.outcome(int(code)).name == outcome.strip("`")
    assert {row[1].strip("`") for row in table} == set(xc.Outcome.__members__)


def test_the_profiles() -> None:
    """What each offers and misreads; a dagger for what was not run."""
    table = rows("| profile | XCLIENT |")
    assert len(table) == len(xc.PROFILES)
    for (name, xclient, xforward, misreads), profile in zip(table, xc.PROFILES, strict=True):
        assert name == profile.name + ("" if profile.seen else " †")
        for cell, offered in (
            (xclient, profile.offer.xclient),
            (xforward, profile.offer.xforward),
        ):
            assert cell.strip("`").split() == [one.decode() for one in offered]
        said = [] if misreads == "nothing" else misreads.split("; ")
        assert said == [
            *([f"needs `{b' '.join(profile.needs).decode()}`"] if profile.needs else []),
            *([] if profile.decodes else ["does not decode"]),
            *(["makes all lower-case"] if profile.folds else []),
            *([] if profile.ipv6 else ["keeps `IPV6:`"]),
            *([] if profile.utf8 else ["takes each byte for a character"]),
        ]


STATES: dict[str, dict[str, Any]] = {
    "": {},
    "in a transaction": {"in_transaction": True},
    "more has come behind it": {"pipelined": True},
    "not offered": {},
}


@pytest.mark.parametrize("row", rows("| line | state |"), ids=lambda row: f"{row[0]} {row[1]}")
def test_the_receivers_replies(row: list[str]) -> None:
    """To the letter."""
    (line,), state, reply = codes(row[0]), row[1], codes(row[2])[0]
    receiver = xc.Receiver(xc.Offer() if state == "not offered" else xc.EVERYTHING)
    event = receiver.receive(line.encode(), **{"in_transaction": False, **STATES[state]})
    if isinstance(event, xc.Refused):
        assert event.reply.decode() == reply
    else:
        assert reply[:3] == ("220" if isinstance(event, xc.XClient) else "250")


# The other column is seen in tests/interop.
@pytest.mark.parametrize("row", rows("| line | Postfix |"), ids=lambda row: row[0])
def test_where_we_differ_from_postfix(row: list[str]) -> None:
    """As the last column says; and the two do differ."""
    event = xc.parse_command(codes(row[0])[0].encode())
    assert row[2] == (event.reply[:3].decode() if isinstance(event, xc.Refused) else "220")
    assert row[1] != row[2]
