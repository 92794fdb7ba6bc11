"""The picture of a session."""

from __future__ import annotations

import itertools
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


def test_long_texts_have_several_lines() -> None:
    """They would leave the picture. Each has room above its arrow, and the picture is as high."""
    lists = tuple((stage, (b"{xxxxxxxxx}",) * 4) for stage in range(3))
    answered = mp.Negotiate(6, mp.Actions(0x1FF), mp.Steps(0x1FFFF), lists)
    macros = mp.Macros(b"H", b"".join(b"{some_macro_%d}\0x\0" % n for n in range(20)))
    session = entries(answered, macros, mp.Helo(b"x"))
    picture = diagram(session)
    found = texts(picture)
    assert all(len(text) <= 80 for text in found)
    first = 3
    last = next(at for at, text in enumerate(found) if text.startswith("Helo"))
    assert " ".join(found[first:last]) == words(answered)
    assert last - first > 4
    notes = found[last + 1 :]
    assert len(notes) > 3
    assert " ".join(notes).startswith("macros: {some_macro_0}, {some_macro_1}")
    root = ET.fromstring(picture)
    heights = [int(element.get("y", "")) for element in root.iter(f"{SVG}text")]
    assert all(after - before >= 14 for before, after in itertools.pairwise(heights[3:]))
    assert heights[-1] < int(root.get("height", ""))
    arrows = [
        int(path.get("d", "").partition(" ")[2].partition("H")[0])
        for path in root.iter(f"{SVG}path")
    ]
    assert arrows[0] == heights[last - 1] + 5


def test_what_nobody_asked_for() -> None:
    """An arrow of its own, though there is nothing that it answers."""
    assert texts(diagram(entries(mp.Continue())))[3:] == ["Continue"]


def test_longer_texts_end_in_time() -> None:
    """Somebody may say very much; all of it is in the transcript."""
    session = entries(mp.MailFrom(b"<a@b>", tuple(b"X=%0100d" % n for n in range(50))))
    *_, end = found = texts(diagram(session))
    assert end.endswith("…")
    assert len(found) == 3 + 6


@given(STREAMS)
def test_any_session_is_a_picture(stream: bytes) -> None:
    """It is XML, whatever was said, in whatever encoding it is written."""
    recorder = Recorder(1)
    found = [*recorder.take(FROM_MTA, stream, 0), *recorder.take(FROM_FILTER, stream, 0)]
    picture = diagram(found)
    ET.fromstring(picture)
    assert picture.isascii()
