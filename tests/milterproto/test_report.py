"""What the tools say."""

from __future__ import annotations

import json
from typing import Any

import pytest

import milterproto as mp
from milterproto._shell.bench import Check, Outcome
from milterproto._shell.replay import Difference
from milterproto._shell.report import (
    Status,
    diff_lines,
    entry_lines,
    outcome_json,
    outcome_lines,
    replay_lines,
    sent_json,
    sent_lines,
    session_json,
    session_lines,
    status_of,
    summary,
    transcript_json,
)
from milterproto._shell.stages import BAD, EDIT, GOOD, LATER, PLAIN, QUIET
from milterproto._shell.transcript import FROM_FILTER, Entry
from milterproto.message import Message, Recipient
from milterproto.testing import deliver

from .peers import MESSAGE, Scripted, frame
from .test_stages import entries


def saying(*responses: mp.Response) -> Any:
    return lambda _message: responses[0]


def nobody(message: Message) -> None:
    message.recipients.clear()


def held(message: Message) -> None:
    message.quarantine(b"odd")


RESULTS = [
    (lambda _message: None, Status.GOOD, "accepted"),
    (held, Status.GOOD, "accepted, and held: odd"),
    (nobody, Status.BAD, "refused: nobody is left to get it"),
    (saying(mp.Reject()), Status.BAD, "refused at EndOfMessage: Reject"),
    (saying(mp.Discard()), Status.BAD, "refused at EndOfMessage: Discard"),
    (saying(mp.TempFail()), Status.LATER, "temporary at EndOfMessage: TempFail"),
    (
        saying(mp.ReplyCode.text(550, "5.7.1", "No")),
        Status.BAD,
        "refused at EndOfMessage: ReplyCode 550 5.7.1 No",
    ),
    (
        saying(mp.ReplyCode.text(450, "4.7.1", "Later")),
        Status.LATER,
        "temporary at EndOfMessage: ReplyCode 450 4.7.1 Later",
    ),
]


@pytest.mark.parametrize(("judge", "status", "text"), RESULTS)
def test_what_became_of_a_message(judge: Any, status: Status, text: str) -> None:
    """As a number, in a line, and in JSON."""
    result = deliver(judge, MESSAGE)
    assert status_of(result) is status
    assert summary(result) == text
    *_, empty, last = sent_lines(MESSAGE, result)
    assert empty == (PLAIN, "")
    assert last == ({Status.GOOD: GOOD, Status.BAD: BAD, Status.LATER: LATER}[status], text)
    found = json.loads(json.dumps(sent_json(MESSAGE, result, [])))
    assert (found["status"], found["summary"]) == (text.split(maxsplit=1)[0].strip(",:"), text)
    assert (found["message"] is None) is (result.message is None)
    assert found["stage"] == "EndOfMessage"


@pytest.mark.parametrize(
    ("code", "status"), [(b"4", Status.LATER), (b"f", Status.BROKEN), (b"d", Status.BAD)]
)
def test_verdicts_of_filters_of_other_makes(code: bytes, status: Status) -> None:
    """That ours may not give."""
    result = deliver(Scripted({mp.MailFrom: frame(code)}), MESSAGE)
    assert status_of(result) is status
    assert "at MailFrom" in summary(result)


def test_all_of_it_in_json() -> None:
    """Edits, recipients that were refused, the message, the diff and the session."""

    def judge(message: Message) -> None:
        message.headers.append("X", b"\xff")
        message.quarantine(b"odd")

    from milterproto.message import MessageFilter

    def on_recipient(_message: Message, to: Recipient) -> mp.Verdict | None:
        return mp.Reject() if to.mailbox == b"c@example.test" else None

    result = deliver(MessageFilter(judge, on_recipient=on_recipient), MESSAGE)
    found = sent_json(MESSAGE, result, entries(mp.Helo(b"x"), mp.Continue()))
    assert found["refused"] == [{"recipient": "<c@example.test>", "verdict": {"event": "Reject"}}]
    assert found["edits"][0] == {"event": "AddHeader", "name": "X", "value": " \udcff"}
    assert found["message"]["sender"] == "<a@example.org>"
    assert found["message"]["recipients"] == ["<b@example.test>"]
    assert found["message"]["quarantined"] == "odd"
    assert found["message"]["content"].startswith("From: a@example.org\r\n")
    assert "-RCPT TO:<c@example.test>" in found["diff"]
    assert found["verdict"] == {"event": "Continue"}
    assert found["session"] == [
        {"way": ">", "event": "Helo", "name": "x"},
        {"way": "<", "event": "Continue"},
    ]


