from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import milterproto as mp
from milterproto._state import COMMANDS, SENDABLE, TRANSACTION, VERDICTS
from milterproto._wire import encode_command, encode_response

from .pair import CLIENT, CONTENT, ENVELOPE, Pair, at, opened
from .strategies import (
    COMMAND_CODES,
    RESPONSE_CODES,
    commands,
    edits,
    named,
    pieces,
    responses,
    streams,
    verdicts,
)

OFFER = encode_command(mp.offer())
ANSWER = encode_response(mp.negotiate(mp.offer(), mp.Wants(actions=mp.ALL_ACTIONS)))
CONNECT = encode_command(mp.Connect(b"h", mp.Family.INET, 1, b"192.0.2.1"))


def frame(code: bytes, payload: bytes = b"") -> bytes:
    return (len(payload) + 1).to_bytes(4, "big") + code + payload


def filter_after(*commands: bytes, wants: mp.Wants | None = None) -> mp.FilterConnection:
    """A filter that has answered all of these by Continue."""
    conn = mp.FilterConnection()
    conn.receive_data(OFFER + b"".join(commands))
    for event in conn.events():
        if isinstance(event, mp.Negotiate):
            conn.send(mp.negotiate(event, wants or mp.Wants(actions=mp.ALL_ACTIONS)))
        elif conn.our_turn:
            conn.send(mp.Continue())
    return conn


def mta_after(*commands: mp.Command) -> mp.MTAConnection:
    """An MTA whose filter has answered all but the last of these by Continue."""
    conn = mp.MTAConnection()
    conn.send(mp.offer())
    conn.receive_data(ANSWER)
    assert conn.next_event() is not None
    for command in commands:
        if not conn.our_turn:
            conn.receive_data(frame(b"c"))
            assert conn.next_event() == mp.Continue()
        conn.send(command)
    return conn


# --- any bytes -----------------------------------------------------------------------------


def drive(
    conn: mp.FilterConnection | mp.MTAConnection,
    chunks: list[bytes],
    act: Callable[[Any, Any], None],
) -> tuple[list[object], str]:
    """Everything a connection says to these chunks and an end of file, and how it ends."""
    events: list[object] = []
    try:
        for chunk in [*chunks, b""]:
            conn.receive_data(chunk)
            while True:
                before = len(events)
                for event in conn.events():
                    events.append((event, conn.state))
                    act(conn, event)
                if len(events) == before:
                    break
    except mp.RemoteProtocolError as exc:
        first = exc
    else:
        assert conn.state is mp.State.CLOSED
        assert conn.next_event() is None
        return events, "closed"
    assert conn.state is mp.State.FAILED
    with pytest.raises(mp.RemoteProtocolError) as again:
        conn.next_event()
    assert (str(again.value), again.value.hint) == (str(first), first.hint)
    return events, str(first)


def answer(conn: mp.FilterConnection, event: mp.Command) -> None:
    """A filter that goes on whatever comes."""
    if conn.our_turn:
        if isinstance(event, mp.Negotiate):
            conn.send(mp.negotiate(event, mp.Wants()))
        else:
            conn.send(mp.Continue())


@given(
    st.data(),
    st.sampled_from([b"", OFFER, OFFER + CONNECT]),
    streams(COMMAND_CODES, commands.map(encode_command)),
    st.sampled_from([0, 12, 40, 1 << 20]),
)
def test_filter_any_bytes_in_any_pieces(
    data: st.DataObject, start: bytes, rest: bytes, limit: int
) -> None:
    """The same events, or the same RemoteProtocolError, and nothing else, for every cut."""
    stream = start + rest
    whole = drive(mp.FilterConnection(max_payload=limit), [stream] if stream else [], answer)
    cut = data.draw(pieces(stream))
    assert drive(mp.FilterConnection(max_payload=limit), cut, answer) == whole
    bytewise = [bytes([byte]) for byte in stream]
    assert drive(mp.FilterConnection(max_payload=limit), bytewise, answer) == whole


def go_on(conn: mp.MTAConnection, course: list[mp.Command]) -> None:
    """Send the commands of a course for as long as it is our turn."""
    while course and conn.our_turn:
        command = course.pop(0)
        if conn.wants(type(command)):
            conn.send(command)


@given(
    st.data(),
    st.sampled_from([b"", ANSWER, ANSWER + b"\0\0\0\x01c" * 9]),
    streams(RESPONSE_CODES, responses.map(encode_response)),
    st.sampled_from([0, 12, 40, 1 << 20]),
)
def test_mta_any_bytes_in_any_pieces(
    data: st.DataObject, start: bytes, rest: bytes, limit: int
) -> None:
    """The same from the other side; a filter that speaks unasked is found out, too."""
    stream = start + rest

    def run(chunks: list[bytes]) -> tuple[list[object], str]:
        conn = mp.MTAConnection(max_payload=limit)
        conn.send(mp.offer())
        return drive(conn, chunks, lambda *_: None)

    whole = run([stream] if stream else [])
    assert run(data.draw(pieces(stream))) == whole
    assert run([bytes([byte]) for byte in stream]) == whole


@given(streams(RESPONSE_CODES, st.sampled_from([b"\0\0\0\x01c"]) | responses.map(encode_response)))
def test_mta_any_answers_to_a_whole_session(stream: bytes) -> None:
    """An MTA in the middle of its work raises the one error and no other."""
    conn = mp.MTAConnection()
    conn.send(mp.offer())
    conn.receive_data(ANSWER)
    course = [*CLIENT, *ENVELOPE, *CONTENT, mp.EndOfMessage()]
    chunks = [stream[i : i + 5] for i in range(0, len(stream), 5)]
    try:
        for chunk in [*chunks, b""]:
            for _ in conn.events():
                go_on(conn, course)
            conn.receive_data(chunk)
    except mp.RemoteProtocolError:
        assert conn.state is mp.State.FAILED


# --- both roles, linked --------------------------------------------------------------------


@settings(max_examples=200)
@given(
    st.data(),
    st.sampled_from([2, 3, 4, 6]),
    st.sets(st.sampled_from(named(mp.ALL_EVENTS))),
    st.sets(st.sampled_from(named(mp.ALL_EVENTS))),
)
def test_linked_roles_stay_in_step(
    data: st.DataObject, version: int, unwanted: set[Any], silent: set[Any]
) -> None:
    """After every exchange both stand in the same state and agree whose turn it is."""
    wants = mp.Wants(
        events=mp.ALL_EVENTS - unwanted, replies=mp.ALL_EVENTS - silent, actions=mp.ALL_ACTIONS
    )
    pair = opened(wants, mp.offer(version))
    course = st.sampled_from(
        [*CLIENT, *ENVELOPE, *CONTENT, *CONTENT, mp.EndOfMessage(), mp.EndOfMessage()]
    )
    for _ in range(data.draw(st.integers(0, 40))):
        command = data.draw(course | course | course | commands)
        before = pair.mta.state
        # `wants` is asked about a class, and can't know which command's macros they are.
        unseen = (
            isinstance(command, mp.Macros)
            and command.command == b"M"
            and before in TRANSACTION
            and mp.MailFrom in unwanted
        )
        if unseen or not pair.mta.wants(type(command)):
            with pytest.raises(mp.LocalProtocolError):
                pair.mta.send(command)
            assert pair.mta.state is before
            assert pair.mta.our_turn
            continue
        pair.command(command)
        if isinstance(command, mp.Quit):
            assert pair.mta.state is pair.filter.state is mp.State.CLOSED
            return
        while pair.filter.our_turn:
            assert not pair.mta.our_turn
            assert type(command) in VERDICTS
            response = data.draw(verdicts | edits | st.just(mp.Progress()))
            state = pair.filter.state
            try:
                told = pair.reply(response)
            except mp.LocalProtocolError:
                assert (pair.filter.state, pair.filter.our_turn) == (state, True)
            else:
                assert told == [response]
            assert pair.mta.state is pair.filter.state
        assert pair.mta.our_turn
        assert pair.mta.state is pair.filter.state
        assert (pair.filter.transaction > 0) == (pair.filter.state in TRANSACTION)


