"""The sessions that `check` holds with a filter: what real MTAs do, and what comes by mistake.

The manual's page has this list, and a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from milterproto._errors import RemoteProtocolError
from milterproto._events import (
    Abort,
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
from milterproto._message import Message, Recipient, mailbox
from milterproto._mta import MTA, Result
from milterproto._shell.bench import Bench, Check, Findings
from milterproto._shell.talk import (
    DecidedError,
    Talk,
    at_end,
    bye,
    envelope,
    hello,
    transaction,
)

# --- whole sessions, as an MTA holds them ------------------------------------------------


def _as(habits: Habits, version: int = 6) -> Callable[[Bench], Findings]:
    def play(bench: Bench) -> Findings:
        wire = bench.wire()
        mta = MTA(wire, habits=habits, version=version)
        mta.deliver(bench.message)
        mta.deliver(bench.message)
        mta.quit()
        yield from at_end(wire)

    return play


def _few_actions(bench: Bench) -> Findings:
    wire = bench.wire()
    try:
        mta = MTA(wire, actions=Actions.ADDHDRS)
    except RemoteProtocolError:
        return  # of no use without, and says so by closing
    mta.deliver(bench.message)
    mta.quit()
    yield from at_end(wire)


def _same_again(bench: Bench) -> Findings:
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
    edits = [
        f"{type(edit).__name__} {getattr(edit, 'name', b'').decode()}" for edit in result.edits
    ]
    return " + ".join([*map(str.rstrip, edits), type(result.verdict).__name__])


# --- sessions in an odd order ----------------------------------------------------------------


def _quits(*commands: Command) -> Callable[[Bench], Findings]:
    """After EHLO these, then a message, then QUIT."""

    def play(bench: Bench) -> Findings:
        talk, wire = bench.greeted()
        talk.tell(*commands)
        talk.tell(*transaction(talk, bench.message))
        yield from bye(talk, wire)

    return play


def _no_helo(bench: Bench) -> Findings:
    wire = bench.wire()
    talk = Talk(wire)
    talk.tell(*hello(bench.message.client)[:1])
    talk.tell(*transaction(talk, bench.message))
    yield from bye(talk, wire)


def _given_up(*then: Command) -> Callable[[Bench], Findings]:
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


def _vanish(bench: Bench) -> Findings:
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


def _two_at_once(bench: Bench) -> Findings:
    one, first = bench.greeted()
    one.tell(*envelope(bench.message))
    other, second = bench.greeted()
    other.tell(*transaction(other, bench.message))
    yield from bye(other, second)
    one.tell(*one.content(bench.message), EndOfMessage())
    yield from bye(one, first)


def _local_mail(bench: Bench) -> Findings:
    message = bench.message
    wire = bench.wire()
    talk = Talk(wire)
    talk.tell(Connect(b"localhost", Family.INET, 0, b"127.0.0.1"), Helo(b"localhost"))
    for sender in (mailbox(message.sender), b""):
        talk.tell(MailFrom(sender))
        talk.tell(*[RcptTo(one.mailbox) for one in message.recipients])
        talk.tell(*talk.content(message), EndOfMessage())
    yield from bye(talk, wire)


def _clients(bench: Bench) -> Findings:
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


def _each(*messages: Callable[[Message], Message]) -> Callable[[Bench], Findings]:
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


def _with(**changes: object) -> Callable[[Message], Message]:
    return lambda message: attrs.evolve(message, **changes)  # type: ignore[arg-type]


def _plus(*fields: tuple[bytes, bytes]) -> Callable[[Message], Message]:
    def changed(message: Message) -> Message:
        added = [Field(name, raw) for name, raw in fields]
        return attrs.evolve(message, headers=Headers([*message.headers, *added]))

    return changed


def _body_at_end(bench: Bench) -> Findings:
    talk, wire = bench.greeted()
    talk.tell(*envelope(bench.message), *talk.content(bench.message))
    wire.sendall(_frame(b"E", b"the last piece\r\n"))
    talk.verdict()
    yield from bye(talk, wire)


def _unknown_in_message(bench: Bench) -> Findings:
    talk, wire = bench.greeted()
    talk.tell(*envelope(bench.message), Unknown(b"XJUNK"))
    talk.tell(*talk.content(bench.message), EndOfMessage())
    yield from bye(talk, wire)


def _data_again(bench: Bench) -> Findings:
    talk, wire = bench.greeted()
    talk.tell(*envelope(bench.message), Data(), *envelope(bench.message)[1:])
    talk.tell(*talk.content(bench.message), EndOfMessage())
    yield from bye(talk, wire)


def _macros(*payloads: bytes) -> Callable[[Bench], Findings]:
    """Frames with such macros, and then a message."""

    def play(bench: Bench) -> Findings:
        talk, wire = bench.greeted()
        for payload in payloads:
            wire.sendall(_frame(b"D", payload))
        talk.tell(*transaction(talk, bench.message))
        yield from bye(talk, wire)

    return play


# --- what is no session ---------------------------------------------------------------------


def _junk(data: bytes, *, greeted: bool = True) -> Callable[[Bench], Findings]:
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


def _frame(code: bytes, payload: bytes) -> bytes:
    return (1 + len(payload)).to_bytes(4, "big") + code + payload


# --- the list ---------------------------------------------------------------------------------

_VERSION: Final = "answer with the version that is offered or a lower one, and no bits beyond"
_FORGET: Final = "forget the message, and keep what is known of the client"

CHECKS: Final[tuple[Check, ...]] = (
    Check(
        "postfix",
        "two messages, as Postfix sends them",
        "answer each event once, unless it was negotiated that it has no reply",
        _as(Habits.POSTFIX),
    ),
    Check("version-4", "the same, with milter_protocol = 4", _VERSION, _as(Habits.POSTFIX, 4)),
    Check("version-3", "the same, with milter_protocol = 3", _VERSION, _as(Habits.POSTFIX, 3)),
    Check("version-2", "the same, with milter_protocol = 2", _VERSION, _as(Habits.POSTFIX, 2)),
    Check(
        "sendmail",
        "two messages, as Sendmail sends them: no ABORT between them",
        "let MAIL begin another message wherever it comes",
        _as(Habits.SENDMAIL),
    ),
    Check(
        "hostile",
        "two messages in single bytes, with HELO and ABORT twice, other messages between them",
        "cut the stream at the length words, whatever pieces it comes in",
        _as(Habits.HOSTILE),
    ),
    Check(
        "few-actions",
        "an MTA that allows new header fields, and no other edits",
        "close the connection if the filter is of no use then, or do without",
        _few_actions,
    ),
    Check(
        "same-again",
        "a message alone, and after others that were given up",
        "keep nothing of a message that ended with ABORT",
        _same_again,
    ),
    Check("no-helo", "MAIL without HELO", "do without its name", _no_helo),
    Check("helo-again", "HELO, and EHLO once more, as after STARTTLS", _FORGET, _quits(Helo(b"x"))),
    Check(
        "rset",
        "messages that are given up, with ABORT once or several times",
        _FORGET,
        _given_up(Abort(), Abort(), Abort()),
    ),
    Check(
        "helo-in-message",
        "EHLO within a message: Postfix says HELO first, and ABORT after it",
        "let HELO end the message, and ABORT do no harm",
        _given_up(Helo(b"x"), Abort(), Abort()),
    ),
    Check("mail-in-message", "MAIL within a message, without ABORT", _FORGET, _given_up()),
    Check(
        "vanish",
        "the connection ends within a message, without QUIT",
        "take an end of file anywhere, and close",
        _vanish,
    ),
    Check(
        "two-at-once",
        "a second connection while a message is open on the first",
        "serve connections side by side: an MTA opens one for each of its clients",
        _two_at_once,
    ),
    Check(
        "clients",
        "clients without an address, on a unix socket, with IPv6 as each MTA writes it",
        "expect no port and no address behind U, and perhaps IPv6: before an address",
        _clients,
    ),
    Check(
        "local-mail",
        "mail from this machine: no brackets, no ESMTP, port 0, an empty sender",
        "compare addresses without their brackets",
        _local_mail,
    ),
    Check("null-sender", "a bounce, from <>", "take it as it is", _each(_with(sender=b"<>"))),
    Check(
        "many-recipients",
        "two hundred recipients with parameters",
        "keep each, or none",
        _each(
            _with(
                recipients=[
                    Recipient(b"<r%d@example.test>" % number, (b"NOTIFY=NEVER",))
                    for number in range(200)
                ]
            )
        ),
    ),
    Check(
        "empty",
        "a message without a body, one without a header, one with neither",
        "wait for none of them: EOH and the end of the message still come",
        _each(_with(body=b""), _with(headers=Headers()), _with(headers=Headers(), body=b"")),
    ),
    Check(
        "eight-bit",
        "bytes that are no UTF-8, NUL in the body, in whatever may have them",
        "treat as bytes what comes from outside, or decode it with replacements",
        _each(
            _plus((b"X-Eight", b" \xff\xfe\xe4"), (b"Subject", b" =?utf-8?q?=ff?= =?x?b?!?=")),
            _with(body=b"\0\xff\r\r\n\n\x80\r\n"),
            _with(sender=b"<\xffa@\xe4.test>"),
            _with(recipients=[Recipient(b'<"\xff b"@example.test>')]),
        ),
    ),
    Check(
        "odd-fields",
        "header fields that are empty, folded, without a blank, or twice there",
        "expect nothing of a field but a name and a value",
        _each(
            _plus(
                *((b"X-Empty", b""), (b"X-Blank", b" "), (b"X-Folded", b" a\n\tb\n c")),
                *((b"X-Tight", b"tight"), (b"From", b" <>"), (b"From", b" a, b, c:;")),
                *((b"To", b" " + b"<" * 300), (b"Content-Type", b" x/y; boundary="), (b"!", b" !")),
                *((b"Date", b" never"), (b"Message-Id", b" <"), (b"Received", b" from")),
            )
        ),
    ),
    Check(
        "large",
        "a header field of 60,000 bytes, a thousand fields, and a body of four pieces",
        "read on until a packet is whole; payloads have up to 65535 bytes",
        _each(
            _plus((b"X-Long", b" " + b"long " * 12_000)),
            _plus(*((b"X-%d" % number, b" x") for number in range(1000))),
            _with(body=(b"x" * 70 + b"\r\n") * 3000),
        ),
    ),
    Check(
        "split-line-end",
        "a CR ends one piece of the body, and its LF begins the next",
        "put the pieces together before looking for lines",
        _each(_with(body=b"x" * 65534 + b"\r\n" + b"y" * 65534 + b"\r\n")),
    ),
    Check(
        "body-at-end",
        "the last piece of the body comes with the end of the message",
        "take it for a last Body; no MTA is known to do so, but libmilter's header file allows it",
        _body_at_end,
        serious=False,
    ),
    Check(
        "macros",
        "no macros at all, macros before a header field or a piece of the body, as from Postfix",
        "answer none of them, and keep those of any command",
        _macros(b"M", b"M{x}\0\0", b"L", b"Li\0004F2Q\0", b"N", b"Bi\0004F2Q\0", b"U", b"E"),
    ),
    Check(
        "broken-macros",
        "a macro without a value, one without an end, and one of no command",
        "keep what can be read, and answer none of them",
        _macros(b"Mi\0", b"Mi\0004F2Q\0{auth_authen", b"Z{x}\0y\0"),
        serious=False,
    ),
    Check(
        "unknown",
        "commands that no MTA knows, before a message",
        "answer with Continue, or leave them out: NOUNKNOWN",
        _quits(Unknown(b"XJUNK"), Unknown(b"")),
    ),
    Check(
        "unknown-in-message",
        "a command that no MTA knows, between RCPT and DATA",
        "leave them out: NOUNKNOWN; libmilter loses the message over it if there is no DATA event",
        _unknown_in_message,
    ),
    Check(
        "data-again",
        "RCPT and DATA after DATA, which somebody else has refused",
        "let them come again; a filter on libmilter can't, but may leave DATA out: NODATA",
        _data_again,
    ),
    Check(
        "zero-length",
        "a packet of no bytes at all",
        "close: what follows can't be told from the rest",
        _junk(b"\0\0\0\0" + _frame(b"M", b"<a@example.org>\0")),
        serious=False,
    ),
    Check(
        "huge-length",
        "the beginning of a packet of 2 GiB",
        "close as soon as the length is there, and wait for none of it",
        _junk(b"\x7f\xff\xff\xffB"),
        serious=False,
    ),
    Check(
        "unknown-code",
        "a packet with a code that none is",
        "close",
        _junk(_frame(b"\x01", b"x")),
        serious=False,
    ),
    Check(
        "short-offer",
        "an offer that ends too early",
        "close",
        _junk(_frame(b"O", bytes(8)), greeted=False),
        serious=False,
    ),
    Check(
        "no-terminator",
        "an address without the NUL at its end",
        "close, and do not read beyond the packet",
        _junk(_frame(b"M", b"<a@example.org>")),
        serious=False,
    ),
    Check(
        "web-browser",
        "an HTTP request",
        "close",
        _junk(b"GET / HTTP/1.0\r\n\r\n", greeted=False),
        serious=False,
    ),
)
