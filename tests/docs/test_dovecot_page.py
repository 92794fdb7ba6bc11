"""The page about Dovecot's authentication protocol is held to the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import dovecotauth as da
from dovecotauth import _client, _master_wire, _wire, master
from dovecotauth._fields import MAX_NUMBER, escape, unescape
from dovecotauth._state import CLIENTS_MOVE, REQUESTS

PAGE = (Path(__file__).parents[2] / "docs" / "dovecot_wire.md").read_text(encoding="utf-8")
COOKIE = b"0" * 32


def rows(heading: str) -> list[list[str]]:
    """The cells of the table whose head begins like that."""
    lines = PAGE[PAGE.index(heading) :].splitlines()[2:]
    table = []
    for line in lines:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split("|")])
    assert table
    return table


def codes(cell: str) -> list[str]:
    return re.findall(r"`([^`]*)`", cell)


def server(minor: int, ours: int = 4) -> da.ServerConnection:
    """A server that has been greeted by a client of that version."""
    conn = da.ServerConnection()
    conn.send(da.Version(1, ours))
    conn.receive_data(b"VERSION\t1\t%d\nCPID\t1\n" % minor)
    assert isinstance(conn.next_event(), da.Connected | da.Version)
    conn.send(da.ServerHello((da.Mechanism(b"PLAIN"),), 1, 1, COOKIE if ours else b""))
    list(conn.events())
    return conn


def test_the_escapes() -> None:
    """All of them, and no others."""
    said = {}
    for byte, wire in rows("| byte | on the wire |"):
        said[bytes([int(byte, 16)])] = b"\x01" + codes(wire)[0].encode()
    for number in range(256):
        byte_ = bytes([number])
        assert escape(byte_) == said.get(byte_, byte_)
        assert unescape(escape(byte_)) == byte_


def test_the_limits() -> None:
    """As the page has them."""
    assert [int(re.findall(r"\d+", cell)[-1]) for _, cell in rows("| limit | value |")] == [
        _wire.MAX_LINE,
        _wire.MAX_LINE_TO_1_0,
        _wire.MAX_FIELDS_TO_1_0,
        _master_wire.MAX_QUERY,
        _master_wire.MAX_ANSWER,
        MAX_NUMBER,
        da.DEFAULT_MAX_OUTSTANDING,
        _client.MAX_HANDSHAKE,
    ]


def test_the_versions() -> None:
    """From the first to the newest."""
    assert [row[0] for row in rows("| version | Dovecot |")] == [
        f"1.{minor}" for minor in range(da.NEWEST.minor + 1)
    ]


def test_the_flags() -> None:
    """Each is written as its row says, and in this order."""
    table = rows("| flag | in `Flags` |")
    assert [name for _, name in table] == [flag.name for flag in da.Flags]
    conn = da.ServerConnection()
    conn.send(da.Version(1, 4))
    conn.receive_data(b"VERSION\t1\t4\n")
    list(conn.events())
    every = da.NO_FLAGS
    for flag in da.Flags:
        every |= flag
    mechanisms = (da.Mechanism(b"PLAIN"), da.Mechanism(b"X", every))
    line = conn.send(da.ServerHello(mechanisms, 1, 1, COOKIE)).splitlines()[1]
    assert line.decode().split("\t")[2:] == [codes(shown)[0] for shown, _ in table]


def test_the_order_of_the_handshake() -> None:
    """As a server sends it."""
    sent = [codes(line) for who, line, _ in rows("| from | line | event |") if who == "server"]
    said = [shown.split()[0] for line in sent for shown in line]
    lines = da.ServerConnection().send(da.ServerHello((da.Mechanism(b"PLAIN"),), 1, 1, COOKIE))
    assert said == [line.split(b"\t")[0].decode() for line in lines.splitlines()]


@pytest.mark.parametrize("minor", range(5))
def test_the_states_of_the_initial_response(minor: int) -> None:
    """By the version."""
    for shown, old, new in rows("| on the wire | before 1.2 |"):
        conn = server(minor)
        word = "" if shown.startswith("no") else "\t" + codes(shown)[0]
        conn.receive_data(b"AUTH\t1\tPLAIN\tservice=smtp" + word.encode() + b"\n")
        (event,) = conn.events()
        assert isinstance(event, da.Auth)
        expected = {"none": None, "empty": b"", "data": b"a"}
        assert event.response == expected[old if minor < 2 else new]


@pytest.mark.parametrize("minor", range(5))
def test_the_codes_of_a_failure(minor: int) -> None:
    """Each is written as its row says."""
    table = rows("| code | before 1.2 | means |")
    assert {codes(row[0])[0].encode() for row in table} == {
        da.TEMP_FAIL,
        da.AUTHZ_FAIL,
        da.USER_DISABLED,
        da.PASS_EXPIRED,
        da.INVALID_BASE64,
    }
    for code, old, _ in table:
        conn = server(minor)
        conn.receive_data(b"AUTH\t1\tPLAIN\tservice=smtp\n")
        list(conn.events())
        new = f"code={codes(code)[0]}"
        word = codes(old)[0] if minor < 2 and old else new
        assert conn.send(da.Fail(1, code=codes(code)[0].encode())) == f"FAIL\t1\t{word}\n".encode()


def test_the_phases() -> None:
    """Who may do what in each; of the client's moves it is the client's state that says."""
    table = rows("| phase | whose move |")
    assert [codes(row[0])[0] for row in table] == [phase.name for phase in da.Phase]
    names = {"Cont without data": "OutOfBand"}
    for phase, (_, whose, events) in zip(da.Phase, table, strict=True):
        assert (phase in CLIENTS_MOVE) == (whose == "the client's")
        said = {
            names.get(one.replace("`", "").strip(), one.strip(" `")) for one in events.split(",")
        }
        there = {kind.__name__ for start, kind in REQUESTS if start is phase}
        there -= {"Cancel", "Malformed"}
        if phase is da.Phase.ASKED:
            there -= {"OutOfBand"}
        elif phase in CLIENTS_MOVE:
            there -= {"Fail"}  # of which the page says nothing: no server should
        assert said == there


WRONG = {
    "base64 that is none": b"AUTH\t2\tPLAIN\tservice=a\tresp=x\n",
    "CONT without a challenge": b"CONT\t1\t\n",
    "CONT for an id that is not": b"CONT\t9\t\n",
    "an unknown command": b"FOO\t1\n",
    "AUTH without": b"AUTH\t2\tPLAIN\n",
    "AUTH with a mechanism": b"AUTH\t2\tNOPE\tservice=a\n",
    "AUTH with an id": b"AUTH\t1\tPLAIN\tservice=a\n",
    "a word after": b"AUTH\t2\tPLAIN\tservice=a\tresp=\tx\n",
    "CONT without its second": b"CONT\t1\n",
    "a line that": b"x" * 16384,
}


def test_what_is_wrong_with_a_request() -> None:
    """And what becomes of it."""
    table = rows("| from the client | answer |")
    assert len(table) == len(WRONG)
    for shown, answer in table:
        (data,) = [data for start, data in WRONG.items() if shown.startswith(start)]
        conn = server(2)
        conn.receive_data(b"AUTH\t1\tPLAIN\tservice=a\n" + data)
        conn.next_event()
        if answer == "the end":
            with pytest.raises(da.RemoteProtocolError):
                conn.next_event()
        else:
            event = conn.next_event()
            assert isinstance(event, da.Malformed)
            sent = conn.send(event.reply).decode().strip().replace("\t", " ")
            pattern = re.escape(codes(answer)[0]).replace("id", r"\d+", 1)
            assert re.fullmatch(pattern.replace(r"\.\.\.", ".*"), sent)


def test_the_queries_of_a_master() -> None:
    """With their answers."""
    said: dict[str, Any] = {}
    for query, event, answers in rows("| query | event | answers |"):
        assert getattr(master, codes(event)[0]) is not None
        said[codes(event)[0]] = (codes(query)[0].split()[0], set(codes(answers)))
    there = {
        query.__name__: {answer.__name__ for answer in answers}
        for query, answers in master.ANSWERS.items()
    }
    assert {name: answers for name, (_, answers) in said.items()} == there
    assert {verb.encode() for verb, _ in said.values()} == set(_master_wire.DECODE_QUERY)