# --- the turn ------------------------------------------------------------------------------


@pytest.mark.parametrize("command", named(SENDABLE))
def test_every_answered_event_gives_the_turn(command: type[mp.Command]) -> None:
    """From handing it out until the verdict, and not a call longer."""
    if command is mp.Negotiate:
        conn = mp.FilterConnection()
        conn.receive_data(OFFER)
        turns = [conn.our_turn]
        assert conn.next_event() == mp.offer()
        turns.append(conn.our_turn)
        conn.send(mp.negotiate(mp.offer(), mp.Wants()))
        assert [*turns, conn.our_turn] == [False, True, False]
        return
    pair = at(command)
    assert (pair.filter.our_turn, pair.mta.our_turn) == (True, False)
    pair.reply(mp.Continue())
    assert (pair.filter.our_turn, pair.mta.our_turn) == (False, True)


def test_a_forgotten_reply_is_a_clear_error() -> None:
    """And not two programs that wait for each other."""
    conn = filter_after()
    conn.receive_data(CONNECT + frame(b"H", b"x\0"))
    assert isinstance(conn.next_event(), mp.Connect)
    with pytest.raises(
        mp.LocalProtocolError,
        match=r"^reply to Connect\(\.\.\.\) before asking for the next event$",
    ):
        conn.next_event()
    conn.send(mp.Continue())
    assert conn.next_event() == mp.Helo(b"x")


def test_a_doubled_reply_is_a_clear_error() -> None:
    """A second verdict would be taken for the answer to the next message's MAIL."""
    pair = at(mp.EndOfMessage)
    pair.reply(mp.Accept())
    with pytest.raises(mp.LocalProtocolError, match=r"no reply is due, so Accept\(\.\.\.\) can't"):
        pair.filter.send(mp.Accept())
    assert pair.filter.state is pair.mta.state is mp.State.CONNECTED


def test_a_loop_over_events_ends_at_a_forgotten_reply() -> None:
    """And goes on through events that came together where each is answered."""
    conn = filter_after()
    conn.receive_data(CONNECT + frame(b"H", b"x\0") + frame(b"A"))
    assert [type(event) for event in conn.events()] == [mp.Connect]
    conn.send(mp.Continue())
    seen = []
    for event in conn.events():
        seen.append(event)
        if conn.our_turn:
            conn.send(mp.Continue())
    assert seen == [mp.Helo(b"x"), mp.Abort()]


def test_the_turn_lasts_through_edits_and_progress() -> None:
    """Only a verdict ends it."""
    pair = at(mp.EndOfMessage)
    for response in (mp.Progress(), mp.AddHeader(b"A", b"b"), mp.Quarantine(b"odd")):
        assert pair.reply(response) == [response]
        assert (pair.filter.our_turn, pair.mta.our_turn) == (True, False)
    pair.reply(mp.Accept())
    assert (pair.filter.our_turn, pair.mta.our_turn) == (False, True)


def test_events_that_need_no_answer_never_give_the_turn() -> None:
    """The MTA goes on at once, too."""
    pair = opened(mp.Wants(replies={mp.MailFrom}))
    for command in (*CLIENT, mp.Macros.of(mp.MailFrom, {b"i": b"1"})):
        pair.command(command)
        assert not pair.filter.our_turn
        assert pair.mta.our_turn
    pair.command(ENVELOPE[0])
    assert pair.filter.our_turn


def test_where_the_mta_insists_on_an_answer_it_is_our_turn() -> None:
    """Version 2 knows no NR bits: nothing is answered behind the user's back."""
    pair = opened(mp.Wants(replies=set()), mp.offer(2))
    pair.command(CLIENT[0])
    assert pair.filter.our_turn


# --- the two ends --------------------------------------------------------------------------


def test_end_of_file_is_told_once() -> None:
    """Postfix closes without QUIT after accept and reject at CONNECT."""
    conn = filter_after(CONNECT)
    conn.receive_data(b"")
    assert conn.next_event() == mp.ConnectionClosed()
    assert conn.state is mp.State.CLOSED
    assert conn.next_event() is None
    assert list(conn.events()) == []
    conn.receive_data(b"")
    assert conn.next_event() is None


def test_end_of_file_inside_of_a_message_is_a_plain_end() -> None:
    """MTAs do close like that."""
    conn = filter_after(CONNECT, frame(b"M", b"<>\0"))
    conn.receive_data(b"")
    assert conn.next_event() == mp.ConnectionClosed()
    assert conn.transaction == 0


@pytest.mark.parametrize("cut", range(1, len(CONNECT)))
def test_end_of_file_inside_of_a_frame_is_an_error(cut: int) -> None:
    """Events before it are told first."""
    conn = filter_after()
    conn.receive_data(frame(b"A") + CONNECT[:cut])
    conn.receive_data(b"")
    assert conn.next_event() == mp.Abort()
    with pytest.raises(mp.RemoteProtocolError, match="end of file inside a frame") as error:
        conn.next_event()
    assert error.value.hint is None


def test_end_of_file_while_a_reply_is_due_cancels_it() -> None:
    """A slow filter hears that nobody waits any more; what else came is dropped."""
    conn = filter_after()
    conn.receive_data(CONNECT + frame(b"A") + b"\0\0")
    assert isinstance(conn.next_event(), mp.Connect)
    conn.receive_data(b"")
    before = conn.our_turn
    assert conn.next_event() == mp.ConnectionClosed()
    assert (before, conn.our_turn) == (True, False)
    assert conn.next_event() is None
    with pytest.raises(mp.LocalProtocolError, match="no reply is due"):
        conn.send(mp.Continue())


def test_quit_closes_at_once() -> None:
    """What comes after it is nobody's business."""
    conn = filter_after()
    conn.receive_data(frame(b"Q") + b"GET /")
    assert list(conn.events()) == [mp.Quit(), mp.ConnectionClosed()]
    conn.receive_data(b"more")
    assert conn.next_event() is None


def test_data_after_the_end_of_file_is_a_mistake() -> None:
    """It would come from a driver that mixes up two connections."""
    conn = filter_after()
    conn.receive_data(b"")
    with pytest.raises(mp.LocalProtocolError, match="after the end of file"):
        conn.receive_data(b"x")


@pytest.mark.parametrize("make", [mp.FilterConnection, mp.MTAConnection])
@pytest.mark.parametrize("data", [None, "", "text", 0, []], ids=repr)
def test_what_is_not_bytes(make: Callable[[], Any], data: Any) -> None:
    """Is no end of file either, and changes nothing."""
    conn = make()
    with pytest.raises(mp.LocalProtocolError, match="has to be bytes, and not"):
        conn.receive_data(data)
    conn.receive_data(b"")
    assert conn.next_event() == mp.ConnectionClosed()


def test_bytearray_and_memoryview_are_taken() -> None:
    """And are not kept: the caller may use the buffer again."""
    conn = mp.FilterConnection()
    buffer = bytearray(OFFER)
    conn.receive_data(memoryview(buffer)[:9])
    conn.receive_data(buffer[9:])
    buffer[:] = bytes(len(buffer))
    assert conn.next_event() == mp.offer()


def test_pieces_that_are_fed_before_anybody_asks() -> None:
    """Each ends with a frame; none is forgotten, nor is the connection idle before the last."""
    conn = filter_after(CONNECT)
    for _ in range(4):
        conn.receive_data(frame(b"A"))
    for _ in range(4):
        assert not conn.idle
        assert conn.next_event() == mp.Abort()
    assert conn.idle
    assert conn.next_event() is None


