from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dovecotauth as da
from dovecotauth import master

from .helpers import COOKIE
from .strategies import pieces

S = ((b"service", b"lmtp"),)


def server(**limits: int) -> master.ServerConnection:
    """A server that has greeted and was greeted."""
    conn = master.ServerConnection(**limits)
    assert conn.next_event() == da.Connected()
    assert conn.send(master.MasterHello(1976)) == b"VERSION\t1\t1\nSPID\t1976\n"
    conn.receive_data(b"VERSION\t1\t1\n")
    assert list(conn.events()) == [da.Version(1, 1)]
    assert (conn.state, conn.minor) == (da.State.OPEN, 1)
    return conn


def client() -> master.ClientConnection:
    """Likewise."""
    conn = master.ClientConnection()
    assert conn.send(master.NEWEST) == b"VERSION\t1\t1\n"
    conn.receive_data(b"VERSION\t1\t1\nSPID\t1976\n")
    assert list(conn.events()) == [da.Version(1, 1), master.MasterHello(1976)]
    assert conn.state is da.State.OPEN
    return conn


# What each query may be answered with; each of these ends it.
EXCHANGES: list[tuple[Any, list[Any]]] = [
    (master.GetUser(1, b"alice", S), [master.UserFound(1, b"alice", ((b"uid", b"8"),))]),
    (master.GetUser(2, b"nobody", S), [master.NotFound(2)]),
    (master.GetPass(3, b"alice", S), [master.PassFound(3, b"alice")]),
    (master.GetPass(4, b"alice", S), [da.Fail(4, reason=b"not you")]),
    (master.ListUsers(5), [master.Listed(5, b"a"), master.Listed(5, b"b"), master.ListEnd(5)]),
    (master.ListUsers(6), [master.ListEnd(6, failed=True)]),
    (master.Request(7, 42, 12, COOKIE), [master.UserFound(7, b"alice")]),
    (master.Request(8, 42, 12, COOKIE), [da.Fail(8)]),
]


@pytest.mark.parametrize(("query", "answers"), EXCHANGES)
def test_both_roles_understand_each_other(query: Any, answers: list[Any]) -> None:
    """Each query with its answers."""
    asker, answerer = client(), server()
    answerer.receive_data(asker.send(query))
    assert list(answerer.events()) == [query]
    assert dict(answerer.outstanding) == dict(asker.outstanding) == {query.id: type(query)}
    for answer in answers:
        assert not answerer.idle
        asker.receive_data(answerer.send(answer))
        assert list(asker.events()) == [answer]
    assert answerer.idle
    assert not asker.outstanding


@given(st.permutations(EXCHANGES), st.data())
def test_any_order_and_any_chunking(
    exchanges: list[tuple[Any, list[Any]]], data: st.DataObject
) -> None:
    """Answers to all, in another order, but for the two lists."""
    asker, answerer = client(), server()
    exchanges = [one for one in exchanges if one[0].id != 6]
    sent = b"".join(asker.send(query) for query, _ in exchanges)
    got: list[Any] = []
    for piece in data.draw(pieces(sent)):
        answerer.receive_data(piece)
        got += answerer.events()
    assert got == [query for query, _ in exchanges]
    replies = [one for _, answers in data.draw(st.permutations(exchanges)) for one in answers]
    back = b"".join(answerer.send(reply) for reply in replies)
    got = []
    for piece in data.draw(pieces(back)):
        asker.receive_data(piece)
        got += asker.events()
    assert got == replies


lines = st.one_of(
    st.binary(max_size=30).map(lambda data: data + b"\n"),
    st.sampled_from(
        [
            b"VERSION\t1\t1\n",
            b"SPID\t1\n",
            b"USER\t1\talice\tservice=x\n",
            b"USER\t1\talice\tuid=8\r\n",
            b"LIST\t2\n",
            b"LIST\t2\tbob\n",
            b"DONE\t2\t\n",
            b"NOTFOUND\t3\n",
            b"FAIL\t4\n",
            b"PASS\t3\ta\tservice=x\n",
            b"x" * 1100,
        ]
    ),
)


@pytest.mark.parametrize("role", ["server", "client"])
@given(stream=st.lists(lines, max_size=8).map(b"".join), data=st.data())
def test_any_bytes_in_any_chunking(role: str, stream: bytes, data: st.DataObject) -> None:
    """The same events, or the same RemoteProtocolError; nothing else is ever raised."""

    def drive(chunks: list[bytes]) -> tuple[list[object], str]:
        conn: Any = master.ServerConnection() if role == "server" else client()
        if role == "server":
            conn.send(master.MasterHello(1))
        else:
            for query, _ in EXCHANGES[:5]:
                conn.send(query)
        events: list[object] = []
        try:
            for chunk in [*chunks, b""]:
                conn.receive_data(chunk)
                for event in conn.events():
                    events.append(event)  # noqa: PERF402 - it may raise between them
        except da.RemoteProtocolError as error:
            assert conn.state is da.State.FAILED
            assert not conn.outstanding or role == "client" or conn.idle
            return events, str(error)
        return events, ""

    assert drive(data.draw(pieces(stream))) == drive([stream] if stream else [])