def test_the_diff() -> None:
    """Envelopes and contents; folded fields keep their tabs; nothing moves the cursor."""
    after = MESSAGE.copy()
    after.sender_parameters = (b"RET=HDRS",)
    after.quarantine(b"odd")
    after.headers.append("X", b"a\n\tb\x1b")
    after.recipients[1] = Recipient(b"<d@example.test>", (b"NOTIFY=NEVER",))
    assert list(diff_lines(MESSAGE, after)) == [
        (BAD, "--- as it was sent"),
        (GOOD, "+++ as it is delivered"),
        (EDIT, "@@ -1,8 +1,11 @@"),
        (BAD, "-MAIL FROM:<a@example.org>"),
        (GOOD, "+MAIL FROM:<a@example.org> RET=HDRS"),
        (QUIET, " RCPT TO:<b@example.test>"),
        (BAD, "-RCPT TO:<c@example.test>"),
        (GOOD, "+RCPT TO:<d@example.test> NOTIFY=NEVER"),
        (GOOD, "+held: odd"),
        (QUIET, " From: a@example.org"),
        (QUIET, " To: b@example.test"),
        (QUIET, " Subject: hi"),
        (GOOD, "+X: a"),
        (GOOD, "+\tb\\x1b"),
        (QUIET, " "),
        (QUIET, " body"),
    ]
    assert list(diff_lines(MESSAGE, MESSAGE)) == []


def test_the_session() -> None:
    """A line for each answer; what has none is quiet; what nobody asked for has no line."""
    edit = mp.AddHeader(b"X", b"y")
    said = entries(mp.Continue(), mp.Helo(b"x"), mp.Continue(), mp.Abort())
    said += entries(mp.EndOfMessage(), edit, mp.Accept())
    assert list(session_lines(said)) == [
        (GOOD, f"{'Helo x':<46} Continue"),
        (QUIET, "Abort"),
        (EDIT, f"{'EndOfMessage':<46} AddHeader X y"),
        (GOOD, f"{'':<46} Accept"),
    ]
    unread = [*entries(mp.Helo(b"x")), Entry(1, 0, FROM_FILTER, b"\x01", b"")]
    assert list(session_lines(unread)) == [(BAD, f"{'Helo x':<46} unknown code byte 0x01")]


def test_a_transcript() -> None:
    """An event on each line."""
    said = [*entries(mp.Helo(b"x"), mp.Continue(), frame(b"\x01")), Entry(2, 1.5, ">", b"", b"")]
    assert list(entry_lines(said)) == [
        (PLAIN, "1    0.0000 > Helo x"),
        (GOOD, "1    0.0000 < Continue"),
        (BAD, "1    0.0000 > unknown code byte 0x01"),
        (PLAIN, "2    1.5000 > ConnectionClosed"),
    ]
    unreadable = {"way": ">", "event": "Unreadable", "why": "unknown code byte 0x01"}
    assert session_json(said)[2] == unreadable
    assert transcript_json(said)[2] == {"connection": 1, "seconds": 0, **unreadable}
    assert transcript_json(said)[3] == {
        "connection": 2,
        "seconds": 1.5,
        "way": ">",
        "event": "ConnectionClosed",
    }


def test_differences() -> None:
    """Then and now, and how many."""
    difference = Difference(1, mp.Helo(b"x"), (mp.Continue(),), (mp.Reject(),))
    assert list(replay_lines([difference])) == [
        (PLAIN, "connection 1, Helo x"),
        (BAD, "- Continue"),
        (GOOD, "+ Reject"),
        (BAD, "1 difference"),
    ]
    assert list(replay_lines([difference] * 2))[-1] == (BAD, "2 differences")
    assert list(replay_lines([])) == [(GOOD, "the same")]


def test_checks() -> None:
    """Their names in a column; what was found, and what to do."""
    check = Check("name", "what", "do this", lambda _bench: iter(()))
    hint = Check("name", "what", "do this", lambda _bench: iter(()), serious=False)
    assert list(outcome_lines(Outcome(check))) == [(GOOD, "ok      name                what")]
    assert list(outcome_lines(Outcome(check, decided="the filter said Reject to Helo"))) == [
        (GOOD, "ok      name                what (the filter said Reject to Helo)")
    ]
    assert list(outcome_lines(Outcome(check, ("a", "b")))) == [
        (BAD, "WRONG   name                what"),
        (BAD, "        a"),
        (BAD, "        b"),
        (PLAIN, "        To do: do this."),
    ]
    assert next(outcome_lines(Outcome(hint, ("a",)))) == (
        LATER,
        "warning name                what",
    )
    assert outcome_json(Outcome(hint, ("a",), "x", gone=True)) == {
        "check": "name",
        "serious": False,
        "findings": ["a"],
        "decided": "x",
        "gone": True,
    }
