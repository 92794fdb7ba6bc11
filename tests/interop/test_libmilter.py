"""Our MTA's side drives a filter on the real libmilter, and both understand the same."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import milterproto as mp
from tests.milterproto import strategies

from ._libmilter import MTA, Called, Program, build, counting, on, on_replace_body

INET = mp.Connect(b"client.test", mp.Family.INET, 25, b"192.0.2.1")


@pytest.fixture(scope="module")
def program(
    tmp_path_factory: pytest.TempPathFactory, require_program: Callable[[str, str], Path]
) -> Path:
    """The compiled filter."""
    require_program("gcc", "gcc")
    require_program("/usr/include/libmilter/mfapi.h", "libmilter-dev")
    return build(tmp_path_factory.mktemp("libmilter"))


@pytest.fixture(scope="module")
def sockets() -> Iterator[Path]:
    """A directory with a short name, for a unix socket's path has 108 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="mailwire-") as directory:
        yield Path(directory)


@pytest.fixture
def peer(program: Path, sockets: Path) -> Iterator[Program]:
    """A filter that wants every event, may do everything, and says Continue."""
    with Program(program, sockets / "filter") as running:
        yield running


def negotiating(actions: int = 0x1FF, steps: int = 0) -> str:
    """A rule: the answer to the offer."""
    return on("negotiate", "offer", actions, steps)


def calls_of(filter_: Program) -> list[Called]:
    """The callbacks of the connection, without the negotiation."""
    first, *calls = filter_.session()
    assert first.callback == "negotiate"
    return calls


# --- negotiation -------------------------------------------------------------------------


@pytest.mark.parametrize("version", [2, 3, 4, 6])
def test_offers_are_understood(peer: Program, version: int) -> None:
    """libmilter takes our offer of each version, and we its answer: all actions, no steps."""
    offer = mp.offer(version)
    with MTA(peer.path) as mta:
        answer = mta.negotiate(offer)
        mta.ask(mp.Quit())
        assert mta.at_end()
    (negotiation,) = peer.session()
    no_replies = mp.Steps(0xFF080)
    assert answer == mp.Negotiate(version, mp.ALL_ACTIONS, mp.Steps(0))
    # libmilter shows its filter all NR bits, and answers by itself where the MTA has none.
    seen = b"%d" % offer.actions, b"%d" % (offer.steps | no_replies)
    assert negotiation == Called("negotiate", seen)


@pytest.mark.parametrize("version", [2, 3, 4, 6])
def test_all_options(peer: Program, version: int) -> None:
    """A filter that takes all it can get answers with Skip where it was offered."""
    peer.script(on("negotiate", "all"))
    offer = mp.offer(version)
    with MTA(peer.path) as mta:
        answer = mta.negotiate(offer)
    assert answer == mp.Negotiate(version, offer.actions, offer.steps & mp.Steps.SKIP)


def test_a_newer_step_ends_the_negotiation(peer: Program) -> None:
    """A filter that needs what was not offered closes, which is a clean end to us."""
    peer.script(negotiating(steps=mp.Steps.HDR_LEADSPC))
    with MTA(peer.path) as mta:
        assert mta.ask(mp.offer(2)) == [mp.ConnectionClosed()]


# libmilter's own numbers, written out: end of message comes before end of headers.
SMFIM = {
    mp.Stage.CONNECT: 0,
    mp.Stage.HELO: 1,
    mp.Stage.MAIL: 2,
    mp.Stage.RCPT: 3,
    mp.Stage.DATA: 4,
    mp.Stage.EOM: 5,
    mp.Stage.EOH: 6,
}


@pytest.mark.parametrize(
    ("lists", "macros"),
    [
        ({}, ()),
        ({0: b"j {daemon_name}"}, ((0, (b"j", b"{daemon_name}")),)),
        (
            {stage: b"{one} %d" % stage for stage in reversed(range(7))},
            tuple((stage, (b"{one}", b"%d" % stage)) for stage in range(7)),
        ),
    ],
)
def test_macro_lists(
    peer: Program, lists: dict[int, bytes], macros: tuple[tuple[int, tuple[bytes, ...]], ...]
) -> None:
    """The macros that a filter asks for come out as `macros_wanted`."""
    peer.script(*(on("negotiate", "symlist", stage, names) for stage, names in lists.items()))
    with MTA(peer.path) as mta:
        assert mta.negotiate().macros == macros
        assert {SMFIM[stage]: mta.conn.macros_wanted(stage) for stage in mp.Stage} == {
            number: dict(macros).get(number) for number in range(7)
        }


