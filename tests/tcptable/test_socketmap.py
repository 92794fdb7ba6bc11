from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tcptable as tt
from tcptable import socketmap
from tcptable._netstring import encode_netstring

from .strategies import map_gets, map_replies, pieces
from .test_connection import drive


@given(st.lists(st.tuples(map_gets, map_replies), max_size=8))
def test_both_roles_understand_each_other(exchanges: list[tuple[tt.Get, tt.Reply]]) -> None:
    """On one connection: a temporary error is no reason to close it here."""
    client, server = socketmap.ClientConnection(), socketmap.ServerConnection()
    for request, reply in exchanges:
        server.receive_data(client.send(request))
        assert server.next_event() == request
        client.receive_data(server.send(reply))
        assert client.next_event() == reply


messages = st.one_of(
    st.binary(max_size=20).map(encode_netstring),
    st.sampled_from(
        [b"3:m a,", b"2:m ,", b"1:m,", b"4:OK v,", b"9:NOTFOUND ,", b"x", b"99", b"4:a"]
    ),
)


@given(st.lists(messages, max_size=8).map(b"".join), st.data())
def test_any_bytes_in_any_chunking(stream: bytes, data: st.DataObject) -> None:
    """The same events, or the same RemoteProtocolError; nothing else is ever raised."""

    def answer(conn: Any) -> None:
        if isinstance(conn, socketmap.ServerConnection) and conn.our_turn:
            conn.send(tt.NotFound())

    def client() -> socketmap.ClientConnection:
        conn = socketmap.ClientConnection()
        conn.send(tt.Get(b"a", b"m"))
        return conn

    chunks = data.draw(pieces(stream))
    whole = [stream] if stream else []
    for make in (socketmap.ServerConnection, client):
        assert drive(make(), chunks, answer) == drive(make(), whole, answer)


@pytest.mark.parametrize(
    ("event", "complaint"),
    [
        (tt.Get(b"a"), "name can't be empty"),
        (tt.Get(b"a", b"my map"), "no blank"),
        (tt.Get(b"a", b"m\0"), "no NUL"),
        (tt.Get(b"a\0", b"m"), "a key can't hold NUL"),
        (tt.Get("a", b"m"), "no request of socketmap"),  # type: ignore[arg-type]
        (tt.Get(b"a", "m"), "no request of socketmap"),  # type: ignore[arg-type]
        (tt.Put(b"a", b"b"), "no request of socketmap"),
    ],
)
def test_requests_that_can_not_be_sent(event: Any, complaint: str) -> None:
    """And nothing has happened."""
    conn = socketmap.ClientConnection()
    with pytest.raises(tt.LocalProtocolError, match=complaint):
        conn.send(event)
    assert conn.our_turn


@pytest.mark.parametrize(
    ("event", "complaint"),
    [
        (tt.Found(b""), "send NotFound"),
        (tt.TempError(b"\0"), "NUL"),
        (tt.Found(b"x" * 99_998), "100001 bytes, and Postfix takes 100000"),
        (tt.Get(b"a"), "no reply"),
    ],
)
def test_replies_that_can_not_be_sent(event: Any, complaint: str) -> None:
    """And the reply is due still."""
    conn = socketmap.ServerConnection()
    conn.receive_data(b"3:m a,")
    assert conn.next_event() == tt.Get(b"a", b"m")
    with pytest.raises(tt.LocalProtocolError, match=complaint):
        conn.send(event)
    assert conn.send(tt.Found(b"x" * 99_997)).startswith(b"100000:OK x")


def test_requests_that_can_not_be_understood() -> None:
    """They are answered, and the next one is read."""
    conn = socketmap.ServerConnection(max_request=10)
    conn.receive_data(b"1:m,2: k,4:m a\0,3:m a,11:")
    form, nul = "not of the form 'map key'", "a request with NUL"
    for data, reason in ((b"m", form), (b" k", form), (b"m a\0", nul)):
        event = conn.next_event()
        assert event == tt.Malformed(data, reason, tt.TempError(reason.encode()))
        conn.send(event.reply)
    assert conn.next_event() == tt.Get(b"a", b"m")
    conn.send(tt.NotFound())
    with pytest.raises(tt.RemoteProtocolError, match="longer than 10") as caught:
        conn.next_event()
    assert caught.value.hint is not None
    assert conn.send(caught.value.hint) == b"23:TEMP this can't be read,"


@pytest.mark.parametrize("make", [socketmap.ServerConnection, socketmap.ClientConnection])
def test_nobody_is_lenient_unless_told(make: Any) -> None:
    """A length with a leading zero is no netstring."""
    for lenient in (False, True):
        conn = make(lenient=True) if lenient else make()
        if make is socketmap.ClientConnection:
            conn.send(tt.Get(b"a", b"m"))
        conn.receive_data(b"04:OK v,")
        if lenient:
            assert conn.next_event() is not None
        else:
            with pytest.raises(tt.RemoteProtocolError, match="leading zeros"):
                conn.next_event()


@pytest.mark.parametrize(
    ("payload", "complaint"), [(b"ok v", "no keyword"), (b"", "no keyword"), (b"OK a\0b", "NUL")]
)
def test_a_broken_reply(payload: bytes, complaint: str) -> None:
    """Postfix would try again later."""
    conn = socketmap.ClientConnection(max_reply=100)
    conn.send(tt.Get(b"a", b"m"))
    conn.receive_data(encode_netstring(payload))
    with pytest.raises(tt.RemoteProtocolError, match=complaint):
        conn.next_event()


@pytest.mark.parametrize(
    ("payload", "event"),
    [
        (b"OK v", tt.Found(b"v")),
        (b"OK  v", tt.Found(b" v")),
        (b"OK ", tt.Found(b"")),
        (b"OK", tt.NotFound()),
        (b"NOTFOUND", tt.NotFound()),
        (b"TEMP", tt.TempError()),
        (b"TIMEOUT x", tt.TempError(b"x")),
    ],
)
def test_replies_as_postfix_takes_them(payload: bytes, event: tt.Reply) -> None:
    """Without the blank there is no value, so nothing was found; an empty one is a broken map."""
    conn = socketmap.ClientConnection()
    conn.send(tt.Get(b"a", b"m"))
    conn.receive_data(encode_netstring(payload))
    assert conn.next_event() == event


def test_what_a_reply_is_on_the_wire() -> None:
    """Before any connection asks for it: the same bytes, and the same refusals."""
    assert socketmap.encode_reply(tt.Found(b"x" * 99_997)).startswith(b"100000:OK x")
    with pytest.raises(tt.LocalProtocolError, match="100001 bytes"):
        socketmap.encode_reply(tt.Found(b"x" * 99_998))
    with pytest.raises(tt.LocalProtocolError, match="empty"):
        socketmap.encode_reply(tt.Found(b""))


def test_lenient_as_postfix() -> None:
    """In both roles, when asked for."""
    server = socketmap.ServerConnection(lenient=True)
    server.receive_data(b"03:m a,")
    assert server.next_event() == tt.Get(b"a", b"m")
    client = socketmap.ClientConnection(lenient=True)
    client.send(tt.Get(b"a", b"m"))
    client.receive_data(b"04:OK v,")
    assert client.next_event() == tt.Found(b"v")