# --- remote errors -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "reason", "hint"),
    [
        (frame(b"R", b"<a>\0"), "RcptTo can't follow in state CONNECTED", mp.TempFail()),
        (frame(b"C", b"h\0U"), "Connect can't follow in state CONNECTED", mp.TempFail()),
        (frame(b"O", bytes(12)), "Negotiate can't follow in state CONNECTED", mp.TempFail()),
        (frame(b"O", bytes(11)), "fewer than 12", mp.TempFail()),
        (frame(b"L", b"name\0"), "not exactly two", mp.TempFail()),
        (frame(b"H", b"x"), "not exactly one", mp.TempFail()),
        (frame(b"A", b"x"), "ABORT with a payload", None),
        (frame(b"D"), "macros without the code", None),
        (frame(b"Z"), "unknown code byte", None),
        (bytes(4), "length 0", None),
        (b"GET / HTTP/1.0", "it looks like an HTTP request", None),
    ],
)
def test_a_broken_protocol(data: bytes, reason: str, hint: mp.TempFail | None) -> None:
    """Events before it come first; then the error stays, and a hint may be sent once."""
    conn = filter_after(CONNECT)
    conn.receive_data(frame(b"A") + data + frame(b"A"))
    assert conn.next_event() == mp.Abort()
    for _ in range(2):
        with pytest.raises(mp.RemoteProtocolError, match=reason) as error:
            conn.next_event()
        assert error.value.hint == hint
        assert conn.state is mp.State.FAILED
        assert not conn.our_turn
    conn.receive_data(frame(b"A"))
    conn.receive_data(b"")
    with pytest.raises(mp.RemoteProtocolError, match=reason):
        conn.next_event()
    with pytest.raises(mp.LocalProtocolError, match="no reply is due"):
        conn.send(mp.Continue())
    if hint is not None:
        assert conn.send(hint) == frame(b"t")
    with pytest.raises(mp.LocalProtocolError, match="no reply is due"):
        conn.send(mp.TempFail())
    with pytest.raises(mp.RemoteProtocolError, match=reason) as error:
        conn.next_event()
    assert error.value.hint is None


def test_no_hint_where_nobody_waits_for_a_reply() -> None:
    """With an NR bit, or before the negotiation, TempFail would answer something else."""
    silent = filter_after(CONNECT, wants=mp.Wants(replies=()))
    silent.receive_data(frame(b"R", b"<a>\0"))
    opening = mp.FilterConnection()
    opening.receive_data(frame(b"H", b"x\0"))
    for conn in (silent, opening):
        with pytest.raises(mp.RemoteProtocolError) as error:
            conn.next_event()
        assert error.value.hint is None


@pytest.mark.parametrize("command", [CONNECT, frame(b"D", b"C"), frame(b"A"), frame(b"E")])
def test_nothing_comes_before_the_negotiation(command: bytes) -> None:
    """A session's first frame says which version is spoken."""
    conn = mp.FilterConnection()
    conn.receive_data(command)
    with pytest.raises(mp.RemoteProtocolError, match="can't follow in state OPENING"):
        conn.next_event()


@pytest.mark.parametrize("version", [0, 1])
def test_a_too_old_mta_is_refused(version: int) -> None:
    """Version 1 lacks half of the protocol; libmilter refuses it as well."""
    conn = mp.FilterConnection()
    conn.receive_data(frame(b"O", bytes([0, 0, 0, version]) + bytes(8)))
    with pytest.raises(mp.RemoteProtocolError, match=f"version {version}, too old"):
        conn.next_event()


def test_the_limit_holds() -> None:
    """One byte more than allowed is refused before it is read."""
    conn = mp.FilterConnection(max_payload=20)
    conn.receive_data(OFFER)
    conn.next_event()
    conn.send(mp.negotiate(mp.offer(), mp.Wants()))
    conn.receive_data(frame(b"U", b"x" * 19 + b"\0"))
    assert conn.next_event() == mp.Unknown(b"x" * 19)
    conn.send(mp.Continue())
    conn.receive_data((22).to_bytes(4, "big"))
    with pytest.raises(mp.RemoteProtocolError, match="22 bytes, more than the 21 allowed"):
        conn.next_event()


# --- what a filter may send ----------------------------------------------------------------

EVERY_RESPONSE: dict[type[mp.Response], mp.Response] = {
    type(response): response
    for response in (
        mp.Continue(),
        mp.Accept(),
        mp.Reject(),
        mp.TempFail(),
        mp.Discard(),
        mp.ReplyCode.text(550, "5.7.1", "no"),
        mp.Skip(),
        mp.Shutdown(),
        mp.ConnectionFailure(),
        mp.AddHeader(b"A", b"b"),
        mp.InsertHeader(0, b"A", b"b"),
        mp.ChangeHeader(1, b"A", b"b"),
        mp.ReplaceBody(b"x"),
        mp.AddRecipient(b"<a>"),
        mp.DeleteRecipient(b"<a>"),
        mp.ChangeSender(b"<>"),
        mp.Quarantine(b"x"),
        mp.Progress(),
        mp.negotiate(mp.offer(), mp.Wants()),
    )
}


@pytest.mark.parametrize("command", named(VERDICTS))
@pytest.mark.parametrize("kind", named(EVERY_RESPONSE))
def test_every_response_at_every_stage(command: type[mp.Command], kind: type[mp.Response]) -> None:
    """What the table allows reaches the MTA; anything else changes nothing."""
    pair = at(command)
    response = EVERY_RESPONSE[kind]
    if kind in SENDABLE[command]:
        assert pair.reply(response) == [response]
        assert pair.mta.state is pair.filter.state
    else:
        state = pair.filter.state
        with pytest.raises(mp.LocalProtocolError, match=f"{kind.__name__}.* is no reply to"):
            pair.filter.send(response)
        assert (pair.filter.state, pair.filter.our_turn) == (state, True)


@pytest.mark.parametrize(
    ("edit", "action"),
    [
        (mp.AddHeader(b"A", b"b"), mp.Actions.ADDHDRS),
        (mp.InsertHeader(0, b"A", b"b"), mp.Actions.ADDHDRS),
        (mp.ChangeHeader(1, b"A", b"b"), mp.Actions.CHGHDRS),
        (mp.ReplaceBody(b"x"), mp.Actions.CHGBODY),
        (mp.AddRecipient(b"<a>"), mp.Actions.ADDRCPT),
        (mp.AddRecipient(b"<a>", (b"NOTIFY=NEVER",)), mp.Actions.ADDRCPT_PAR),
        (mp.DeleteRecipient(b"<a>"), mp.Actions.DELRCPT),
        (mp.ChangeSender(b"<>"), mp.Actions.CHGFROM),
        (mp.Quarantine(b"x"), mp.Actions.QUARANTINE),
    ],
)
def test_an_edit_needs_its_action(edit: mp.Edit, action: mp.Actions) -> None:
    """No MTA enforces this, but one of them tempfails the message for a body."""
    others = mp.Actions(int(mp.ALL_ACTIONS) & ~int(action))
    pair = at(mp.EndOfMessage, mp.Wants(actions=others))
    with pytest.raises(
        mp.LocalProtocolError, match=rf"needs Actions\.{action.name}, which was not negotiated"
    ):
        pair.filter.send(edit)
    assert pair.filter.our_turn
    allowed = at(mp.EndOfMessage, mp.Wants(actions=action))
    assert allowed.reply(edit) == [edit]


def test_skip_needs_its_step() -> None:
    """An MTA of version 2 does not know it."""
    pair = Pair(mp.Wants(), mp.offer(2))
    pair.run(*CLIENT, *ENVELOPE, *CONTENT[1:3])
    pair.command(CONTENT[3])
    with pytest.raises(mp.LocalProtocolError, match=r"needs Steps\.SKIP"):
        pair.filter.send(mp.Skip())


def test_shutdown_is_for_those_who_ask_for_it() -> None:
    """To Sendmail it is a protocol error."""
    conn = filter_after()
    conn.receive_data(CONNECT)
    conn.next_event()
    with pytest.raises(mp.LocalProtocolError, match="allow_shutdown=True"):
        conn.send(mp.Shutdown())
    assert conn.our_turn


