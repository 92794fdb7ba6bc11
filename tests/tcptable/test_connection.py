from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tcptable as tt

from .strategies import gets, pieces, puts, replies

REQUEST = b"get a\n"


def drive(conn: Any, chunks: list[bytes], act: Callable[[Any], None]) -> tuple[list[object], str]:
    """Everything a connection says to these chunks and an end of file, and how it ends."""
    events: list[object] = []
    try:
        for chunk in [*chunks, b""]:
            conn.receive_data(chunk)
            while (event := conn.next_event()) is not None:
                events.append(event)
                act(conn)
    except tt.RemoteProtocolError as error:
        assert conn.state is tt.State.FAILED
        return events, str(error)
    assert conn.state is tt.State.CLOSED
    return events, ""


lines = st.one_of(
    st.binary(max_size=30).map(lambda data: data + b"\n"),
    st.sampled_from(
        [b"get a\n", b"get \n", b"get a%20b\n", b"get a", b"put a b\n", b"x\n", b"\x16\x03"]
    ),
)
streams = st.lists(lines, max_size=8).map(b"".join)
reply_lines = st.one_of(
    st.binary(max_size=30).map(lambda data: data + b"\n"),
    st.sampled_from(
        [b"200 a\n", b"500 \n", b"400 x\n", b"200 %41\n", b"500\n", b"200", b"2" * 5000]
    ),
)


@given(streams, st.data())
def test_any_bytes_in_any_chunking_server(stream: bytes, data: st.DataObject) -> None:
    """The same events, or the same RemoteProtocolError; nothing else is ever raised."""

    def answer(conn: tt.ServerConnection) -> None:
        if conn.our_turn:
            conn.send(tt.NotFound())

    chunks = data.draw(pieces(stream))
    whole = drive(tt.ServerConnection(max_request=100), [stream] if stream else [], answer)
    assert drive(tt.ServerConnection(max_request=100), chunks, answer) == whole


@given(st.lists(reply_lines, max_size=8).map(b"".join), st.data())
def test_any_bytes_in_any_chunking_client(stream: bytes, data: st.DataObject) -> None:
    """Only one reply is due at a time, so the next request is sent when it has come."""

    def act(_conn: tt.ClientConnection) -> None:
        """One request is asked; what follows its reply is unasked."""

    def asked() -> tt.ClientConnection:
        conn = tt.ClientConnection()
        conn.send(tt.Get(b"a"))
        return conn

    chunks = data.draw(pieces(stream))
    assert drive(asked(), chunks, act) == drive(asked(), [stream] if stream else [], act)


@given(st.lists(st.tuples(st.one_of(gets, puts), replies), max_size=8))
def test_both_roles_understand_each_other(exchanges: list[tuple[tt.Request, tt.Reply]]) -> None:
    """What one sends is what the other gets; after a TempError the client starts anew."""
    client, server = tt.ClientConnection(), tt.ServerConnection()
    for request, reply in exchanges:
        server.receive_data(client.send(request))
        assert server.next_event() == request
        client.receive_data(server.send(reply))
        assert client.next_event() == reply
        if isinstance(reply, tt.TempError):
            assert client.state is tt.State.CLOSED
            assert client.next_event() == tt.ConnectionClosed()
            client = tt.ClientConnection()
        assert client.next_event() is None
        assert server.next_event() is None


# --- the server's side ---------------------------------------------------------------------


def server_asked(data: bytes = REQUEST) -> tt.ServerConnection:
    conn = tt.ServerConnection()
    conn.receive_data(data)
    assert conn.next_event() is not None
    return conn


def test_events_goes_on_through_pipelined_requests() -> None:
    """As long as each is answered in the loop's body."""
    conn = tt.ServerConnection()
    conn.receive_data(b"get a\nget b\nx\nget")
    seen: list[object] = []
    for event in conn.events():
        seen.append(event)
        conn.send(tt.NotFound())
    assert [type(one) for one in seen] == [tt.Get, tt.Get, tt.Malformed]
    conn.receive_data(b" c\n")
    assert [type(one) for one in conn.events()] == [tt.Get]
    assert conn.our_turn
    assert not conn.idle


def test_a_forgotten_reply_is_said() -> None:
    """And nothing has happened."""
    conn = server_asked()
    with pytest.raises(tt.LocalProtocolError, match="reply to the last request"):
        conn.next_event()
    assert conn.send(tt.Found(b"a b")) == b"200 a%20b\n"
    assert conn.idle


