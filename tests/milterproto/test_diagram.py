"""The picture of a session."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import attrs
from hypothesis import given

import milterproto as mp
from milterproto._shell.diagram import diagram
from milterproto._shell.transcript import FROM_FILTER, FROM_MTA, Entry, Recorder
from milterproto._shell.words import words

from .peers import frame
from .test_stages import entries
from .test_transcript import STREAMS

SVG = "{http://www.w3.org/2000/svg}"


def texts(picture: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(picture).iter(f"{SVG}text")]


def test_what_is_drawn() -> None:
    """An arrow for each, with its words; macros below it; the ends of it all."""
    macros = mp.Macros(b"L", b"i\x004F\0{x}\0<&\0")
    edit = mp.AddHeader(b"X", b"a < b & c")
    header = mp.Header(b"A", b"1"), mp.Continue(), macros, mp.Header(b"A", b"1"), mp.Continue()
    session = entries(
        macros, *header, mp.EndOfMessage(), edit, mp.Accept(), frame(b"\x01"), mp.Quit()
    )
    session += [Entry(1, 0, FROM_MTA, b"", b""), Entry(1, 0, FROM_FILTER, b"", b"")]
    assert texts(diagram(session)) == [
        "connection 1",
        "MTA",
        "filter",
        "Header (2 times)",
        "macros: i, {x}",
        "Continue (2 times)",
        "EndOfMessage",
        "AddHeader X a < b & c",
        "Accept",
        "unknown code byte 0x01",
        "Quit",
        "ConnectionClosed",
        "ConnectionClosed",
    ]


def test_arrows_point_to_whom_it_is_said() -> None:
    """To the right for the filter, and back."""
    root = ET.fromstring(diagram(entries(mp.Helo(b"x"), mp.Continue())))
    there, back = [path.get("d", "") for path in root.iter(f"{SVG}path")]
    assert there.startswith("M60 ")
    assert "H760" in there
    assert back.startswith("M760 ")
    assert "H60" in back


def test_connections_one_below_the_other() -> None:
    """However their packets came; nothing lies outside of the picture, nor over another."""
    one = entries(mp.Helo(b"one"), mp.Continue())
    two = [attrs.evolve(entry, connection=2) for entry in entries(mp.Helo(b"two"), mp.Continue())]
    picture = diagram([two[0], one[0], two[1], one[1]])
    assert [text for text in texts(picture) if text.startswith(("connection", "Helo"))] == [
        "connection 1",
        "Helo one",
        "connection 2",
        "Helo two",
    ]
    root = ET.fromstring(picture)
    heights = [int(element.get("y", "")) for element in root.iter(f"{SVG}text")]
    assert heights == sorted(heights)
    assert max(heights) < int(root.get("height", ""))


def test_long_lines_end_in_time() -> None:
    """They would leave the picture."""
    assert all(len(text) <= 96 for text in texts(diagram(entries(mp.Helo(b"<" * 60), mp.offer()))))
    lists = tuple((stage, (b"{xxxxxxxxx}",) * 9) for stage in range(3))
    answered = mp.Negotiate(6, mp.Actions(0), mp.Steps(0), lists)
    answer = Recorder(1).take(FROM_FILTER, mp.encode_response(answered), 0)
    picture = diagram(answer)
    assert any(text.endswith("…") for text in texts(picture))
    (title,) = ET.fromstring(picture).iter(f"{SVG}title")
    assert title.text == words(answered)


@given(STREAMS)
def test_any_session_is_a_picture(stream: bytes) -> None:
    """It is XML, whatever was said."""
    recorder = Recorder(1)
    found = [*recorder.take(FROM_MTA, stream, 0), *recorder.take(FROM_FILTER, stream, 0)]
    ET.fromstring(diagram(found))
