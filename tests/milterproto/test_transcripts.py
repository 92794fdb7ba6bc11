"""Recorded sessions of a real Postfix, played back without one."""

from __future__ import annotations

import json
from collections import deque
from pathlib import Path

import pytest

import milterproto as mp
from milterproto._wire import RESPONSE_DECODERS

TRANSCRIPTS = sorted((Path(__file__).parent.parent / "vectors" / "postfix").glob("*.json"))
# After a refused DATA, Postfix goes on with the same message. libmilter would not answer, so
# our MTA's side does not do that.
BOLDER = {"reject-data"}


def frames_of(path: Path) -> list[tuple[str, bytes]]:
    """The chunks of a transcript."""
    transcript = json.loads(path.read_text())
    assert set(transcript) == {"description", "peer", "frames"}
    return [(way, bytes.fromhex(data)) for way, data in transcript["frames"]]


def test_there_are_transcripts() -> None:
    """The tests below have something to play."""
    assert len(TRANSCRIPTS) > len(BOLDER)


@pytest.mark.parametrize("whole", [True, False], ids=["as read", "byte by byte"])
@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_our_filter_holds_the_same_session(path: Path, whole: bool) -> None:
    """It takes every frame of Postfix's and writes just what the recorded filter wrote."""
    frames = frames_of(path)
    written = b"".join(data for way, data in frames if way == "<")
    responses = deque[mp.Response]()
    rest = written
    while rest:
        end = 4 + int.from_bytes(rest[:4], "big")
        responses.append(RESPONSE_DECODERS[rest[4]](rest[5:end]))
        rest = rest[end:]
    conn = mp.FilterConnection(allow_shutdown=True)
    sent = b""
    events: list[mp.Command | mp.ConnectionClosed] = []
    for chunk in [data for way, data in frames if way == ">"]:
        for piece in [chunk] if whole or not chunk else [bytes([byte]) for byte in chunk]:
            conn.receive_data(piece)
            for event in conn.events():
                events.append(event)
                while conn.our_turn:
                    sent += conn.send(responses.popleft())
    assert sent == written
    assert type(events[0]) is mp.Negotiate
    assert events.count(mp.ConnectionClosed()) == 1
    assert events[-1] == mp.ConnectionClosed()
    assert conn.state is mp.State.CLOSED


@pytest.mark.parametrize(
    "path",
    [path for path in TRANSCRIPTS if path.stem not in BOLDER],
    ids=lambda path: path.stem,
)
def test_our_mta_holds_the_same_session(path: Path) -> None:
    """It takes every response, and from the same events it makes just Postfix's bytes.

    The events are those of a filter connection, which gets the MTA's responses in turn.
    """
    conn = mp.FilterConnection(allow_shutdown=True)
    mta = mp.MTAConnection()
    received = written = b""
    for way, data in frames_of(path):
        if way == ">":
            received += data
            conn.receive_data(data)
        else:
            mta.receive_data(data)
            for response in mta.events():
                assert not isinstance(response, mp.ConnectionClosed)
                conn.send(response)
        # It is still the filter's turn after an edit.
        for event in () if conn.our_turn else conn.events():
            if not isinstance(event, mp.ConnectionClosed):
                assert mta.wants(type(event))
                written += mta.send(event)
    assert written == received
