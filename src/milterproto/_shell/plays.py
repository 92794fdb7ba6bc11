"""What happens in the sessions that `check` holds: each is a function of a `Bench`.

It yields what the filter does wrong, and raises what ends a session before its time, as `bench` has
it. The list of checks, with its words, is in `checks`.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from milterproto._errors import RemoteProtocolError
from milterproto._events import (
    Body,
    Command,
    Connect,
    Data,
    EndOfHeaders,
    EndOfMessage,
    Family,
    Header,
    Helo,
    MailFrom,
    RcptTo,
    Unknown,
)
from milterproto._flags import Actions
from milterproto._habits import Habits
from milterproto._headers import Field, Headers
from milterproto._message import Message, mailbox
from milterproto._mta import MTA, Result
from milterproto._shell.bench import Bench, Findings
from milterproto._shell.talk import (
    DecidedError,
    Talk,
    at_end,
    bye,
    envelope,
    hello,
    transaction,
)
from milterproto._shell.words import shown

# --- whole sessions, as an MTA holds them ------------------------------------------------


def as_mta(habits: Habits, version: int = 6) -> Callable[[Bench], Findings]:
    def play(bench: Bench) -> Findings:
        wire = bench.wire()
        mta = MTA(wire, habits=habits, version=version)
        mta.deliver(bench.message)
        mta.deliver(bench.message)
        mta.quit()
        yield from at_end(wire)

    return play


def few_actions(bench: Bench) -> Findings:
    wire = bench.wire()
    try:
        mta = MTA(wire, actions=Actions.ADDHDRS)
    except RemoteProtocolError:
        return  # of no use without, and says so by closing
    mta.deliver(bench.message)
    mta.quit()
    yield from at_end(wire)


def same_again(bench: Bench) -> Findings:
    wire = bench.wire()
    alone = MTA(wire)
    first = alone.deliver(bench.message)
    alone.quit()
    yield from at_end(wire)
    wire = bench.wire()
    mta = MTA(wire)
    other = bench.message.copy()
    other.headers.insert(0, "X-Other", b"1")
    other.body = b"another message\r\n" * 3
    other.sender = b"<other@other.test>"
    mta.deliver(other, until=Header)
    mta.deliver(other, until=Body)
    second = mta.deliver(bench.message)
    mta.quit()
    if _outline(first) != _outline(second):
        yield (
            f"{_outline(first)} if a message is the first of its connection, "
            f"{_outline(second)} if others were given up before it"
        )
    yield from at_end(wire)


def _outline(result: Result) -> str:
    """Verdict and edits, without what may change from time to time, as a signature does."""
    edits = [f"{type(edit).__name__} {shown(getattr(edit, 'name', b''))}" for edit in result.edits]
    return " + ".join([*map(str.rstrip, edits), type(result.verdict).__name__])


# --- sessions in an odd order ----------------------------------------------------------------


def after_hello(*commands: Command) -> Callable[[Bench], Findings]:
    """After EHLO these, then a message, then QUIT."""

    def play(bench: Bench) -> Findings:
        talk, wire = bench.greeted()
        talk.tell(*commands)
        talk.tell(*transaction(talk, bench.message))
        yield from bye(talk, wire)

    return play


def no_helo(bench: Bench) -> Findings:
    wire = bench.wire()
    talk = Talk(wire)
    talk.tell(*hello(bench.message.client)[:1])
    talk.tell(*transaction(talk, bench.message))
    yield from bye(talk, wire)


def given_up(*then: Command) -> Callable[[Bench], Findings]:
    """A message is given up at four places; each time these commands follow, and a whole one."""

    def play(bench: Bench) -> Findings:
        talk, wire = bench.greeted()
        whole = transaction(talk, bench.message)
        for kind in (MailFrom, RcptTo, EndOfHeaders, Body):
            kinds = [type(command) for command in whole]
            if kind in kinds:
                talk.tell(*whole[: kinds.index(kind) + 1], *then)
        talk.tell(*whole)
        yield from bye(talk, wire)

    return play


def vanish(bench: Bench) -> Findings:
    for kind in (Connect, RcptTo, Body):
        talk, wire = bench.greeted()
        for command in transaction(talk, bench.message) if kind is not Connect else ():
            talk.tell(command)
            if type(command) is kind:
                break
        wire.shutdown(1)
        yield from at_end(wire)
    talk, wire = bench.greeted()
    talk.tell(*transaction(talk, bench.message))
    yield from bye(talk, wire)


def two_at_once(bench: Bench) -> Findings:
    one, first = bench.greeted()
    one.tell(*envelope(bench.message))
    other, second = bench.greeted()
    other.tell(*transaction(other, bench.message))
    yield from bye(other, second)
    one.tell(*one.content(bench.message), EndOfMessage())
    yield from bye(one, first)


def local_mail(bench: Bench) -> Findings:
    message = bench.message
    wire = bench.wire()
    talk = Talk(wire)
    talk.tell(Connect(b"localhost", Family.INET, 0, b"127.0.0.1"), Helo(b"localhost"))
    for sender in (mailbox(message.sender), b""):
        talk.tell(MailFrom(sender))
        talk.tell(*[RcptTo(one.mailbox) for one in message.recipients])
        talk.tell(*talk.content(message), EndOfMessage())
    yield from bye(talk, wire)


def clients(bench: Bench) -> Findings:
    for client in (
        Connect(b"localhost", Family.UNKNOWN),
        Connect(b"localhost", Family.UNIX, 0, b"/run/x.sock"),
        Connect(b"[192.0.2.1]", Family.INET, 0, b"192.0.2.1"),
        Connect(b"unknown", Family.INET6, 40112, b"2001:db8::1"),
        Connect(b"[IPv6:2001:db8::1]", Family.INET6, 40112, b"IPv6:2001:db8:0:0:0:0:0:1"),
    ):
        wire = bench.wire()
        talk = Talk(wire)
        try:
            talk.tell(client, Helo(b"client.test"), *transaction(talk, bench.message))
        except DecidedError:
            wire.shutdown(1)  # from there, perhaps, no mail is taken
            yield from at_end(wire)
        else:
            yield from bye(talk, wire)


def each(*messages: Callable[[Message], Message]) -> Callable[[Bench], Findings]:
    """These messages, on one connection if the filter takes them."""

    def play(bench: Bench) -> Findings:
        for make in messages:
            talk, wire = bench.greeted()
            try:
                talk.tell(*transaction(talk, make(bench.message)))
            except DecidedError:
                wire.shutdown(1)
                yield from at_end(wire)
            else:
                yield from bye(talk, wire)

    return play


def altered(**changes: object) -> Callable[[Message], Message]:
    return lambda message: attrs.evolve(message, **changes)  # type: ignore[arg-type]


def plus(*fields: tuple[bytes, bytes]) -> Callable[[Message], Message]:
    def changed(message: Message) -> Message:
        added = [Field(name, raw) for name, raw in fields]
        return attrs.evolve(message, headers=Headers([*message.headers, *added]))

    return changed


def body_at_end(bench: Bench) -> Findings:
    talk, wire = bench.greeted()
    talk.tell(*envelope(bench.message), *talk.content(bench.message))
    wire.sendall(frame(b"E", b"the last piece\r\n"))
    talk.verdict()
    yield from bye(talk, wire)


def unknown_in_message(bench: Bench) -> Findings:
    talk, wire = bench.greeted()
    talk.tell(*envelope(bench.message), Unknown(b"XJUNK"))
    talk.tell(*talk.content(bench.message), EndOfMessage())
    yield from bye(talk, wire)


def data_again(bench: Bench) -> Findings:
    talk, wire = bench.greeted()
    talk.tell(*envelope(bench.message), Data(), *envelope(bench.message)[1:])
    talk.tell(*talk.content(bench.message), EndOfMessage())
    yield from bye(talk, wire)


def macros(*payloads: bytes) -> Callable[[Bench], Findings]:
    """Frames with such macros, and then a message."""

    def play(bench: Bench) -> Findings:
        talk, wire = bench.greeted()
        for payload in payloads:
            wire.sendall(frame(b"D", payload))
        talk.tell(*transaction(talk, bench.message))
        yield from bye(talk, wire)

    return play


# --- what is no session ---------------------------------------------------------------------


def junk(data: bytes, *, greeted: bool = True) -> Callable[[Bench], Findings]:
    """Those bytes, after EHLO or at once; then a message on another connection."""

    def play(bench: Bench) -> Findings:
        wire = bench.greeted()[1] if greeted else bench.wire()
        wire.sendall(data)
        try:
            rest = wire.recv(1 << 16)
        except TimeoutError:
            yield "goes on waiting, instead of closing the connection"
        except ConnectionError:
            rest = b""
        else:
            # A refusal is as good, and spares the other side its waiting.
            if rest and wire.entries[-1].code not in (b"r", b"t", b"y"):
                yield f"answers {rest[:20].hex(' ')}"
        talk, wire = bench.greeted()
        talk.tell(*transaction(talk, bench.message))
        yield from bye(talk, wire)

    return play


def frame(code: bytes, payload: bytes) -> bytes:
    return (1 + len(payload)).to_bytes(4, "big") + code + payload