NAMES: dict[type[mp.Command], str] = {
    mp.Connect: "connect",
    mp.Helo: "helo",
    mp.MailFrom: "mail",
    mp.RcptTo: "rcpt",
    mp.Data: "data",
    mp.Header: "header",
    mp.EndOfHeaders: "eoh",
    mp.Body: "body",
    mp.EndOfMessage: "eom",
    mp.Unknown: "unknown",
}
COMMANDS: dict[type[mp.Command], mp.Command] = {
    mp.Connect: INET,
    mp.Helo: mp.Helo(b"h"),
    mp.MailFrom: mp.MailFrom(b"<a@b>"),
    mp.RcptTo: mp.RcptTo(b"<c@d>"),
    mp.Data: mp.Data(),
    mp.Header: mp.Header(b"N", b"v"),
    mp.EndOfHeaders: mp.EndOfHeaders(),
    mp.Body: mp.Body(b"x"),
    mp.EndOfMessage: mp.EndOfMessage(),
    mp.Unknown: mp.Unknown(b"FOO"),
    mp.Abort: mp.Abort(),
    mp.Quit: mp.Quit(),
}
SUPPRESS: dict[type[mp.Command], mp.Steps] = {
    mp.Connect: mp.Steps.NOCONNECT,
    mp.Helo: mp.Steps.NOHELO,
    mp.MailFrom: mp.Steps.NOMAIL,
    mp.RcptTo: mp.Steps.NORCPT,
    mp.Data: mp.Steps.NODATA,
    mp.Header: mp.Steps.NOHDRS,
    mp.EndOfHeaders: mp.Steps.NOEOH,
    mp.Body: mp.Steps.NOBODY,
    mp.Unknown: mp.Steps.NOUNKNOWN,
}
NO_REPLY: dict[type[mp.Command], mp.Steps] = {
    mp.Connect: mp.Steps.NR_CONN,
    mp.Helo: mp.Steps.NR_HELO,
    mp.MailFrom: mp.Steps.NR_MAIL,
    mp.RcptTo: mp.Steps.NR_RCPT,
    mp.Data: mp.Steps.NR_DATA,
    mp.Header: mp.Steps.NR_HDR,
    mp.EndOfHeaders: mp.Steps.NR_EOH,
    mp.Body: mp.Steps.NR_BODY,
    mp.Unknown: mp.Steps.NR_UNKN,
}
MESSAGE: list[type[mp.Command]] = [
    mp.MailFrom,
    mp.RcptTo,
    mp.Data,
    mp.Header,
    mp.EndOfHeaders,
    mp.Body,
    mp.EndOfMessage,
]
TWO_MESSAGES: list[type[mp.Command]] = [
    mp.Connect,
    mp.Unknown,
    mp.Helo,
    *MESSAGE,
    mp.Abort,
    *MESSAGE,
    mp.Quit,
]


def send_two_messages(mta: MTA) -> list[tuple[str, list[mp.Response | mp.ConnectionClosed]]]:
    """Send all that the filter wants; callbacks to expect, and the answers."""
    sent = []
    for kind in TWO_MESSAGES:
        if mta.conn.wants(kind):
            answers = mta.ask(COMMANDS[kind])
            if kind in NAMES:
                sent.append((NAMES[kind], answers))
    return sent


def steps_of(kind: type[mp.Command] | None, table: dict[type[mp.Command], mp.Steps]) -> mp.Steps:
    """One event's bit of a table, or all of them for None."""
    steps = mp.Steps(0)
    for one, step in table.items():
        steps |= step if kind in (one, None) else mp.Steps(0)
    return steps


@pytest.mark.parametrize("kind", [*SUPPRESS, None])
def test_unwanted_events(peer: Program, kind: type[mp.Command] | None) -> None:
    """`wants` leaves out just the events with a NO bit, and libmilter answers all others."""
    steps = steps_of(kind, SUPPRESS)
    peer.script(negotiating(steps=steps))
    with MTA(peer.path) as mta:
        assert mta.negotiate().steps == steps
        sent = send_two_messages(mta)
        assert mta.at_end()
    assert all(answers == [mp.Continue()] for _, answers in sent)
    assert [name for name, _ in sent] == [
        NAMES[one]
        for one in TWO_MESSAGES
        if one in NAMES and not (one in SUPPRESS and kind in (one, None))
    ]
    # Without MAIL, libmilter calls "abort" for an Abort after the end of a message, too.
    calls = [call.callback for call in calls_of(peer) if call.callback != "abort"]
    assert calls == [name for name, _ in sent]


