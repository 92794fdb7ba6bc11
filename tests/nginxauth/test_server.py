from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nginxauth as ng

from .strategies import FIELDS, HEAD, REQUEST, encoded, pieces, replies, requests, wire

WIRE = wire(FIELDS)
NO = ng.Deny(b"no")
BACKEND = ng.Allow(b"192.0.2.7", 10025)


def drive(conn: ng.ServerConnection, chunks: list[bytes]) -> tuple[list[object], Any]:
    """Everything a connection says to these chunks and an end of file, and how it ends."""
    events: list[object] = []
    try:
        for chunk in [*chunks, b""]:
            conn.receive_data(chunk)
            while (event := conn.next_event()) is not None:
                events.append(event)
                if conn.our_turn:
                    assert conn.send(NO)
    except ng.RemoteProtocolError as error:
        assert conn.state is ng.State.FAILED
        return events, (error.hint, str(error))
    assert conn.state is ng.State.CLOSED
    return events, None


lines = st.one_of(
    st.binary(max_size=30).map(lambda data: data + b"\r\n"),
    st.sampled_from(
        [
            *[b"%b: %b\r\n" % field for field in FIELDS], b"\r\n", b"\n", b"Content-Length: 3\r\n",
            b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n0\r\n\r\n", b"xyz", b"Host: a\r\n",
            b" folded\r\n", b"Expect: 100-continue\r\n", b"Connection: Upgrade\r\nUpgrade: x\r\n",
            b"A: b\0c\r\n", b"A: \x0b\r\n", b"Content-Length: " + b"9" * 5000 + b"\r\n",
        ]
    ),
)  # fmt: skip
streams = st.tuples(
    st.sampled_from(
        [b"", b"POST /x", b"PROXY", b"GET /x HTTP/1.0\r\n", b"GET /x HTTP/1.1\r\nHost: a\r\n", HEAD]
    ),
    st.lists(lines, max_size=14),
).map(lambda parts: parts[0] + b"".join(parts[1]))


@given(streams, st.data())
def test_any_bytes_in_any_chunking(stream: bytes, data: st.DataObject) -> None:
    """The same events, or the same RemoteProtocolError; nothing else is ever raised."""
    chunks = data.draw(pieces(stream))
    whole = drive(ng.ServerConnection(max_request=400), [stream] if stream else [])
    assert drive(ng.ServerConnection(max_request=400), chunks) == whole


@given(requests, st.data())
def test_any_request_in_any_chunking(request: ng.AuthRequest, data: st.DataObject) -> None:
    """All of it, to the byte."""
    conn = ng.ServerConnection(allow_controls=True)
    for chunk in data.draw(pieces(wire(encoded(request)))):
        assert conn.next_event() is None
        conn.receive_data(chunk)
    assert conn.next_event() == request


@given(replies)
def test_any_reply(reply: ng.Reply) -> None:
    """On the wire is what `reply_headers` says, with our two fields, and within the limit."""
    conn = asked()
    try:
        headers = ng.reply_headers(reply, REQUEST, 38)
    except ng.LocalProtocolError as error:
        with pytest.raises(ng.LocalProtocolError, match=str(error)[:20]):
            conn.send(reply)
        return
    ours = ((b"Content-Length", b"0"), (b"Connection", b"close"))
    lines = b"".join(b"%b: %b\r\n" % header for header in (*headers, *ours))
    assert conn.send(reply) == b"HTTP/1.1 200 OK\r\n" + lines + b"\r\n"


def asked(data: bytes = WIRE, **options: Any) -> ng.ServerConnection:
    conn = ng.ServerConnection(**options)
    conn.receive_data(data)
    event = conn.next_event()
    assert isinstance(event, ng.AuthRequest | ng.Malformed)
    assert conn.our_turn
    assert not conn.idle
    return conn


def test_one_request_and_that_is_all() -> None:
    """After the reply the end is told at once, whatever else has come."""
    conn = ng.ServerConnection()
    assert (conn.state, conn.our_turn, conn.idle) == (ng.State.IDLE, False, True)
    conn.receive_data(WIRE + WIRE)
    assert list(conn.events()) == [REQUEST]
    assert conn.state is ng.State.BUSY
    assert conn.send(BACKEND).startswith(b"HTTP/1.1 200 OK\r\nAuth-Status: OK\r\nAuth-Server: ")
    assert (conn.state, conn.our_turn, conn.idle) == (ng.State.CLOSED, False, True)
    conn.receive_data(WIRE)
    assert not conn._buffer  # nothing of it is kept
    assert list(conn.events()) == [ng.ConnectionClosed()]
    assert conn.next_event() is None
    with pytest.raises(ng.LocalProtocolError, match="nothing was asked"):
        conn.send(BACKEND)