def test_a_forgotten_greeting_is_said() -> None:
    """The master waits for it; but its end is told."""
    conn = master.ServerConnection()
    assert conn.our_turn
    assert list(conn.events()) == [da.Connected()]
    with pytest.raises(da.LocalProtocolError, match="greet the master"):
        conn.next_event()
    with pytest.raises(da.LocalProtocolError, match="the pid"):
        conn.send(master.MasterHello(0))
    with pytest.raises(da.LocalProtocolError, match="the pid"):  # and nothing was said by that
        conn.send(master.MasterHello(0))
    conn.receive_data(b"")
    assert conn.next_event() == da.ConnectionClosed()
    assert conn.idle


def test_a_version_of_ones_own() -> None:
    """Sent before the hello, it counts."""
    conn = master.ServerConnection()
    assert conn.send(da.Version(1, 4)) == b"VERSION\t1\t4\n"
    assert conn.our_turn
    assert conn.send(master.MasterHello(9)) == b"SPID\t9\n"


def test_a_second_greeting() -> None:
    """Is one too many."""
    with pytest.raises(da.LocalProtocolError, match="not twice"):
        server().send(master.MasterHello(9))


@pytest.mark.parametrize(
    "line",
    [b"CPID\t1\n", b"FOO\t1\n", b"USER\t1\talice\n", b"USER\t1\ta\tservice=x\n" * 2, b"\n"],
)
def test_lines_that_end_the_connection(line: bytes) -> None:
    """Such as a CPID, by which a client shows that it is on the wrong socket."""
    conn = server()
    conn.receive_data(line)
    with pytest.raises(da.RemoteProtocolError):
        list(conn.events())
    assert conn.idle


def test_the_limits() -> None:
    """Lines of 1023 bytes and LF; and so many queries."""
    head = b"USER\t1\ta\tservice="
    conn = server()
    conn.receive_data(head + b"x" * (1023 - len(head)) + b"\n" + b"y" * 1024)
    assert isinstance(conn.next_event(), master.GetUser)
    with pytest.raises(da.RemoteProtocolError, match="more than 1024 bytes"):
        conn.next_event()
    conn = server(max_outstanding=1)
    conn.receive_data(b"LIST\t1\nLIST\t2\n")
    assert conn.next_event() == master.ListUsers(1)
    with pytest.raises(da.RemoteProtocolError, match="too many"):
        conn.next_event()


def test_an_answer_has_to_suit_its_query() -> None:
    """By id and by kind; after it the query is over."""
    conn = server()
    conn.receive_data(b"USER\t1\ta\tservice=x\nREQUEST\t2\t1\t1\t" + COOKIE + b"\n")
    assert len(list(conn.events())) == 2
    wrong: list[Any] = [master.PassFound(1, b"a"), master.NotFound(2), master.ListEnd(1)]
    for answer in [*wrong, master.NotFound(3)]:
        with pytest.raises(da.LocalProtocolError, match="answers no open query"):
            conn.send(answer)
    conn.send(master.NotFound(1))
    with pytest.raises(da.LocalProtocolError, match="answers no open query"):
        conn.send(master.NotFound(1))
    conn.forget(2)
    conn.forget(99)
    assert conn.idle


@pytest.mark.parametrize("line", [b"OK\t1\tuser=a\n", b"PASS\t1\tuser=a\n", b"NOTFOUND\t2\n"])
def test_an_answer_to_what_was_not_asked(line: bytes) -> None:
    """Or of no known kind."""
    conn = client()
    conn.send(master.GetUser(1, b"a", S))
    conn.receive_data(line)
    with pytest.raises(da.RemoteProtocolError):
        conn.next_event()
    assert set(conn.outstanding) == {1}


def test_what_a_master_can_not_ask() -> None:
    """Too early, twice, or two lists."""
    with pytest.raises(da.LocalProtocolError, match="before both sides have greeted"):
        master.ClientConnection().send(master.ListUsers(1))
    conn = client()
    conn.send(master.ListUsers(1))
    with pytest.raises(da.LocalProtocolError, match="one list at a time"):
        conn.send(master.ListUsers(2))
    with pytest.raises(da.LocalProtocolError, match="that is open"):
        conn.send(master.GetUser(1, b"a", S))
    conn.forget(1)
    conn.forget(2)  # which is not there, and may be
    conn.receive_data(b"LIST\t1\talice\nDONE\t1\t\n")
    assert conn.next_event() is None
    with pytest.raises(da.LocalProtocolError, match="given up"):
        conn.send(master.ListUsers(1))
    assert conn.send(master.ListUsers(2)) == b"LIST\t2\n"


def test_a_client_socket_is_no_master_socket() -> None:
    """It says MECH where SPID should be."""
    conn = master.ClientConnection()
    conn.receive_data(b"VERSION\t1\t2\nMECH\tPLAIN\n")
    assert conn.next_event() == da.Version(1, 2)
    with pytest.raises(da.RemoteProtocolError, match="no master socket"):
        conn.next_event()


def test_all_names_are_there() -> None:
    """Public ones."""
    assert all(hasattr(master, name) for name in master.__all__)
    assert len(set(master.__all__)) == len(master.__all__)