def test_a_long_421_at_connect_is_refused() -> None:
    """Sendmail would take it for a mere temporary failure."""
    one, two = (mp.ReplyCode.text(421, "4.7.0", *"ab"[:n]) for n in (1, 2))
    pair = at(mp.Connect)
    with pytest.raises(mp.LocalProtocolError, match="one-line 421"):
        pair.filter.send(two)
    assert pair.reply(one) == [one]
    assert at(mp.Helo).reply(two) == [two]
    longer = mp.ReplyCode.text(550, None, "a", "b")
    assert at(mp.Connect).reply(longer) == [longer]


@pytest.mark.parametrize("between", [mp.AddHeader(b"A", b"b"), mp.Progress()])
def test_a_body_in_two_places_is_refused(between: mp.AddHeader | mp.Progress) -> None:
    """Postfix would answer 451 and drop the filter."""
    pair = at(mp.EndOfMessage)
    pair.reply(between, mp.ReplaceBody(b"a"), mp.ReplaceBody(b"b"), between)
    with pytest.raises(mp.LocalProtocolError, match="in one go"):
        pair.filter.send(mp.ReplaceBody(b"c"))
    assert pair.reply(mp.Accept()) == [mp.Accept()]


def test_a_class_is_no_event() -> None:
    """A slip that Python does not see."""
    pair = at(mp.Connect)
    reply: Any = mp.Continue
    with pytest.raises(mp.LocalProtocolError, match=r"the class Continue itself, not Continue\("):
        pair.filter.send(reply)


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (mp.AddHeader(b"A b", b"x"), "header name"),
        (mp.ReplyCode(b"450", b"5.7.1", (b"x",)), "class"),
        (mp.AddHeader(b"A", b"x" * 65536), "more than 65535"),
    ],
)
def test_a_refused_field_changes_nothing(response: mp.Response, reason: str) -> None:
    """All or nothing: the turn stays, and another reply can be sent."""
    pair = at(mp.EndOfMessage)
    with pytest.raises(mp.LocalProtocolError, match=reason):
        pair.filter.send(response)
    assert pair.filter.state is mp.State.EOM
    assert pair.reply(mp.TempFail()) == [mp.TempFail()]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (mp.Negotiate(6, mp.Actions(0x200), mp.Steps(0)), "actions 0x200"),
        (mp.Negotiate(6, mp.Actions(0), mp.Steps(0), ((5, (b"i",)),)), "go together"),
        (mp.Negotiate(6, mp.Actions(0), mp.Steps(0), ((0, (b"a b",)),)), "no macro name"),
    ],
)
def test_a_bad_answer_to_the_offer_is_refused(answer: mp.Negotiate, reason: str) -> None:
    """And the negotiation can still be answered rightly."""
    conn = mp.FilterConnection()
    conn.receive_data(OFFER)
    conn.next_event()
    with pytest.raises(mp.LocalProtocolError, match=reason):
        conn.send(answer)
    assert conn.negotiated is None
    good = mp.negotiate(mp.offer(), mp.Wants())
    conn.send(good)
    assert conn.negotiated == good


def test_negotiations_of_wrong_types_are_told_clearly() -> None:
    """They are looked at by more than the encoder."""
    conn = mp.FilterConnection()
    conn.receive_data(OFFER)
    conn.next_event()
    version: Any = "6"
    with pytest.raises(mp.LocalProtocolError, match="wrong type or range"):
        conn.send(mp.Negotiate(version, mp.Actions(0), mp.Steps(0)))
    with pytest.raises(mp.LocalProtocolError, match="wrong type or range"):
        mp.MTAConnection().send(mp.Negotiate(version, mp.Actions(0), mp.Steps(0)))


def test_large_packets_where_agreed() -> None:
    """A header over 64 KiB passes between two that speak of it, and so does a command."""
    large = mp.Negotiate(6, mp.ALL_ACTIONS, mp.ALL_STEPS | mp.Steps.MDS_256K)
    pair = opened(mp.Wants(actions=mp.ALL_ACTIONS, large_packets=True), large)
    pair.run(*CLIENT, mp.Unknown(b"x" * 200000))
    pair.run(*ENVELOPE, CONTENT[0], mp.Header(b"Long", b"x" * 200000))
    pair.run(mp.EndOfHeaders())
    edit = mp.AddHeader(b"Long", b"y" * 200000)
    assert pair.say(mp.EndOfMessage(), edit, mp.Accept()) == [edit, mp.Accept()]


# --- sessions ------------------------------------------------------------------------------


def test_transactions_are_counted_and_end() -> None:
    """Nothing in the protocol names a message before Postfix has a queue id."""
    pair = opened()
    pair.run(*CLIENT)
    assert pair.filter.transaction == 0
    for number in (1, 2):
        pair.run(*ENVELOPE, *CONTENT)
        pair.command(mp.EndOfMessage())
        assert pair.filter.transaction == number
        pair.reply(mp.Accept())
        assert pair.filter.transaction == 0
    pair.run(*ENVELOPE)
    assert pair.filter.transaction == 3
    pair.run(mp.Abort())
    assert pair.filter.transaction == 0
    pair.run(ENVELOPE[0])
    assert pair.filter.transaction == 4
    # Sendmail may begin the next message without an Abort.
    pair.run(ENVELOPE[0])
    assert pair.filter.transaction == 5


def test_abort_as_often_as_postfix_likes() -> None:
    """Up to three around one QUIT, and after each message that is over."""
    conn = filter_after(
        frame(b"A"), CONNECT, frame(b"A"), frame(b"M", b"<>\0"), frame(b"A"), frame(b"A")
    )
    assert conn.state is mp.State.CONNECTED
    conn.receive_data(frame(b"A") + frame(b"Q"))
    assert list(conn.events()) == [mp.Abort(), mp.Quit(), mp.ConnectionClosed()]


def test_helo_before_abort() -> None:
    """Postfix sends H A A for an EHLO inside of a transaction, Sendmail A H."""
    conn = filter_after(CONNECT, frame(b"H", b"a\0"), frame(b"M", b"<>\0"), frame(b"R", b"<b>\0"))
    assert conn.transaction == 1
    conn.receive_data(frame(b"H", b"b\0"))
    assert conn.next_event() == mp.Helo(b"b")
    assert conn.transaction == 0
    conn.send(mp.Continue())
    conn.receive_data(frame(b"A") * 2)
    assert list(conn.events()) == [mp.Abort()] * 2
    assert conn.state is mp.State.CONNECTED


def test_no_helo_at_all_and_no_data_event() -> None:
    """Clients skip HELO; MTAs of version 3 have no DATA."""
    conn = filter_after(
        CONNECT, frame(b"M", b"<>\0"), frame(b"R", b"<b>\0"), frame(b"N"), frame(b"E")
    )
    assert conn.state is mp.State.CONNECTED


def test_a_new_client_on_the_same_connection_is_answered() -> None:
    """libmilter says nothing to the Connect after most QUIT_NC."""
    conn = filter_after(CONNECT, frame(b"D", b"Mi\x001\0"), frame(b"M", b"<>\0"))
    conn.receive_data(frame(b"D", b"Hx\0y\0") + frame(b"K") + frame(b"C", b"other\0U"))
    assert isinstance(conn.next_event(), mp.Macros)
    assert conn.next_event() == mp.QuitNewConnection()
    assert conn.state is mp.State.NEGOTIATED
    assert not conn.macros
    assert conn.next_event() == mp.Connect(b"other", mp.Family.UNKNOWN)
    assert not conn.macros
    assert conn.send(mp.Continue()) == frame(b"c")


def test_the_tail_in_end_of_message_gets_one_verdict() -> None:
    """libmilter may answer such a frame twice."""
    conn = filter_after(CONNECT, frame(b"M", b"<>\0"), frame(b"R", b"<b>\0"), frame(b"B", b"one"))
    conn.receive_data(frame(b"E", b"two"))
    assert conn.next_event() == mp.EndOfMessage(b"two")
    assert conn.send(mp.Reject()) == frame(b"r")
    assert not conn.our_turn
    assert conn.next_event() is None