@pytest.mark.parametrize("kind", [*SUPPRESS, None])
def test_unanswered_events(peer: Program, kind: type[mp.Command] | None) -> None:
    """An event with an NR bit is not waited for, and the one after it gets its own answer."""
    steps = steps_of(kind, NO_REPLY)
    peer.script(
        negotiating(steps=steps),
        *(on(NAMES[one], "noreply") for one in NO_REPLY if kind in (one, None)),
    )
    with MTA(peer.path) as mta:
        assert mta.negotiate().steps == steps
        sent = send_two_messages(mta)
        assert mta.at_end()
    silent = {NAMES[one] for one in NO_REPLY if kind in (one, None)}
    assert [answers for _, answers in sent] == [
        [] if name in silent else [mp.Continue()] for name, _ in sent
    ]
    assert [call.callback for call in calls_of(peer)] == [name for name, _ in sent]


def test_no_reply_is_made_up_for_an_old_mta(peer: Program) -> None:
    """NR bits that we do not offer are not answered with, and libmilter then replies itself."""
    peer.script(negotiating(steps=mp.Steps.NR_BODY | mp.Steps.NR_HDR), on("body", "noreply"))
    with MTA(peer.path) as mta:
        assert mta.negotiate(mp.offer(4)).steps == 0
        assert all(answers == [mp.Continue()] for _, answers in send_two_messages(mta))


def test_versions_without_data_and_unknown(peer: Program) -> None:
    """With an old version, we send neither of the later events, and need neither."""
    for version, later in ((2, {"data", "unknown"}), (3, {"data"}), (4, set())):
        with MTA(peer.path) as mta:
            mta.negotiate(mp.offer(version))
            sent = [name for name, _ in send_two_messages(mta)]
        assert [call.callback for call in calls_of(peer)] == sent
        assert {"data", "unknown"} - set(sent) == later


def test_leading_space_and_rejected_recipients(peer: Program) -> None:
    """Steps without an event of their own are agreed on, too."""
    steps = mp.Steps.HDR_LEADSPC | mp.Steps.RCPT_REJ | mp.Steps.SKIP
    peer.script(negotiating(actions=0x11, steps=steps))
    with MTA(peer.path) as mta:
        assert mta.negotiate() == mp.Negotiate(6, mp.Actions(0x11), steps)


# --- what the callbacks are told -----------------------------------------------------------


def told(
    filter_: Program, *commands: mp.Command, offer: mp.Negotiate | None = None
) -> list[Called]:
    """The callbacks for these commands, all of which the filter answers with Continue."""
    with MTA(filter_.path) as mta:
        mta.negotiate(offer)
        for command in commands:
            assert mta.ask(command) in ([mp.Continue()], [])
        mta.ask(mp.Quit())
        assert mta.at_end()
    return calls_of(filter_)


@pytest.mark.parametrize(
    ("connect", "arguments"),
    [
        (INET, (b"client.test", b"4", b"25", b"192.0.2.1")),
        (
            mp.Connect(b"[192.0.2.1]", mp.Family.INET, 0, b"192.0.2.1"),
            (b"[192.0.2.1]", b"4", b"0", b"192.0.2.1"),
        ),
        (
            mp.Connect(b"h", mp.Family.INET6, 65535, b"2001:db8::1"),
            (b"h", b"6", b"65535", b"2001:db8::1"),
        ),
        (
            mp.Connect(b"h", mp.Family.INET6, 1, b"IPv6:2001:db8:0:0:0:0:0:1"),
            (b"h", b"6", b"1", b"2001:db8::1"),
        ),
        (mp.Connect(b"localhost", mp.Family.UNIX, 0, b"/a b"), (b"localhost", b"L", b"/a b")),
        (mp.Connect(b"", mp.Family.UNKNOWN), (b"", b"U")),
        (mp.Connect(b"h\xff", mp.Family.UNKNOWN), (b"h\xff", b"U")),
    ],
    ids=["inet", "brackets", "inet6", "prefix", "unix", "unknown", "8-bit"],
)
def test_connect(peer: Program, connect: mp.Connect, arguments: tuple[bytes, ...]) -> None:
    """Host name and address of each family arrive."""
    assert told(peer, connect) == [Called("connect", arguments)]


