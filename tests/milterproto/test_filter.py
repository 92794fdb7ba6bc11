"""A filter that is a function of a message: what it negotiates, collects and sends."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import milterproto as mp
from milterproto._filter import EDITING, refuse_too_large
from milterproto._wire import encode_command
from milterproto.message import (
    Client,
    Dialect,
    Field,
    Headers,
    Message,
    MessageFilter,
    Recipient,
    diff,
    expressible,
)
from milterproto.testing import MTA, Habits, deliver

from . import strategies

CONTENT = b"Subject: hi\nX-A:tight\nX-A: two\n\nbody\n"
MESSAGE = Message.parse(CONTENT, sender=b"<a@x.test>", recipients=[b"<b@y.test>", b"c@y.test"])
ALL = frozenset({mp.Connect, mp.Helo, mp.MailFrom, mp.RcptTo, mp.Header, mp.EndOfHeaders, mp.Body})


def nothing(*_: object) -> None:
    """Decides nothing."""


# --- negotiation -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filter_", "events", "replies"),
    [
        (MessageFilter(nothing), ALL, set()),
        (MessageFilter(nothing, body=False), ALL - {mp.Body}, set()),
        (MessageFilter(), set(), set()),
        (MessageFilter(on_connect=nothing), {mp.Connect}, {mp.Connect}),
        (MessageFilter(on_helo=nothing), {mp.Connect, mp.Helo}, {mp.Helo}),
        (
            MessageFilter(on_sender=nothing),
            {mp.Connect, mp.Helo, mp.MailFrom},
            {mp.MailFrom},
        ),
        (
            MessageFilter(on_recipient=nothing, on_connect=nothing),
            {mp.Connect, mp.Helo, mp.MailFrom, mp.RcptTo},
            {mp.Connect, mp.RcptTo},
        ),
        (MessageFilter(nothing, on_recipient=nothing), ALL, {mp.RcptTo}),
    ],
    ids=["all", "no body", "none", "connect", "helo", "sender", "recipient", "both"],
)
def test_only_what_is_needed_is_wanted(
    filter_: MessageFilter, events: set[Any], replies: set[Any]
) -> None:
    """Events that nobody looks at are not sent, and what decides nothing is not waited for."""
    wants = filter_.wants
    assert (set(wants.events), set(wants.replies)) == (set(events), replies)
    edits = filter_.function is not None
    assert wants.leading_space is edits
    assert wants.actions == (EDITING if edits else 0)


def test_the_content_is_streamed() -> None:
    """Header and body come without a round trip for each; only the end is answered."""
    answers = [event for way, event in deliver(nothing, MESSAGE).transcript if way == "<"]
    assert [type(event) for event in answers] == [mp.Negotiate, mp.Continue]


def test_options_of_the_negotiation() -> None:
    """Fewer edits, and macros that the MTA does not send by itself."""
    macros = {mp.Stage.HELO: (b"{client_connections}",)}
    asked = MessageFilter(nothing, actions=mp.Actions.ADDHDRS, macros=macros)
    mta = MTA(asked)
    (_, offer), (_, answer) = mta.transcript
    assert isinstance(answer, mp.Negotiate)
    assert answer.actions == mp.Actions.ADDHDRS | mp.Actions.SETSYMLIST
    assert answer.macros == ((1, (b"{client_connections}", b"{tls_version}")),)
    assert asked.session(mp.FilterConnection())(offer) == [answer]  # type: ignore[arg-type]


def test_a_list_of_macros_has_what_the_library_reads() -> None:
    """It stands in place of the MTA's own; the dialect may be known."""
    names = (b"j", b"v", b"{client_connections}")
    macros = {mp.Stage.CONNECT: names, mp.Stage.MAIL: (b"{auth_ssf}",), mp.Stage.RCPT: (b"x",)}
    rest = {mp.Stage.MAIL: (b"{auth_ssf}", b"i", b"{auth_authen}"), mp.Stage.RCPT: (b"x",)}
    asked = dict(MessageFilter(nothing, macros=macros).wants.macros)
    assert asked == {mp.Stage.CONNECT: (b"j", b"{client_connections}", b"v"), **rest}
    told = MessageFilter(nothing, macros=macros, dialect=Dialect.SENDMAIL).wants.macros
    assert dict(told) == {mp.Stage.CONNECT: names, **rest}