@pytest.mark.parametrize("verdict", [mp.TempFail(), mp.ReplyCode.text(450, None, "later")])
def test_refused_data_may_be_tried_again(verdict: mp.Verdict) -> None:
    """Both MTAs leave the transaction open, and libmilter answers nothing."""
    conn = filter_after(CONNECT, macros(b"M", i="Q1"), frame(b"M", b"<>\0"), frame(b"R", b"<b>\0"))
    conn.receive_data(frame(b"T"))
    conn.next_event()
    conn.send(verdict)
    conn.receive_data(frame(b"R", b"<c>\0"))
    assert conn.next_event() == mp.RcptTo(b"<c>")
    assert dict(conn.macros) == {b"i": b"Q1"}
    assert conn.send(mp.Continue()) == frame(b"c")
    conn.receive_data(frame(b"T"))
    assert conn.next_event() == mp.Data()


def test_idle_between_messages_only() -> None:
    """A filter may be stopped there without costing anybody a message."""
    pair = opened()
    assert pair.filter.idle
    seen = []
    for command in (*CLIENT, *ENVELOPE, *CONTENT, mp.EndOfMessage()):
        pair.command(command)
        seen.append(pair.filter.idle)
        pair.reply(mp.Continue())
        seen.append(pair.filter.idle)
    outside = [False, True] * len(CLIENT)
    inside = [False] * (2 * len([*ENVELOPE, *CONTENT]))
    assert seen == [*outside, *inside, False, True]
    pair.filter.receive_data(b"\0")
    assert not pair.filter.idle


# --- macros --------------------------------------------------------------------------------


def macros(command: bytes, **values: str) -> bytes:
    raw = "".join(f"{name}\0{value}\0" for name, value in values.items()).encode()
    return frame(b"D", command + raw)


def test_macros_are_in_force_with_their_command() -> None:
    """Announced before it, and there when it is handed out."""
    conn = filter_after(macros(b"C", j="mta"), CONNECT)
    assert dict(conn.macros) == {b"j": b"mta"}
    conn.receive_data(macros(b"M", i="Q1") + frame(b"M", b"<>\0"))
    assert isinstance(conn.next_event(), mp.Macros)
    assert conn.macros.get(b"i") is None
    assert conn.next_event() == mp.MailFrom(b"<>")
    assert conn.macros[b"i"] == conn.macros[b"{i}"] == b"Q1"


@pytest.mark.parametrize("end", ["verdict", "abort", "helo", "early"])
def test_nothing_of_one_message_shows_in_the_next(end: str) -> None:
    """However the first one ended, and though the second brings no macros of its own."""
    conn = filter_after(
        macros(b"C", j="mta"),
        CONNECT,
        macros(b"M", i="Q1"),
        frame(b"M", b"<>\0"),
        macros(b"R", rcpt_addr="b"),
        frame(b"R", b"<b>\0"),
    )
    if end == "verdict":
        conn.receive_data(macros(b"E", i="Q1") + frame(b"E"))
        assert [type(event) for event in conn.events()] == [mp.Macros, mp.EndOfMessage]
        conn.send(mp.Accept())
        # For a log line, the event in hand still has its macros.
        assert conn.macros[b"i"] == b"Q1"
    elif end == "abort":
        conn.receive_data(frame(b"A"))
        assert list(conn.events()) == [mp.Abort()]
        assert dict(conn.macros) == {b"j": b"mta"}
    elif end == "helo":
        conn.receive_data(frame(b"H", b"x\0"))
        assert conn.next_event() == mp.Helo(b"x")
        assert dict(conn.macros) == {b"j": b"mta"}
        conn.send(mp.Continue())
    else:
        conn.receive_data(frame(b"N"))
        assert conn.next_event() == mp.EndOfHeaders()
        conn.send(mp.Reject())
    conn.receive_data(frame(b"M", b"<>\0"))
    assert conn.next_event() == mp.MailFrom(b"<>")
    assert dict(conn.macros) == {b"j": b"mta"}
    assert conn.transaction == 2


@pytest.mark.parametrize("verdict", [mp.Accept(), mp.ReplyCode.text(550, None, "no")])
def test_an_unknown_command_between_messages_has_the_macros_of_neither(
    verdict: mp.Verdict,
) -> None:
    """It begins nothing, so it can't be what ends them."""
    conn = filter_after(macros(b"C", j="mta"), CONNECT, macros(b"M", i="Q1"), frame(b"M", b"<>\0"))
    conn.receive_data(frame(b"R", b"<b>\0"))
    assert conn.next_event() == mp.RcptTo(b"<b>")
    conn.send(mp.Continue())
    conn.receive_data(frame(b"E"))
    assert conn.next_event() == mp.EndOfMessage()
    conn.send(verdict)
    conn.receive_data(frame(b"U", b"FOO\0"))
    assert conn.next_event() == mp.Unknown(b"FOO")
    assert dict(conn.macros) == {b"j": b"mta"}
    conn.send(mp.Continue())
    conn.receive_data(macros(b"M", i="Q2") + frame(b"M", b"<>\0"))
    assert [type(event) for event in conn.events()] == [mp.Macros, mp.MailFrom]
    assert dict(conn.macros) == {b"j": b"mta", b"i": b"Q2"}


def test_the_next_message_has_macros_of_its_own() -> None:
    """Those of the last one go, and theirs stay."""
    message = (frame(b"M", b"<>\0"), frame(b"R", b"<b>\0"), frame(b"E"))
    conn = filter_after(CONNECT, macros(b"M", i="Q1"), *message)
    conn.receive_data(macros(b"M", i="Q2") + message[0])
    assert [type(event) for event in conn.events()] == [mp.Macros, mp.MailFrom]
    assert dict(conn.macros) == {b"i": b"Q2"}


def test_a_body_that_reads_like_the_macros_before_it() -> None:
    """Only macros are taken for macros that come again."""
    conn = filter_after(CONNECT, frame(b"M", b"<>\0"), frame(b"R", b"<b>\0"))
    conn.receive_data(macros(b"B", i="Q1") + frame(b"B", b"Bi\0Q1\0"))
    assert list(conn.events()) == [mp.Macros(b"B", b"i\0Q1\0"), mp.Body(b"Bi\0Q1\0")]


def tagged(number: int, command: mp.Command) -> bytes:
    """A command, and before it macros that say which message it is of, as both MTAs do."""
    name = f"{{m_{type(command).__name__}}}".encode()
    return encode_command(mp.Macros.of(type(command), {name: str(number).encode()}))


@given(
    st.randoms(use_true_random=False),
    st.sets(st.sampled_from(named(mp.ALL_EVENTS))),
    st.sets(st.sampled_from(named(mp.ALL_EVENTS))),
    st.booleans(),
)
def test_no_macro_outlives_its_message(
    chance: Random, unwanted: set[Any], silent: set[Any], aborts: bool
) -> None:
    """Whatever is wanted and answered, and however messages end: as from Postfix or Sendmail."""
    wants = mp.Wants(events=mp.ALL_EVENTS - unwanted, replies=mp.ALL_EVENTS - silent)
    conn = filter_after(wants=wants)
    for number in range(1, 5):
        message = [*ENVELOPE, ENVELOPE[1], *CONTENT, mp.EndOfMessage()]
        cut = chance.randrange(1, len(message) + 3)
        decided = False
        for command in [CLIENT[0], *message] if number == 1 else message[:cut]:
            if chance.random() < 0.7:
                conn.receive_data(tagged(number, command))
            if type(command) not in unwanted:
                conn.receive_data(encode_command(command))
            verdict: mp.Verdict = mp.Continue()
            for event in conn.events():
                of_messages = {v for k, v in conn.macros.items() if b"Connect" not in k}
                assert of_messages <= {str(number).encode()} or type(event) is mp.Macros
                if conn.our_turn:
                    verdict = mp.Accept() if chance.random() < 0.3 else mp.Continue()
                    conn.send(verdict)
            decided = verdict == mp.Accept() and type(command) is not mp.Connect
            if decided:
                break
        # Sendmail sends no Abort after a verdict.
        if aborts or not (decided or cut >= len(message)):
            conn.receive_data(frame(b"A"))
            assert list(conn.events()) == [mp.Abort()]


