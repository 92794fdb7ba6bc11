"""Targets: both milter roles, the two linked, and a filter of whole messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import milterproto as mp
from milterproto._state import SENDABLE
from milterproto._wire import (
    COMMAND_DECODERS,
    RESPONSE_DECODERS,
    encode_command,
    encode_response,
)
from milterproto.message import Field, MessageFilter, Recipient

from .source import Source, taken_apart
from .stream import arrives, buffered, check, refused

SMALL: Final = 64

ADDRESSES: Final = (b"<a@b>", b"<>", b"", b"c d", b"\xe4", b"x\0", b"a\r\n")
PARAMETERS: Final[Sequence[tuple[bytes, ...]]] = ((), (b"SIZE=1",), (b"A=B", b"C"), (b"a b",))
COMMANDS: Final[Sequence[mp.Command]] = (
    mp.Connect(b"h", mp.Family.INET, 25, b"192.0.2.1"),
    mp.Helo(b"h"),
    mp.MailFrom(b"<a@b>", (b"SIZE=1",)),
    mp.RcptTo(b"<c@d>"),
    mp.Data(),
    mp.Header(b"Subject", b" a\n b"),
    mp.EndOfHeaders(),
    mp.Body(b"x\r\n"),
    mp.EndOfMessage(),
    mp.Abort(),
    mp.Unknown(b"FOO"),
    mp.Macros.of(mp.MailFrom, {b"i": b"q1"}),
    mp.Macros.of(mp.Connect, {b"j": b"mx", b"{x}": b""}),
    mp.QuitNewConnection(),
    mp.Connect(b"", mp.Family.UNKNOWN),
    mp.Connect(b"h", mp.Family.INET6, 1, b"IPv6:::1"),
    mp.Connect(b"h", mp.Family.UNIX, 0, b"/x"),
    mp.RcptTo(b"<c@d>", (b"a b",)),
    mp.Header(b"X Y", b""),
    mp.Body(b""),
    mp.EndOfMessage(b"x"),
    mp.Quit(),
)
# A session as it should be; no macros, for they are wanted at all times.
ONWARD: Final = COMMANDS[:9]
RESPONSES: Final[Sequence[mp.Response]] = (
    mp.Continue(),
    mp.Accept(),
    mp.Reject(),
    mp.TempFail(),
    mp.Discard(),
    mp.ReplyCode(b"550", b"5.7.1", (b"no", b"100% no")),
    mp.ReplyCode(b"421", b"", (b"a", b"b")),
    mp.ReplyCode(b"421", b"4.0.0", (b"",)),
    mp.ReplyCode(b"250", b"2.0.0", (b"x",)),
    mp.Skip(),
    mp.Shutdown(),
    mp.Progress(),
    mp.AddHeader(b"X", b" y"),
    mp.InsertHeader(1, b"X", b"y\n z"),
    mp.ChangeHeader(1, b"X", b""),
    mp.ReplaceBody(b"new"),
    mp.ReplaceBody(b""),
    mp.AddRecipient(b"<e@f>"),
    mp.AddRecipient(b"<e@f>", (b"NOTIFY=NEVER",)),
    mp.DeleteRecipient(b"<c@d>"),
    mp.ChangeSender(b"<>", (b"RET=FULL",)),
    mp.Quarantine(b"odd"),
    mp.AddHeader(b"X", b"a\nb"),
    mp.ConnectionFailure(),
)
EDITS: Final = tuple(one for one in RESPONSES if type(one) not in SENDABLE[mp.Header])
OPTIONAL: Final = sorted(mp.ALL_EVENTS, key=lambda kind: kind.__name__)


def an_offer(source: Source) -> mp.Negotiate:
    """What an MTA offers, or would not."""
    version = source.choice((6, 2, 3, 4, 5))
    if source.byte() % 2 == 0:
        return mp.offer(version)
    steps = mp.Steps(source.byte() | source.byte() << 8 | source.byte() << 16) & mp.ALL_STEPS
    return mp.Negotiate(version, mp.ALL_ACTIONS & mp.Actions(source.byte() | 0x100), steps)


def wants(source: Source) -> mp.Wants:
    """What a filter would like."""
    events, replies = source.byte() | source.byte() << 8, source.byte() | source.byte() << 8
    return mp.Wants(
        # Reversed, so that a script that has ended wants all.
        events=[kind for at, kind in enumerate(OPTIONAL) if not events >> at & 1],
        replies=[kind for at, kind in enumerate(OPTIONAL) if not replies >> at & 1],
        actions=mp.Actions(~source.byte() & 0x1FF),
        leading_space=bool(source.byte() & 1),
    )


def stable(event: Any) -> None:
    """What is sent for an event means that event."""
    pairs: list[tuple[Any, Any]] = []
    if isinstance(event, mp.Command):
        pairs.append((encode_command, COMMAND_DECODERS))
    if isinstance(event, mp.Response):
        pairs.append((encode_response, RESPONSE_DECODERS))
    for encode, decoders in pairs:
        try:
            data = encode(event)
        except mp.LocalProtocolError:
            continue
        # A new body is split where it is long.
        if int.from_bytes(data[:4], "big") + 4 != len(data):
            assert type(event) is mp.ReplaceBody
            continue
        again = decoders[data[4]](data[5:])
        assert again == event, f"{event!r} was sent, and is {again!r}"
        assert encode(again) == data


class Filter:
    """A filter that says anything, and in the end what it owes."""

    remote_error: type[Exception] = mp.RemoteProtocolError

    def __init__(self, source: Source) -> None:
        self.source = source
        options = source.byte()
        size = SMALL if options & 1 else mp.DEFAULT_MAX_PAYLOAD
        self.conn = mp.FilterConnection(max_payload=size, allow_shutdown=bool(options & 2))
        self.limit = size + 5

    def held(self) -> int:
        return buffered(self.conn._buffer)

    def ask(self) -> Any:
        return None

    def answer(self, event: Any) -> Any:
        conn = self.conn
        if not isinstance(event, mp.ConnectionClosed):
            stable(event)
        seen: list[Any] = [dict(conn.macros), conn.transaction, conn.our_turn]
        if type(event) is mp.Negotiate:
            seen.append(conn.send(mp.negotiate(event, wants(self.source))))
        kind = type(event)
        if kind is mp.EndOfMessage and conn.our_turn and self.source.over:
            # No script is long enough to get here.
            seen += [refused(conn, mp.LocalProtocolError, edit) for edit in EDITS]
        for _ in range(4):
            if not conn.our_turn:
                break
            response = self.source.choice(RESPONSES)
            data = refused(conn, mp.LocalProtocolError, response)
            assert data is None or type(response) in SENDABLE[kind]
            seen.append(data)
        if conn.our_turn:
            seen.append(conn.send(mp.Continue()))
        return seen


class Asker:
    """An MTA that sends what the filter wants, and now and then something else."""

    remote_error: type[Exception] = mp.RemoteProtocolError

    def __init__(self, source: Source) -> None:
        self.source = source
        size = SMALL if source.byte() & 1 else mp.DEFAULT_MAX_PAYLOAD
        self.conn = mp.MTAConnection(max_payload=size)
        self.limit = size + 5
        self.last: type[mp.Command] = mp.Negotiate

    def held(self) -> int:
        return buffered(self.conn._buffer)

    def answer(self, event: Any) -> Any:
        if not isinstance(event, mp.ConnectionClosed):
            stable(event)
        return [self.conn.our_turn, repr(self.conn.negotiated)]

    def ask(self) -> Any:
        conn, seen = self.conn, []
        for _ in range(8):
            if not conn.our_turn:
                break
            if conn.negotiated is None:
                command: mp.Command = an_offer(self.source)
            else:
                command = self.source.choice(COMMANDS)
                if self.source.over:
                    # Go on where a script would have had to be long.
                    command = onward(conn, self.last)
            data = refused(conn, mp.LocalProtocolError, command)
            self.last = self.last if data is None else type(command)
            assert data is None or conn.negotiated is None or type(command) is not mp.Negotiate
            seen.append(data)
        return seen


def onward(conn: mp.MTAConnection, last: type[mp.Command]) -> mp.Command:
    """What brings a session, and a message, to its end: what comes next after the last command."""
    kinds = [type(one) for one in ONWARD]
    at = kinds.index(last) + 1 if last in kinds else 0
    # After the end of a message another one, and not another client.
    order = (*ONWARD[at:], *ONWARD[kinds.index(mp.MailFrom) :], *ONWARD, *COMMANDS)
    return next(one for one in order if conn.wants(type(one)))


def pair(data: bytes) -> None:
    """Two linked connections never disagree about the turn, nor about the state."""
    script, stream = taken_apart(data)
    source = Source(script + stream)
    last: type[mp.Command] = mp.Negotiate
    mta, filter_ = mp.MTAConnection(), mp.FilterConnection(allow_shutdown=bool(source.byte() & 1))
    for _ in range(60):
        if mta.state is mp.State.CLOSED:
            break
        if mta.our_turn:
            command: mp.Command = (
                an_offer(source) if mta.negotiated is None else pick(source, mta, last)
            )
            sent = refused(mta, mp.LocalProtocolError, command)
            if sent is None:
                continue
            last = type(command)
            arrives(filter_, sent, command)
            if type(command) is mp.Quit:
                assert filter_.next_event() == mp.ConnectionClosed()
        else:
            # Waiting, so the filter has to speak.
            respond(source, mta, filter_)
        agree(mta, filter_)


def pick(source: Source, mta: mp.MTAConnection, last: type[mp.Command]) -> mp.Command:
    """Something that is wanted, mostly what comes next; Quit last of all."""
    if source.over or source.byte() % 4:
        return onward(mta, last)
    many = [one for one in COMMANDS if mta.wants(type(one))]
    return source.choice(many) if many else mp.Quit()


def respond(source: Source, mta: mp.MTAConnection, filter_: mp.FilterConnection) -> None:
    """One response of the filter's."""
    due = filter_._due
    assert due is not None
    if due is mp.Negotiate:
        assert filter_._offer is not None
        wanted = wants(source) if source.byte() % 2 else mp.Wants()
        response: mp.Response = mp.negotiate(filter_._offer, wanted)
    else:
        kinds = [one for one in RESPONSES if type(one) in SENDABLE[due]]
        # Mostly so that it goes on, or no message would come to its end.
        goes_on = due is not mp.EndOfMessage and source.byte() % 4
        response = mp.Continue() if goes_on else source.choice(kinds)
    sent = refused(filter_, mp.LocalProtocolError, response)
    if sent is None:
        response = mp.Continue()
        sent = filter_.send(response)
    arrives(mta, sent, response)
    assert mta.next_event() is None