def test_a_doubled_reply_is_said() -> None:
    """It would be taken for the answer to the next request."""
    conn = server_asked()
    conn.send(tt.NotFound())
    with pytest.raises(tt.LocalProtocolError, match="nothing was asked"):
        conn.send(tt.NotFound())
    assert conn.state is tt.State.IDLE


def test_a_reply_that_can_not_be_sent_changes_nothing() -> None:
    """Another may be sent in its place."""
    conn = server_asked()
    with pytest.raises(tt.LocalProtocolError, match="empty value"):
        conn.send(tt.Found(b""))
    assert conn.our_turn
    assert conn.send(tt.TempError(b"50%")) == b"400 50%25\n"


def test_an_end_of_file_is_told_while_a_reply_is_due() -> None:
    """So that slow work can be given up; other requests wait for ever."""
    conn = server_asked(b"get a\nget b\n")
    conn.receive_data(b"")
    assert conn.next_event() == tt.ConnectionClosed()
    assert not conn.our_turn
    assert conn.next_event() is None
    with pytest.raises(tt.LocalProtocolError, match="nothing was asked"):
        conn.send(tt.NotFound())


def test_an_end_of_file_between_requests() -> None:
    """Once, and then nothing."""
    conn = tt.ServerConnection()
    conn.receive_data(b"")
    assert list(conn.events()) == [tt.ConnectionClosed()]
    assert conn.state is tt.State.CLOSED
    assert conn.next_event() is None
    with pytest.raises(tt.LocalProtocolError, match="data after the end of file"):
        conn.receive_data(b"x")


def test_an_end_of_file_inside_a_line() -> None:
    """The client did not mean that key."""
    conn = tt.ServerConnection()
    conn.receive_data(b"get a")
    conn.receive_data(b"")
    for _ in range(2):
        with pytest.raises(tt.RemoteProtocolError, match="end of file inside") as caught:
            conn.next_event()
        assert caught.value.hint is None
    conn = tt.ServerConnection()
    conn.receive_data(b"get a")
    with pytest.raises(tt.LocalProtocolError, match="nothing was asked"):
        conn.send(tt.NotFound())


def test_a_request_too_long_has_a_hint() -> None:
    """The client waits for a reply, and gets one; what it sent is gone."""
    conn = tt.ServerConnection(max_request=20)
    conn.receive_data(b"get a\nget " + b"x" * 20)
    assert conn.next_event() == tt.Get(b"a")
    conn.send(tt.NotFound())
    with pytest.raises(tt.RemoteProtocolError, match="more than 20 bytes"):
        conn.next_event()
    with pytest.raises(tt.RemoteProtocolError, match="more than 20 bytes") as caught:
        conn.next_event()
    hint = caught.value.hint
    assert hint is not None
    with pytest.raises(tt.LocalProtocolError, match="nothing was asked"):
        conn.send(tt.TempError(b"another"))
    assert conn.send(hint) == b"400 this%20can't%20be%20read\n"
    with pytest.raises(tt.LocalProtocolError, match="nothing was asked"):
        conn.send(hint)
    conn.receive_data(b"get a\n")
    with pytest.raises(tt.RemoteProtocolError):
        conn.next_event()
    assert not conn._buffer  # nothing of it is kept


def test_the_longest_key_of_postfix() -> None:
    """64 KiB, every byte of which is encoded."""
    key = b"\xff" * 65536
    data = tt.ClientConnection().send(tt.Get(key))
    assert server_asked(data).our_turn


# --- the client's side ---------------------------------------------------------------------


def client_asked() -> tt.ClientConnection:
    conn = tt.ClientConnection()
    turns = [conn.our_turn]
    assert conn.send(tt.Get(b"a b")) == b"get a%20b\n"
    assert [*turns, conn.our_turn] == [True, False]
    return conn


def test_one_request_at_a_time() -> None:
    """Postfix waits, and so do we; to give up means to close."""
    conn = client_asked()
    with pytest.raises(tt.LocalProtocolError, match="waits for its reply"):
        conn.send(tt.Get(b"b"))
    conn.receive_data(b"200 x")
    assert list(conn.events()) == []
    conn.receive_data(b"\n")
    assert list(conn.events()) == [tt.Found(b"x")]
    assert conn.our_turn


def test_a_request_that_can_not_be_sent_changes_nothing() -> None:
    """Another may be."""
    conn = tt.ClientConnection()
    with pytest.raises(tt.LocalProtocolError, match="NUL"):
        conn.send(tt.Get(b"\0"))
    assert conn.our_turn


