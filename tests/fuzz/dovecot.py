"""Targets: both roles of Dovecot's protocol and of its master sockets, alone and linked."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs

import dovecotauth as da
from dovecotauth import _handshake, _master_wire, _wire, master

from .source import Source, taken_apart
from .stream import buffered, check, many, refused

SMALL: Final = 120
FEW: Final = 3
MECHANISMS: Final = (
    da.Mechanism(b"PLAIN", da.Flags.PLAINTEXT),
    da.Mechanism(b"SCRAM-SHA-256"),
    da.Mechanism(b"SCRAM-SHA-256-PLUS", da.Flags.CHANNEL_BINDING),
    da.Mechanism(b"LOGIN", da.Flags.PRIVATE),
)
NAMES: Final = frozenset(one.name for one in MECHANISMS)
HELLO: Final = da.ServerHello(MECHANISMS, 1, 1, b"0" * 32)
SERVICE: Final = (b"service", b"smtp")
TEXTS: Final = (b"bob", b"", b"a\tb\x01t\r\n=", b"\xff", b"x\0", b"x" * 9000)
IDS: Final = (1, 2, 3, 4, 0, 2**32 - 1)


# --- what is sent --------------------------------------------------------------------------


def a_reply(source: Source, number: int) -> da.FromServer:
    """Something to say about a request."""
    text = source.choice(TEXTS)
    kind = source.byte() % 10
    table: Sequence[Callable[[], da.FromServer]] = (
        lambda: da.Fail(number),
        lambda: da.Ok(number, text or b"bob"),
        lambda: da.Cont(number, text),
        lambda: da.Cont(number, None, b"tls-exporter"),
        lambda: da.Fail(number, text, da.TEMP_FAIL, text),
        lambda: da.Ok(number, b"bob", ((b"x", text), (b"nologin", None)), text),
        lambda: da.Cancelled(number),
        lambda: da.Fail(number, b"u", b"x_9", b"", ((b"a", None),), b""),
        lambda: da.Cont(number, b"", b"tls-unique"),
        lambda: da.Fail(number, b"", b"BAD"),
    )
    return table[kind]()


def a_request(source: Source, conn: da.ClientConnection) -> da.FromClient:
    """Something for a client to say."""
    number = source.choice(IDS)
    text = source.choice(TEXTS)
    table: Sequence[Callable[[], da.FromClient]] = (
        lambda: da.Auth(number, b"PLAIN", (SERVICE,), text),
        lambda: da.Auth(number, b"SCRAM-SHA-256", (SERVICE, (b"final-resp-ok", None))),
        lambda: da.Cont(number, text),
        lambda: da.Cont(number, None, b"binding"),
        lambda: da.Cancel(number),
        lambda: da.Auth(number, b"PLAIN", (SERVICE, (b"x", text)), b""),
        lambda: da.Cont(number, b"", b"binding"),
        lambda: da.Auth(number, b"NOPE", ()),
        lambda: da.Auth(number, source.choice(conn.mechanisms or MECHANISMS).name, (SERVICE,)),
    )
    return table[source.byte() % len(table)]()


def a_query(source: Source) -> master.FromMaster:
    """Something for a master to ask."""
    number = source.choice(IDS)
    text = source.choice(TEXTS)
    table: Sequence[Callable[[], master.FromMaster]] = (
        lambda: master.GetUser(number, b"bob", (SERVICE,)),
        lambda: master.GetPass(number, text, (SERVICE, (b"x", text))),
        lambda: master.ListUsers(number, (SERVICE,)),
        lambda: master.Request(number, 1, 2, b"0a" * 16),
        lambda: master.GetUser(number, b"bob"),
        lambda: master.Request(number, 1, 2, b"0", ((b"x", text),)),
    )
    return table[source.byte() % len(table)]()


def an_answer(source: Source, number: int) -> master.FromServer:
    """Something to say about a query."""
    text = source.choice(TEXTS)
    table: Sequence[Callable[[], master.FromServer]] = (
        lambda: master.NotFound(number),
        lambda: master.UserFound(number, text or b"bob", ((b"uid", b"1"), (b"x", text))),
        lambda: master.PassFound(number, text or b"bob", ((b"nologin", None),)),
        lambda: master.Listed(number, text or b"bob"),
        lambda: master.ListEnd(number),
        lambda: master.ListEnd(number, failed=True),
        lambda: da.Fail(number, reason=text),
        lambda: da.Fail(number, fields=((b"x", None),)),
        lambda: da.Fail(number, fields=((b"x", None), (b"y", text))),
    )
    return table[source.byte() % len(table)]()


# --- oracles -------------------------------------------------------------------------------


def stable(event: Any, encode: Callable[[Any], bytes], decode: Callable[[bytes], Any]) -> None:
    """What is sent for an event means that event."""
    try:
        data = encode(event)
    except da.LocalProtocolError:
        return
    again = decode(data.removesuffix(b"\n"))
    assert again == event, f"{event!r} was sent, and is {again!r}"
    assert encode(again) == data


def decode_hello(lines: bytes) -> Any:
    """A server's whole greeting, but for its VERSION."""
    reader = _handshake.HelloReader()
    *others, last = lines.split(b"\n")
    assert [reader.read(line.split(b"\t")) for line in others] == [None] * len(others)
    return reader.read(last.split(b"\t"))


