"""The MTA of the test kit: it does what MTAs do, and says what became of the message."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

import milterproto as mp
from milterproto._memory import MemoryWire
from milterproto._mta import MTA, Result
from milterproto._wire import encode_command
from milterproto.message import Client, Field, Headers, Message, MessageFilter, Recipient
from milterproto.testing import EventFilter, Habits

from . import strategies
from .peers import Scripted

MESSAGE = Message.parse(
    b"Subject: hi\nX-A:tight\n\nbody\n", sender=b"<a@x.test>", recipients=[b"<b@y.test>", b"c@y"]
)
ALL = mp.Wants(actions=mp.ALL_ACTIONS)
Answers = dict[type[Any], Any]


def answering(answers: Answers, wants: mp.Wants = ALL) -> EventFilter:
    """A filter that gives one answer to each kind of event."""
    return EventFilter(
        lambda _conn: lambda event: answers.get(type(event)), wants, allow_shutdown=True
    )


def played(
    answers: Answers,
    habits: Habits = Habits.POSTFIX,
    *,
    message: Message = MESSAGE,
    wants: mp.Wants = ALL,
    version: int = 6,
) -> tuple[Result, list[str]]:
    """A session with one message: what became of it, and the commands, without macros."""
    mta = MTA(answering(answers, wants), habits=habits, version=version)
    result = mta.deliver(message)
    mta.quit()
    return result, kinds(mta)


def kinds(mta: MTA, *, macros: bool = False) -> list[str]:
    said = [event for way, event in mta.transcript if way == ">"]
    return [
        "D" + event.command.decode() if isinstance(event, mp.Macros) else type(event).__name__
        for event in said
        if macros or not isinstance(event, mp.Macros)
    ]


START = ["Negotiate", "Connect", "Helo"]
CONTENT = ["Data", "Header", "Header", "EndOfHeaders", "Body", "EndOfMessage"]
WHOLE = [*START, "MailFrom", "RcptTo", "RcptTo", *CONTENT]


# --- what is said ------------------------------------------------------------------------


def test_a_message_of_postfix() -> None:
    """Abort after it, and macros before every event."""
    mta = MTA(answering({}))
    assert mta.deliver(MESSAGE).accepted
    mta.quit()
    assert kinds(mta) == [*WHOLE, "Abort", "Abort", "Quit"]
    with_macros = kinds(mta, macros=True)
    assert with_macros[1::2][:12] == [f"D{code}" for code in "CHMRRTLLNBE"] + ["Abort"]


def test_the_queue_id_of_postfix() -> None:
    """Is not there before a recipient has been taken."""
    result, _ = played({})
    told = [event for _, event in result.transcript if isinstance(event, mp.Macros)]
    assert [b"i" in one.values for one in told] == [False] * 4 + [True] * 7


def test_a_message_of_sendmail() -> None:
    """No Abort after a verdict, and macros only here and there."""
    mta = MTA(answering({}), habits=Habits.SENDMAIL)
    assert mta.deliver(MESSAGE).accepted
    mta.quit()
    assert kinds(mta) == [*WHOLE, "Quit"]
    said = [name for name in kinds(mta, macros=True) if name.startswith("D") and len(name) == 2]
    assert said == ["DC", "DH", "DM", "DR", "DR", "DE"]


def test_a_hostile_message() -> None:
    """Another one first, small pieces, everything twice; and no end."""
    result, said = played({}, Habits.HOSTILE)
    assert result.accepted
    assert said == [
        *START,
        "Helo",
        *("MailFrom", "RcptTo", "Unknown", "Data", "Header", "Abort", "Abort"),
        *("MailFrom", "RcptTo", "RcptTo", "Unknown", *CONTENT[:4], "Body", "Body"),
        *("EndOfMessage", "Abort", "Abort"),
    ]
    bodies = [event.data for _, event in result.transcript if isinstance(event, mp.Body)]
    assert bodies == [b"bod", b"y\r\n"]


class Counting(MemoryWire):
    """Remembers how much was written at once."""

    def __init__(self, tested: EventFilter) -> None:
        super().__init__(tested)
        self.sizes: list[int] = []

    def sendall(self, data: bytes, /) -> None:
        self.sizes.append(len(data))
        super().sendall(data)


def test_frames_in_one_piece_or_in_many() -> None:
    """Postfix waits for a reply with all that needs none; Sendmail writes each frame at once."""
    wrote: dict[Habits, list[int]] = {}
    for habits in Habits:
        wire = Counting(answering({}, mp.Wants(replies=())))
        MTA(wire, habits=habits).deliver(MESSAGE)
        wrote[habits] = wire.sizes[1:]
    assert len(wrote[Habits.POSTFIX]) == 2
    assert len(wrote[Habits.SENDMAIL]) > 12
    assert set(wrote[Habits.HOSTILE][:190]) == {1}


@pytest.mark.parametrize("version", [2, 3, 4, 6])
@pytest.mark.parametrize("habits", Habits)
def test_old_versions(habits: Habits, version: int) -> None:
    """What a version does not have is not said."""
    result, said = played({}, habits, version=version)
    assert result.accepted
    assert ("Data" in said) is (version >= 4)
    # Version 3 knows it, but without DATA after it libmilter would answer nothing more.
    assert ("Unknown" in said) is (habits is Habits.HOSTILE and version >= 4)


def test_what_is_not_wanted_is_not_said() -> None:
    """But Postfix sends the macros all the same, for all but the content."""
    for habits, macros in (
        (Habits.POSTFIX, ["DC", "DH", "DM", "DR", "DR", "DT", "DE"]),
        (Habits.SENDMAIL, ["DC", "DH", "DM", "DR", "DR", "DE"]),
    ):
        mta = MTA(answering({}, mp.Wants(events=())), habits=habits)
        for _ in range(2):
            assert mta.deliver(MESSAGE).accepted
        # Without MAIL, only an Abort tells Sendmail's messages apart.
        once = [*macros[2:], "EndOfMessage", "Abort"]
        assert kinds(mta, macros=True) == ["Negotiate", *macros[:2], *once, *once]


def test_macros_that_the_filter_asks_for() -> None:
    """In place of the usual ones; an empty list means the usual ones to Postfix."""
    message = MESSAGE.copy()
    message.macros = {b"{client_connections}": b"3"}
    stages = {mp.Stage.CONNECT: (b"{client_connections}", b"{none}"), mp.Stage.HELO: ()}
    for habits, helo in ((Habits.POSTFIX, b""), (Habits.SENDMAIL, None)):
        result, _ = played({}, habits, message=message, wants=mp.Wants(macros=stages))
        raw = {one.command: one.raw for _, one in result.transcript if isinstance(one, mp.Macros)}
        assert raw[b"C"] == b"{client_connections}\x003\0"
        assert raw.get(b"H") == helo


def test_leading_space() -> None:
    """Without it one blank is taken off, and the edits are read so."""
    edit = mp.AddHeader(b"X-F", b"f")
    for leading_space, values, raw in (
        (False, [b"hi", b"tight"], b" f"),
        (True, [b" hi", b"tight"], b"f"),
    ):
        wants = mp.Wants(actions=mp.ALL_ACTIONS, leading_space=leading_space)
        result, _ = played({mp.EndOfMessage: [edit, mp.Accept()]}, wants=wants)
        told = [event.value for _, event in result.transcript if isinstance(event, mp.Header)]
        assert told == values
        assert result.message is not None
        assert result.message.headers.fields("X-F") == [Field(b"X-F", raw)]


def test_a_long_body() -> None:
    """In packets that everybody reads."""
    message = MESSAGE.copy()
    message.body = b"x\r\n" * 50_000
    for habits in Habits:
        result, _ = played({}, habits, message=message)
        bodies = [event.data for _, event in result.transcript if isinstance(event, mp.Body)]
        assert b"".join(bodies) == message.body
        assert max(map(len, bodies)) == (1503 if habits is Habits.HOSTILE else 65535)


# --- what becomes of the message -----------------------------------------------------------


def test_edits() -> None:
    """They are applied as the MTA would."""
    edits = [mp.InsertHeader(0, b"X-F", b"f"), mp.Progress(), mp.DeleteRecipient(b"c@y")]
    result, _ = played({mp.EndOfMessage: [*edits, mp.Continue()]})
    assert (result.verdict, result.stage) == (mp.Continue(), mp.EndOfMessage)
    assert result.edits == (edits[0], edits[2])
    assert result.message is not None
    assert result.message.headers[0] == Field(b"X-F", b" f")
    assert result.message.recipients == [Recipient(b"<b@y.test>")]
    assert MESSAGE.recipients[1:] == [Recipient(b"c@y")]


def test_a_message_without_recipients_goes_nowhere() -> None:
    """Though the filter has accepted it."""
    gone = [mp.DeleteRecipient(address) for address in (b"<b@y.test>", b"c@y")]
    result, _ = played({mp.EndOfMessage: [*gone, mp.Accept()]})
    assert result.message is not None
    assert not result.accepted


REFUSALS = [mp.Reject(), mp.TempFail(), mp.ReplyCode.text(550, "5.7.1", "no")]


@pytest.mark.parametrize("habits", Habits)
@pytest.mark.parametrize("verdict", [*REFUSALS, mp.Discard(), mp.Accept()], ids=str)
@pytest.mark.parametrize(
    "stage", [mp.MailFrom, mp.Data, mp.Header, mp.EndOfHeaders, mp.Body, mp.EndOfMessage]
)
def test_verdicts_on_a_message(
    stage: type[mp.Command], verdict: mp.Verdict, habits: Habits
) -> None:
    """Nothing more of it is said, and the next one is another."""
    mta = MTA(answering({stage: verdict}), habits=habits)
    for _ in range(2):
        result = mta.deliver(MESSAGE)
        assert (result.verdict, result.stage) == (verdict, stage)
        assert result.accepted is isinstance(verdict, mp.Accept)
        if result.accepted:
            assert result.message is not None
            assert result.message.recipients == MESSAGE.recipients
    mta.quit()
    said = kinds(mta)
    assert said.count("EndOfMessage") == (2 if stage is mp.EndOfMessage else 0)
    if habits is Habits.POSTFIX:
        assert said.count("Abort") == 3
    if habits is Habits.SENDMAIL:
        assert "Abort" not in said


@pytest.mark.parametrize("verdict", REFUSALS, ids=str)
@pytest.mark.parametrize("habits", Habits)
def test_one_recipient_is_refused(habits: Habits, verdict: mp.Verdict) -> None:
    """The message goes to the other."""

    def handle(event: object) -> mp.Verdict | None:
        return verdict if event == mp.RcptTo(b"<b@y.test>") else None

    result = MTA(EventFilter(lambda _: handle, ALL), habits=habits).deliver(MESSAGE)
    assert result.refused == ((Recipient(b"<b@y.test>"), verdict),)
    assert result.message is not None
    assert result.message.recipients == [Recipient(b"c@y")]


def test_all_recipients_are_refused() -> None:
    """The client gives up, and the last of them counts."""
    for habits in Habits:
        result, said = played({mp.RcptTo: mp.TempFail()}, habits)
        assert (result.verdict, result.stage) == (mp.TempFail(), mp.RcptTo)
        assert len(result.refused) == 2
        assert result.message is None
        assert "Data" not in said
        assert said[3 if habits is not Habits.HOSTILE else 6 :].count("Abort") >= 1


def test_accepted_at_a_recipient() -> None:
    """The filter is not asked about the others."""
    result, said = played({mp.RcptTo: mp.Accept()})
    assert said.count("RcptTo") == 1
    assert result.message is not None
    assert len(result.message.recipients) == 2


@pytest.mark.parametrize("habits", Habits)
@pytest.mark.parametrize("stage", [mp.Connect, mp.Helo])
@pytest.mark.parametrize("verdict", [*REFUSALS, mp.Accept(), mp.Shutdown()], ids=str)
def test_verdicts_on_the_client(
    stage: type[mp.Command], verdict: mp.Verdict, habits: Habits
) -> None:
    """They hold for all its messages, and the filter hears of none."""
    mta = MTA(answering({stage: verdict}), habits=habits)
    for _ in range(2):
        result = mta.deliver(MESSAGE)
        assert (result.verdict, result.stage) == (verdict, stage)
        assert result.accepted is isinstance(verdict, mp.Accept)
    mta.quit()
    assert kinds(mta) == [
        *START[: 2 + (stage is mp.Helo)],
        *(["Quit"] if habits is Habits.SENDMAIL else []),
    ]


@pytest.mark.parametrize("stage", [mp.MailFrom, mp.RcptTo, mp.Data])
def test_shutdown(stage: type[mp.Command]) -> None:
    """Ends more than the message."""
    mta = MTA(answering({stage: mp.Shutdown()}))
    for _ in range(2):
        result = mta.deliver(MESSAGE)
        assert (result.verdict, result.stage) == (mp.Shutdown(), stage)
        assert not result.accepted
    mta.quit()
    assert kinds(mta)[-1] == stage.__name__


@pytest.mark.parametrize(
    ("habits", "code", "end"),
    [
        (Habits.POSTFIX, 421, ["Abort", "Abort", "Quit"]),
        (Habits.POSTFIX, 521, ["Abort", "Abort", "Quit"]),
        (Habits.SENDMAIL, 421, ["Quit"]),
    ],
)
@pytest.mark.parametrize(
    "stage",
    [mp.MailFrom, mp.RcptTo, mp.Data, mp.Header, mp.EndOfHeaders, mp.Body, mp.EndOfMessage],
)
def test_replies_that_end_the_session(
    stage: type[mp.Command], habits: Habits, code: int, end: list[str]
) -> None:
    """Nothing is delivered, nobody asked any more, and no more mail taken from that client."""
    reply = mp.ReplyCode.text(code, f"{code // 100}.3.2", "Bye")
    mta = MTA(answering({stage: reply}), habits=habits)
    for _ in range(2):
        result = mta.deliver(MESSAGE)
        assert (result.verdict, result.stage, result.message) == (reply, stage, None)
    mta.quit()
    assert kinds(mta)[-len(end) - 1 :] == [stage.__name__, *end]


def test_a_521_is_a_reply_as_any_other_to_sendmail() -> None:
    """To one recipient, for instance."""
    reply = mp.ReplyCode.text(521, "5.3.2", "No mail here")

    def handle(event: object) -> mp.Verdict | None:
        return reply if event == mp.RcptTo(b"<b@y.test>") else None

    mta = MTA(EventFilter(lambda _: handle, ALL), habits=Habits.SENDMAIL)
    assert mta.deliver(MESSAGE).accepted


def test_an_unknown_command_decides_nothing() -> None:
    """It fails anyway; only what ends the session is more than that."""
    assert played({mp.Unknown: mp.Reject()}, Habits.HOSTILE)[0].accepted
    # Sendmail takes this for the message; our own filters can't say it.
    accepting = Scripted({mp.Unknown: b"\0\0\0\1a"})
    result = MTA(accepting, habits=Habits.HOSTILE).deliver(MESSAGE)
    assert (result.verdict, result.stage) == (mp.Accept(), mp.Unknown)
    assert mp.Data() not in accepting.seen
    for last in (mp.Shutdown(), mp.ReplyCode.text(421, "4.3.2", "Bye")):
        result, _ = played({mp.Unknown: last}, Habits.HOSTILE)
        assert (result.verdict, result.stage) == (last, mp.Unknown)


@pytest.mark.parametrize("habits", Habits)
@pytest.mark.parametrize("stage", [mp.MailFrom, mp.RcptTo, mp.Header, mp.Body])
def test_given_up(stage: type[mp.Command], habits: Habits) -> None:
    """As by RSET: no verdict, an Abort, and the next message comes."""
    mta = MTA(answering({}), habits=habits)
    result = mta.deliver(MESSAGE, until=stage)
    assert (result.verdict, result.stage, result.message) == (None, None, None)
    assert kinds(mta)[-1] == "Abort"
    assert mta.deliver(MESSAGE).accepted


def test_skip() -> None:
    """No more of the body, and the message goes on."""
    message = MESSAGE.copy()
    message.body = b"x\r\n" * 50_000
    result, said = played({mp.Body: mp.Skip()}, message=message)
    assert said.count("Body") == 1
    assert result.accepted


def test_quarantine() -> None:
    """The message is taken, and held."""
    result, _ = played({mp.EndOfMessage: [mp.Quarantine(b"odd"), mp.Accept()]})
    assert result.message is not None
    assert result.message.quarantined == b"odd"


# --- the rest ----------------------------------------------------------------------------


def test_somebody_stands_in() -> None:
    """For a client, and for a recipient."""
    result, _ = played({}, message=Message.parse(b"Subject: hi"))
    assert result.message is not None
    assert result.message.client.helo == b"client.test"
    assert result.message.recipients == [Recipient(b"<someone@example.test>")]
    client = Client(b"x", mp.Family.UNIX, 0, b"/x")
    result, _ = played({}, message=Message(client=client))
    assert result.message is not None
    assert result.message.client == client


def test_another_client_is_another_connection() -> None:
    """Real MTAs know no other way."""
    mta = MTA(answering({}))
    mta.deliver(MESSAGE)
    with pytest.raises(mp.LocalProtocolError, match="a connection of its own"):
        mta.deliver(Message(client=Client(b"other")))


def test_edits_that_are_not_offered() -> None:
    """The filter is told in the negotiation, and may not make them."""
    added = {mp.EndOfMessage: [mp.AddHeader(b"X", b""), mp.Continue()]}
    mta = MTA(answering(added), actions=mp.Actions.CHGBODY)
    with pytest.raises(mp.LocalProtocolError, match="not negotiated"):
        mta.deliver(MESSAGE)


def test_what_libmilter_would_not_answer() -> None:
    """The codec's own reason comes out."""
    wants = mp.Wants(events={mp.MailFrom, mp.RcptTo, mp.Data, mp.Header})
    with pytest.raises(mp.LocalProtocolError, match="libmilter would not answer"):
        played({}, message=Message(), wants=wants)


