"""Both roles alike, and together: any bytes in any pieces, whole sessions, ends, secrets."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dovecotauth as da

from .helpers import COOKIE, HELLO, PLUS_HELLO, SMTP, client, fed, server
from .strategies import pieces


def drive(
    conn: Any, chunks: list[bytes], act: Callable[[Any, Any], None]
) -> tuple[list[object], str]:
    """Everything a connection says to these chunks and an end of file, and how it ends."""
    events: list[object] = []
    try:
        for chunk in [*chunks, b""]:
            conn.receive_data(chunk)
            while (event := conn.next_event()) is not None:
                events.append(event)
                act(conn, event)
    except da.RemoteProtocolError as error:
        assert conn.state is da.State.FAILED
        return events, str(error)
    assert conn.state is da.State.CLOSED
    return events, ""


client_lines = st.one_of(
    st.binary(max_size=30).map(lambda data: data + b"\n"),
    st.sampled_from([b"AUTH", b"CONT", b"CANCEL", b"VERSION"]).flatmap(
        lambda verb: st.lists(
            st.sampled_from(
                [
                    b"1",
                    b"2",
                    b"007",
                    b"0",
                    b"PLAIN",
                    b"login",
                    b"service=smtp",
                    b"",
                    b"resp=",
                    b"#",
                    b"resp==",
                    b"resp=YQ==",
                    b"resp=x",
                    b"YQ==",
                    b"channel_binding=YQ==",
                    b"\x01t",
                ]
            ),
            max_size=6,
        ).map(lambda words: b"\t".join([verb, *words]) + b"\n")
    ),
    st.sampled_from(
        [
            b"AUTH\t1\tPLAIN\tservice=smtp\n",
            b"AUTH\t2\tLOGIN\tservice=x\tresp=YQ==\r\n",
            b"CONT\t1\tYQ==\n",
            b"CONT\t2\t\n",
            b"CANCEL\t1\n",
            b"CANCEL\t2\n",
            b"\n",
            b"AUTH\t1",
            b"AUTH\t3\tPLAIN\tservice=smtp\n",
            b"x" * 120,
            b"\x16\x03",
            b"GET / HTTP/1.0\r\n",
        ]
    ),
)
client_greetings = st.sampled_from(
    [b"VERSION\t1\t%d\nCPID\t5\n" % minor for minor in (0, 1, 2, 3, 4, 9)] * 3
    + [b"VERSION\t1\t0\n", b"VERSION\t2\t0\n", b"CPID\t1\n", b""]
)
server_lines = st.one_of(
    st.binary(max_size=30).map(lambda data: data + b"\n"),
    st.sampled_from(
        [
            b"OK\t1\tuser=a\n",
            b"FAIL\t1\n",
            b"CONT\t1\t\n",
            b"CONT\t2\tYQ==\n",
            b"CANCELLED\t3\n",
            b"CONT\t2\t#\tchannel_binding=x\n",
            b"OK\t2\tuser=b\tnologin\n",
            b"FAIL\t4\ttemp\n",
            b"OK\t2\n",
            b"OK\t3\tuser=c\tresp=YQ==\n",
            b"FAIL\t3\tcode=x\r\n",
            b"OK\t4\tuser=d",
            b"MECH\tX\n",
            b"DONE\n",
        ]
    ),
)
server_greetings = st.sampled_from(
    [b"VERSION\t1\t%d\nMECH\tPLAIN\tplaintext\nSPID\t1\nDONE\n" % minor for minor in (0, 2, 4)] * 3
    + [b"VERSION\t1\t1\nSPID\t1\nSPID\t1\n", b"VERSION\t1\t1\nMECH\t\nX\nDONE\n", b"DONE\n", b""]
)


@pytest.mark.parametrize("wait", [False, True])
@given(greeting=client_greetings, lines=st.lists(client_lines, max_size=8), data=st.data())
def test_any_bytes_in_any_chunking_server(
    wait: bool, greeting: bytes, lines: list[bytes], data: st.DataObject
) -> None:
    """The same events, or the same RemoteProtocolError; nothing else is ever raised."""

    def answer(conn: da.ServerConnection, event: Any) -> None:
        if isinstance(event, da.Connected):
            conn.send(da.Version(1, 4) if wait else HELLO)
        elif conn.our_turn:
            conn.send(HELLO)
        elif isinstance(event, da.Malformed):
            conn.send(event.reply)
        elif isinstance(event, da.Auth):
            conn.send(da.Cont(event.id, b"?") if event.id < 3 else da.Fail(event.id))
        elif isinstance(event, da.Cont):
            conn.send(da.Ok(event.id, b"ann"))
        elif isinstance(event, da.Cancel) and conn.minor == 4:
            conn.send(da.Cancelled(event.id))

    stream = greeting + b"".join(lines)
    whole = drive(da.ServerConnection(max_line=100), [stream] if stream else [], answer)
    chunks = data.draw(pieces(stream))
    assert drive(da.ServerConnection(max_line=100), chunks, answer) == whole


@given(greeting=server_greetings, lines=st.lists(server_lines, max_size=8), data=st.data())
def test_any_bytes_in_any_chunking_client(
    greeting: bytes, lines: list[bytes], data: st.DataObject
) -> None:
    """Four requests are made when the greeting is over; one of them is cancelled."""

    def act(conn: da.ClientConnection, event: Any) -> None:
        if isinstance(event, da.ServerHello) and conn.mechanisms:
            for number in (1, 2, 3, 4):
                conn.send(da.Auth(number, conn.mechanisms[0].name, SMTP))
            conn.send(da.Cancel(3))
        elif isinstance(event, da.Cont):
            oob = event.data is None
            conn.send(da.Cont(event.id, None, b"x") if oob else da.Cont(event.id, b"!"))

    def greeted() -> da.ClientConnection:
        conn = da.ClientConnection()
        conn.send(da.ClientHello(1))
        return conn

    stream = greeting + b"".join(lines)
    whole = drive(greeted(), [stream] if stream else [], act)
    assert drive(greeted(), data.draw(pieces(stream)), act) == whole


# --- both together -------------------------------------------------------------------------


class Pair:
    """A client and a server, and what is under way between them."""

    def __init__(self, server_minor: int, client_minor: int, wait: bool) -> None:
        self.server, self.client = da.ServerConnection(), da.ClientConnection()
        self.to_server = self.to_client = b""
        self.at_server: list[Any] = []
        self.at_client: list[Any] = []
        self.minor = min(server_minor, client_minor)
        assert self.server.next_event() == da.Connected()
        self.to_client += self.server.send(da.Version(1, server_minor))
        self.to_server += self.client.send(da.Version(1, client_minor))
        cookie = COOKIE if server_minor else b""
        self.hello = da.ServerHello(PLUS_HELLO.mechanisms, 9, 3, cookie)
        if not wait:
            self.to_client += self.server.send(self.hello)
        self.to_server += self.client.send(da.ClientHello(5))

    def carry(self, most: int) -> None:
        """Some bytes each way, and what they bring about."""
        if self.to_server:
            self.server.receive_data(self.to_server[:most])
            self.to_server = self.to_server[most:]
        while (event := self.server.next_event()) is not None:
            self.at_server.append(event)
            if self.server.our_turn:
                self.to_client += self.server.send(self.hello)
        if self.to_client:
            self.client.receive_data(self.to_client[:most])
            self.to_client = self.to_client[most:]
        self.at_client += self.client.events()

    def carry_all(self) -> None:
        while self.to_server or self.to_client:
            self.carry(1 << 20)


@given(minors=st.tuples(st.integers(0, 4), st.integers(0, 4)), wait=st.booleans(), data=st.data())
def test_both_roles_understand_each_other(
    minors: tuple[int, int], wait: bool, data: st.DataObject
) -> None:
    """Random sessions in random pieces: each side hears all that the other says, and no more.

    Requests in any number, challenged and answered out of order, cancelled, and forgotten.
    """
    pair = Pair(*minors, wait)
    pair.carry_all()
    binding = minors[1] >= 3 and wait and minors[0] >= 3
    assert [one.name for one in pair.client.mechanisms] == [b"PLAIN"] + (
        [b"SCRAM-SHA-256-PLUS"] if binding else []
    )
    pair.at_client.clear()
    pair.at_server.clear()
    said_by_server: list[Any] = []
    said_by_client: list[Any] = []
    cancelled: set[int] = set()
    for number in range(1, data.draw(st.integers(1, 25), label="steps")):
        match data.draw(st.sampled_from(["auth", "server", "client", "cancel", "carry"])):
            case "auth":
                response = data.draw(st.none() | st.binary(max_size=4))
                auth = da.Auth(number, b"PLAIN", (*SMTP, (b"final-resp-ok", None)), response)
                said_by_client.append(auth)
                pair.to_server += pair.client.send(auth)
            case "server":
                asked = [one for one, at in pair.server.outstanding.items()
                         if at in (da.Phase.ASKED, da.Phase.CANCELLED)]  # fmt: skip
                if not asked:
                    continue
                one = data.draw(st.sampled_from(asked))
                replies: list[Any] = [da.Cont(one, b"?"), da.Ok(one, b"ann", (), b"v"),
                                      da.Fail(one, b"ann", b"temp_fail", b"busy")]  # fmt: skip
                if pair.minor >= 3:
                    replies.append(da.Cont(one, None, b"tls-exporter"))
                if pair.server.outstanding[one] is da.Phase.CANCELLED:
                    replies = [da.Cancelled(one)]
                reply = data.draw(st.sampled_from(replies))
                said_by_server.append(reply)
                pair.to_client += pair.server.send(reply)
            case "client":
                move = [one for one, at in pair.client.outstanding.items()
                        if at in (da.Phase.CHALLENGED, da.Phase.BINDING)]  # fmt: skip
                if not move:
                    continue
                one = data.draw(st.sampled_from(move))
                oob = pair.client.outstanding[one] is da.Phase.BINDING
                cont = da.Cont(one, None, b"\0bind") if oob else da.Cont(one, b"")
                said_by_client.append(cont)
                pair.to_server += pair.client.send(cont)
            case "cancel":
                open_ = [one for one, at in pair.client.outstanding.items()
                         if at is not da.Phase.CANCELLED]  # fmt: skip
                if open_:
                    one = data.draw(st.sampled_from(open_))
                    cancelled.add(one)
                    said_by_client.append(da.Cancel(one))
                    pair.to_server += pair.client.send(da.Cancel(one))
            case _:
                pair.carry(data.draw(st.integers(1, 60)))
    pair.carry_all()
    for one, at in list(pair.server.outstanding.items()):
        if at is da.Phase.CANCELLED:
            said_by_server.append(da.Cancelled(one))
            pair.to_client += pair.server.send(da.Cancelled(one))
    pair.carry_all()
    assert pair.at_server == said_by_client
    # Of what was cancelled, all that was said before it was heard may be lost.
    assert [one for one in pair.at_client if one.id not in cancelled] == [
        one for one in said_by_server if one.id not in cancelled
    ]
    assert dict(pair.server.outstanding) == dict(pair.client.outstanding)
    confirmed = {one.id for one in pair.at_client if isinstance(one, da.Cancelled)}
    assert confirmed == (cancelled if pair.minor == 4 else set())


# --- ends ----------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [server, client])
def test_an_end_of_file_between_lines(make: Callable[[], Any]) -> None:
    """Once, and then nothing."""
    conn = make()
    conn.receive_data(b"")
    assert list(conn.events()) == [da.ConnectionClosed()]
    assert conn.next_event() is None
    assert conn.state is da.State.CLOSED
    with pytest.raises(da.LocalProtocolError, match="after the end of file"):
        conn.receive_data(b"x")
    with pytest.raises(da.LocalProtocolError, match="has closed"):
        conn.send(da.Version(1, 0))


@pytest.mark.parametrize("make", [server, client])
def test_an_end_of_file_inside_a_line(make: Callable[[], Any]) -> None:
    """What was meant is not known; a password could be cut."""
    conn = make()
    conn.receive_data(b"FAIL\t1")
    assert conn.next_event() is None
    conn.receive_data(b"")
    for _ in range(2):
        with pytest.raises(da.RemoteProtocolError, match="end of file inside a line") as caught:
            conn.next_event()
        assert caught.value.hint is None
    with pytest.raises(da.LocalProtocolError, match="has failed"):
        conn.send(da.Version(1, 0))


def test_what_comes_after_an_error_is_dropped() -> None:
    """Nothing of a broken connection is kept, and no reply goes out on it."""
    conn = server()
    events: list[object] = []

    def read() -> None:
        events.extend(fed(conn, b"AUTH\t1\tPLAIN\tservice=a\nFOO\t1\nAUTH\t2\tPLAIN\tservice=a\n"))

    with pytest.raises(da.RemoteProtocolError, match="a command that there isn't"):
        read()
    conn.receive_data(b"x" * 100)
    assert not conn._buffer
    with pytest.raises(da.LocalProtocolError, match="has failed"):
        conn.send(da.Ok(1, b"ann"))


def test_good_events_before_bad_bytes_are_delivered() -> None:
    """First."""
    conn = server()
    conn.receive_data(b"AUTH\t1\tPLAIN\tservice=a\nFOO\t1\n")
    assert conn.next_event() == da.Auth(1, b"PLAIN", ((b"service", b"a"),))
    with pytest.raises(da.RemoteProtocolError):
        conn.next_event()


@pytest.mark.parametrize("line", [b"\n", b"\r\n", b"AUTH\t1\tPLAIN\tservice=smtp\0\tsecured\n"])
@pytest.mark.parametrize("make", [server, client])
def test_an_empty_line_and_a_nul(make: Callable[[], Any], line: bytes) -> None:
    """Both are refused; what stands behind a NUL is not there for Dovecot."""
    conn = make()
    conn.receive_data(line)
    with pytest.raises(da.RemoteProtocolError, match="an empty line, or one with NUL"):
        conn.next_event()


# --- greetings -----------------------------------------------------------------------------


def test_a_hello_brings_the_newest_version_along() -> None:
    """Unless a version was sent before it."""
    conn = da.ClientConnection()
    assert conn.send(da.ClientHello(7)) == b"VERSION\t1\t4\nCPID\t7\n"
    conn = da.ClientConnection()
    assert conn.send(da.Version(1, 1)) == b"VERSION\t1\t1\n"
    assert conn.send(da.ClientHello(7)) == b"CPID\t7\n"
    with pytest.raises(da.LocalProtocolError, match="not twice"):
        conn.send(da.ClientHello(7))
    with pytest.raises(da.LocalProtocolError, match="not twice"):
        conn.send(da.Version(1, 1))


@pytest.mark.parametrize("we_begin", [True, False])
def test_a_connection_is_open_when_both_have_greeted(we_begin: bool) -> None:
    """And not before, whoever is the first."""
    conn = da.ClientConnection()

    def we() -> None:
        conn.send(da.ClientHello(7))

    def they() -> None:
        conn.receive_data(b"VERSION\t1\t4\nMECH\tPLAIN\nSPID\t9\nCUID\t1\nDONE\n")
        list(conn.events())

    seen = [conn.state]
    for greet in (we, they) if we_begin else (they, we):
        greet()
        seen.append(conn.state)
    assert seen == [da.State.HANDSHAKE, da.State.HANDSHAKE, da.State.OPEN]


def test_only_a_tab_parts_words() -> None:
    """Not a blank, nor any other white space; and between two of them is an empty word."""
    (event,) = fed(server(), b"AUTH\t1\tPLAIN\t\tservice=a b\tx=\v\f\r\n")
    assert event == da.Auth(1, b"PLAIN", ((b"service", b"a b"), (b"x", b"\v\f")))


def test_a_version_that_is_refused_changes_nothing() -> None:
    """Another may be sent."""
    conn = da.ClientConnection()
    for version in (da.Version(1, 5), da.Version(2, 0), da.Version(1, -1)):
        with pytest.raises(da.LocalProtocolError, match=r"1\.0 to 1\.4"):
            conn.send(version)
    assert conn.minor == 0
    assert conn.send(da.Version(1, 3)) == b"VERSION\t1\t3\n"


@pytest.mark.parametrize(("ours", "theirs", "both"), [(4, 0, 0), (2, 99, 2), (4, 3, 3)])
def test_the_minor_that_both_have(ours: int, theirs: int, both: int) -> None:
    """Is the lower one."""
    assert client(theirs, ours).minor == server(theirs, ours).minor == both
    assert server(theirs, ours).peer_version == da.Version(1, theirs)


@pytest.mark.parametrize(
    "event",
    [da.ConnectionClosed(), da.Connected(), None, "x", da.Ok, da.Malformed(b"", "", None)],  # type: ignore[arg-type]
)
@pytest.mark.parametrize("make", [server, client])
def test_what_is_nothing_to_send(make: Callable[[], Any], event: object) -> None:
    """Is said, and nothing happened."""
    conn = make()
    with pytest.raises(da.LocalProtocolError, match="not for this side to send"):
        conn.send(event)
    assert conn.state is da.State.OPEN


@pytest.mark.parametrize(
    "event",
    [
        da.Auth("1", b"PLAIN", SMTP),  # type: ignore[arg-type]
        da.Auth([], b"PLAIN", SMTP),  # type: ignore[arg-type]
        da.Auth(1, "PLAIN", SMTP),  # type: ignore[arg-type]
        da.Auth(1, b"PLAIN", (("service", "smtp"),)),  # type: ignore[arg-type]
        da.Auth(1, b"PLAIN", (b"service=smtp",)),  # type: ignore[arg-type]
        da.Auth(1, b"PLAIN", 5),  # type: ignore[arg-type]
        da.Auth(1, b"PLAIN", SMTP, "secret"),  # type: ignore[arg-type]
        da.Cancel([]),  # type: ignore[arg-type]
        da.Auth(True, b"PLAIN", SMTP),
    ],
)
def test_fields_of_the_wrong_type(event: Any) -> None:
    """No TypeError leaves the codec, and no request is open after it."""
    conn = client()
    with pytest.raises(da.LocalProtocolError) as caught:
        conn.send(event)
    assert "secret" not in str(caught.value)
    assert not conn.outstanding


def test_a_field_of_the_wrong_type_is_said_to_be() -> None:
    """Not where, for nobody knows."""
    with pytest.raises(da.LocalProtocolError, match="a field of it, is of the wrong type"):
        client().send(da.Cancel([]))  # type: ignore[arg-type]


# --- secrets -------------------------------------------------------------------------------

SECRET = b"hunter2secret"
B64 = b"aHVudGVyMnNlY3JldA=="


@pytest.mark.parametrize(
    "event",
    [
        da.Auth(1, b"PLAIN", SMTP, SECRET),
        da.Auth(1, b"PLAIN", (*SMTP, (b"forward_fields", b"p=" + SECRET))),
        da.Cont(1, SECRET, SECRET),
        da.Ok(1, b"ann", ((b"pass", SECRET), (b"auth_token", SECRET)), SECRET),
        da.Fail(1, b"ann", fields=((b"userdb_PassWord", SECRET),), response=SECRET),
        da.ServerHello((), 1, 1, SECRET),
        da.Malformed(SECRET, "bad", da.Fail(1, response=SECRET)),
        da.Auth(1, b"PLAIN", SECRET),  # type: ignore[arg-type]
    ],
)
def test_no_repr_shows_a_secret(event: object) -> None:
    """Nor how long it is."""
    assert "hunter2" not in repr(event)
    assert len(repr(event)) < 200
    assert "***" in repr(event) or "<no parameters>" in repr(event)


@pytest.mark.parametrize(
    "tail", [b"\t\0x\n", b"\n", b"!\n", b"\tsecured\n", b"=\t\n", b"x" * 17000]
)
@pytest.mark.parametrize(
    "head",
    [
        b"AUTH\t1\tPLAIN\tresp=",
        b"AUTH\t1\tNOPE\tservice=a\tresp=",
        b"AUTH\t1\tPLAIN\tservice=a\tresp=",
        b"CONT\t",
        b"CONT\t1\t",
        b"CPID\t",
        b"VERSION\t",
        b"",
        b"OK\t1\tuser=a\tresp=",
        b"OK\t1\tuser=a\tuser=",
        b"FAIL\t",
        b"CANCEL\t",
        b"COOKIE\t",
    ],
)
def test_no_error_shows_a_secret(head: bytes, tail: bytes) -> None:
    """Whatever is wrong with the line it is in; nor does the Malformed."""
    conns: list[Any] = [server(), client(), da.ClientConnection(), da.ServerConnection()]
    conns[3].send(HELLO)
    for conn in conns:
        for secret in (SECRET, B64):
            said: list[str] = []
            try:
                conn.receive_data(head + secret + tail)
                said += [repr(event) for event in conn.events()]
            except da.RemoteProtocolError as error:
                said.append(f"{error!s} {error!r} {error.__context__!r}")
            assert "hunter2" not in "".join(said)
            assert B64.decode() not in "".join(said)


@pytest.mark.parametrize("make", [da.ServerConnection, da.ClientConnection])
@pytest.mark.parametrize("data", [None, "", "text", 0, []], ids=repr)
def test_what_is_not_bytes(make: Callable[[], Any], data: Any) -> None:
    """Is no end of file either, and changes nothing."""
    conn = make()
    with pytest.raises(da.LocalProtocolError, match="has to be bytes, and not"):
        conn.receive_data(data)
    conn.receive_data(b"")
    assert da.ConnectionClosed() in (conn.next_event(), conn.next_event())
