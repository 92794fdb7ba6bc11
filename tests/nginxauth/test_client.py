import re
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nginxauth as ng

from . import strategies as s
from .strategies import REQUEST

OK = b"HTTP/1.0 200 OK\r\n"
GOOD = OK + b"Auth-Status: OK\r\nAuth-Server: 192.0.2.7\r\nAuth-Port: 10025\r\n\r\n"
BAD = (
    OK + b"Auth-Status: Temporary server problem\r\nAuth-Error-Code: 451 4.3.0\r\n"
    b"Auth-Wait: 3\r\n\r\n"
)

HARMLESS = re.compile("a refusal that begins like|but for case|a % escape")


def asked(request: ng.AuthRequest = REQUEST) -> ng.ClientConnection:
    conn = ng.ClientConnection(b"127.0.0.1", b"/auth?a=b")
    conn.send(request)
    return conn


def test_a_request_and_its_reply() -> None:
    """One of each, and then the connection has done its work."""
    conn = ng.ClientConnection(b"127.0.0.1", b"/auth?a=b")
    seen = [(conn.state, conn.our_turn)]
    assert conn.next_event() is None
    assert conn.send(REQUEST) == s.wire(s.FIELDS)
    seen.append((conn.state, conn.our_turn))
    assert conn.next_event() is None
    conn.receive_data(GOOD)
    assert conn.next_event() == ng.Allow(b"192.0.2.7", 10025)
    seen.append((conn.state, conn.our_turn))
    assert conn.next_event() == ng.ConnectionClosed()
    assert conn.next_event() is None
    assert conn.warnings == ()
    assert seen == [
        (ng.State.IDLE, True),
        (ng.State.BUSY, False),
        (ng.State.CLOSED, False),
    ]
    with pytest.raises(ng.LocalProtocolError, match="one request on each connection"):
        conn.send(REQUEST)


def test_by_default_it_asks_as_over_a_unix_socket() -> None:
    """As nginx does without a URI."""
    data = ng.ClientConnection().send(REQUEST)
    assert data.startswith(b"GET / HTTP/1.0\r\nHost: localhost\r\n")


def test_a_host_or_uri_that_none_can_have() -> None:
    """Is refused at once."""
    with pytest.raises(ng.LocalProtocolError, match="the host"):
        ng.ClientConnection(b"a b")
    with pytest.raises(ng.LocalProtocolError, match="the URI"):
        ng.ClientConnection(uri=b"auth")


@pytest.mark.parametrize("data", [None, "", "HTTP", 0, 5, [], [300], 10**12, True], ids=repr)
def test_data_that_are_not_bytes(data: Any) -> None:
    """Least of all an end of file."""
    conn = asked()
    with pytest.raises(ng.LocalProtocolError, match="data has to be bytes, and not "):
        conn.receive_data(data)
    conn.receive_data(memoryview(GOOD))
    assert conn.next_event() == ng.Allow(b"192.0.2.7", 10025)


def test_events() -> None:
    """The reply, and the end; before that there is nothing."""
    conn = asked()
    conn.receive_data(BAD[:40])
    assert list(conn.events()) == []
    conn.receive_data(bytearray(BAD[40:]))
    conn.receive_data(b"")
    assert list(conn.events()) == [
        ng.Deny(b"Temporary server problem", b"451 4.3.0", 3),
        ng.ConnectionClosed(),
    ]


def test_a_request_that_can_not_be_sent_changes_nothing() -> None:
    """Another may be sent in its place."""
    conn = ng.ClientConnection()
    with pytest.raises(ng.LocalProtocolError, match="attempt"):
        conn.send(attrs.evolve(REQUEST, attempt=0))
    assert conn.our_turn
    assert conn.send(REQUEST)


def test_what_follows_the_head_is_dropped() -> None:
    """nginx closes, and so should we; a body, or a second answer, is never seen."""
    conn = asked()
    conn.receive_data(GOOD + BAD)
    assert isinstance(conn.next_event(), ng.Allow)
    conn.receive_data(b"x" * 100000)
    assert not conn._buffer
    assert conn.next_event() == ng.ConnectionClosed()


@pytest.mark.parametrize("sends", [False, True])
def test_unasked_bytes(sends: bool) -> None:
    """Whoever speaks first is no HTTP server."""
    conn = ng.ClientConnection()
    conn.receive_data(b"220 mx.test ESMTP\r\n")
    conn.receive_data(b"")
    with pytest.raises(ng.RemoteProtocolError, match="not asked for"):
        conn.send(REQUEST) if sends else conn.next_event()
    assert conn.state is ng.State.FAILED
    with pytest.raises(ng.LocalProtocolError):
        conn.send(REQUEST)