def test_the_transcript() -> None:
    """To be read."""
    result, _ = played({}, wants=mp.Wants(events=()))
    assert result.text.splitlines()[-3:] == [
        "> EndOfMessage(data=b'')",
        "< Continue()",
        "> Abort()",
    ]


@given(
    strategies.messages,
    st.dictionaries(
        st.sampled_from(
            [
                mp.Connect,
                mp.Helo,
                mp.MailFrom,
                mp.RcptTo,
                mp.Data,
                mp.Header,
                mp.Body,
                mp.EndOfMessage,
            ]
        ),
        st.sampled_from([mp.Continue(), mp.Accept(), mp.Reject(), mp.TempFail()]),
        max_size=2,
    ),
    st.sampled_from(Habits),
    st.sampled_from([2, 3, 4, 6]),
    st.sets(st.sampled_from(strategies.named(mp.ALL_EVENTS))),
    st.sets(st.sampled_from(strategies.named(mp.ALL_EVENTS))),
)
def test_any_session(  # noqa: PLR0917
    message: Message,
    answers: Answers,
    habits: Habits,
    version: int,
    events: set[Any],
    replies: set[Any],
) -> None:
    """Whatever filter and message: a result that agrees with itself, or the codec's reason."""
    message.headers = Headers(f for f in message.headers if b"\r" not in f.raw)
    wants = mp.Wants(events=events, replies=replies)
    mta = MTA(answering(answers, wants), habits=habits, version=version)

    # With an answer where none is due the filter is wrong.
    def handle(conn: mp.FilterConnection) -> Callable[[Any], Any]:
        return lambda told: answers.get(type(told)) if conn.our_turn else None

    mta = MTA(EventFilter(handle, wants), habits=habits, version=version)
    for _ in range(2):
        try:
            result = mta.deliver(message)
        except mp.LocalProtocolError as error:
            event(str(error))
            assert mp.Header in events  # of which the message has none
            assert not message.headers
            return
        taken = isinstance(result.verdict, mp.Continue | mp.Accept)
        assert (result.message is not None) is taken
    mta.quit()