def test_macros_of_an_unwanted_mail_are_there_for_the_recipient() -> None:
    """A filter with NOMAIL can still look up the sender by its macros."""
    wants = mp.Wants(events={mp.RcptTo})
    conn = filter_after(macros(b"C", j="mta"), wants=wants)
    conn.receive_data(macros(b"M", mail_addr="a@x") + macros(b"R") + frame(b"R", b"<b>\0"))
    assert [type(event) for event in conn.events()] == [mp.Macros, mp.Macros, mp.RcptTo]
    assert dict(conn.macros) == {b"j": b"mta", b"mail_addr": b"a@x"}


def test_unwanted_mail_parts_messages_by_its_macros() -> None:
    """Sendmail sends no Abort for a message whose MAIL the filter did not want."""
    conn = filter_after(
        CONNECT,
        macros(b"M", i="1"),
        macros(b"R", r="1"),
        frame(b"R", b"<a>\0"),
        wants=mp.Wants(events={mp.RcptTo}),
    )
    assert (conn.transaction, conn.state) == (1, mp.State.RCPT)
    conn.receive_data(macros(b"M", i="2") + frame(b"R", b"<b>\0"))
    assert isinstance(conn.next_event(), mp.Macros)
    assert (conn.transaction, conn.state) == (0, mp.State.CONNECTED)
    assert not conn.macros
    assert conn.next_event() == mp.RcptTo(b"<b>")
    assert conn.transaction == 2
    assert dict(conn.macros) == {b"i": b"2"}


def test_macros_for_mail_part_nothing_where_mail_is_wanted() -> None:
    """There MAIL itself does it."""
    conn = filter_after(CONNECT, macros(b"M", i="1"), frame(b"M", b"<>\0"), macros(b"M", i="2"))
    assert (conn.transaction, conn.macros[b"i"]) == (1, b"1")


# --- the MTA's side ------------------------------------------------------------------------


def test_the_mta_begins_by_its_offer() -> None:
    """And nothing else may come before the filter has answered it."""
    conn = mp.MTAConnection()
    assert conn.our_turn
    assert conn.wants(mp.Negotiate)
    assert not conn.wants(mp.Macros)
    assert conn.macros_wanted(mp.Stage.MAIL) is None
    for command in (CLIENT[0], mp.Macros(b"C", b"")):
        with pytest.raises(mp.LocalProtocolError, match="can't be sent"):
            conn.send(command)
    assert conn.send(mp.offer()) == OFFER
    assert conn.next_event() is None
    with pytest.raises(mp.LocalProtocolError, match=r"Negotiate\(\.\.\.\) waits for its reply"):
        conn.send(mp.Quit())
    conn.receive_data(ANSWER)
    assert list(conn.events()) == [conn.negotiated]
    assert not conn.wants(mp.Negotiate)


def test_a_bad_offer_is_refused() -> None:
    """Filters drop an MTA that makes one."""
    conn = mp.MTAConnection()
    with pytest.raises(mp.LocalProtocolError, match="version 7 is not between 2 and 6"):
        conn.send(mp.offer(7))
    assert conn.send(mp.offer())


def test_the_filters_macro_lists() -> None:
    """None where it has no wish, and its names where it has one."""
    pair = opened(mp.Wants(macros={mp.Stage.MAIL: [b"i"], mp.Stage.DATA: []}))
    assert pair.mta.macros_wanted(mp.Stage.MAIL) == (b"i",)
    assert pair.mta.macros_wanted(mp.Stage.DATA) == ()
    assert pair.mta.macros_wanted(mp.Stage.RCPT) is None


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (frame(b"O", bytes([0, 0, 0, 6, 0, 0, 2, 0, 0, 0, 0, 0])), "actions 0x200 were not"),
        (frame(b"O", bytes([0, 0, 0, 6, 0, 0, 0, 0, 0x80, 0, 0, 0])), "steps 0x80000000"),
        (frame(b"O", bytes([0, 0, 0, 7]) + bytes(8)), "version 7"),
        (frame(b"c"), "Continue is no reply to Negotiate"),
        (frame(b"p"), "Progress is no reply to Negotiate"),
        (frame(b"O", bytes(8)), "fewer than 12"),
    ],
)
def test_an_answer_beyond_the_offer_is_refused(answer: bytes, reason: str) -> None:
    """As Sendmail does; Postfix lets some pass."""
    conn = mp.MTAConnection()
    conn.send(mp.offer())
    conn.receive_data(answer)
    for _ in range(2):
        with pytest.raises(mp.RemoteProtocolError, match=reason) as error:
            conn.next_event()
        assert error.value.hint is None
    assert not conn.our_turn
    with pytest.raises(mp.LocalProtocolError, match="the connection has failed"):
        conn.send(mp.Quit())


def test_a_filter_that_speaks_unasked_is_found_out() -> None:
    """Its bytes would be taken for the reply to the next command."""
    for extra in (frame(b"c"), b"\0"):
        conn = mta_after()
        conn.receive_data(extra)
        with pytest.raises(mp.RemoteProtocolError, match="not asked for"):
            conn.next_event()
        other = mta_after()
        other.receive_data(extra)
        with pytest.raises(mp.RemoteProtocolError, match="not asked for"):
            other.send(CLIENT[0])
        assert other.state is mp.State.FAILED


def test_two_verdicts_are_found_out() -> None:
    """The first is delivered, the second fails the connection."""
    conn = mta_after(*CLIENT)
    conn.receive_data(frame(b"c") * 2)
    assert list(conn.events()) == [mp.Continue()]
    with pytest.raises(mp.RemoteProtocolError, match="not asked for"):
        conn.send(ENVELOPE[0])


@pytest.mark.parametrize(
    ("due", "reply", "reason"),
    [
        (CLIENT[0], frame(b"h", b"A\0b\0"), "AddHeader is no reply to Connect"),
        (CLIENT[0], frame(b"s"), "Skip is no reply to Connect"),
        (CLIENT[0], ANSWER, "Negotiate is no reply to Connect"),
        (CLIENT[0], frame(b"y", b"450 5.7.1 x\0"), "another class"),
        (CLIENT[0], frame(b"c", b"x"), "CONTINUE with a payload"),
        (CLIENT[0], frame(b"l"), "unknown code byte 0x6c"),
    ],
)
def test_replies_that_make_no_sense(due: mp.Command, reply: bytes, reason: str) -> None:
    """Sendmail and Postfix give the filter up over them."""
    conn = mta_after(due)
    conn.receive_data(reply)
    with pytest.raises(mp.RemoteProtocolError, match=reason):
        conn.next_event()


def test_edits_that_were_not_negotiated_are_told_all_the_same() -> None:
    """Both MTAs honour them."""
    conn = mp.MTAConnection()
    conn.send(mp.offer())
    conn.receive_data(encode_response(mp.negotiate(mp.offer(), mp.Wants(events=()))))
    conn.next_event()
    conn.send(mp.EndOfMessage())
    conn.receive_data(frame(b"h", b"A\0b\0") + frame(b"b", b"x") * 2 + frame(b"c"))
    assert list(conn.events()) == [
        mp.AddHeader(b"A", b"b"),
        mp.ReplaceBody(b"x"),
        mp.ReplaceBody(b"x"),
        mp.Continue(),
    ]


def test_a_body_in_two_places_fails_the_filter() -> None:
    """As in Postfix."""
    conn = mta_after(*CLIENT, *ENVELOPE, *CONTENT, mp.EndOfMessage())
    conn.receive_data(frame(b"b", b"x") + frame(b"p") + frame(b"b", b"y"))
    assert conn.next_event() == mp.ReplaceBody(b"x")
    assert conn.next_event() == mp.Progress()
    with pytest.raises(mp.RemoteProtocolError, match="after the new body had ended"):
        conn.next_event()


