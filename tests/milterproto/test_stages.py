"""A session as a table."""

from __future__ import annotations

import pytest

import milterproto as mp
from milterproto._shell.stages import BAD, EDIT, GOOD, LATER, QUIET, Stage, stages, style_of
from milterproto._shell.transcript import FROM_FILTER, FROM_MTA, Entry, Recorder, Seen
from milterproto._wire import encode_command, encode_response

from .peers import frame

C, M = mp.Continue(), mp.Macros(b"L", b"i\x004F\0")


def entries(*said: mp.Command | mp.Response | bytes) -> list[Entry]:
    """Commands and responses, told apart by their classes; bytes are from the MTA."""
    recorder = Recorder(1)
    found: list[Entry] = []
    for event in said:
        if isinstance(event, bytes):
            found += recorder.take(FROM_MTA, event, 0)
        elif isinstance(event, mp.Continue | mp.Accept | mp.AddHeader | mp.ReplaceBody):
            found += recorder.take(FROM_FILTER, encode_response(event), 0)
        else:
            found += recorder.take(FROM_MTA, encode_command(event), 0)  # type: ignore[arg-type]
    return found


def test_commands_and_their_answers() -> None:
    """In order; macros go with the command that they came before."""
    helo, edit = mp.Helo(b"x"), mp.AddHeader(b"a", b"b")
    assert stages(entries(M, helo, C, mp.Abort(), mp.EndOfMessage(), edit, C)) == [
        Stage([helo], [C], [M]),
        Stage([mp.Abort()], [], []),
        Stage([mp.EndOfMessage()], [edit, C], []),
    ]


def test_commands_of_one_kind_are_one_stage() -> None:
    """If they were answered alike."""
    fields = [mp.Header(b"A", b"1"), mp.Header(b"B", b"2"), mp.Header(b"C", b"3")]
    a, b, c = fields
    (stage,) = stages(entries(M, a, C, M, b, C, M, c, C))
    assert stage == Stage([a, b, c], [C], [M])
    assert stage.title == "Header (3 times)"
    assert stages(entries(a, C, b, C, c, mp.Accept())) == [
        Stage([a, b], [C], []),
        Stage([c], [mp.Accept()], []),
    ]
    assert [one.title for one in stages(entries(a, b))] == ["Header (2 times)"]


def test_what_nobody_asked_for() -> None:
    """A stage without a command; so are macros at the end."""
    first, second = stages(entries(C, mp.Helo(b"x")))
    assert first == Stage([], [C], [])
    assert first.title == ""
    assert second.title == "Helo x"
    assert stages(entries(C, M)) == [Stage([], [C], []), Stage([], [], [M])]
    assert stages([]) == []
    # Two that have no command are not alike.
    assert len(stages(entries(C, mp.Helo(b"x"), mp.Abort()))) == 3


def test_what_can_not_be_read() -> None:
    """Its reason is the title."""
    (stage,) = stages(entries(frame(b"\x01")))
    assert stage.title == "unknown code byte 0x01"


@pytest.mark.parametrize(
    ("seen", "style"),
    [
        (mp.Continue(), GOOD),
        (mp.Accept(), GOOD),
        (mp.Skip(), GOOD),
        (mp.offer(), GOOD),
        (mp.TempFail(), LATER),
        (mp.Shutdown(), LATER),
        (mp.ReplyCode(b"450", b"", (b"x",)), LATER),
        (mp.ReplyCode(b"550", b"", (b"x",)), BAD),
        (mp.Reject(), BAD),
        (mp.Discard(), BAD),
        (mp.ConnectionFailure(), BAD),
        ("no packet", BAD),
        (mp.Progress(), QUIET),
        (mp.ConnectionClosed(), QUIET),
        (mp.Quarantine(b"x"), EDIT),
    ],
)
def test_styles(seen: Seen, style: str) -> None:
    """Whether that is good news."""
    assert style_of(seen) == style
