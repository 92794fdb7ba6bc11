"""Events in words, and for JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import milterproto as mp
from milterproto._shell.words import as_json, bytes_of, short, shown, text_of, words

from .strategies import commands, responses

EVENTS = st.one_of(commands, responses)
LISTS = "macros at 0: i; macros at 6: none"


@given(st.binary())
def test_bytes_come_back_from_text(data: bytes) -> None:
    """Through JSON, too."""
    assert bytes_of(json.loads(json.dumps(text_of(data)))) == data


@given(EVENTS)
def test_every_event_has_words_and_json(event: mp.Command | mp.Response) -> None:
    """On one line that moves no cursor, with the event's name first."""
    line = words(event)
    assert line.isprintable()
    assert line.split()[0] == type(event).__name__
    found = json.loads(json.dumps(as_json(event)))
    assert found["event"] == type(event).__name__


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (mp.Continue(), "Continue"),
        ("no packet", "no packet"),
        (mp.MailFrom(b"<a@b>", (b"SIZE=1", b"X")), "MailFrom <a@b> SIZE=1 X"),
        (mp.Connect(b"h", mp.Family.INET, 25, b"192.0.2.1"), "Connect h INET 25 192.0.2.1"),
        (mp.Body(b"\x1b[2J\xff\n"), r"Body \x1b[2J\xff\n"),
        (mp.Body(b"x" * 100), "Body " + "x" * 59 + "… (100 bytes)"),
        (mp.Macros(b"M", b"i\x004F\0{x}\0\0"), "Macros for MailFrom: i=4F {x}="),
        (mp.Macros(b"\xfe", b""), r"Macros for \xfe: none"),
        (mp.offer(), "Negotiate version 6; actions all; steps all"),
        (
            mp.Negotiate(
                6,
                mp.Actions(0x201),
                mp.Steps(0),
                ((0, (b"i",)), (6, ())),
            ),
            "Negotiate version 6; actions ADDHDRS 0x200; steps none; " + LISTS,
        ),
    ],
)
def test_words(event: mp.Command | mp.Response | str, line: str) -> None:
    """What people read."""
    assert words(event) == line


def test_json() -> None:
    """What scripts read."""
    assert as_json("why") == {"event": "Unreadable", "why": "why"}
    assert as_json(mp.Macros(b"M", b"i\x00\xff\0")) == {
        "event": "Macros",
        "command": "MailFrom",
        "values": {"i": "\udcff"},
    }
    assert as_json(mp.Connect(b"h", mp.Family.UNIX, 0, b"/x")) == {
        "event": "Connect",
        "hostname": "h",
        "family": "UNIX",
        "port": 0,
        "address": "/x",
    }
    assert as_json(mp.ReplyCode(b"550", b"5.7.1", (b"a", b"b")))["lines"] == ["a", "b"]
    offer = as_json(mp.Negotiate(2, mp.Actions(3), mp.Steps(0), ((1, (b"i",)),)))
    assert offer["actions"] == ["ADDHDRS", "CHGBODY"]
    assert (offer["steps"], offer["macros"]) == ([], [[1, ["i"]]])


def test_short_and_shown() -> None:
    """Long text is cut, and says how long it was; nothing is hidden of what is short."""
    assert short(b"x" * 60) == "x" * 60
    assert short("ö".encode() * 500) == "ö" * 59 + "… (1000 bytes)"
    assert short(b"\x01" * 60).endswith("… (60 bytes)")
    assert shown("ö\n".encode()) == "ö\\n"