def test_progress_before_any_answer() -> None:
    """Postfix takes it, so filters may send it there."""
    conn = mta_after(CLIENT[0])
    conn.receive_data(frame(b"p") + frame(b"a"))
    assert list(conn.events()) == [mp.Progress(), mp.Accept()]


def test_the_filter_closes() -> None:
    """Told once; nothing can be sent after it."""
    conn = mta_after(CLIENT[0])
    conn.receive_data(b"")
    assert list(conn.events()) == [mp.ConnectionClosed()]
    assert conn.next_event() is None
    assert not conn.our_turn
    with pytest.raises(mp.LocalProtocolError, match="the connection has closed"):
        conn.send(mp.Quit())
    idle = mta_after()
    idle.receive_data(b"")
    assert idle.next_event() == mp.ConnectionClosed()


def test_the_filter_closes_inside_of_a_frame() -> None:
    """Half a verdict is none."""
    conn = mta_after(CLIENT[0])
    conn.receive_data(frame(b"y", b"550 x\0")[:-1])
    assert conn.next_event() is None
    conn.receive_data(b"")
    with pytest.raises(mp.RemoteProtocolError, match="inside a frame"):
        conn.next_event()


def test_quit_ends_the_mtas_side() -> None:
    """No reply comes."""
    conn = mta_after()
    assert conn.send(mp.Quit()) == frame(b"Q")
    assert conn.state is mp.State.CLOSED
    assert conn.next_event() == mp.ConnectionClosed()
    assert conn.next_event() is None


def refusal(pair: Pair, command: mp.Command) -> str:
    """Why the MTA must not send this, seen from both sides of the interface."""
    assert not pair.mta.wants(type(command))
    state = pair.mta.state
    with pytest.raises(mp.LocalProtocolError) as error:
        pair.mta.send(command)
    assert (pair.mta.state, pair.mta.our_turn) == (state, True)
    return str(error.value)


def test_what_the_filter_does_not_want() -> None:
    """Its NO bits, and the version that it answered."""
    pair = opened(mp.Wants(events=mp.ALL_EVENTS - {mp.Helo}))
    pair.say(CLIENT[0])
    assert "negotiated NOHELO" in refusal(pair, CLIENT[1])
    old = opened(offer=mp.offer(2))
    old.run(*CLIENT)
    assert "unknown in milter version 2" in refusal(old, mp.Unknown(b"FOO"))
    old.run(*ENVELOPE)
    assert "unknown in milter version 2" in refusal(old, mp.Data())
    old.run(*CONTENT[1:])


@pytest.mark.parametrize("verdict", [mp.Accept(), mp.Reject(), mp.Discard()])
def test_a_message_that_was_decided_early(verdict: mp.Verdict) -> None:
    """Nothing more of it, and the next one as usual."""
    pair = at(mp.Header)
    pair.reply(verdict)
    for command in (CONTENT[1], mp.EndOfMessage(), mp.Unknown(b"FOO")):
        assert "decided about the message" in refusal(pair, command)
    pair.run(mp.Abort(), *ENVELOPE, *CONTENT, mp.EndOfMessage())
    assert pair.filter.state is mp.State.CONNECTED


def test_a_connection_that_was_decided() -> None:
    """Only its end may follow."""
    pair = at(mp.Helo)
    pair.reply(mp.Accept())
    for command in (ENVELOPE[0], CLIENT[1], mp.Unknown(b"FOO")):
        assert "decided about the whole connection" in refusal(pair, command)
    pair.run(mp.Abort())
    assert "whole connection" in refusal(pair, ENVELOPE[0])
    pair.command(mp.Quit())


def test_skip_holds_until_the_next_other_event() -> None:
    """No more body in this message, but in the next one."""
    pair = at(mp.Body)
    pair.reply(mp.Skip())
    assert "asked to skip" in refusal(pair, CONTENT[3])
    pair.run(mp.EndOfMessage(), *ENVELOPE, *CONTENT)
    assert pair.mta.wants(mp.Body)


@pytest.mark.parametrize("kind", [mp.RcptTo, mp.Header])
def test_skip_of_recipients_and_headers(kind: type[mp.Command]) -> None:
    """Postfix takes it for those of the same kind that follow."""
    conn = mta_after()
    for command in (*CLIENT, *ENVELOPE, *CONTENT):
        conn.send(command)
        if type(command) is kind:
            break
        conn.receive_data(frame(b"c"))
        conn.next_event()
    conn.receive_data(frame(b"s"))
    assert conn.next_event() == mp.Skip()
    assert not conn.wants(kind)
    assert conn.wants(mp.EndOfHeaders)


@pytest.mark.parametrize("stream", [b"\0\0\0\x01?", b""])
def test_an_mta_sends_nothing_after_the_end(stream: bytes) -> None:
    """Not even what would be the next command."""
    pair = at(mp.Body)
    pair.mta.receive_data(stream)
    if stream:
        with pytest.raises(mp.RemoteProtocolError):
            pair.mta.next_event()
    else:
        assert pair.mta.next_event() == mp.ConnectionClosed()
    for command in (CONTENT[-1], mp.EndOfMessage(), mp.Macros(b"E", b"")):
        with pytest.raises(mp.LocalProtocolError, match=r"connection has (failed|closed)"):
            pair.mta.send(command)


def test_macros_need_no_reply_and_change_nothing_whatever_came_before() -> None:
    """Neither a Skip nor a refusal is forgotten over them."""
    pair = at(mp.Body)
    pair.reply(mp.Skip())
    pair.command(mp.Macros.of(mp.EndOfMessage, {b"i": b"Q1"}))
    assert pair.mta.our_turn
    assert "asked to skip" in refusal(pair, CONTENT[-1])
    assert pair.say(mp.EndOfMessage()) == [mp.Continue()]
    assert pair.filter.macros == {b"i": b"Q1"}
    pair = at(mp.Data)
    pair.reply(mp.ReplyCode.text(550, None, "no"))
    pair.command(mp.Macros.of(mp.Header, {b"i": b"Q1"}))
    assert "has refused DATA" in refusal(pair, ENVELOPE[1])


def test_data_that_was_refused_is_not_tried_again() -> None:
    """libmilter would leave us waiting for its reply."""
    pair = at(mp.Data)
    pair.reply(mp.ReplyCode.text(550, None, "no"))
    for command in (ENVELOPE[1], CONTENT[0], CONTENT[1], mp.EndOfMessage()):
        assert "has refused DATA" in refusal(pair, command)
    pair.run(ENVELOPE[0])
    assert pair.mta.wants(mp.RcptTo)


def test_a_filter_goes_on_after_data_that_another_one_refused() -> None:
    """Postfix shows it further recipients and the next DATA, all of the same message."""
    conn = filter_after(*map(encode_command, (*CLIENT, *ENVELOPE, CONTENT[0])))
    for command in (ENVELOPE[1], *CONTENT, mp.EndOfMessage()):
        conn.receive_data(encode_command(command))
        assert conn.next_event() == command
        assert conn.transaction == 1
        conn.send(mp.Continue())
    assert conn.state is mp.State.CONNECTED


def test_data_that_was_taken_is_not_tried_again() -> None:
    """libmilter would leave us waiting for its reply here, too."""
    pair = at(mp.Data)
    pair.reply(mp.Continue())
    for command in (ENVELOPE[1], CONTENT[0]):
        assert "would not answer it after DATA" in refusal(pair, command)
    pair.run(mp.Abort(), *ENVELOPE, *CONTENT)


def test_no_header_at_all_where_only_their_end_is_not_wanted() -> None:
    """libmilter skips the states of unwanted events only, and waits for a header."""
    events = mp.ALL_EVENTS - {mp.EndOfHeaders}
    pair = at(mp.Data, mp.Wants(events=events))
    pair.reply(mp.Continue())
    for command in (mp.Body(b"x"), mp.EndOfMessage()):
        assert "without a header before" in refusal(pair, command)
    neither = at(mp.Data, mp.Wants(events=events - {mp.Header}))
    neither.reply(mp.Continue())
    neither.run(mp.Body(b"x"), mp.EndOfMessage())


