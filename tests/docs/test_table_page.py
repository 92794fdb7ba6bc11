"""The page about tcp_table and socketmap is held to the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import tcptable as tt
from tcptable import socketmap

PAGE = (Path(__file__).parents[2] / "docs" / "table_wire.md").read_text(encoding="utf-8")


def rows(heading: str, section: str = "") -> list[list[str]]:
    """The cells of the table whose head begins like that, the first in the section."""
    lines = PAGE[PAGE.index(heading, PAGE.index(section)) :].splitlines()[2:]
    table = []
    for line in lines:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split("|")])
    assert table
    return table


def wire(text: str) -> bytes:
    """What a cell shows of bytes."""
    for name, byte in (("<TAB>", "\t"), ("<SP>", " "), ("<CR>", "\r"), ("<NUL>", "\0")):
        text = text.replace(name, byte)
    return text.encode()


def odd(section: str) -> list[tuple[str, str]]:
    """Odd replies, and what they are to mailwire."""
    table = rows("| bytes | to Postfix", section)
    return [(shown, row[2]) for row in table for shown in re.findall(r"`([^`]*)`", row[0])]


ODD = odd("\n## tcp_table")
ODD_SOCKETMAP = odd("\n## socketmap")


@pytest.mark.parametrize(("shown", "outcome"), ODD, ids=[shown for shown, _ in ODD])
def test_odd_replies_are_taken_as_the_page_says(shown: str, outcome: str) -> None:
    """Or not taken."""
    conn = tt.ClientConnection()
    conn.send(tt.Get(b"k"))
    conn.receive_data(wire(shown) + b"\n")
    if outcome == "error":
        with pytest.raises(tt.RemoteProtocolError):
            conn.next_event()
    else:
        assert type(conn.next_event()).__name__ == outcome


@pytest.mark.parametrize(
    ("shown", "outcome"), ODD_SOCKETMAP, ids=[shown for shown, _ in ODD_SOCKETMAP]
)
def test_odd_replies_of_socketmap(shown: str, outcome: str) -> None:
    """Likewise; the page shows the payloads."""
    conn = socketmap.ClientConnection()
    conn.send(tt.Get(b"k", b"m"))
    payload = wire(shown)
    conn.receive_data(b"%d:%b," % (len(payload), payload))
    if outcome == "error":
        with pytest.raises(tt.RemoteProtocolError):
            conn.next_event()
    else:
        assert type(conn.next_event()).__name__ == outcome


@pytest.mark.parametrize("protocol", ["tcp_table", "socketmap"])
def test_the_replies_and_their_events(protocol: str) -> None:
    """Each event is sent as its row says, and no reply is missing."""
    heading = "| reply | event | to Postfix |"
    section = PAGE.index(f"\n## {protocol}")
    table = PAGE[PAGE.index(heading, section) :].splitlines()[2:]
    said = {}
    for line in table:
        if not line.startswith("|"):
            break
        shown, event, _ = (cell.strip() for cell in line.strip("|").split("|"))
        said[event.strip("`")] = re.findall(r"`([^`]*)`", shown)[0].split()[0]
    sent = {}
    for kind in (tt.Found, tt.NotFound, tt.TempError, tt.PermError):
        server = tt.ServerConnection() if protocol == "tcp_table" else socketmap.ServerConnection()
        server.receive_data(b"get k\n" if protocol == "tcp_table" else b"3:m k,")
        server.next_event()
        try:
            data = server.send(kind(b"x"))
        except tt.LocalProtocolError:
            continue
        sent[kind.__name__] = data.rpartition(b":")[2].split()[0].decode()
    assert said == sent


def test_the_limits() -> None:
    """As the page has them."""
    (row,) = [row for row in rows("| | tcp_table | socketmap |") if row[0] == "longest reply"]
    assert [int(re.findall(r"\d+", cell)[0]) for cell in row[1:]] == [
        tt.MAX_REPLY,
        socketmap.MAX_REPLY,
    ]