@pytest.mark.parametrize("habits", [Habits.POSTFIX, Habits.SENDMAIL])
def test_a_list_of_macros_hides_nothing(habits: Habits) -> None:
    """Of the client, nor the queue id."""
    message = MESSAGE.copy()
    message.client = Client(b"x", mp.Family.UNIX, 0, b"/x", b"h", b"TLSv1.3", b"ann")
    seen = seen_by(message, habits, macros=dict.fromkeys(mp.Stage, (b"{unheard_of}",)))
    assert (seen.client, seen.queue_id) == (message.client, b"4F2Q1")


# --- the message -------------------------------------------------------------------------


def seen_by(
    message: Message, habits: Habits = Habits.POSTFIX, version: int = 6, **options: Any
) -> Message:
    """The message that the function is given."""
    seen: list[Message] = []
    deliver(MessageFilter(seen.append, **options), message, habits=habits, version=version)
    (one,) = seen
    return one


@pytest.mark.parametrize("habits", Habits)
@pytest.mark.parametrize("version", [2, 3, 4, 6])
def test_the_function_sees_the_message(habits: Habits, version: int) -> None:
    """All of it, whatever the MTA does between; and nothing of another one."""
    client = Client(b"mail.x.test", mp.Family.INET6, 25, b"::1", b"helo.test", b"TLSv1.3", b"ann")
    message = MESSAGE.copy()
    message.sender_parameters = (b"SIZE=1", b"BODY=8BITMIME")
    message.recipients[0] = Recipient(b"<b@y.test>", (b"NOTIFY=NEVER",))
    message.client = client
    message.body = b"line\r\n" * 200
    # The TLS macros' names came with STARTTLS; the MTA knows its own version.
    seen = seen_by(message, habits, version)
    if version < 6:
        # Without leading space, the MTA takes one blank off, and it is put back everywhere.
        message.headers[1] = Field(b"X-A", b" tight")
    assert seen == message
    assert seen.queue_id.startswith(b"4F2Q") is (habits is not Habits.SENDMAIL) or seen.queue_id
    assert seen.macros[b"{mail_addr}"] == b"a@x.test"


def drive(tested: MessageFilter, *frames: bytes, offer: mp.Negotiate | None = None) -> None:
    """Give these to a connection of the filter, and send what it answers, or that it failed."""
    conn = mp.FilterConnection()
    handle = tested.session(conn)
    for frame in (encode_command(offer or mp.offer()), *frames):
        conn.receive_data(frame)
        while (event := conn.next_event()) is not None:
            answer = handle(event)
            assert not inspect.isawaitable(answer)
            for response in answer:
                try:
                    conn.send(response)
                except mp.LocalProtocolError:
                    conn.send(mp.TempFail())


def test_body_in_the_end_of_message() -> None:
    """No MTA does it, but it is legal."""
    seen: list[Message] = []
    commands = (mp.MailFrom(b"<>"), mp.RcptTo(b"<b@y>"), mp.Body(b"one "))
    frames = [encode_command(command) for command in commands]
    drive(MessageFilter(seen.append), *frames, b"\0\0\0\x06Etwo\r\n")
    assert seen[0].body == b"one two\r\n"
    assert seen[0].client == Client()


def test_the_macros_are_those_of_that_moment() -> None:
    """They stay with the message when the connection goes on."""
    seen: list[Message] = []
    mta = MTA(MessageFilter(seen.append))
    for _ in range(2):
        mta.deliver(MESSAGE)
    assert [one.queue_id for one in seen] == [b"4F2Q1", b"4F2Q2"]


