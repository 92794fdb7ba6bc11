"""Targets: both roles of tcp_table and of socketmap, alone and linked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import tcptable as tt
from tcptable import socketmap
from tcptable._netstring import NetstringBuffer
from tcptable._wire import decode_reply, decode_request, encode_reply, encode_request

from .source import Source, taken_apart
from .stream import arrives, buffered, check, refused

SMALL: Final = 40

REPLIES: Final[Sequence[tt.Reply]] = (
    tt.NotFound(),
    tt.Found(b"v"),
    tt.Found(b"50% \xff\n"),
    tt.TempError(b"a b"),
    tt.PermError(b"no"),
    tt.Found(b""),
    tt.Found(b"x\0"),
    tt.NotFound(b"no such"),
    tt.Found(b"x" * 4092),
    tt.Found(b"x" * 100_000),
)
REQUESTS: Final[Sequence[tt.Get | tt.Put]] = (
    tt.Get(b"k"),
    tt.Get(b"k", b"map"),
    tt.Get(b""),
    tt.Get(b"a b%\xff\n"),
    tt.Get(b"a b%\xff\n", b"m"),
    tt.Put(b"k", b"v w"),
    tt.Put(b"k", b""),
    tt.Get(b"x\0"),
    tt.Get(b"k", b"a b"),
)


def payload(data: bytes) -> bytes:
    """What is in a netstring."""
    buffer = NetstringBuffer(200_000, lenient=False)
    buffer.feed(data)
    found = buffer.next()
    assert found is not None
    assert not buffer
    return found


def stable(event: Any, encode: Callable[[Any], bytes], decode: Callable[[bytes], Any]) -> None:
    """What is sent for an event means that event."""
    try:
        data = encode(event)
    except tt.LocalProtocolError:
        return
    again = decode(data)
    assert again == event, f"{event!r} was sent, and is {again!r}"
    assert encode(again) == data


def by_line(decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    return lambda data: decode(data.removesuffix(b"\n"))


def by_netstring(decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    return lambda data: decode(payload(data))


TCP: Final = (
    (encode_request, by_line(decode_request)),
    (encode_reply, by_line(decode_reply)),
)
SOCKETMAP: Final = (
    (socketmap._encode_request, by_netstring(socketmap._decode_request)),
    (socketmap.encode_reply, by_netstring(socketmap._decode_reply)),
)


class Answerer:
    """A table with any answers."""

    remote_error: type[Exception] = tt.RemoteProtocolError

    def __init__(self, source: Source, *, netstrings: bool) -> None:
        self.source = source
        self.stable = (SOCKETMAP if netstrings else TCP)[0]
        options = source.byte()
        self.conn: Any
        if netstrings:
            size = SMALL if options & 1 else socketmap.DEFAULT_MAX_REQUEST
            self.conn = socketmap.ServerConnection(max_request=size, lenient=bool(options & 2))
            self.limit = size + 22
        else:
            self.limit = SMALL if options & 1 else tt.DEFAULT_MAX_REQUEST
            self.conn = tt.ServerConnection(max_request=self.limit)

    def held(self) -> int:
        return buffered(self.conn._buffer)

    def ask(self) -> Any:
        return None

    def answer(self, event: Any) -> Any:
        conn = self.conn
        if type(event) is tt.ConnectionClosed:
            assert not conn.our_turn
            return None
        assert conn.our_turn
        assert not conn.idle
        if type(event) is tt.Malformed:
            return conn.send(event.reply)
        stable(event, *self.stable)
        data = refused(conn, tt.LocalProtocolError, self.source.choice(REPLIES))
        return data if data is not None else conn.send(tt.NotFound())


class Asker:
    """Asks anything."""

    remote_error: type[Exception] = tt.RemoteProtocolError

    def __init__(self, source: Source, *, netstrings: bool) -> None:
        self.source = source
        self.stable = (SOCKETMAP if netstrings else TCP)[1]
        options = source.byte()
        self.conn: Any
        if netstrings:
            size = SMALL if options & 1 else socketmap.MAX_REPLY
            self.conn = socketmap.ClientConnection(max_reply=size, lenient=bool(options & 2))
            self.limit = size + 22
        else:
            self.limit = tt.MAX_REPLY
            self.conn = tt.ClientConnection()

    def held(self) -> int:
        return buffered(self.conn._buffer)

    def ask(self) -> Any:
        if not self.conn.our_turn:
            return refused(self.conn, tt.LocalProtocolError, tt.Get(b"k", b"m"))
        data = refused(self.conn, tt.LocalProtocolError, self.source.choice(REQUESTS))
        assert self.conn.our_turn is (data is None)
        return data

    def answer(self, event: Any) -> Any:
        if type(event) is not tt.ConnectionClosed:
            stable(event, *self.stable)
        return self.conn.our_turn


def server(data: bytes) -> None:
    check(lambda source: Answerer(source, netstrings=False), data)


def client(data: bytes) -> None:
    check(lambda source: Asker(source, netstrings=False), data)


def socketmap_server(data: bytes) -> None:
    check(lambda source: Answerer(source, netstrings=True), data)


def socketmap_client(data: bytes) -> None:
    check(lambda source: Asker(source, netstrings=True), data)


# --- linked --------------------------------------------------------------------------------


def linked(server: Any, client: Any, data: bytes) -> None:
    """What one may send the other takes for the same, and both know whose turn it is."""
    script, stream = taken_apart(data)
    source = Source(script + stream)
    for _ in range(60):
        if source.over or client.state is not tt.State.IDLE:
            break
        request = source.choice(REQUESTS)
        assert client.our_turn
        assert not server.our_turn
        assert server.next_event() is None
        asked = refused(client, tt.LocalProtocolError, request)
        if asked is None:
            continue
        arrives(server, asked, request)
        assert server.our_turn
        assert not client.our_turn
        assert client.next_event() is None
        reply = source.choice(REPLIES)
        said = refused(server, tt.LocalProtocolError, reply)
        if said is None:
            reply = tt.NotFound()
            said = server.send(reply)
        arrives(client, said, reply)
        # tcp_table's client closes after a TempError, as Postfix does.
        assert client.our_turn or type(reply) is tt.TempError
    assert not server.our_turn


def pair(data: bytes) -> None:
    linked(tt.ServerConnection(), tt.ClientConnection(), data)


def socketmap_pair(data: bytes) -> None:
    linked(socketmap.ServerConnection(), socketmap.ClientConnection(), data)