def test_arguments(peer: Program) -> None:
    """Addresses, parameters, header values and body arrive byte for byte."""
    latin = bytes(range(0x21, 0x7F)) + bytes(range(0x80, 0x100))
    folded = b" one\n\ttwo\n  three "
    every_byte = bytes(range(256)) * 3
    assert told(
        peer,
        INET,
        mp.Helo(b""),
        mp.Helo(b"a b"),
        mp.Unknown(b"FOO bar " + latin),
        mp.MailFrom(b"", (b"SIZE=1", b"BODY=8BITMIME", latin)),
        mp.RcptTo(b"<" + latin + b">", (b"NOTIFY=NEVER",)),
        mp.RcptTo(b"no brackets"),
        mp.Data(),
        mp.Header(b"Subject", folded),
        mp.Header(b"X-Empty", b""),
        mp.Header(b"!#~", latin),
        mp.EndOfHeaders(),
        mp.Body(every_byte),
        mp.Body(b"\r"),
        mp.Body(b"\n"),
        mp.EndOfMessage(),
    )[1:] == [
        Called("helo", (b"",)),
        Called("helo", (b"a b",)),
        Called("unknown", (b"FOO bar " + latin,)),
        Called("mail", (b"", b"SIZE=1", b"BODY=8BITMIME", latin)),
        Called("rcpt", (b"<" + latin + b">", b"NOTIFY=NEVER")),
        Called("rcpt", (b"no brackets",)),
        Called("data"),
        Called("header", (b"Subject", folded)),
        Called("header", (b"X-Empty", b"")),
        Called("header", (b"!#~", latin)),
        Called("eoh"),
        Called("body", (every_byte,)),
        Called("body", (b"\r",)),
        Called("body", (b"\n",)),
        Called("eom"),
    ]


TO_CONTENT = (INET, mp.MailFrom(b"<a@b>"), mp.RcptTo(b"<c@d>"), mp.Data())
TO_BODY = (*TO_CONTENT, mp.EndOfHeaders())


def test_long_body(peer: Program) -> None:
    """Pieces up to 65535 bytes arrive whole."""
    body = counting(200_000)
    pieces = [body[at : at + 65535] for at in range(0, len(body), 65535)]
    calls = told(peer, *TO_BODY, *map(mp.Body, pieces), mp.EndOfMessage())
    assert [call.arguments[0] for call in calls if call.callback == "body"] == pieces


def test_no_content(peer: Program) -> None:
    """A message without header lines and without a body is a message."""
    names = [call.callback for call in told(peer, *TO_BODY, mp.EndOfMessage())]
    assert names == ["connect", "mail", "rcpt", "data", "eoh", "eom"]


def test_macros(peer: Program) -> None:
    """Macros that we send are what smfi_getsymval() finds, with and without braces."""
    stages: list[type[mp.Command]] = [mp.Connect, mp.Helo, *MESSAGE]
    names = {kind: b"{%s}" % kind.__name__.lower().encode() for kind in stages}
    peer.script()
    peer.log_macros([b"i", *names.values()])
    commands: list[mp.Command] = []
    for kind in stages:
        values = {names[kind]: kind.__name__.encode() + b" \xff", b"{empty}": b""}
        command: mp.Command = COMMANDS[kind]
        # libmilter has no place for those of header and body, and goes on without an answer.
        commands += [mp.Macros.of(kind, values), command]
    commands.insert(0, mp.Macros.of(mp.Connect, {}))
    commands.insert(commands.index(mp.MailFrom(b"<a@b>")), mp.Macros.of(mp.Unknown, {b"x": b"y"}))
    calls = told(peer, *commands)
    seen: dict[bytes, bytes] = {}
    assert [call.callback for call in calls] == [NAMES[kind] for kind in stages]
    for kind, call in zip(stages, calls, strict=True):
        if kind not in (mp.Header, mp.Body):
            seen[names[kind]] = kind.__name__.encode() + b" \xff"
        assert call.macros == seen


def test_queue_id_with_and_without_braces(peer: Program) -> None:
    """One-letter names mean the same with braces, in libmilter as in our own view."""
    peer.script()
    peer.log_macros([b"i", b"{i}", b"j", b"{j}"])
    macros = mp.Macros.of(mp.Connect, {b"i": b"1", b"{j}": b"2"})
    (call,) = told(peer, macros, INET)
    assert call.macros == {b"i": b"1", b"{i}": b"1", b"j": b"2", b"{j}": b"2"}


# --- verdicts --------------------------------------------------------------------------------