# --- at the end of a socket ----------------------------------------------------------------


def serve(answers: Sequence[bytes]) -> socket.socket:
    """A filter on a socket that gives these answers, one after each thing that it hears."""
    ours, theirs = socket.socketpair()
    ours.settimeout(10)

    def run() -> None:
        with theirs:
            for answer in answers:
                theirs.recv(1 << 16)
                theirs.sendall(answer)
            theirs.recv(1 << 16)

    threading.Thread(target=run).start()
    return ours


NEGOTIATED = encode_command(mp.negotiate(mp.offer(), mp.Wants(events=())))
ACCEPT = mp.encode_response(mp.Accept())


def test_a_socket_is_a_wire() -> None:
    """The filter at its end may be anything."""
    with serve([NEGOTIATED, ACCEPT]) as wire:
        mta = MTA(wire)
        assert mta.deliver(MESSAGE).verdict == mp.Accept()
        mta.quit()
    with serve([NEGOTIATED, ACCEPT]) as wire:
        mta = MTA(wire)
        assert mta.deliver(MESSAGE).verdict == mp.Accept()
    mta.quit()  # whichever side has closed, that is no harm


def test_a_function_or_a_filter() -> None:
    """In place of a wire."""
    assert MTA(lambda _: mp.Reject()).deliver(MESSAGE).verdict == mp.Reject()
    assert MTA(MessageFilter(lambda _: mp.Reject())).deliver(MESSAGE).verdict == mp.Reject()


def test_a_filter_that_closes() -> None:
    """While it owes a reply."""
    with serve([NEGOTIATED]) as wire:
        mta = MTA(wire)
        with pytest.raises(mp.RemoteProtocolError, match="and owes a reply"):
            mta.deliver(MESSAGE)


def test_a_filter_that_breaks_the_protocol() -> None:
    """Is what the codec says it is."""
    with serve([NEGOTIATED, mp.encode_response(mp.Skip())]) as wire:
        mta = MTA(wire)
        with pytest.raises(mp.RemoteProtocolError, match="Skip is no reply to EndOfMessage"):
            mta.deliver(MESSAGE)