# What is the same in each version, by either side.
GREETINGS: Final[dict[type, Any]] = {
    da.Version: (_handshake.encode_version, _handshake.decode_version),
    da.ClientHello: (_handshake.encode_client_hello, _handshake.decode_client_hello),
    da.Cancel: (_wire.encode_cancel, _wire.decode_cancel),
    master.MasterHello: (_master_wire.encode_hello, _master_wire.decode_hello),
}


def stable_greeting(event: Any) -> None:
    """Of what is said at the beginning."""
    if type(event) in GREETINGS:
        encode, decode = GREETINGS[type(event)]
        stable(event, encode, lambda line: decode(line.split(b"\t")))
    if type(event) is da.ServerHello:
        minor = _handshake.NEWEST.minor if event.cookie else 0
        stable(
            event,
            lambda event: _handshake.encode_server_hello(event, minor, event.mechanisms),
            decode_hello,
        )


def stable_request(event: Any, minor: int) -> None:
    """Of what a client sends."""
    stable_greeting(event)
    if type(event) is da.Auth:
        stable(
            event,
            lambda event: _wire.encode_auth(event, minor),
            lambda line: _wire.decode_auth(line.split(b"\t"), line, minor, NAMES),
        )
    if type(event) is da.Cont:
        stable(
            event,
            lambda event: _wire.encode_client_cont(event, minor),
            lambda line: _wire.decode_client_cont(line.split(b"\t"), line, minor),
        )


REPLIES: Final[dict[type, Any]] = {
    da.Cont: (_wire.encode_server_cont, _wire.decode_server_cont),
    da.Ok: (_wire.encode_ok, _wire.decode_ok),
    da.Fail: (_wire.encode_fail, _wire.decode_fail),
    da.Cancelled: (_wire.encode_cancelled, _wire.decode_cancelled),
}


def stable_reply(event: Any, minor: int) -> None:
    """Of what a server sends."""
    stable_greeting(event)
    if type(event) in REPLIES:
        encode, decode = REPLIES[type(event)]
        stable(
            event,
            lambda event: encode(event, minor),
            lambda line: decode(line.split(b"\t"), minor),
        )


def stable_master(event: Any, encoders: Any, decoders: Any) -> None:
    """Of what is said on a master socket."""
    stable_greeting(event)
    if type(event) in encoders:
        stable(
            event,
            encoders[type(event)],
            lambda line: decoders[line.split(b"\t")[0]](line.split(b"\t")),
        )


# --- each role alone -----------------------------------------------------------------------


class Base:
    """What the peers below share."""

    conn: Any
    remote_error: type[Exception] = da.RemoteProtocolError
    most = 10**6

    def held(self) -> int:
        phases = list(self.conn.outstanding.values())
        assert len(phases) <= 2 * self.most
        # The others are over, and only a reply is owed.
        owed = (da.Phase.REFUSED, da.Phase.CANCELLED)
        assert sum(phase not in owed for phase in phases) <= self.most
        return buffered(self.conn._buffer)

    def try_(self, event: Any) -> Any:
        return refused(self.conn, da.LocalProtocolError, event)