STAGES: dict[str, tuple[mp.Command, ...]] = {
    "connect": (INET,),
    "helo": (INET, mp.Helo(b"h")),
    "mail": (INET, mp.Helo(b"h"), mp.MailFrom(b"<a@b>")),
    "rcpt": TO_CONTENT[:3],
    "data": TO_CONTENT,
    "header": (*TO_CONTENT, mp.Header(b"N", b"v")),
    "eoh": TO_BODY,
    "body": (*TO_BODY, mp.Body(b"x")),
    "eom": (*TO_BODY, mp.Body(b"x"), mp.EndOfMessage()),
    "unknown": (INET, mp.Unknown(b"FOO")),
}
NUMBERS = tuple(b"%d" % n for n in range(32))
Action: TypeAlias = tuple[str, tuple[bytes | None, ...]]


def act(action: str, *arguments: bytes | None) -> Action:
    return action, arguments


# What the filter does, and what we should make of it.
VERDICTS: dict[str, tuple[list[Action], mp.Verdict]] = {
    "continue": ([act("continue")], mp.Continue()),
    "accept": ([act("accept")], mp.Accept()),
    "reject": ([act("reject")], mp.Reject()),
    "tempfail": ([act("tempfail")], mp.TempFail()),
    "discard": ([act("discard")], mp.Discard()),
    "setreply 550": (
        [act("setreply", b"550", b"5.7.1", b"no"), act("reject")],
        mp.ReplyCode(b"550", b"5.7.1", (b"no",)),
    ),
    "setreply 451": (
        [act("setreply", b"451", b"4.7.1", b"later"), act("tempfail")],
        mp.ReplyCode(b"451", b"4.7.1", (b"later",)),
    ),
    "setreply without text": (
        [act("setreply", b"550"), act("reject")],
        mp.ReplyCode(b"550", b"", (b"",)),
    ),
    "setreply with %": (
        [act("setreply", b"550", b"5.7.1", b"100%% sure"), act("reject")],
        mp.ReplyCode(b"550", b"5.7.1", (b"100% sure",)),
    ),
    "setreply of another class": (
        [act("setreply", b"451", b"4.7.1", b"later"), act("reject")],
        mp.Reject(),
    ),
    "setmlreply 550": (
        [act("setmlreply", b"550", b"5.7.1", b"one", b"", b"5.7.1 three"), act("reject")],
        mp.ReplyCode(b"550", b"5.7.1", (b"one", b"", b"5.7.1 three")),
    ),
    "setmlreply 451": (
        [act("setmlreply", b"451", None, *NUMBERS), act("tempfail")],
        mp.ReplyCode(b"451", b"4.0.0", NUMBERS),
    ),
}


def rules_for(stage: str, name: str) -> list[str]:
    """The script for one of the verdicts."""
    return [on(stage, action, *arguments) for action, arguments in VERDICTS[name][0]]


@pytest.mark.parametrize("name", VERDICTS)
@pytest.mark.parametrize("stage", STAGES)
def test_verdicts(peer: Program, stage: str, name: str) -> None:
    """Each verdict at each stage is understood, and the connection serves on if it may."""
    peer.script(*rules_for(stage, name))
    with MTA(peer.path) as mta:
        mta.negotiate()
        *before, last = STAGES[stage]
        assert set(mta.ask(*before)) <= {mp.Continue()}
        assert mta.ask(last) == [VERDICTS[name][1]]
        peer.script()
        more = mta.conn.state is not mp.State.RELEASED
        assert more is mta.conn.wants(mp.MailFrom)
        if more:
            # Whatever happened, the next message is a clean one.
            mta.ask(mp.Abort())
            assert set(mta.ask(*TO_BODY[1:], mp.EndOfMessage())) == {mp.Continue()}
        mta.ask(mp.Quit())
        assert mta.at_end()


@pytest.mark.parametrize("stage", ["mail", "rcpt", "data", "header", "eoh", "body", "unknown"])
@pytest.mark.parametrize("name", ["continue", "accept", "reject", "discard"])
def test_whatever_is_wanted_is_answered(peer: Program, stage: str, name: str) -> None:
    """After any verdict, what `wants` calls wanted gets libmilter's answer: none waits."""
    before = STAGES[stage]
    if stage == "unknown":
        before = (INET, mp.MailFrom(b"<a@b>"), mp.Unknown(b"FOO"))
    for kind in NAMES:
        peer.script(*rules_for(stage, name))
        with MTA(peer.path) as mta:
            mta.negotiate()
            mta.ask(*before)
            peer.script()
            if mta.conn.wants(kind):
                assert mta.ask(COMMANDS[kind]) == [mp.Continue()]


