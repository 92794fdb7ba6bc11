"""Transcripts played back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given

import milterproto as mp
from milterproto._shell.replay import Difference, replay
from milterproto._shell.talk import Peer, Tap
from milterproto._shell.transcript import FROM_FILTER, FROM_MTA, Entry, Recorder
from milterproto.message import Message
from milterproto.testing import MTA, Habits

from .peers import MESSAGE, Polite, Scripted, frame, negotiated
from .test_transcript import STREAMS


def judge(message: Message) -> mp.Verdict | None:
    message.headers.insert(0, "X-Top", b"1")
    message.headers.append("X-End", b"1")
    message.replace_body(b"new\n")
    return mp.Accept() if message.sender else None


def recorded(connect: Callable[[], Peer], habits: Habits = Habits.POSTFIX) -> list[Entry]:
    tap = Tap(connect())
    mta = MTA(tap, habits=habits)
    mta.deliver(MESSAGE)
    mta.deliver(MESSAGE)
    mta.quit()
    while tap.recv(1 << 16):
        pass
    return tap.entries


@pytest.mark.parametrize("habits", Habits)
@pytest.mark.parametrize("connect", [Scripted, lambda: Polite(judge)])
def test_the_same_filter_says_the_same(connect: Callable[[], Any], habits: Habits) -> None:
    """Whoever recorded it."""
    assert list(replay(recorded(connect, habits), connect)) == []


def test_each_byte_is_said_again() -> None:
    """The new session, as it is recorded, is the old one."""
    session = recorded(lambda: Polite(judge))
    taps: list[Tap] = []

    def connect() -> Tap:
        taps.append(Tap(Polite(judge)))
        return taps[-1]

    assert list(replay(session, connect)) == []
    assert [one.raw for one in taps[0].entries] == [one.raw for one in session]


def test_another_verdict() -> None:
    """It is told, with what could not be said for it; each connection is played."""
    session = recorded(Scripted)
    session += [Entry(2, one.seconds, one.way, one.code, one.payload) for one in session]
    found = list(replay(session, lambda: Scripted({mp.MailFrom: frame(b"r")})))
    assert {one.connection for one in found} == {1, 2}
    assert len(found) == 6
    first, _, last = found[:3]
    assert first == Difference(1, mp.MailFrom(b"<a@example.org>"), (mp.Continue(),), (mp.Reject(),))
    assert first.text == ["connection 1, MailFrom <a@example.org>", "- Continue", "+ Reject"]
    assert first.as_json["now"] == [{"event": "Reject"}]
    assert first.as_json["why"] == ""
    assert last.command == mp.RcptTo(b"<b@example.test>")
    assert "was not said again: " in last.why
    assert "; nor were 17 commands after it" in last.why
    assert last.text[1].startswith("  was not said again")


@pytest.mark.parametrize("refused", [frame(b"r"), frame(b"t"), frame(b"y", b"550 5.1.1 No\0")])
def test_a_message_for_nobody(refused: bytes) -> None:
    """No MTA goes on with it, nor tells macros for what it would say; the next one is another."""
    told: list[Any] = []

    def answer(event: mp.RcptTo) -> bytes:
        told.append(event)
        return refused if len(told) <= 2 else frame(b"c")

    peer = Scripted({mp.RcptTo: answer})
    *recipients, last = replay(recorded(Scripted), lambda: peer)
    assert [one.command for one in recipients] == told[:2]
    assert last.command == mp.Data()
    assert last.why == (
        "was not said again: the filter has refused all recipients; nor were 6 commands after it"
    )
    kinds = [type(seen) for seen in peer.seen]
    first, second = [at for at, kind in enumerate(kinds) if kind is mp.MailFrom]
    assert mp.EndOfMessage in kinds[second:]
    assert set(kinds[first:second]) == {mp.MailFrom, mp.Macros, mp.RcptTo, mp.Abort}
    macros = [seen.command for seen in peer.seen[first:second] if isinstance(seen, mp.Macros)]
    assert set(macros) == {b"R", b"M"}


def test_one_recipient_is_left() -> None:
    """So the message goes on."""

    def answer(event: mp.RcptTo) -> bytes:
        return frame(b"r") if event.recipient == b"<b@example.test>" else frame(b"c")

    found = list(replay(recorded(Scripted), lambda: Scripted({mp.RcptTo: answer})))
    assert [type(one.command) for one in found] == [mp.RcptTo, mp.RcptTo]


def test_nobody_there_any_more() -> None:
    """What was found before it is not lost. If nobody was there at all, nothing is played."""
    session = recorded(Scripted)
    session += [
        Entry(number, one.seconds, one.way, one.code, one.payload)
        for number in (2, 3)
        for one in session
    ]
    peers = [Scripted({mp.EndOfMessage: frame(b"a")})]

    def connect() -> Scripted:
        if not peers:
            raise ConnectionRefusedError("Connection refused")
        return peers.pop()

    *others, gone = replay(session, connect)
    assert [(one.connection, one.now) for one in others] == [(1, (mp.Accept(),))] * 2
    assert gone.text == [
        "connection 2, the connection",
        "  the filter takes no connections any more: Connection refused",
    ]
    with pytest.raises(ConnectionRefusedError):
        list(replay(session, connect))


def test_other_edits() -> None:
    """Values that are made anew each time may be left out, and are not told then."""
    session = recorded(lambda: Polite(judge))

    def other(message: Message) -> mp.Verdict:
        message.headers.insert(0, "X-Top", b"2")
        message.headers.append("X-End", b"2")
        message.replace_body(b"new\n")
        return mp.Accept()

    assert len(list(replay(session, lambda: Polite(other)))) == 2
    difference, _ = replay(session, lambda: Polite(other), [b"x-top"])
    assert difference.now[0] == difference.recorded[0]
    assert "(ignored)" in difference.text[1]
    assert list(replay(session, lambda: Polite(other), [b"x-top", b"X-END"])) == []


def entries(*said: tuple[str, bytes]) -> list[Entry]:
    recorder = Recorder(1)
    return [entry for way, data in said for entry in recorder.take(way, data, 0)]


OFFER = (FROM_MTA, mp.MTAConnection().send(mp.offer()))
ANSWER = (FROM_FILTER, negotiated())


def test_an_end_with_data() -> None:
    """The data becomes a piece of the body, as filters on libmilter need it."""
    peer = Scripted()
    session = entries(
        *(OFFER, ANSWER),
        *((FROM_MTA, frame(b"M", b"<a@b>\0")), (FROM_FILTER, frame(b"c"))),
        *((FROM_MTA, frame(b"R", b"<c@d>\0")), (FROM_FILTER, frame(b"c"))),
        *((FROM_MTA, frame(b"N")), (FROM_FILTER, frame(b"c"))),
        *((FROM_MTA, frame(b"E", b"last")), (FROM_FILTER, frame(b"c"))),
    )
    (difference,) = replay(session, lambda: peer)
    assert difference == Difference(1, mp.Body(b"last"), (), (mp.Continue(),))
    assert difference.text[1:] == ["- nothing", "+ Continue"]
    assert peer.seen[-2:] == [mp.Body(b"last"), mp.EndOfMessage()]
    assert peer.closed


def test_what_can_not_be_said() -> None:
    """What was no packet, for one. What the filter said unasked is no matter."""
    session = entries((FROM_FILTER, frame(b"c")), OFFER, ANSWER, (FROM_MTA, frame(b"\x01")))
    (difference,) = replay(session, Scripted)
    assert difference.command == "unknown code byte 0x01"
    assert difference.why == "was not said again: unknown code byte 0x01"
    assert difference.text[0] == "connection 1, unknown code byte 0x01"
    session = entries(OFFER, ANSWER, (FROM_MTA, frame(b"H", b"x\0")), (FROM_FILTER, frame(b"\x02")))
    (difference,) = replay(session, Scripted)
    assert difference.recorded == ("unknown code byte 0x02",)
    # ABORT before any client: libmilter would not like it, and nothing depends on it.
    assert list(replay(entries(OFFER, ANSWER, (FROM_MTA, frame(b"A"))), Scripted)) == []


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ({mp.Helo: b""}, "no answer"),
        ({mp.Helo: frame(b"\x01")}, "unknown code byte 0x01"),
        ({mp.Helo: frame(b"c") * 2}, "something that it was not asked for"),
        ({mp.Quit: frame(b"c")}, "the filter sends 5 bytes more than it was asked for"),
    ],
)
def test_filters_that_break_the_protocol(answers: Any, why: str) -> None:
    """It is a difference, and the end of that connection."""
    session = entries(
        *(OFFER, ANSWER),
        *((FROM_MTA, frame(b"H", b"x\0")), (FROM_FILTER, frame(b"c"))),
        *((FROM_MTA, frame(b"H", b"y\0")), (FROM_FILTER, frame(b"c"))),
        (FROM_MTA, frame(b"Q")),
    )
    peer = Scripted(answers)
    (difference,) = replay(session, lambda: peer)
    assert why in difference.why
    assert difference.recorded == ()
    assert peer.closed


def test_a_filter_that_closed_then_and_now() -> None:
    """While it owed a reply: the same. Once its last word was said: can't be seen."""
    end = (FROM_FILTER, b"")
    session = entries(OFFER, ANSWER, (FROM_MTA, frame(b"H", b"x\0")), end, (FROM_MTA, b""))
    assert list(replay(session, lambda: Scripted({mp.Helo: None}))) == []
    (difference,) = replay(session, Scripted)
    assert difference.text[1:] == ["- ConnectionClosed", "+ Continue"]
    session = entries(
        OFFER, ANSWER, (FROM_MTA, frame(b"H", b"x\0")), (FROM_FILTER, frame(b"r")), end
    )
    assert list(replay(session, lambda: Scripted({mp.Helo: frame(b"r")}))) == []


def test_a_connection_that_breaks() -> None:
    """Its error is the reason."""

    class Breaking(Scripted):
        def recv(self, _size: int, /) -> bytes:
            raise ConnectionResetError("reset by peer")

    (difference,) = replay(entries(OFFER, ANSWER), Breaking)
    assert difference.why == "reset by peer"
    assert difference.command == mp.offer()


@given(STREAMS, STREAMS)
def test_any_transcript(one: bytes, other: bytes) -> None:
    """Differences, and no error."""
    session = entries(OFFER, ANSWER, (FROM_MTA, one), (FROM_FILTER, other), (FROM_MTA, other))
    for difference in replay(session, lambda: Polite(judge)):
        assert all(line.isprintable() for line in difference.text)
        assert difference.as_json
