"""A conversation in any order."""

from __future__ import annotations

import pytest

import milterproto as mp
from milterproto._shell.talk import (
    DecidedError,
    Talk,
    Tap,
    at_end,
    bye,
    envelope,
    hello,
    transaction,
)
from milterproto.message import Message

from .peers import MESSAGE, Polite, Scripted, frame, negotiated


def test_a_message() -> None:
    """All of it reaches the filter, in order, and the end is clean."""
    peer = Scripted()
    talk = Talk(peer)
    talk.tell(*hello(MESSAGE.client), *transaction(talk, MESSAGE))
    assert list(bye(talk, peer)) == []
    kinds = [type(seen).__name__ for seen in peer.seen]
    assert kinds == [
        *("Negotiate", "Connect", "Helo", "MailFrom", "RcptTo", "RcptTo", "Data"),
        *("Header", "Header", "Header", "EndOfHeaders", "Body", "EndOfMessage", "Quit"),
    ]
    assert peer.seen[7] == mp.Header(b"From", b"a@example.org")
    assert envelope(MESSAGE)[1] == mp.RcptTo(b"<b@example.test>")


def test_what_is_not_wanted_is_left_out() -> None:
    """As negotiated, and as the version has it; the blank after a colon is negotiated, too."""
    steps = mp.Steps.NOBODY | mp.Steps.NOHELO | mp.Steps.HDR_LEADSPC | mp.Steps.NR_HDR
    peer = Scripted(steps=steps)
    talk = Talk(peer)
    talk.tell(*hello(MESSAGE.client), *transaction(talk, MESSAGE))
    kinds = {type(seen) for seen in peer.seen}
    assert mp.Body not in kinds
    assert mp.Helo not in kinds
    assert mp.Header(b"From", b" a@example.org") in peer.seen
    old = Scripted({mp.Negotiate: negotiated(version=2)})
    Talk(old).tell(mp.Data(), mp.Unknown(b"x"))
    assert len(old.seen) == 1


def test_a_long_body_is_in_pieces() -> None:
    """As long as a packet may be; the rest of it is skipped if the filter says so."""
    message = Message(body=b"x" * 65533 + b"\r\n" + b"y\r\n")
    peer = Scripted()
    talk = Talk(peer)
    assert [len(one.data) for one in talk.content(message) if isinstance(one, mp.Body)] == [
        65535,
        3,
    ]
    skipping = Scripted({mp.Body: frame(b"s")})
    talk = Talk(skipping)
    talk.tell(mp.Body(b"1"), mp.Body(b"2"), mp.EndOfMessage(), mp.Body(b"3"))
    assert mp.Body(b"2") not in skipping.seen
    assert mp.Body(b"3") in skipping.seen


@pytest.mark.parametrize("kind", [mp.Connect, mp.MailFrom, mp.RcptTo, mp.Data, mp.EndOfHeaders])
def test_a_filter_that_decides(kind: type[mp.Command]) -> None:
    """Then there is nothing more to be said."""
    talk = Talk(Scripted({kind: frame(b"r")}))
    with pytest.raises(DecidedError, match=f"Reject to {kind.__name__}"):
        talk.tell(*hello(MESSAGE.client), *transaction(talk, MESSAGE))


def test_verdicts_that_decide_nothing_more() -> None:
    """About an unknown command, and at the end; edits and Progress come before one."""
    end = frame(b"p") + frame(b"h", b"X\0y\0") + frame(b"r")
    talk = Talk(Scripted({mp.Unknown: frame(b"r"), mp.EndOfMessage: end}))
    talk.tell(mp.Unknown(b"x"), mp.EndOfMessage())


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (frame(b"c"), "Continue is no reply to Negotiate"),
        (negotiated(version=7), "version 7 is not between"),
        (None, "closed the connection, and owes a reply"),
        (frame(b"\x01"), "unknown code byte"),
        (frame(b"O"), "fewer than 12"),
        (negotiated() + frame(b"c"), "not asked for"),
    ],
)
def test_filters_that_break_the_protocol(answer: bytes | None, text: str) -> None:
    """Each is an error with a reason."""
    with pytest.raises(mp.RemoteProtocolError, match=text):
        Talk(Scripted({mp.Negotiate: answer})).tell(mp.Helo(b"x"))


def test_the_end() -> None:
    """Clean, or not."""
    assert list(at_end(Scripted({mp.Negotiate: None}))) == [
        "keeps the connection open at the end of the session"
    ]
    peer = Scripted({mp.Quit: b""})
    assert list(bye(Talk(peer), peer)) == ["keeps the connection open at the end of the session"]
    peer = Scripted({mp.Abort: frame(b"c")})
    talk = Talk(peer)
    talk.tell(mp.Abort())
    assert list(bye(talk, peer)) == ["sends 5 bytes more than it was asked for: 00 00 00 01 63"]


def test_a_tap_keeps_what_crosses_it() -> None:
    """Both ways, packet by packet; it is no more than a wire to the rest."""
    peer = Scripted()
    tap = Tap(peer)
    assert tap.last == "the connection"
    talk = Talk(tap)
    talk.tell(mp.Helo(b"x"))
    tap.shutdown(1)
    assert tap.recv(1) == b""
    tap.close()
    assert peer.closed
    assert tap.last == "Helo"
    kinds = [type(entry.seen).__name__ for entry in tap.entries]
    assert kinds == ["Negotiate", "Negotiate", "Helo", "Continue", "ConnectionClosed"]


def test_with_a_filter_of_ours() -> None:
    """One that works on whole messages."""
    peer = Polite(lambda message: message.headers.append("X", b"y"))
    talk = Talk(peer)
    talk.tell(*hello(MESSAGE.client), *transaction(talk, MESSAGE))
    assert list(bye(talk, peer)) == []