@pytest.mark.parametrize("late", [False, True])
def test_what_was_not_asked_for_is_refused_before_the_next_request(late: bool) -> None:
    """Postfix takes it for the answer to the next key, and is out of step from then on."""
    conn = client_asked()
    conn.receive_data(b"200 one\n" if late else b"200 one\n200 STRAY\n")
    assert conn.next_event() == tt.Found(b"one")
    if late:
        conn.receive_data(b"200 STRAY\n")
    with pytest.raises(tt.RemoteProtocolError, match="not asked for"):
        conn.send(tt.Get(b"b"))
    with pytest.raises(tt.RemoteProtocolError, match="not asked for"):
        conn.next_event()
    with pytest.raises(tt.LocalProtocolError, match="has failed"):
        conn.send(tt.Get(b"b"))


def test_a_greeting_is_refused() -> None:
    """This protocol has none; it is some other server."""
    conn = tt.ClientConnection()
    conn.receive_data(b"220 mail.test ESMTP\r\n")
    with pytest.raises(tt.RemoteProtocolError, match="not asked for"):
        conn.next_event()


@pytest.mark.parametrize("asked", [False, True])
def test_the_server_closes(asked: bool) -> None:
    """With a reply due it is up to the caller to ask again, elsewhere; Postfix tries 10 times."""
    conn = client_asked() if asked else tt.ClientConnection()
    conn.receive_data(b"")
    assert list(conn.events()) == [tt.ConnectionClosed()]
    with pytest.raises(tt.LocalProtocolError, match="has closed"):
        conn.send(tt.Get(b"b"))


def test_nothing_is_asked_of_one_who_has_closed() -> None:
    """Though nobody has been told of it yet: it is told afterwards, as if nothing had happened."""
    conn = tt.ClientConnection()
    conn.receive_data(b"")
    with pytest.raises(tt.LocalProtocolError, match="server has closed"):
        conn.send(tt.Get(b"b"))
    assert conn.next_event() == tt.ConnectionClosed()


def test_a_reply_without_its_end() -> None:
    """It may have been longer."""
    conn = client_asked()
    conn.receive_data(b"200 part")
    conn.receive_data(b"")
    with pytest.raises(tt.RemoteProtocolError, match="end of file inside"):
        conn.next_event()


def test_a_broken_reply_ends_the_connection() -> None:
    """As in Postfix."""
    conn = client_asked()
    conn.receive_data(b"500\n")
    with pytest.raises(tt.RemoteProtocolError, match="not of the form '200 text'"):
        conn.next_event()
    assert conn.state is tt.State.FAILED


@pytest.mark.parametrize("make", [tt.ServerConnection, tt.ClientConnection])
@pytest.mark.parametrize("data", [None, "", "text", 0, []], ids=repr)
def test_what_is_not_bytes(make: Callable[[], Any], data: Any) -> None:
    """Is no end of file either, and changes nothing."""
    conn = make()
    with pytest.raises(tt.LocalProtocolError, match="has to be bytes, and not"):
        conn.receive_data(data)
    conn.receive_data(b"")
    assert tt.ConnectionClosed() in (conn.next_event(), conn.next_event())


def test_events_of_a_client_end_with_the_reply() -> None:
    """What is behind it was not asked for, and that is told to the next who asks."""
    conn = tt.ClientConnection()
    conn.send(tt.Get(b"a"))
    conn.receive_data(b"200 x\n200 y\n")
    assert list(conn.events()) == [tt.Found(b"x")]
    with pytest.raises(tt.RemoteProtocolError, match="not asked for"):
        conn.send(tt.Get(b"b"))


@pytest.mark.parametrize("make", [bytearray, lambda data: memoryview(bytearray(data))])
def test_what_is_fed_is_copied(make: Callable[[bytes], bytearray | memoryview]) -> None:
    """So that the driver may use its buffer again."""
    conn, data = tt.ServerConnection(), make(REQUEST)
    conn.receive_data(data)
    data[0:1] = b"x"
    assert conn.next_event() == tt.Get(b"a")


def test_the_first_error_has_the_hint() -> None:
    """And so has each that repeats it."""
    conn = tt.ServerConnection(max_request=10)
    conn.receive_data(b"get " + b"x" * 10)
    for _ in range(2):
        with pytest.raises(tt.RemoteProtocolError) as caught:
            conn.next_event()
        assert caught.value.hint == tt.TempError(b"this can't be read")