def test_a_message_that_was_given_up_leaves_nothing() -> None:
    """Wherever the client says RSET."""
    for stage in (mp.MailFrom, mp.RcptTo, mp.Header, mp.EndOfHeaders, mp.Body):
        seen: list[Message] = []
        mta = MTA(seen.append)
        other = Message(b"<other@x>", [Recipient(b"<o@x>")], Headers([Field(b"O", b"")]), b"o\r\n")
        assert mta.deliver(other, until=stage).verdict is None
        mta.deliver(MESSAGE)
        assert [one.content for one in seen] == [MESSAGE.content]
        assert seen[0].recipients == MESSAGE.recipients


def test_the_next_client_on_the_connection_is_another() -> None:
    """QUIT_NC, which no MTA sends today."""
    seen: list[Client] = []
    commands: list[mp.Command] = [
        mp.Connect(b"one.test", mp.Family.UNIX, 0, b"/x"),
        mp.Helo(b"h"),
        mp.QuitNewConnection(),
        mp.Connect(b"two.test", mp.Family.UNKNOWN),
        mp.Quit(),
    ]
    tested = MessageFilter(on_connect=seen.append, on_helo=seen.append)
    drive(tested, *(encode_command(command) for command in commands))
    assert seen == [
        Client(b"one.test", mp.Family.UNIX, 0, b"/x"),
        Client(b"one.test", mp.Family.UNIX, 0, b"/x", b"h"),
        Client(b"two.test"),
    ]


# --- edits and verdicts ------------------------------------------------------------------


@given(
    strategies.edited_messages(),
    st.sampled_from(Habits),
    st.sampled_from([2, 4, 6]),
    st.sampled_from([None, *Dialect]),
)
def test_what_the_function_makes_of_it_is_delivered(
    pair: tuple[Message, Message], habits: Habits, version: int, dialect: Dialect | None
) -> None:
    """Or it is LocalProtocolError, and no half of it."""
    before, after = pair
    before.recipients = before.recipients or [Recipient(b"<b@y>")]

    def change(message: Message) -> None:
        message.headers = after.headers
        message.body = after.body

    tested = MessageFilter(change, dialect=dialect)
    try:
        result = deliver(tested, before, habits=habits, version=version)
    except mp.LocalProtocolError:
        return
    assert result.message is not None
    assert result.message.body == after.body
    # Without leading space, no filter can tell whether there was a blank.
    blank = b" " if version < 6 else b""

    def unfolded(headers: Headers) -> list[bytes]:
        return [one.raw.replace(b"\n", b"").removeprefix(blank) for one in headers]

    if dialect in (None, habits.dialect):
        assert unfolded(result.message.headers) == unfolded(after.headers)


@pytest.mark.parametrize(
    ("verdict", "edits"),
    [
        (None, 1),
        (mp.Continue(), 1),
        (mp.Accept(), 1),
        (mp.Reject(), 0),
        (mp.TempFail(), 0),
        (mp.Discard(), 0),
        (mp.ReplyCode.text(550, "5.7.1", "no"), 0),
    ],
    ids=str,
)
def test_verdicts(verdict: mp.Verdict | None, edits: int) -> None:
    """Of a message that is not taken, nothing is edited."""

    def judge(message: Message) -> mp.Verdict | None:
        message.headers.append("X-F", b"f")
        return verdict

    result = deliver(judge, MESSAGE)
    assert result.verdict == (verdict or mp.Continue())
    assert len(result.edits) == edits
    assert result.accepted is bool(edits)


@pytest.mark.parametrize("nonsense", [True, False, "no", mp.Skip(), mp.Shutdown()], ids=repr)
def test_what_is_no_verdict(nonsense: Any) -> None:
    """Is said so, and not taken for something else."""
    with pytest.raises(mp.LocalProtocolError, match="is no reply"):
        deliver(lambda _: nonsense, MESSAGE)


