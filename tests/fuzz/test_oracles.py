"""The oracles notice what they are there for, and the seeds get to where it could be noticed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import milterproto as mp
import tcptable as tt
from tcptable._buffer import LineBuffer

from . import growth, milter, mutate, stream, tables
from .source import SEGMENT, Source, taken_apart
from .targets import seeds

REQUESTS = b"\0get a\nget b\nget c\nget d\nget e\nget f\n"


def server(conn: Any) -> Callable[[Source], stream.Peer]:
    """A table on a connection of our own."""

    def make(source: Source) -> stream.Peer:
        peer = tables.Answerer(source, netstrings=False)
        peer.conn = conn()
        return peer

    return make


class Forgetful(LineBuffer):
    """Forgets what has not been looked at when more comes."""

    def feed(self, data: bytes) -> None:
        if self and self._searched < len(self._data):
            self.clear()
        super().feed(data)


def forgetful() -> tt.ServerConnection:
    conn = tt.ServerConnection()
    conn._buffer = Forgetful(100)
    return conn


def test_more_before_the_events_are_taken() -> None:
    """In one of the chunkings; where each piece is looked at first, nothing is wrong."""
    by_byte = [[REQUESTS[at : at + 1] for at in range(1, len(REQUESTS))]]
    whole = stream.play(server(tt.ServerConnection)(Source(b"")), by_byte)
    assert stream.play(server(forgetful)(Source(b"")), by_byte) == whole
    with pytest.raises(AssertionError, match="in pieces"):
        stream.check(server(forgetful), REQUESTS * 50)


def test_a_refused_send_changes_nothing() -> None:
    """Not even what can't be seen."""

    class Conn(tt.ServerConnection):
        def send(self, event: Any) -> bytes:
            self._hint = tt.TempError(b"x")
            return super().send(event)

    conn = Conn()
    conn.receive_data(b"get a\n")
    conn.next_event()
    with pytest.raises(AssertionError):
        stream.refused(conn, tt.LocalProtocolError, tt.Found(b""))


class Keeping(tt.ServerConnection):
    """Never forgets."""

    def __init__(self) -> None:
        super().__init__(max_request=40)
        self.log: list[Any] = []

    def next_event(self) -> Any:
        event = super().next_event()
        self.log.append(event)
        return event


def test_what_is_kept_for_ever() -> None:
    """If a container of the connection's has it."""
    peer = server(Keeping)(Source(b""))
    peer.limit = 40
    with pytest.raises(AssertionError, match="log has"):
        stream.play(peer, [[b"get a\n" * 100]])


LINEAR = """
    for byte in data:
        kept.append(byte)
"""
SQUARE = """
    for at in range(len(data)):
        for byte in data[:at:20]:
            pass
"""
KEEPS = """
    for at in range(len(data)):
        kept.append(data[:at])
"""
HEAVY = """
    for byte in data:
        kept.append(bytes(10_000))
"""


@pytest.mark.parametrize(
    ("code", "good"), [(LINEAR, True), (SQUARE, False), (KEEPS, False), (HEAVY, False)]
)
def test_growth(code: str, good: bool) -> None:
    """Of lines run, and of memory; also if it is in proportion, but far too much for a byte."""
    names: dict[str, Any] = {}
    # Only lines of the codecs' own files are counted.
    exec(compile(f"def run(data):\n    kept = []{code}", "/tcptable/made_up.py", "exec"), names)
    format_ = mutate.Format(mutate.split_lines, mutate.in_line)
    for data in (b"\0get a\n", b"\0get abc\nget b\n"):
        if good:
            growth.check(names["run"], format_, data)
        else:
            with pytest.raises(AssertionError, match="lines run"):
                growth.check(names["run"], format_, data)


def test_what_the_seeds_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every event that a peer may send is handed out in both of milter's roles, and linked."""
    heard: set[type] = set()

    def noting(next_event: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def noted(conn: Any) -> Any:
            event = next_event(conn)
            heard.add(type(event))
            return event

        return noted

    for role in (mp.MTAConnection, mp.FilterConnection):
        monkeypatch.setattr(role, "next_event", noting(role.next_event))
    for name, make, events in (
        ("milter_mta", milter.Asker, milter.RESPONSES),
        ("milter_filter", milter.Filter, milter.COMMANDS),
    ):
        heard.clear()
        for data in seeds(name):
            script, said = taken_apart(data)
            stream.play(make(Source(script)), [[segment] for segment in said.split(SEGMENT)])
        assert {mp.Negotiate, *map(type, events)} <= heard
    heard.clear()
    for data in seeds("milter_pair"):
        milter.pair(data)
    # It is never sent.
    assert {type(one) for one in (*milter.COMMANDS, *milter.RESPONSES)} - heard == {
        mp.ConnectionFailure
    }