def test_a_loop_that_answers() -> None:
    """Goes on to the end."""
    conn = ng.ServerConnection()
    conn.receive_data(WIRE)
    seen: list[object] = []
    for event in conn.events():
        seen.append(event)
        if conn.our_turn:
            conn.send(NO)
    assert seen == [REQUEST, ng.ConnectionClosed()]


def test_header_names_keep_their_case() -> None:
    """h11 has them in lower case, too."""
    conn = ng.ServerConnection()
    conn.receive_data(wire([*FIELDS, (b"X-Key", b"a"), (b"x-key", b"b")]))
    event = conn.next_event()
    assert isinstance(event, ng.AuthRequest)
    assert event.headers[1:] == ((b"X-Key", b"a"), (b"x-key", b"b"))


def test_a_malformed_request_is_answered() -> None:
    """Like any other, and only with a refusal."""
    conn = ng.ServerConnection()
    conn.receive_data(wire([(b"Auth-Method", b"plain")]))
    event = conn.next_event()
    assert isinstance(event, ng.Malformed)
    assert event.data == b"Host: 127.0.0.1\r\nAuth-Method: plain\r\n"
    with pytest.raises(ng.LocalProtocolError, match="Malformed"):
        conn.send(BACKEND)
    assert conn.send(event.reply) == (
        b"HTTP/1.1 200 OK\r\nAuth-Status: Temporary authentication failure\r\n"
        b"Auth-Error-Code: 451 4.3.0\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )


def test_controls_are_refused_unless_allowed() -> None:
    """As in the pure layer."""
    data = wire([(name, b"%0A" if name == b"Auth-User" else value) for name, value in FIELDS])
    conn = ng.ServerConnection()
    conn.receive_data(data)
    assert isinstance(conn.next_event(), ng.Malformed)
    conn = ng.ServerConnection(allow_controls=True)
    conn.receive_data(data)
    assert conn.next_event() == attrs.evolve(REQUEST, user=b"\n")


@pytest.mark.parametrize("data", [None, "", "GET", 0, 5, [], [300], 10**12, True], ids=repr)
def test_data_that_are_not_bytes(data: Any) -> None:
    """Least of all an end of file."""
    conn = ng.ServerConnection()
    with pytest.raises(ng.LocalProtocolError, match="data has to be bytes, and not "):
        conn.receive_data(data)
    conn.receive_data(bytearray(WIRE[:9]))
    conn.receive_data(memoryview(WIRE[9:]))
    assert conn.next_event() == REQUEST


def test_attempts() -> None:
    """The limit is the connection's, too."""
    assert b"Auth-Wait: 3\r\n" in asked().send(ng.Deny(b"no", wait=3))
    assert b"Auth-Wait" not in asked(max_attempts=1).send(ng.Deny(b"no", wait=3))


def test_a_forgotten_reply_is_said() -> None:
    """And nothing has happened."""
    conn = asked()
    with pytest.raises(ng.LocalProtocolError, match="reply to the request"):
        conn.next_event()
    assert conn.send(NO)


def test_a_reply_before_the_request_is_said() -> None:
    """There is nothing to answer."""
    conn = ng.ServerConnection()
    conn.receive_data(WIRE)
    with pytest.raises(ng.LocalProtocolError, match="nothing was asked"):
        conn.send(NO)
    assert conn.next_event() == REQUEST


def test_a_reply_that_can_not_be_sent_changes_nothing() -> None:
    """Another may be sent in its place."""
    conn = asked()
    for wrong in (ng.Deny(b""), ng.Wait(0), ng.Allow(b"localhost", 25), None):
        with pytest.raises(ng.LocalProtocolError):
            conn.send(wrong)  # type: ignore[arg-type]
    assert conn.our_turn
    assert conn.send(NO)


def test_the_final_bytes_are_counted() -> None:
    """1024 and not one more, our own two fields included."""
    room = 1024 - len(asked().send(ng.Deny(b"x"))) + 1
    assert len(asked().send(ng.Deny(b"x" * room))) == 1024
    with pytest.raises(ng.LocalProtocolError, match="1025 bytes"):
        asked().send(ng.Deny(b"x" * (room + 1)))


def test_an_end_of_file_is_told_while_the_reply_is_due() -> None:
    """So that slow work can be given up."""
    conn = asked()
    conn.receive_data(b"")
    assert conn.next_event() == ng.ConnectionClosed()
    assert not conn.our_turn
    assert conn.next_event() is None
    with pytest.raises(ng.LocalProtocolError, match="nothing was asked"):
        conn.send(NO)


def test_an_end_of_file_before_anything() -> None:
    """Somebody has looked whether we are there."""
    conn = ng.ServerConnection()
    conn.receive_data(b"")
    assert list(conn.events()) == [ng.ConnectionClosed()]
    assert conn.state is ng.State.CLOSED
    with pytest.raises(ng.LocalProtocolError, match="data after the end of file"):
        conn.receive_data(b"x")


@pytest.mark.parametrize(
    "data", [b"G", WIRE[:-1], WIRE.replace(b"\r\n\r\n", b"\r\nContent-Length: 1\r\n\r\n")]
)
def test_an_end_of_file_inside(data: bytes) -> None:
    """Of the head, or of a body."""
    conn = ng.ServerConnection()
    conn.receive_data(data)
    conn.receive_data(b"")
    for _ in range(2):
        with pytest.raises(ng.RemoteProtocolError, match="end of file inside") as caught:
            conn.next_event()
        assert caught.value.hint is None
    assert conn.state is ng.State.FAILED
    assert conn.idle


def failed(conn: ng.ServerConnection) -> ng.RemoteProtocolError:
    with pytest.raises(ng.RemoteProtocolError) as caught:
        conn.next_event()
    assert conn.state is ng.State.FAILED
    return caught.value


@pytest.mark.parametrize(
    "line",
    [
        b"A: b\0c",
        b"A: b\x0bc",
        b"A: b\x0cc",
        b"A: b\rc",
        b"A b",
        b" x: y",
        b"A : b",
        b"",
        b"A\xff: b",
    ],
)
def test_heads_that_http_does_not_allow(line: bytes) -> None:
    """nginx gets HTTP 400; what it sent is in no error."""
    conn = ng.ServerConnection()
    start = b"GET / HTTP/1.1\r\n" if not line else b"GET / HTTP/1.0\r\n"
    conn.receive_data(start + (line + b"\r\n" if line else b"") + b"X-Auth-Key: s3cret\r\n\r\n")
    error = failed(conn)
    assert "s3cret" not in str(error)
    assert "HTTP does not allow" in str(error)
    assert error.__cause__ is None
    assert error.hint == ng.Deny(b"This request can't be read", b"451 4.3.0")
    assert failed(conn).hint == error.hint
    with pytest.raises(ng.LocalProtocolError, match="nothing was asked"):
        conn.send(NO)
    assert conn.send(error.hint) == (
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    assert failed(conn).hint is None
    nothing: Any = None
    for event in (error.hint, nothing):
        with pytest.raises(ng.LocalProtocolError, match="nothing was asked"):
            conn.send(event)
    conn.receive_data(WIRE)
    assert failed(conn).hint is None


def test_other_controls_come_through() -> None:
    """nginx escapes nothing in a client's commands."""
    envelope = (
        (b"Auth-SMTP-Helo", b"a"),
        (b"Auth-SMTP-From", b"b\x01\x7f\xff\x85"),
        (b"Auth-SMTP-To", b"\x1fc\td"),
    )
    conn = ng.ServerConnection()
    conn.receive_data(wire([*FIELDS, *envelope]))
    event = conn.next_event()
    assert isinstance(event, ng.AuthRequest)
    assert event.envelope == ng.Envelope(b"a", b"b\x01\x7f\xff\x85", b"\x1fc\td")


def test_a_stranger_gets_no_answer() -> None:
    """It could not read one."""
    conn = ng.ServerConnection()
    conn.receive_data(b"\x16\x03\x01")
    error = failed(conn)
    assert "TLS" in str(error)
    assert error.hint is None


def test_a_head_that_is_too_long() -> None:
    """Refused before more is kept."""
    conn = ng.ServerConnection()
    conn.receive_data(HEAD + b"A: " + b"x" * 65536)
    error = failed(conn)
    assert "more than 65536 bytes" in str(error)
    assert error.hint is not None
    assert not conn._buffer


def test_a_long_head_is_taken() -> None:
    """Longer than h11 takes by itself, as with a large certificate; to the last byte."""
    head = WIRE.removesuffix(b"\r\n") + b"A: "
    conn = ng.ServerConnection()
    conn.receive_data(head + b"x" * (65536 - len(head) - 4) + b"\r\n\r\n")
    assert isinstance(conn.next_event(), ng.AuthRequest)


def is_request(event: object) -> bool:
    """HTTP's own fields are in the rest."""
    return isinstance(event, ng.AuthRequest) and event.headers[:1] == REQUEST.headers


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_bodies_are_dropped(version: bytes) -> None:
    """nginx sends none; with a chunked one or a counted one, the request comes when it is there."""
    head = WIRE.replace(b"HTTP/1.0", b"HTTP/" + version).removesuffix(b"\r\n")
    for field, body in (
        (b"Content-Length: 5\r\n\r\n", b"a\r\n\r\n"),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"),
    ):
        if version == b"1.0" and b"chunked" in field:
            continue
        conn = ng.ServerConnection()
        conn.receive_data(head + field)
        for number in range(len(body)):
            assert conn.next_event() is None
            assert conn.idle
            conn.receive_data(body[number : number + 1])
        assert is_request(conn.next_event())
        assert conn.send(NO).endswith(b"Content-Length: 0\r\nConnection: close\r\n\r\n")


@pytest.mark.parametrize("size", [1, 1 << 20])
def test_a_body_that_is_too_long(size: int) -> None:
    """It counts, as the head does; refused before more is kept."""
    head = WIRE.removesuffix(b"\r\n") + b"Content-Length: 100\r\n\r\n"
    stream = head + b"x" * 100
    conn = ng.ServerConnection(max_request=len(stream))
    conn.receive_data(stream)
    assert is_request(conn.next_event())
    conn = ng.ServerConnection(max_request=len(stream) - 1)
    for start in range(0, len(stream) - 1, size):
        assert conn.next_event() is None
        conn.receive_data(stream[start : min(start + size, len(stream) - 1)])
    error = failed(conn)
    assert "body" in str(error)
    assert error.hint is not None
    conn = ng.ServerConnection(max_request=len(stream) - 1)
    conn.receive_data(stream)
    assert "body" in str(failed(conn))
    conn = ng.ServerConnection(max_request=len(stream) - 1)
    conn.receive_data(head)
    assert conn.next_event() is None
    conn.receive_data(b"x" * 100)
    assert "body" in str(failed(conn))


@pytest.mark.parametrize("size", [1000, 1 << 20])
def test_a_chunk_with_much_to_say(size: int) -> None:
    """h11 has a limit of its own for what has not come whole; it must not be the lower one."""
    head = WIRE.replace(b"HTTP/1.0", b"HTTP/1.1").removesuffix(b"\r\n")
    stream = head + b"Transfer-Encoding: chunked\r\n\r\n0;" + b"x" * 20000 + b"\r\n\r\n"
    conn = ng.ServerConnection()
    for start in range(0, len(stream), size):
        assert conn.next_event() is None
        conn.receive_data(stream[start : start + size])
    assert is_request(conn.next_event())


def test_a_broken_body() -> None:
    """A chunk whose length is none."""
    conn = ng.ServerConnection()
    head = WIRE.replace(b"HTTP/1.0", b"HTTP/1.1").removesuffix(b"\r\n")
    conn.receive_data(head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n")
    error = failed(conn)
    assert error.hint is not None
    assert conn.send(error.hint).startswith(b"HTTP/1.1 400 Bad Request\r\n")


def test_a_client_that_would_keep_the_connection() -> None:
    """It is told that we do not."""
    data = WIRE.replace(b"HTTP/1.0", b"HTTP/1.1").replace(
        b"\r\nHost", b"\r\nConnection: keep-alive\r\nHost"
    )
    conn = asked(data)
    reply = conn.send(NO)
    assert reply == (
        b"HTTP/1.1 200 OK\r\nAuth-Status: no\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    assert conn.next_event() == ng.ConnectionClosed()
