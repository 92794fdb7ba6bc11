"""What the tools say: lines with a style for each, or an object for JSON."""

from __future__ import annotations

import difflib
import enum
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, TypeAlias, cast

from milterproto._events import Command, ConnectionFailure, ReplyCode, Shutdown, TempFail, Verdict
from milterproto._message import Message
from milterproto._mta import Result
from milterproto._shell.bench import Outcome
from milterproto._shell.replay import Difference
from milterproto._shell.stages import BAD, EDIT, GOOD, LATER, PLAIN, QUIET, stages, style_of
from milterproto._shell.transcript import FROM_MTA, Entry
from milterproto._shell.words import as_json, shown, text_of, words

Line: TypeAlias = tuple[str, str]
"""A style, and a text of one line."""

_COLUMN: Final = 46


class Status(enum.IntEnum):
    """The exit status of each tool; 2 is argparse's, for a command line that makes no sense."""

    GOOD = 0
    """Accepted, the same, or nothing found."""
    BAD = 1
    """Refused, not the same, or something found."""
    LATER = 3
    """A temporary error."""
    BROKEN = 4
    """No session, or not to its end: nobody there, or no milter."""


_NAMES: Final = {
    Status.GOOD: "accepted",
    Status.BAD: "refused",
    Status.LATER: "temporary",
    Status.BROKEN: "broken",
}


# --- send ----------------------------------------------------------------------------------


def status_of(result: Result) -> Status:
    """What has become of a message."""
    match result.verdict:
        case TempFail() | Shutdown():
            return Status.LATER
        case ReplyCode(code) if code[:1] == b"4":
            return Status.LATER
        case ConnectionFailure():
            return Status.BROKEN  # to any MTA
        case _:
            return Status.GOOD if result.accepted else Status.BAD


def session_lines(entries: Iterable[Entry]) -> Iterator[Line]:
    """What was said at each stage."""
    for stage in stages(entries):
        if not stage.title:
            continue
        if not stage.answers:
            yield QUIET, stage.title
            continue
        title = stage.title
        for answer in stage.answers:
            yield style_of(answer), f"{title:<{_COLUMN}} {words(answer)}"
            title = ""


def sent_lines(before: Message, result: Result) -> Iterator[Line]:
    """What has become of a message: a diff, and a verdict."""
    if result.message is not None:
        yield from diff_lines(before, result.message)
    yield PLAIN, ""
    status = status_of(result)
    style = {Status.GOOD: GOOD, Status.LATER: LATER}.get(status, BAD)
    yield style, summary(result)


def summary(result: Result) -> str:
    """What has become of a message, in a line."""
    status = status_of(result)
    if status is Status.GOOD and result.message is not None:
        held = result.message.quarantined
        return "accepted" if held is None else f"accepted, and held: {shown(held)}"
    if result.message is not None:
        return "refused: nobody is left to get it"
    return f"{_NAMES[status]} at {_stage(result)}: {words(_verdict(result))}"


def diff_lines(before: Message, after: Message) -> Iterator[Line]:
    """A unified diff of two messages, envelopes and all."""
    styles = {"+": GOOD, "-": BAD, "@": EDIT}
    for line in _diff(before, after):
        yield styles.get(line[:1], QUIET), line


def sent_json(before: Message, result: Result, entries: Sequence[Entry]) -> dict[str, Any]:
    """All of it."""
    after = result.message
    return {
        "status": _NAMES[status_of(result)],
        "summary": summary(result),
        "verdict": as_json(_verdict(result)),
        "stage": _stage(result),
        "edits": [as_json(edit) for edit in result.edits],
        "refused": [
            {"recipient": text_of(recipient.address), "verdict": as_json(verdict)}
            for recipient, verdict in result.refused
        ],
        "message": None
        if after is None
        else {
            "sender": text_of(after.sender),
            "recipients": [text_of(one.address) for one in after.recipients],
            "quarantined": None if after.quarantined is None else text_of(after.quarantined),
            "content": text_of(after.content),
        },
        "diff": [] if after is None else list(_diff(before, after)),
        "session": session_json(entries),
    }


def session_json(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """Each event of one connection, in order."""
    return [{"way": entry.way, **as_json(entry.seen)} for entry in entries]


# Neither can be None: `send` gives no message up.
def _verdict(result: Result) -> Verdict:
    return cast("Verdict", result.verdict)


def _stage(result: Result) -> str:
    return cast("type[Command]", result.stage).__name__


def _diff(before: Message, after: Message) -> Iterator[str]:
    names = "as it was sent", "as it is delivered"
    return difflib.unified_diff(_lines(before), _lines(after), *names, lineterm="")


def _lines(message: Message) -> list[str]:
    lines = [b" ".join([b"MAIL FROM:" + message.sender, *message.sender_parameters])]
    lines += [b" ".join([b"RCPT TO:" + to.address, *to.parameters]) for to in message.recipients]
    if message.quarantined is not None:
        lines.append(b"held: " + message.quarantined)
    lines += message.content.removesuffix(b"\r\n").split(b"\r\n")
    # Tabs, with which fields are folded, as they are.
    return ["\t".join(map(shown, line.split(b"\t"))) for line in lines]


# --- show, replay, check -------------------------------------------------------------------


def entry_lines(entries: Iterable[Entry]) -> Iterator[Line]:
    """A transcript, an event on each line."""
    for entry in entries:
        seen = entry.seen
        style = PLAIN if entry.way == FROM_MTA and not isinstance(seen, str) else style_of(seen)
        yield style, f"{entry.connection} {entry.seconds:9.4f} {entry.way} {words(seen)}"


def transcript_json(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """The same for `json.dumps`."""
    return [
        {
            "connection": entry.connection,
            "seconds": entry.seconds,
            "way": entry.way,
            **as_json(entry.seen),
        }
        for entry in entries
    ]


def replay_lines(found: Sequence[Difference]) -> Iterator[Line]:
    """What is not as it was."""
    styles = {"+": GOOD, "-": BAD}
    for difference in found:
        for line in difference.text:
            yield styles.get(line[:1], PLAIN), line
    if found:
        yield BAD, f"{len(found)} difference{'s' if len(found) > 1 else ''}"
    else:
        yield GOOD, "the same"


def outcome_lines(outcome: Outcome) -> Iterator[Line]:
    """What has come of a check."""
    check = outcome.check
    if not outcome.findings:
        decided = f" ({outcome.decided})" if outcome.decided else ""
        yield GOOD, f"ok      {check.name:<19} {check.what}{decided}"
        return
    style, word = (BAD, "WRONG  ") if check.serious else (LATER, "warning")
    yield style, f"{word} {check.name:<19} {check.what}"
    for finding in outcome.findings:
        yield style, f"        {finding}"
    yield PLAIN, f"        To do: {check.advice}."


def outcome_json(outcome: Outcome) -> dict[str, Any]:
    """The same for `json.dumps`."""
    return {
        "check": outcome.check.name,
        "serious": outcome.check.serious,
        "findings": list(outcome.findings),
        "decided": outcome.decided,
        "gone": outcome.gone,
    }