def test_refused_recipient(peer: Program) -> None:
    """The others go on with the message."""
    with MTA(peer.path) as mta:
        mta.negotiate()
        mta.ask(INET, mp.MailFrom(b"<a@b>"))
        for recipient, rule, verdict in (
            (b"<1@b>", on("rcpt", "reject"), mp.Reject()),
            (b"<2@b>", on("rcpt", "continue"), mp.Continue()),
            (b"<3@b>", on("rcpt", "tempfail"), mp.TempFail()),
        ):
            peer.script(rule)
            assert mta.ask(mp.RcptTo(recipient)) == [verdict]
        assert set(mta.ask(mp.Data(), mp.EndOfHeaders(), mp.EndOfMessage())) == {mp.Continue()}
    assert [c.callback for c in peer.session()][-6:] == ["rcpt"] * 3 + ["data", "eoh", "eom"]


def test_skip(peer: Program) -> None:
    """After Skip no more of the body is wanted, in this message."""
    peer.script(negotiating(steps=mp.Steps.SKIP), on("body", "skip"))
    with MTA(peer.path) as mta:
        mta.negotiate()
        for commands in (TO_BODY, TO_BODY[1:]):
            mta.ask(*commands)
            assert mta.ask(mp.Body(b"1")) == [mp.Skip()]
            assert not mta.conn.wants(mp.Body)
            assert mta.ask(mp.EndOfMessage()) == [mp.Continue()]
    assert [call.callback for call in calls_of(peer)].count("body") == 2


# --- edits -----------------------------------------------------------------------------------

FOLDED = b"one\n two \xe4"
EDITS: dict[str, tuple[str, mp.Edit | mp.Progress]] = {
    "addheader": (on("eom", "addheader", b"X-A", b"v"), mp.AddHeader(b"X-A", b"v")),
    "addheader folded": (on("eom", "addheader", b"X-A", FOLDED), mp.AddHeader(b"X-A", FOLDED)),
    "addheader empty": (on("eom", "addheader", b"X-A", b""), mp.AddHeader(b"X-A", b"")),
    "insheader": (on("eom", "insheader", 0, b"X-A", b"v"), mp.InsertHeader(0, b"X-A", b"v")),
    "insheader far": (
        on("eom", "insheader", 2147483647, b"X-A", FOLDED),
        mp.InsertHeader(2147483647, b"X-A", FOLDED),
    ),
    "chgheader": (on("eom", "chgheader", 1, b"X-A", b"v"), mp.ChangeHeader(1, b"X-A", b"v")),
    "chgheader empty": (on("eom", "chgheader", 2, b"X-A", b""), mp.ChangeHeader(2, b"X-A", b"")),
    "chgheader null": (on("eom", "chgheader", 0, b"X-A", None), mp.ChangeHeader(0, b"X-A", b"")),
    "addrcpt": (on("eom", "addrcpt", b"<c@d>"), mp.AddRecipient(b"<c@d>")),
    "addrcpt_par": (
        on("eom", "addrcpt_par", b"<c@d>", b"NOTIFY=NEVER ORCPT=rfc822;c@d"),
        mp.AddRecipient(b"<c@d>", (b"NOTIFY=NEVER", b"ORCPT=rfc822;c@d")),
    ),
    "addrcpt_par null": (on("eom", "addrcpt_par", b"<c@d>", None), mp.AddRecipient(b"<c@d>")),
    "delrcpt": (on("eom", "delrcpt", b"<c@d>"), mp.DeleteRecipient(b"<c@d>")),
    "chgfrom": (on("eom", "chgfrom", b"<e@f>", None), mp.ChangeSender(b"<e@f>")),
    "chgfrom args": (
        on("eom", "chgfrom", b"<>", b"RET=HDRS ENVID=zz"),
        mp.ChangeSender(b"<>", (b"RET=HDRS", b"ENVID=zz")),
    ),
    "quarantine": (on("eom", "quarantine", b"odd \xff"), mp.Quarantine(b"odd \xff")),
    "progress": (on("eom", "progress"), mp.Progress()),
    "replacebody": (on("eom", "replacebody", b"a\r\n\0"), mp.ReplaceBody(b"a\r\n\0")),
    "replacebody 65535": (on_replace_body(65535), mp.ReplaceBody(counting(65535))),
}


