"""What is found in filters: nothing in one that is right, and each fault in one that is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import milterproto as mp
from milterproto._shell.bench import Check, Outcome, run
from milterproto._shell.checks import CHECKS
from milterproto.message import Message, MessageFilter
from milterproto.testing import EventFilter

from .peers import MESSAGE, Answer, Polite, Scripted, frame, negotiated

BY_NAME = {check.name: check for check in CHECKS}
BARE = Message.parse(b"", sender=b"<a@example.org>", recipients=[b"<b@example.test>"])


def judge(message: Message) -> mp.Verdict | None:
    """Something of everything."""
    message.headers.set("Subject", b"new")
    message.headers.insert(0, "X-Top", b"top")
    message.headers.append("X-End", b"end")
    message.replace_body(message.body + b"more\n")
    message.add_recipient(b"<d@example.test>")
    return None


def events(conn: mp.FilterConnection) -> Any:
    return lambda _event: mp.Continue() if conn.our_turn else None


FILTERS: dict[str, Callable[[], Any]] = {
    "messages": lambda: Polite(judge),
    "no-body": lambda: Polite(MessageFilter(judge, body=False)),
    "events": lambda: Polite(EventFilter(events, mp.Wants())),
    "silent": lambda: Polite(EventFilter(events, mp.Wants(replies=(), leading_space=True))),
    "nothing": lambda: Polite(EventFilter(events, mp.Wants(events=()))),
    "skips": lambda: Polite(EventFilter(skipping, mp.Wants())),
    "scripted": Scripted,
}


def skipping(conn: mp.FilterConnection) -> Any:
    def handle(event: Any) -> mp.Response | None:
        if isinstance(event, mp.Body):
            can = conn.negotiated and conn.negotiated.steps & mp.Steps.SKIP
            return mp.Skip() if can else mp.Continue()
        return mp.Continue() if conn.our_turn else None

    return handle


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
@pytest.mark.parametrize("name", FILTERS)
def test_nothing_is_found_in_filters_that_are_right(check: Check, name: str) -> None:
    """Whatever they want of the events, and whatever they say."""
    for message in (MESSAGE, BARE):
        assert run(check, FILTERS[name], message) == Outcome(check)


@pytest.mark.parametrize(
    "verdict", [mp.Accept(), mp.Reject(), mp.TempFail(), mp.ReplyCode.text(450, None, "Later")]
)
@pytest.mark.parametrize(
    "kind", [mp.Connect, mp.Helo, mp.MailFrom, mp.RcptTo, mp.Data, mp.Header, mp.EndOfMessage]
)
def test_a_filter_that_decides_early_is_not_wrong(
    kind: type[mp.Command], verdict: mp.Verdict
) -> None:
    """It is not gone through to the end, that is all."""

    def session(conn: mp.FilterConnection) -> Any:
        def handle(event: Any) -> mp.Response | None:
            if conn.our_turn:
                return verdict if isinstance(event, kind) else mp.Continue()
            return None

        return handle

    for check in CHECKS:
        outcome = run(check, lambda: Polite(EventFilter(session, mp.Wants())), MESSAGE)
        assert outcome.findings == (), check.name
        if outcome.decided:
            assert kind.__name__ in outcome.decided


def of_version_6(_offer: Any) -> bytes:
    return negotiated()


def twice(kind: bytes) -> bytes:
    return frame(kind) * 2


WRONG: list[tuple[str, dict[type, Answer], str]] = [
    ("version-2", {mp.Negotiate: of_version_6}, "version 6 is not between 2 and 2"),
    ("version-4", {mp.Negotiate: negotiated(steps=0x400, version=4)}, "steps 0x400"),
    ("few-actions", {mp.Negotiate: negotiated(actions=0)}, ""),
    ("few-actions", {mp.Negotiate: None}, ""),
    ("postfix", {mp.Negotiate: negotiated(rest=b"\0\0\0\5i\0")}, "EOH and EOM go together"),
    ("postfix", {mp.Helo: b""}, "no answer to Helo"),
    ("postfix", {mp.Helo: None}, "after Helo: the filter has closed the connection"),
    ("postfix", {mp.Helo: twice(b"c")}, "after Helo: the filter sent something that"),
    ("no-helo", {mp.Quit: b""}, "keeps the connection open"),
    ("postfix", {mp.Abort: frame(b"c")}, "not asked for"),
    ("postfix", {mp.MailFrom: frame(b"s")}, "Skip is no reply to MailFrom"),
    ("postfix", {mp.RcptTo: frame(b"s")}, "asks the filter nothing more"),
    ("postfix", {mp.Connect: frame(b"d")}, "through unfiltered"),
    ("postfix", {mp.RcptTo: frame(b"p") + frame(b"c")}, "Progress as a reply to RcptTo"),
    ("postfix", {mp.EndOfMessage: frame(b"h", b"X\0a\rb\0") + frame(b"a")}, "has a NUL, a CR"),
    ("postfix", {mp.EndOfMessage: frame(b"b", b"x" * 65536) + frame(b"a")}, "up to 65540"),
    ("same-again", {}, ""),
    ("unknown", {mp.Unknown: frame(b"a")}, "crashes Postfix's smtpd"),
    ("unknown-in-message", {mp.Unknown: b""}, "no answer to Unknown"),
    ("no-helo", {mp.MailFrom: b""}, "no answer to MailFrom"),
    ("broken-macros", {mp.Macros: None}, "the connection is broken"),
    ("macros", {mp.Macros: frame(b"c")}, "after MailFrom: the filter sent something"),
    ("vanish", {mp.Connect: None}, "after Connect: the filter has closed"),
    ("zero-length", {str: b""}, "goes on waiting"),
    ("web-browser", {str: frame(b"c")}, "answers 00 00 00 01 63"),
    ("unknown-code", {str: frame(b"y", b"550 x\0")}, ""),
    ("body-at-end", {mp.EndOfMessage: twice(b"c")}, "something that it was not asked for"),
]


@pytest.mark.parametrize(("name", "answers", "found"), WRONG)
def test_faults_are_found(name: str, answers: dict[type, Answer], found: str) -> None:
    """Each by a check that is about it."""
    outcome = run(BY_NAME[name], lambda: Scripted(answers), MESSAGE)
    assert found in " ".join(outcome.findings)
    assert bool(found) is bool(outcome.findings)


def test_a_filter_that_remembers_too_much() -> None:
    """The message after one that was given up is judged as that."""

    def session(conn: mp.FilterConnection) -> Any:
        seen: list[bytes] = []

        def handle(event: Any) -> Any:
            if isinstance(event, mp.Header):
                seen.append(event.name)
            if isinstance(event, mp.EndOfMessage) and b"X-Other" in seen:
                return [mp.AddHeader(b"X-Seen", b"1"), mp.Reject()]
            return mp.Continue() if conn.our_turn else None

        return handle

    wants = mp.Wants(actions=mp.Actions(0x1FF))
    outcome = run(BY_NAME["same-again"], lambda: Polite(EventFilter(session, wants)), MESSAGE)
    (text,) = outcome.findings
    assert text == (
        "Continue if a message is the first of its connection, "
        "AddHeader X-Seen + Reject if others were given up before it"
    )


def test_a_filter_that_serves_one_at_a_time() -> None:
    """The second connection gets no answer."""
    peers = [Scripted(), Scripted({mp.Negotiate: b""})]
    outcome = run(BY_NAME["two-at-once"], lambda: peers.pop(0), MESSAGE)
    assert outcome.findings == ("no answer to Negotiate",)


def test_a_filter_that_dies() -> None:
    """The junk was one too much, and that is what is said."""
    peers = [Scripted({str: b""})]

    def connect() -> Scripted:
        if not peers:
            raise ConnectionRefusedError("Connection refused")
        return peers.pop()

    outcome = run(BY_NAME["huge-length"], connect, MESSAGE)
    assert outcome.gone
    assert outcome.findings == (
        "goes on waiting, instead of closing the connection",
        "takes no connections any more: Connection refused",
    )


def test_a_filter_that_resets_the_connection() -> None:
    """As good as an end of file, over junk."""

    class Resetting(Scripted):
        def recv(self, size: int, /) -> bytes:
            if any(isinstance(seen, str) for seen in self.seen):
                raise ConnectionResetError("reset")
            return super().recv(size)

    peers = [Resetting({str: b""}), Scripted()]
    assert run(BY_NAME["unknown-code"], lambda: peers.pop(0), MESSAGE).findings == ()