class Server(Base):
    """Answers some of what is open, in any order, and forgets some."""

    def __init__(self, source: Source) -> None:
        self.source = source
        options = source.byte()
        self.limit = SMALL if options & 1 else da.MAX_LINE
        self.most = FEW if options & 2 else da.DEFAULT_MAX_OUTSTANDING
        self.waits = bool(options & 4)
        self.conn = da.ServerConnection(max_line=self.limit, max_outstanding=self.most)

    def ask(self) -> Any:
        return None

    def answer(self, event: Any) -> Any:
        conn, source = self.conn, self.source
        if type(event) is da.Connected:
            if self.waits:
                return conn.send(da.Version(1, source.choice((2, 4, 3, 1, 0))))
            return conn.send(HELLO)
        if type(event) is da.ConnectionClosed:
            return dict(conn.outstanding)
        seen: list[Any] = []
        if conn.our_turn:
            seen.append(self.try_(HELLO) or conn.send(da.ServerHello(MECHANISMS[:1], 1, 1, b"")))
        if type(event) is da.Malformed and source.byte() % 4:
            seen.append(conn.send(event.reply))
        stable_request(event, conn.minor)
        for _ in many(source, 3):
            ids = [*conn.outstanding, 9]
            number = source.choice(ids)
            if source.byte() % 8 == 7:
                conn.forget(number)
            seen.append(self.try_(a_reply(source, number)))
        return [*seen, dict(conn.outstanding), conn.minor]


class Client(Base):
    """Asks, goes on, gives up."""

    def __init__(self, source: Source) -> None:
        self.source = source
        options = source.byte()
        self.limit = SMALL if options & 1 else da.MAX_LINE
        self.conn = da.ClientConnection(max_line=self.limit)
        self.hello = options & 2

    def ask(self) -> Any:
        conn, source = self.conn, self.source
        seen: list[Any] = []
        if conn.state is da.State.HANDSHAKE:
            if self.hello:
                seen.append(self.try_(da.Version(1, source.byte() % 6)))
            seen.append(self.try_(da.ClientHello(1)))
        for _ in range(3):
            if source.byte() % 8 == 7:
                conn.forget(source.choice(IDS))
            seen.append(self.try_(a_request(source, conn)))
        return seen

    def answer(self, event: Any) -> Any:
        stable_reply(event, self.conn.minor)
        return [dict(self.conn.outstanding), self.conn.minor, self.conn.spid_before_mech]


class MasterServer(Base):
    """Answers some of what is open."""

    def __init__(self, source: Source) -> None:
        self.source = source
        options = source.byte()
        self.limit = SMALL if options & 1 else _master_wire.MAX_QUERY
        self.most = FEW if options & 2 else da.DEFAULT_MAX_OUTSTANDING
        self.conn = master.ServerConnection(max_line=self.limit, max_outstanding=self.most)

    def ask(self) -> Any:
        return None

    def answer(self, event: Any) -> Any:
        conn, source = self.conn, self.source
        if type(event) is da.Connected:
            return conn.send(master.MasterHello(7))
        if type(event) is da.ConnectionClosed:
            return dict(conn.outstanding)
        stable_master(event, _master_wire.ENCODE_QUERY, _master_wire.DECODE_QUERY)
        seen = []
        for _ in many(source, 3):
            number = source.choice([*conn.outstanding, 9])
            if source.byte() % 8 == 7:
                conn.forget(number)
            seen.append(self.try_(an_answer(source, number)))
        return [*seen, dict(conn.outstanding)]