@pytest.mark.parametrize("name", EDITS)
def test_edits(peer: Program, name: str) -> None:
    """Each edit decodes to its event, and the verdict follows."""
    rule, edit = EDITS[name]
    peer.script(rule, rule, on("eom", "accept"))
    with MTA(peer.path) as mta:
        mta.negotiate()
        mta.ask(*TO_BODY)
        assert mta.ask(mp.EndOfMessage()) == [edit, edit, mp.Accept()]


@pytest.mark.parametrize("verdict", ["continue", "reject", "tempfail", "discard", "accept"])
def test_all_edits_at_once(peer: Program, verdict: str) -> None:
    """Any number of edits come in their order before any verdict."""
    peer.script(*(rule for rule, _ in EDITS.values() if rule), on("eom", verdict))
    with MTA(peer.path) as mta:
        mta.negotiate()
        mta.ask(*TO_BODY)
        *edits, last = mta.ask(mp.EndOfMessage())
    assert edits == [edit for _, edit in EDITS.values()]
    assert last == VERDICTS[verdict][1]


def test_long_new_body(peer: Program) -> None:
    """libmilter splits a long body where we do, and we get all of it."""
    peer.script(on_replace_body(200_000))
    with MTA(peer.path) as mta:
        mta.negotiate()
        mta.ask(*TO_BODY)
        *edits, verdict = mta.ask(mp.EndOfMessage())
    bodies = [edit.data for edit in edits if isinstance(edit, mp.ReplaceBody)]
    assert [len(data) for data in bodies] == [65535, 65535, 65535, 200_000 - 3 * 65535]
    assert b"".join(bodies) == counting(200_000)
    assert verdict == mp.Continue()


# --- sessions --------------------------------------------------------------------------------


def test_end_of_file_without_quit(peer: Program) -> None:
    """A lost client aborts the message in hand."""
    with MTA(peer.path) as mta:
        mta.negotiate()
        mta.ask(*TO_BODY)
    assert [call.callback for call in calls_of(peer)][-2:] == ["eoh", "abort"]


@pytest.mark.parametrize("stage", STAGES)
def test_abort(peer: Program, stage: str) -> None:
    """Abort, however often, drops the message and keeps the connection."""
    with MTA(peer.path) as mta:
        mta.negotiate()
        mta.ask(*STAGES[stage], mp.Abort(), mp.Abort())
        assert set(mta.ask(*TO_BODY[1:], mp.EndOfMessage())) == {mp.Continue()}
        mta.ask(mp.Abort(), mp.Quit())
        assert mta.at_end()
    names = [call.callback for call in calls_of(peer)]
    assert names[-5:] == ["mail", "rcpt", "data", "eoh", "eom"]
    # After an unknown command libmilter no longer knows whether there is a message.
    inside = stage in ("mail", "rcpt", "data", "header", "eoh", "body", "unknown")
    assert names.count("abort") == inside


def test_new_client_on_the_same_connection(peer: Program) -> None:
    """QUIT_NC just after a message is taken, and the Connect after it answered."""
    with MTA(peer.path) as mta:
        mta.negotiate()
        mta.ask(*TO_BODY, mp.EndOfMessage(), mp.QuitNewConnection())
        assert set(mta.ask(*TO_BODY, mp.EndOfMessage())) == {mp.Continue()}
        mta.ask(mp.Quit())
        assert mta.at_end()
    one = ["connect", "mail", "rcpt", "data", "eoh", "eom"]
    assert [call.callback for call in peer.session()] == ["negotiate", *one]
    assert [call.callback for call in peer.session()] == one


@pytest.mark.parametrize("stage", ["eom", "unknown"])
@pytest.mark.parametrize("name", ["continue", "accept", "reject", "setreply 451", "discard"])
def test_new_client_after_a_verdict(peer: Program, stage: str, name: str) -> None:
    """QUIT_NC is only wanted where libmilter answers the Connect after it."""
    peer.script(*rules_for(stage, name))
    with MTA(peer.path) as mta:
        mta.negotiate()
        mta.ask(*STAGES[stage])
        peer.script()
        if mta.conn.wants(mp.QuitNewConnection):
            mta.ask(mp.QuitNewConnection())
            assert mta.ask(INET) == [mp.Continue()]