def test_errors_come_out() -> None:
    """What the function raises, and changes that can't be made: for the adapter to log."""

    def fail(_: Message) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        deliver(fail, MESSAGE)
    with pytest.raises(mp.LocalProtocolError, match=r"^headers: "):
        deliver(lambda message: message.headers.append("X", b"\r"), MESSAGE)


@pytest.mark.parametrize(
    ("habits", "dialect", "index"),
    [
        (Habits.POSTFIX, None, 2),
        (Habits.SENDMAIL, Dialect.SENDMAIL, 9),
        (Habits.SENDMAIL, Dialect.POSTFIX, 2),
        (Habits.SENDMAIL, None, None),
    ],
)
def test_dialect(habits: Habits, dialect: Dialect | None, index: int | None) -> None:
    """Postfix is known by its macro; otherwise only edits that all MTAs take alike."""

    def judge(message: Message) -> None:
        message.headers.insert(1, "X-F", b"f")

    tested = MessageFilter(judge, dialect=dialect)
    if index is None:
        with pytest.raises(mp.LocalProtocolError, match="name the dialect"):
            deliver(tested, MESSAGE, habits=habits)
    else:
        (edit,) = deliver(tested, MESSAGE, habits=habits).edits
        assert edit == mp.InsertHeader(index, b"X-F", b" f")


def test_a_filter_without_a_body() -> None:
    """It is not sent; a new one may be."""
    assert seen_by(MESSAGE, body=False).body == b""
    filter_ = MessageFilter(lambda message: message.replace_body(b"x"), body=False)
    assert deliver(filter_, MESSAGE).edits == (mp.ReplaceBody(b"x\r\n"),)


def test_a_body_that_is_sent_all_the_same() -> None:
    """By an MTA that can't leave it out: it is not kept."""
    seen: list[Message] = []
    tested = MessageFilter(seen.append, body=False, max_size=500)
    commands = (mp.MailFrom(b"<>"), mp.RcptTo(b"<b@y>"), mp.Body(b"x" * 501), mp.EndOfMessage())
    frames = [encode_command(command) for command in commands]
    drive(tested, *frames, offer=mp.Negotiate(2, mp.Actions(0x3F), mp.Steps(0)))
    assert [one.body for one in seen] == [b""]


@pytest.mark.parametrize(
    ("actions", "change", "text"),
    [
        (mp.Actions.ADDHDRS, lambda m: m.replace_body(b"x"), "body: ReplaceBody(...) needs"),
        (mp.Actions.CHGBODY, nothing, "headers: AddHeader(...) needs Actions.ADDHDRS"),
        (
            mp.Actions.ADDHDRS | mp.Actions.ADDRCPT,
            lambda m: m.add_recipient(b"<d@y>", b"NOTIFY=NEVER"),
            "recipients: AddRecipient(...) needs Actions.ADDRCPT_PAR",
        ),
    ],
    ids=["body", "headers", "parameters"],
)
def test_edits_that_were_not_negotiated(
    actions: mp.Actions, change: Callable[[Message], object], text: str
) -> None:
    """None of the others is sent."""

    def judge(message: Message) -> None:
        message.headers.append("X-F", b"f")
        change(message)

    mta = MTA(judge, actions=actions)
    with pytest.raises(mp.LocalProtocolError, match=f"^{re.escape(text)}.*not negotiated"):
        mta.deliver(MESSAGE)
    assert not any(isinstance(one, mp.AddHeader) for _, one in mta.transcript)


# --- early decisions ---------------------------------------------------------------------