def agree(mta: mp.MTAConnection, filter_: mp.FilterConnection) -> None:
    """Exactly one of them is to speak, and both stand at the same place."""
    if mta.state is not mp.State.CLOSED:
        assert mta.our_turn is not filter_.our_turn, (mta.state, filter_.state)
    assert mta.state is filter_.state, (mta.state, filter_.state)
    assert mta.negotiated == filter_.negotiated


class MessageServer:
    """A filter of whole messages: what it does depends on the message only."""

    remote_error: type[Exception] = mp.RemoteProtocolError
    limit = mp.DEFAULT_MAX_PAYLOAD + 5
    max_size = 1000

    def __init__(self, source: Source) -> None:
        self.source = source
        options = source.byte()
        self.conn = mp.FilterConnection()
        self.filter = MessageFilter(
            self.edit,
            on_sender=self.early if options & 1 else None,
            on_recipient=self.early if options & 2 else None,
            on_connect=self.early if options & 4 else None,
            body=not options & 8,
            max_size=self.max_size,
        )
        self.handle: Any = self.filter.session(self.conn)

    def early(self, *_: Any) -> mp.Verdict | None:
        return self.source.choice((None, None, None, mp.Reject(), mp.Accept(), mp.Discard()))

    def edit(self, message: Any) -> mp.Verdict | None:
        step = self.source.byte()
        if step & 1:
            message.headers = type(message.headers)([*message.headers, Field(b"X", b" y")])
        if step & 2:
            message.headers = type(message.headers)(list(message.headers)[1:])
        if step & 4:
            message.recipients.append(Recipient(b"<new@x>"))
        if step & 8:
            message.recipients = message.recipients[1:]
        if step & 16:
            message.replace_body(b"new\r\n")
        if step & 32:
            message.sender = b"<new@x>"
        return self.early()

    def held(self) -> int:
        session = self.handle.__self__
        kept = len(session._body) + sum(len(f.name) + len(f.raw) for f in session._fields)
        assert kept <= self.max_size + 1000
        return buffered(self.conn._buffer)

    def ask(self) -> Any:
        return None

    def answer(self, event: Any) -> Any:
        conn, sent = self.conn, []
        try:
            replies = self.handle(event)
        except mp.LocalProtocolError:
            replies = [mp.TempFail()]  # changes that no edits can express
        for reply in replies:
            data = refused(conn, mp.LocalProtocolError, reply)
            sent.append(data)
            if data is None:
                break
        if conn.our_turn:
            sent.append(conn.send(mp.TempFail()))
        return sent


def filter_role(data: bytes) -> None:
    check(Filter, data)


def mta_role(data: bytes) -> None:
    check(Asker, data)


def messages(data: bytes) -> None:
    check(MessageServer, data)