def test_macros_for_an_unwanted_sender_need_an_abort_before() -> None:
    """For the filter they are the end of the message."""
    macros = mp.Macros.of(mp.MailFrom, {b"i": b"2"})
    pair = opened(mp.Wants(events=mp.ALL_EVENTS - {mp.MailFrom}))
    pair.run(*CLIENT, macros, ENVELOPE[1])
    with pytest.raises(mp.LocalProtocolError, match="send Abort first"):
        pair.mta.send(macros)
    pair.run(mp.Abort(), macros, ENVELOPE[1])
    assert pair.mta.state is pair.filter.state is mp.State.RCPT


def test_macros_for_the_next_sender_end_no_message_that_was_seen() -> None:
    """Nor where there is none; a Skip or an unknown command before them changes nothing."""
    macros = mp.Macros.of(mp.MailFrom, {b"i": b"2"})
    pair = at(mp.Body)
    pair.reply(mp.Skip())
    pair.run(macros, ENVELOPE[0])
    assert pair.filter.macros == {b"i": b"2"}
    pair = opened(mp.Wants(events=mp.ALL_EVENTS - {mp.MailFrom}))
    pair.run(*CLIENT, mp.Unknown(b"FOO"), macros, ENVELOPE[1])
    assert pair.filter.macros == {b"i": b"2"}


@pytest.mark.parametrize("last", [mp.RcptTo, mp.Data, mp.Header])
def test_content_needs_the_end_of_headers_first(last: type[mp.Command]) -> None:
    """libmilter ignores a body or an end of message without it."""
    pair = at(last)
    pair.reply(mp.Continue())
    for command in (mp.Body(b"x"), mp.EndOfMessage()):
        assert "EndOfHeaders must come first" in refusal(pair, command)


def test_without_the_end_of_headers_where_it_is_not_wanted() -> None:
    """Then the body may follow at once."""
    pair = at(mp.Header, mp.Wants(events=mp.ALL_EVENTS - {mp.EndOfHeaders}))
    pair.reply(mp.Continue())
    pair.run(mp.Body(b"x"), mp.EndOfMessage())


@pytest.mark.parametrize("silent", [set(), {mp.Unknown}], ids=["answered", "not answered"])
def test_an_unknown_command_where_libmilter_would_lose_the_message(silent: set[Any]) -> None:
    """After it, libmilter answers MAIL, RCPT and DATA, but neither CONNECT nor content."""
    foo = mp.Unknown(b"FOO")
    pair = opened(mp.Wants(replies=mp.ALL_EVENTS - silent))
    assert "would not answer what follows" in refusal(pair, foo)
    pair.run(*CLIENT, foo, ENVELOPE[0], foo, ENVELOPE[1], foo)
    for command in (CONTENT[1], mp.EndOfHeaders()):
        assert "send Data first" in refusal(pair, command)
    pair.run(CONTENT[0])
    assert "would not answer what follows" in refusal(pair, foo)
    pair.run(*CONTENT[1:], mp.EndOfMessage(), foo)


def test_an_unknown_command_where_no_data_will_come() -> None:
    """Without DATA nothing would bring libmilter back to the message."""
    foo = mp.Unknown(b"FOO")
    no_data = at(mp.RcptTo, mp.Wants(events=mp.ALL_EVENTS - {mp.Data}))
    no_data.reply(mp.Continue())
    assert "would not answer what follows" in refusal(no_data, foo)
    neither = opened(mp.Wants(events=mp.ALL_EVENTS - {mp.Data, mp.RcptTo}))
    neither.run(*CLIENT, foo, ENVELOPE[0])
    assert "would not answer what follows" in refusal(neither, foo)
    unskipped = opened(mp.Wants(events=mp.ALL_EVENTS - {mp.EndOfHeaders, mp.RcptTo}))
    unskipped.run(*CLIENT, ENVELOPE[0], foo)
    assert "send Data first" in refusal(unskipped, mp.EndOfMessage())


def test_before_the_client_only_the_client_may_come() -> None:
    """libmilter forgets that it waits for one, unless it does not want to know."""
    pair = opened()
    assert "nothing to abort" in refusal(pair, mp.Abort())
    no_client = opened(mp.Wants(events=mp.ALL_EVENTS - {mp.Connect}))
    no_client.run(mp.Unknown(b"FOO"), mp.Abort(), *CLIENT[1:])


def test_refusing_an_unknown_command_refuses_nothing_else() -> None:
    """It fails in any case, and the message goes on."""
    pair = opened()
    pair.run(*CLIENT, ENVELOPE[0])
    pair.say(mp.Unknown(b"FOO"), mp.Reject())
    pair.run(ENVELOPE[1], *CONTENT, mp.EndOfMessage())


def test_accepting_an_unknown_command_ends_the_message() -> None:
    """For Sendmail and libmilter, if for nobody else."""
    pair = opened()
    pair.run(*CLIENT, ENVELOPE[0])
    pair.command(mp.Unknown(b"FOO"))
    pair.mta.receive_data(frame(b"a"))
    assert list(pair.mta.events()) == [mp.Accept()]
    assert not pair.mta.wants(mp.RcptTo)
    assert pair.mta.wants(mp.MailFrom)


def test_a_new_client_is_announced_only_where_libmilter_hears_it() -> None:
    """Nearly everywhere it ignores QUIT_NC, and the Connect that follows."""
    pair = opened()
    pair.run(*CLIENT)
    assert "open a new connection" in refusal(pair, mp.QuitNewConnection())
    pair.run(*ENVELOPE, *CONTENT, mp.EndOfMessage())
    pair.run(mp.QuitNewConnection(), *CLIENT, mp.Unknown(b"FOO"))
    pair.run(mp.QuitNewConnection())
    assert pair.mta.state is mp.State.NEGOTIATED
    accepted = at(mp.EndOfMessage)
    accepted.reply(mp.Accept())
    assert "open a new connection" in refusal(accepted, mp.QuitNewConnection())
    unknown = at(mp.Unknown)
    unknown.mta.receive_data(frame(b"a"))
    assert list(unknown.mta.events()) == [mp.Accept()]
    assert not unknown.mta.wants(mp.QuitNewConnection)


def test_commands_out_of_order_are_refused() -> None:
    """With the state in which they can't follow."""
    pair = opened()
    assert "in state NEGOTIATED" in refusal(pair, ENVELOPE[1])


def test_unsendable_events_of_the_mta() -> None:
    """All or nothing here, too."""
    pair = at(mp.RcptTo)
    pair.reply(mp.Continue())
    with pytest.raises(mp.LocalProtocolError, match="ESMTP parameter"):
        pair.mta.send(mp.RcptTo(b"<a>", (b"",)))
    assert pair.mta.our_turn
    assert pair.mta.state is mp.State.RCPT
    event: Any = mp.Data
    with pytest.raises(mp.LocalProtocolError, match="the class Data itself"):
        pair.mta.send(event)


def test_connection_failure_ends_the_connection() -> None:
    """No MTA takes it; ours tells it and asks for nothing more."""
    conn = mta_after(CLIENT[0])
    conn.receive_data(frame(b"f"))
    assert conn.next_event() == mp.ConnectionFailure()
    assert conn.state is mp.State.RELEASED


def test_every_state_of_the_tables_is_reached_in_step() -> None:
    """No state exists on paper only."""
    pair = opened()
    reached = {mp.State.OPENING}
    for command in (*CLIENT, *ENVELOPE, *CONTENT):
        pair.say(command)
        reached.add(pair.filter.state)
    pair.command(mp.EndOfMessage())
    reached.add(pair.filter.state)
    for edit in (mp.ReplaceBody(b""), mp.Progress()):
        pair.reply(edit)
        reached.add(pair.filter.state)
    pair.reply(mp.Accept())
    pair.say(ENVELOPE[0], mp.Reject())
    reached.add(pair.filter.state)
    pair.say(mp.Helo(b"x"), mp.Reject())
    reached.add(pair.filter.state)
    assert set(COMMANDS) - {mp.State.NEGOTIATED} <= reached