def test_early_decisions() -> None:
    """Each function hears of what is known by then."""
    heard: list[Any] = []

    def on_recipient(message: Message, recipient: Recipient) -> mp.Verdict | None:
        heard.append(([one.address for one in message.recipients], recipient.address))
        assert message.macros[b"{rcpt_addr}"] == recipient.mailbox
        return mp.Reject() if recipient.address == b"<b@y.test>" else None

    def on_sender(message: Message) -> None:
        heard.append((message.sender, message.client.helo))
        message.sender = b"<changed@x>"  # which changes nothing

    tested = MessageFilter(
        lambda message: heard.append(message.copy()),
        on_connect=heard.append,
        on_helo=heard.append,
        on_sender=on_sender,
        on_recipient=on_recipient,
    )
    message = MESSAGE.copy()
    message.recipients.append(Recipient(b"<d@y.test>"))
    result = deliver(tested, message)
    connected, greeted, *rest, final = heard
    assert (connected.hostname, connected.helo) == (b"client.test", b"")
    assert greeted.helo == b"client.test"
    assert rest == [
        (b"<a@x.test>", b"client.test"),
        ([], b"<b@y.test>"),
        ([], b"c@y.test"),
        ([b"c@y.test"], b"<d@y.test>"),
    ]
    assert final.sender == b"<a@x.test>"
    assert [one.address for one in final.recipients] == [b"c@y.test", b"<d@y.test>"]
    assert result.refused == ((Recipient(b"<b@y.test>"), mp.Reject()),)
    assert result.edits == ()


def test_early_macros_are_those_of_that_moment() -> None:
    """Whoever keeps them finds them as they were."""
    kept: list[Any] = []
    tested = MessageFilter(
        on_sender=lambda message: kept.append(message.macros),
        on_recipient=lambda message, _: kept.append(message.macros),
    )
    deliver(tested, MESSAGE)
    assert [one.get(b"{rcpt_addr}") for one in kept] == [None, b"b@y.test", b"c@y.test"]


def test_what_is_no_verdict_on_a_recipient() -> None:
    """The client hears that it failed, so the message is not for that recipient."""
    seen: list[Message] = []
    wrong: Any = mp.Skip()
    tested = MessageFilter(
        seen.append, on_recipient=lambda _, one: wrong if one.address == b"c@y.test" else None
    )
    recipients = (mp.RcptTo(b"<b@y.test>"), mp.RcptTo(b"c@y.test"))
    commands = (mp.MailFrom(b"<>"), *recipients, mp.EndOfMessage())
    drive(tested, *(encode_command(command) for command in commands))
    assert [one.address for one in seen[0].recipients] == [b"<b@y.test>"]


@pytest.mark.parametrize("max_size", [105, 10_000])
def test_notes_go_along_with_the_message(max_size: int) -> None:
    """From the early functions to the late ones; and the next message has none."""
    heard: list[list[object]] = []

    def on_sender(message: Message) -> None:
        assert message.notes == {}
        message.notes["heard"] = [message.sender]

    def on_recipient(message: Message, recipient: Recipient) -> None:
        message.notes["heard"].append(recipient.address)

    def judge(message: Message) -> mp.Verdict:
        heard.append(message.notes["heard"])
        return mp.Accept()

    tested = MessageFilter(
        judge,
        on_sender=on_sender,
        on_recipient=on_recipient,
        max_size=max_size,
        on_too_large=judge,
    )
    mta = MTA(tested)
    for until in (mp.RcptTo, None, mp.MailFrom, None):
        mta.deliver(MESSAGE, until=until)
    assert heard == [[b"<a@x.test>", b"<b@y.test>", b"c@y.test"]] * 2


def test_without_a_function() -> None:
    """Nothing of the content comes, and the message passes."""
    result = deliver(MessageFilter(on_recipient=nothing), MESSAGE)
    assert (result.verdict, result.stage) == (mp.Continue(), mp.EndOfMessage)
    assert not any(isinstance(event, mp.Header | mp.Body) for _, event in result.transcript)


