"""What an MTA would make of a filter's answers."""

from __future__ import annotations

import pytest
from hypothesis import given

import milterproto as mp
from milterproto._shell.judge import faults
from milterproto._shell.transcript import FROM_FILTER, FROM_MTA, Entry, Recorder
from milterproto._wire import encode_command

from .peers import frame, negotiated
from .test_transcript import STREAMS

CLIENT = mp.Connect(b"h", mp.Family.INET, 1, b"192.0.2.1")
TO_RCPT = (CLIENT, mp.Helo(b"x"), mp.MailFrom(b"<a@b>"), mp.RcptTo(b"<c@d>"))
TO_END = (*TO_RCPT, mp.Data(), mp.Header(b"A", b"1"), mp.EndOfHeaders(), mp.Body(b"x"))


def session(
    *commands: mp.Command,
    last: bytes,
    answer: bytes | None = None,
    then: tuple[mp.Command, ...] = (),
) -> list[Entry]:
    """Continue to all commands but the last, which gets those bytes; then Continue again."""
    recorder = Recorder(1)
    found = [*recorder.take(FROM_MTA, encode_command(mp.offer()), 0)]
    found += recorder.take(FROM_FILTER, answer or negotiated(), 0)
    for at, command in enumerate((*commands, *then), start=1):
        found += recorder.take(FROM_MTA, encode_command(command), 0)
        if not isinstance(command, mp.Abort | mp.Quit):
            data = last if at == len(commands) else frame(b"c")
            found += recorder.take(FROM_FILTER, data, 0) if data else ()
    return found


def test_nothing_against_what_is_right() -> None:
    """To the end; an enhanced code need not be there."""
    whole = session(*TO_END, mp.EndOfMessage(), last=frame(b"y", b"550 No\0"), then=(mp.Abort(),))
    assert list(faults([*whole, Entry(1, 0, FROM_MTA, b"", b"")])) == []


@pytest.mark.parametrize(
    ("commands", "last", "found"),
    [
        (TO_RCPT[:1], frame(b"d"), "Sendmail then lets this client's mail through unfiltered"),
        (TO_RCPT[:2], frame(b"d"), "Sendmail then lets this client's mail through unfiltered"),
        (TO_RCPT, frame(b"s"), "Sendmail then asks the filter nothing more"),
        (TO_END[:6], frame(b"4"), "Postfix 3.7 then says 250 and loses the message"),
        (TO_END[:6], frame(b"s"), "Skip(...) is no reply to Header(...)"),
        (TO_END, frame(b"s"), "needs Steps.SKIP"),
        ((*TO_RCPT[:2], mp.Unknown(b"X")), frame(b"a"), "crashes Postfix's smtpd"),
        ((*TO_RCPT[:2], mp.Unknown(b"X")), frame(b"d"), "crashes Postfix's smtpd"),
        (TO_RCPT, frame(b"p") + frame(b"c"), "Progress as a reply to RcptTo"),
        (TO_RCPT, frame(b"y", b"550 5.07.1 x\0"), "is no enhanced status code"),
        (TO_RCPT, frame(b"y", b"550 5.7.1 \xff\0"), "not printable ASCII"),
        (TO_RCPT[:1], frame(b"y", b"421-4.7.0 a\r\n421 4.7.0 b\0"), "one-line 421"),
        (
            (*TO_END, mp.EndOfMessage()),
            frame(b"q", b"\0") + frame(b"+", b"\0") + frame(b"a"),
            "a quarantine needs a reason / an empty address",
        ),
        (
            (*TO_END, mp.EndOfMessage()),
            frame(b"b", b"x" * 65536) + frame(b"a"),
            "a packet of 65541 bytes; Sendmail takes up to 65540",
        ),
    ],
)
def test_faults(commands: tuple[mp.Command, ...], last: bytes, found: str) -> None:
    """Said once, and the session goes on as it did: no fault is made of what follows."""
    then = () if last == frame(b"4") else (mp.Abort(), mp.MailFrom(b"<x@y>"), mp.RcptTo(b"<z@y>"))
    if commands[-1] is CLIENT:
        then = (mp.Helo(b"x"), *then)
    texts = list(faults(session(*commands, last=last, then=then)))
    expected = found.split(" / ")
    assert len(texts) == len(expected), texts
    assert all(part in text for part, text in zip(expected, texts, strict=True))


@pytest.mark.parametrize(
    ("commands", "answer", "text"),
    [
        (TO_RCPT[:1], frame(b"d"), "unfiltered"),
        (TO_RCPT, frame(b"p") + frame(b"c"), "Progress"),
        (TO_RCPT, frame(b"y", b"450 4.07.1 x\0"), "no enhanced status code"),
    ],
)
def test_one_fault_hides_no_other(
    commands: tuple[mp.Command, ...], answer: bytes, text: str
) -> None:
    """The session goes on after it, and so does the search."""
    recorder = Recorder(1)
    found = session(*commands, last=answer)
    for command, data in ((mp.Helo(b"x"), b"c"), (mp.Unknown(b"x"), b"a")):
        found += recorder.take(FROM_MTA, encode_command(command), 0)
        found += recorder.take(FROM_FILTER, frame(data), 0)
    one, other = faults(found)
    assert text in one
    assert "crashes" in other


def test_edits_that_were_not_negotiated() -> None:
    """MTAs do them all the same, but for one."""
    last = frame(b"h", b"X\0y\0") + frame(b"a")
    (text,) = faults(session(*TO_END, mp.EndOfMessage(), last=last, answer=negotiated(actions=2)))
    assert text == "AddHeader(...) needs Actions.ADDHDRS, which was not negotiated"


def test_the_largest_packet() -> None:
    """Is not too long."""
    last = frame(b"b", b"x" * 65535) + frame(b"a")
    assert list(faults(session(*TO_END, mp.EndOfMessage(), last=last))) == []


def test_macro_lists() -> None:
    """One that no MTA is against, and that does not do what it should."""
    answer = negotiated(rest=b"\0\0\0\5i\0")
    (text,) = faults(session(CLIENT, last=frame(b"c"), answer=answer))
    assert "EOH and EOM go together" in text


def test_sessions_that_end_early() -> None:
    """Somebody else says what was wrong there."""
    answers = [negotiated(version=7), negotiated(version=1), negotiated(actions=0xFFFF)]
    for answer in answers:
        assert list(faults(session(CLIENT, last=frame(b"d"), answer=answer))) == []
    # What can't be read; what nobody asked for; what was not answered.
    assert list(faults(session(CLIENT, last=frame(b"\x01") + frame(b"d")))) == []
    assert list(faults(session(CLIENT, mp.Abort(), last=b"")[:-1])) == []
    surplus = Recorder(1).take(FROM_FILTER, frame(b"c") + frame(b"d"), 0)
    assert list(faults([*session(CLIENT, last=frame(b"c")), *surplus])) == []
    silent = session(CLIENT, mp.Helo(b"x"), last=b"", then=(mp.Helo(b"y"),))
    assert list(faults(silent)) == []


@given(STREAMS, STREAMS)
def test_any_session(one: bytes, other: bytes) -> None:
    """Texts, and no error."""
    recorder = Recorder(1)
    start = session(*TO_END, mp.EndOfMessage(), last=b"")
    found = [*recorder.take(FROM_FILTER, one, 0), *recorder.take(FROM_MTA, other, 0)]
    assert all(isinstance(text, str) for text in faults([*start, *found]))
    assert all(isinstance(text, str) for text in faults(found))