def test_an_end_of_file_before_the_request() -> None:
    """Is the end, and no error."""
    conn = ng.ClientConnection()
    conn.receive_data(b"")
    with pytest.raises(ng.LocalProtocolError, match="has closed"):
        conn.send(REQUEST)
    assert conn.next_event() == ng.ConnectionClosed()
    assert conn.next_event() is None


@pytest.mark.parametrize("data", [b"", OK, GOOD[:-2], GOOD[:-1]])
def test_an_end_of_file_before_the_empty_line(data: bytes) -> None:
    """Is an error to nginx, however much has come."""
    conn = asked()
    conn.receive_data(data or b"")
    if data:
        assert conn.next_event() is None
        conn.receive_data(b"")
    for _ in (1, 2):
        with pytest.raises(ng.RemoteProtocolError, match="before the answer's empty line") as error:
            conn.next_event()
        assert error.value.hint is None
        assert conn.state is ng.State.FAILED
    conn.receive_data(b"")
    with pytest.raises(ng.LocalProtocolError, match="after the end of file"):
        conn.receive_data(b"x")


def test_what_nginx_can_not_read_or_follow() -> None:
    """The reason stays, and later bytes do not matter."""
    for data, reason in (
        (OK + b"X_y: z\r\n", "letters, digits and -"),
        (OK + b"\r\n", "no Auth-Server"),
    ):
        conn = asked()
        conn.receive_data(data)
        for _ in (1, 2):
            with pytest.raises(ng.RemoteProtocolError, match=reason):
                conn.next_event()
            conn.receive_data(GOOD)


def test_warnings_come_with_the_reply() -> None:
    """And with the error that stands for one."""
    conn = asked()
    conn.receive_data(b"Auth-Server: 192.0.2.7\r\nAuth-Port: 25\r\n\r\n")
    before = conn.warnings
    assert conn.next_event() == ng.Allow(b"192.0.2.7", 25)
    assert before == ()
    assert conn.warnings == ("no HTTP status line", "no Auth-Status, which is OK to nginx")
    conn = asked()
    conn.receive_data(b"HTTP/1.1 100 Continue\r\n\r\n" + GOOD)
    with pytest.raises(ng.RemoteProtocolError):
        conn.next_event()
    assert conn.warnings == ("an interim HTTP status (1xx), which nginx takes for the answer",)


@given(s.replies, st.sampled_from([b"smtp", b"imap", b"pop3"]), st.data())
def test_our_server_is_understood(reply: ng.Reply, protocol: bytes, data: st.DataObject) -> None:
    """In any chunking, and without a warning, but for odd texts."""
    request = attrs.evolve(REQUEST, protocol=protocol)
    client, server = asked(request), ng.ServerConnection()
    server.receive_data(ng.ClientConnection().send(request))
    assert server.next_event() == request
    try:
        answer = server.send(reply)
    except ng.LocalProtocolError:
        # An empty user, with IMAP or POP3.
        return
    seen = None
    for piece in data.draw(s.pieces(answer)):
        assert seen is None
        client.receive_data(piece)
        seen = client.next_event()
    if isinstance(reply, ng.Deny):
        assert isinstance(seen, ng.Deny)
        assert seen.message.endswith(reply.message)
        assert seen.wait == reply.wait
        assert seen.code == (reply.code if protocol == b"smtp" else b"")
    else:
        assert seen == reply
    assert [text for text in client.warnings if not HARMLESS.search(text)] == []


lines = st.one_of(
    st.sampled_from([OK, b"\r\n", b"Auth-Status: no\r\n", b"Auth-Wait: 1\r\n", b"A_\r\n", GOOD]),
    st.binary(max_size=8),
    st.integers(990, 1100).map(lambda size: b"x" * size),
)


@given(st.lists(lines, max_size=6).map(b"".join), st.data())
def test_any_bytes_in_any_chunking(stream: bytes, data: st.DataObject) -> None:
    """The same events and warnings, or the same RemoteProtocolError; nothing else is raised."""

    def drive(chunks: list[bytes]) -> tuple[list[object], str, tuple[str, ...]]:
        conn = asked()
        events: list[object] = []
        try:
            for chunk in [*chunks, b""]:
                conn.receive_data(chunk)
                while (event := conn.next_event()) is not None:
                    events.append(event)
        except ng.RemoteProtocolError as error:
            assert conn.state is ng.State.FAILED
            return events, str(error), conn.warnings
        assert conn.state is ng.State.CLOSED
        return events, "", conn.warnings

    assert drive(data.draw(s.pieces(stream))) == drive([stream] if stream else [])