@pytest.mark.parametrize(
    "tail",
    [b"\0\0\0\0\0", b"\0\0\0\1?", b"\0\0\0\3Hxx", b"\0\1\0\1B"],
    ids=["no length", "unknown", "no NUL", "too long"],
)
def test_what_we_can_not_send(peer: Program, tail: bytes) -> None:
    """libmilter drops or ignores these, so it is right that our encoder has no way to make them."""
    with MTA(peer.path) as mta:
        mta.negotiate()
        mta.ask(INET)
        mta.write(tail)
    assert calls_of(peer) == [Called("connect", (b"client.test", b"4", b"25", b"192.0.2.1"))]


# --- random sessions -------------------------------------------------------------------------

SAMPLES: dict[type[mp.Command], st.SearchStrategy[mp.Command]] = {
    mp.Connect: strategies.connects,
    mp.Helo: st.builds(mp.Helo, strategies.plain),
    mp.MailFrom: st.builds(mp.MailFrom, strategies.plain, strategies.parameters),
    mp.RcptTo: st.builds(mp.RcptTo, strategies.plain, strategies.parameters),
    mp.Data: st.just(mp.Data()),
    mp.Header: st.builds(mp.Header, strategies.header_names, strategies.header_values),
    mp.EndOfHeaders: st.just(mp.EndOfHeaders()),
    mp.Body: st.builds(mp.Body, st.binary(min_size=1, max_size=100)),
    mp.EndOfMessage: st.just(mp.EndOfMessage()),
    mp.Unknown: st.builds(mp.Unknown, strategies.plain),
    mp.Abort: st.just(mp.Abort()),
    mp.QuitNewConnection: st.just(mp.QuitNewConnection()),
}


def called(command: mp.Command) -> Called:
    """What libmilter should make of a command."""
    match command:
        case mp.Connect(hostname, mp.Family.UNKNOWN):
            arguments: tuple[bytes, ...] = (hostname, b"U")
        case mp.Connect(hostname, mp.Family.UNIX, _, path):
            arguments = (hostname, b"L", path)
        case mp.Connect(hostname, family, port, _):
            assert command.ip is not None
            packed = socket.inet_ntop(
                socket.AF_INET if command.ip.version == 4 else socket.AF_INET6, command.ip.packed
            )
            arguments = (hostname, family.value, b"%d" % port, packed.encode())
        case mp.MailFrom(address, parameters) | mp.RcptTo(address, parameters):
            arguments = (address, *parameters)
        case mp.Header(name, value):
            arguments = (name, value)
        case mp.Helo(text) | mp.Unknown(text) | mp.Body(text):
            arguments = (text,)
        case _:
            arguments = ()
    return Called(NAMES[type(command)], arguments)


# The text of a reply of another class than its verdict is kept for a later one.
STATELESS = [name for name in VERDICTS if name != "setreply of another class"]


@pytest.mark.parametrize(
    ("version", "steps"),
    [
        (2, mp.Steps(0)),
        (3, mp.Steps(0)),
        (4, mp.Steps(0)),
        (6, mp.Steps(0)),
        (6, mp.Steps.NOCONNECT | mp.Steps.NOHELO),
        (6, mp.Steps.NOMAIL),
        (6, mp.Steps.NORCPT),
        (6, mp.Steps.NOMAIL | mp.Steps.NORCPT),
        (6, mp.Steps.NODATA),
        (6, mp.Steps.NOHDRS | mp.Steps.NOEOH | mp.Steps.NOBODY),
    ],
    ids=str,
)
@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    database=None,
    # To shrink a failure is no use where each run of it may be a time-out.
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_random_sessions(peer: Program, version: int, steps: mp.Steps, data: st.DataObject) -> None:
    """Whatever `wants` allows is called in libmilter as it was sent, and every verdict comes."""
    expected: list[Called] = []
    peer.everything()  # what an example that failed has left
    peer.script(negotiating(steps=steps))
    with MTA(peer.path) as mta:
        mta.negotiate(mp.offer(version))
        for _ in range(data.draw(st.integers(0, 25), label="steps")):
            kinds = [kind for kind in SAMPLES if mta.conn.wants(kind)]
            if not kinds:
                break
            kind = data.draw(st.sampled_from(kinds))
            command = data.draw(SAMPLES[kind])
            if kind not in NAMES:
                assert mta.ask(command) == []
                continue
            expected.append(called(command))
            name = data.draw(st.sampled_from(["continue"] * 5 + STATELESS), label="verdict")
            peer.script(*rules_for(NAMES[kind], name))
            assert mta.ask(command) == [VERDICTS[name][1]]
        if mta.conn.wants(mp.Quit):
            mta.ask(mp.Quit())
        assert mta.at_end()
    assert [call for call in peer.everything() if call.callback in NAMES.values()] == expected