# --- sizes -------------------------------------------------------------------------------


def test_a_message_that_is_too_large() -> None:
    """Nothing of it is kept, whatever it is that is large; and the next one is another."""
    large = MESSAGE.copy()
    large.body = b"x\r\n" * 1000
    many = MESSAGE.copy()
    many.headers = Headers([Field(b"X", b"")] * 40)
    crowd = MESSAGE.copy()
    crowd.recipients = [Recipient(b"<%d@y>" % number) for number in range(40)]
    seen: list[bytes] = []
    told: list[Message] = []
    tested = MessageFilter(lambda message: seen.append(message.content), max_size=2000)
    mta = MTA(tested)
    for message in (large, many, crowd):
        result = mta.deliver(message)
        assert result.verdict == mp.ReplyCode.text(
            552, "5.3.4", "Message too large for the mail filter"
        )
        assert mta.deliver(MESSAGE).accepted
    assert seen == [MESSAGE.content] * 3

    def let_pass(message: Message) -> mp.Verdict:
        told.append(message)
        message.headers.append("X", b"")
        return mp.Accept()

    tested = MessageFilter(nothing, max_size=2000, on_too_large=let_pass)
    result = deliver(tested, large)
    assert (result.verdict, result.edits) == (mp.Accept(), ())
    assert told[0].body == b""
    assert told[0].sender == b"<a@x.test>"
    assert refuse_too_large(large) == mp.ReplyCode.text(
        552, "5.3.4", "Message too large for the mail filter"
    )


def test_a_message_that_just_fits() -> None:
    """A byte more is too much."""
    message = Message(b"<>", [Recipient(b"b@y")], body=b"x\r\n")
    assert deliver(MessageFilter(nothing, max_size=106), message).accepted
    assert not deliver(MessageFilter(nothing, max_size=105), message).accepted


# --- coroutines --------------------------------------------------------------------------


class Later(Awaitable[Any]):
    """An awaitable that is ready at once."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __await__(self) -> Generator[Any, Any, Any]:
        yield from ()
        return self.value


class Judge:
    async def __call__(self, _message: Message) -> mp.Verdict:
        return mp.Reject()


async def refuse(_message: Message, _recipient: Recipient | None = None) -> mp.Verdict:
    return mp.Reject()


@pytest.mark.parametrize(
    "function",
    [refuse, functools.partial(refuse, _recipient=None), Judge()],
    ids=["function", "partial", "object"],
)
def test_coroutine_functions(function: Callable[[Message], Awaitable[mp.Verdict]]) -> None:
    """They make the handler one, so that an adapter can see what it is."""
    tested = MessageFilter(function)
    assert inspect.iscoroutinefunction(tested.session(mp.FilterConnection()))
    assert deliver(tested, MESSAGE).verdict == mp.Reject()


def test_one_coroutine_function_among_plain_ones() -> None:
    """Is enough; the others are called as before."""
    tested = MessageFilter(nothing, on_recipient=refuse, on_sender=nothing)
    assert inspect.iscoroutinefunction(tested.session(mp.FilterConnection()))
    result = deliver(tested, MESSAGE)
    assert len(result.refused) == 2
    assert result.message is None


def test_a_plain_function_that_returns_an_awaitable() -> None:
    """Nobody can tell beforehand; then the handler does so too."""
    tested = MessageFilter(lambda _: Later(mp.Reject()))
    assert not inspect.iscoroutinefunction(tested.session(mp.FilterConnection()))
    assert deliver(tested, MESSAGE).verdict == mp.Reject()


def test_diff_is_what_it_says() -> None:
    """The same edits that `diff` finds."""
    after = MESSAGE.copy()
    after.headers.delete("x-a")

    def change(message: Message) -> None:
        message.headers.delete("X-A")

    assert expressible(MESSAGE, after)
    assert list(deliver(change, MESSAGE).edits) == diff(MESSAGE, after)