class MasterClient(Base):
    """Asks, and gives up."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.limit = SMALL if source.byte() & 1 else _master_wire.MAX_ANSWER
        self.conn = master.ClientConnection(max_line=self.limit)

    def ask(self) -> Any:
        conn, source = self.conn, self.source
        seen: list[Any] = []
        if conn.peer_version is None:
            seen.append(self.try_(master.NEWEST))
        for _ in range(3):
            if source.byte() % 8 == 7:
                conn.forget(source.choice(IDS))
            seen.append(self.try_(a_query(source)))
        return seen

    def answer(self, event: Any) -> Any:
        stable_master(event, _master_wire.ENCODE_ANSWER, _master_wire.DECODE_ANSWER)
        return dict(self.conn.outstanding)


def server(data: bytes) -> None:
    check(Server, data)


def client(data: bytes) -> None:
    check(Client, data)


def master_server(data: bytes) -> None:
    check(MasterServer, data)


def master_client(data: bytes) -> None:
    check(MasterClient, data)


# --- linked --------------------------------------------------------------------------------


class Link:
    """Two connections, and what is under way between them: messages overtake one another's way."""

    def __init__(self, server: Any, client: Any) -> None:
        self.server, self.client = server, client
        self.up: deque[bytes] = deque()
        self.down: deque[bytes] = deque()
        # What was said to each side and has not been heard, in order.
        self.said: dict[Any, list[Any]] = {server: [], client: []}

    def say(self, way: deque[bytes], conn: Any, event: Any) -> None:
        """Put it on its way, if it may be said."""
        data = refused(conn, da.LocalProtocolError, event)
        if data:
            way.append(data)
            self.said[self.client if conn is self.server else self.server].append(event)

    def hear(self, way: deque[bytes], conn: Any) -> list[Any]:
        """Let the next thing that was said arrive."""
        if way:
            conn.receive_data(way.popleft())
        events = []
        while not getattr(conn, "our_turn", False) and (event := conn.next_event()) is not None:
            self._was_said(event, self.said[conn])
            events.append(event)
        return events

    def _was_said(self, event: Any, said: list[Any]) -> None:
        """As it was heard; something before it may have come too late, and was not handed out."""
        if type(event) is da.Malformed:
            return  # by one who could not know better: it is to a request that is over
        if type(event) is da.Version and (not said or type(said[0]) is not da.Version):
            return  # it came with the greeting behind it
        for at, one in enumerate(said):
            greets = type(one) is da.ServerHello is type(event)
            # Some mechanisms are for newer clients only.
            if event == (attrs.evolve(one, mechanisms=event.mechanisms) if greets else one):
                del said[: at + 1]
                return
        raise AssertionError(f"{event!r} was heard, and said was {said!r}")

    def settle(self) -> None:
        """Everything arrives; then both know the same of every request."""
        while self.up or self.down:
            self.hear(self.up, self.server)
            self.hear(self.down, self.client)


def pair(data: bytes) -> None:
    """Whatever two sides that keep to `send` say, in whatever order it arrives, is understood."""
    script, stream = taken_apart(data)
    source = Source(script + stream)
    link = Link(da.ServerConnection(max_outstanding=1000), da.ClientConnection())
    assert link.server.next_event() == da.Connected()
    first: Any = da.Version(1, source.byte() % 5) if source.byte() % 2 else HELLO
    link.say(link.down, link.server, first)
    link.say(link.up, link.client, da.Version(1, 4 - source.byte() % 5))
    link.say(link.up, link.client, da.ClientHello(1))
    for _ in range(80):
        if link.server.our_turn:
            hello = da.ServerHello(MECHANISMS, 1, 1, b"0" * 32)
            link.say(link.down, link.server, hello)
            link.say(link.down, link.server, da.ServerHello(MECHANISMS, 1, 1, b""))
            assert not link.server.our_turn
        match source.byte() % 4:
            case 0:
                # Nobody answers a Cont with another kind of one.
                link.say(link.up, link.client, a_request(source, link.client))
            case 1:
                number = source.choice([*link.server.outstanding, 9])
                link.say(link.down, link.server, a_reply(source, number))
            case 2:
                for event in link.hear(link.up, link.server):
                    if type(event) is da.Malformed:
                        link.say(link.down, link.server, event.reply)
            case _:
                link.hear(link.down, link.client)
        if source.over:
            break
    link.settle()
    if link.server.state is da.State.OPEN is link.client.state:
        # Below 1.4 the client may give up what the server still works at, and never hears of it.
        assert set(link.client.outstanding) <= set(link.server.outstanding)
        for number, phase in link.client.outstanding.items():
            assert link.server.outstanding[number] in (phase, da.Phase.REFUSED)


def master_pair(data: bytes) -> None:
    """The same on a master socket."""
    script, stream = taken_apart(data)
    source = Source(script + stream)
    link = Link(master.ServerConnection(), master.ClientConnection())
    assert link.server.next_event() == da.Connected()
    link.say(link.down, link.server, master.MasterHello(7))
    link.say(link.up, link.client, master.NEWEST)
    while not source.over:
        match source.byte() % 4:
            case 0:
                link.say(link.up, link.client, a_query(source))
            case 1:
                number = source.choice([*link.server.outstanding, 9])
                link.say(link.down, link.server, an_answer(source, number))
            case 2:
                link.hear(link.up, link.server)
            case _:
                link.hear(link.down, link.client)
    link.settle()
    assert dict(link.client.outstanding) == dict(link.server.outstanding)
