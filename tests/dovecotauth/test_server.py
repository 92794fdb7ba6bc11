from typing import Any

import pytest

import dovecotauth as da

from .helpers import COOKIE, HELLO, LOGIN, PLAIN, PLUS, PLUS_HELLO, fed, server

AUTH_7 = b"AUTH\t7\tPLAIN\tservice=smtp\n"


def asked(minor: int = 4, line: bytes = AUTH_7) -> da.ServerConnection:
    """A server with a request, 7, that waits for its answer."""
    conn = server(minor)
    (event,) = fed(conn, line)
    assert isinstance(event, da.Auth)
    return conn


def challenged(minor: int = 4) -> da.ServerConnection:
    """One that has asked the client of request 7 for more."""
    conn = asked(minor)
    conn.send(da.Cont(7, b""))
    return conn


# --- the greeting --------------------------------------------------------------------------


def test_the_whole_greeting_goes_out_before_any_byte_has_come() -> None:
    """What suits Postfix, Exim and all Dovecots: mechanisms first, and all at once."""
    conn = da.ServerConnection()
    turns = [conn.our_turn]
    assert conn.next_event() == da.Connected()
    turns += [conn.our_turn]
    assert conn.idle
    assert conn.send(HELLO) == (
        b"VERSION\t1\t4\nMECH\tPLAIN\tplaintext\nMECH\tLOGIN\tplaintext\nSPID\t32507\nCUID\t1\n"
        b"COOKIE\taac51a370aafd10c239276dbd40cf593\nDONE\n"
    )
    assert [*turns, conn.our_turn] == [True, True, False]
    assert conn.next_event() is None
    assert fed(conn, b"VERSION\t1\t0\nCPID\t77\n") == [da.Version(1, 0), da.ClientHello(77)]
    assert conn.state is da.State.OPEN
    assert conn.mechanisms == (PLAIN, LOGIN)


def test_the_greeting_in_two_steps() -> None:
    """As Dovecot 2.4: the version, and the rest when the client's has come."""
    conn = da.ServerConnection()
    conn.next_event()
    assert conn.send(da.Version(1, 4)) == b"VERSION\t1\t4\n"
    turns = [conn.our_turn]
    assert conn.next_event() is None
    conn.receive_data(b"VERSION\t1\t4\nCPID\t77\n")
    assert list(conn.events()) == [da.Version(1, 4)]
    assert [*turns, conn.our_turn] == [False, True]
    with pytest.raises(da.LocalProtocolError, match="greet the client"):
        conn.next_event()
    greeting = conn.send(PLUS_HELLO)
    assert b"MECH\tSCRAM-SHA-256-PLUS\tmutual-auth\tchannel-binding\n" in greeting
    assert b"VERSION" not in greeting
    assert conn.next_event() == da.ClientHello(77)


@pytest.mark.parametrize(("ours", "theirs"), [(4, 2), (2, 4)])
def test_channel_binding_is_offered_to_who_knows_it(ours: int, theirs: int) -> None:
    """From 1.3 on, on both sides."""
    assert server(theirs, ours, PLUS_HELLO).mechanisms == (PLAIN,)
    assert server(3, 3, PLUS_HELLO).mechanisms == (PLAIN, PLUS)


def test_channel_binding_is_not_offered_to_who_has_not_spoken() -> None:
    """It may be Postfix."""
    conn = da.ServerConnection()
    assert b"PLUS" not in conn.send(PLUS_HELLO)
    assert conn.mechanisms == (PLAIN,)


@pytest.mark.parametrize("order", ["client first", "server first"])
def test_neither_waits_for_the_other(order: str) -> None:
    """Exim up to 4.98 speaks after DONE, from 4.99 on after VERSION; others at once."""
    conn = da.ServerConnection()
    if order == "client first":
        conn.receive_data(b"VERSION\t1\t0\nCPID\t1\n")
    assert conn.next_event() == da.Connected()
    conn.send(HELLO)
    if order == "server first":
        conn.receive_data(b"VERSION\t1\t0\nCPID\t1\n")
    assert list(conn.events()) == [da.Version(1, 0), da.ClientHello(1)]


@pytest.mark.parametrize("parts", [[b"VERSION\t1\t0\n", b"CPID\t1\n" + AUTH_7]])
def test_exim_4_99(parts: list[bytes]) -> None:
    """Its VERSION answers ours, and its CPID comes after DONE, with the request."""
    conn = da.ServerConnection()
    conn.next_event()
    conn.send(da.Version(1, 4))
    assert conn.next_event() is None
    conn.receive_data(parts[0])
    assert conn.next_event() == da.Version(1, 0)
    assert conn.send(HELLO).endswith(b"DONE\n")
    assert conn.next_event() is None
    assert [type(event) for event in fed(conn, parts[1])] == [da.ClientHello, da.Auth]


def test_a_forgotten_greeting_is_said() -> None:
    """The client would wait for ever; but its end is told."""
    conn = da.ServerConnection()
    conn.next_event()
    with pytest.raises(da.LocalProtocolError, match="greet the client"):
        conn.next_event()
    conn.receive_data(b"VERSION")
    conn.receive_data(b"")
    assert conn.next_event() == da.ConnectionClosed()
    assert not conn.our_turn
    assert conn.next_event() is None


def test_connected_is_not_told_to_who_has_greeted() -> None:
    """He knows."""
    conn = da.ServerConnection()
    conn.send(HELLO)
    assert conn.next_event() is None


@pytest.mark.parametrize(
    ("mechanisms", "complaint"),
    [
        ((), "no mechanism for the client"),
        ((da.Mechanism(b"APOP", da.Flags.PRIVATE),), "no mechanism for the client"),
        ((PLUS,), "no mechanism for the client"),
        ((PLAIN, LOGIN, da.Mechanism(b"PLAIN")), "twice"),
        ((da.Mechanism(b"plain"),), "a mechanism's name"),
        (None, "wrong type"),
    ],
)
def test_greetings_that_can_not_be_sent(
    mechanisms: tuple[da.Mechanism, ...], complaint: str
) -> None:
    """And nothing has happened: a better one may be, with its version."""
    conn = da.ServerConnection()
    with pytest.raises(da.LocalProtocolError, match=complaint):
        conn.send(da.ServerHello(mechanisms, 1, 1, COOKIE))
    assert conn.mechanisms == ()
    assert conn.send(HELLO).startswith(b"VERSION")
    with pytest.raises(da.LocalProtocolError, match="not twice"):
        conn.send(HELLO)


def test_a_1_0_server_has_no_cookie() -> None:
    """Who announces 1.0 does not hand out what 1.1 brought."""
    conn = da.ServerConnection()
    conn.send(da.Version(1, 0))
    conn.receive_data(b"VERSION\t1\t4\n")
    conn.next_event()
    assert b"COOKIE" not in conn.send(da.ServerHello((PLAIN,), 1, 1, b""))


@pytest.mark.parametrize(
    "lines",
    [b"CPID\t1\n", b"AUTH\t1\tPLAIN\tservice=a\n", b"VERSION\t2\t0\n", b"VERSION\t1\t1\tx\n",
     b"VERSION\t1\t1\nVERSION\t1\t1\n", b"VERSION\t1\t1\nCPID\t0\n",
     b"VERSION\t1\t1\nAUTH\t1\tPLAIN\tservice=a\n", b"VERSION\t1\t1\nCPID\t1\nCPID\t1\n",
     b"VERSION\t1\t1\nCPID\t1\nVERSION\t1\t1\n"],
)  # fmt: skip
def test_handshakes_that_end_the_connection(lines: bytes) -> None:
    """As with Dovecot."""
    conn = da.ServerConnection()
    conn.send(HELLO)
    conn.receive_data(lines)
    with pytest.raises(da.RemoteProtocolError):
        list(conn.events())


# --- requests ------------------------------------------------------------------------------


def test_answers_in_any_order() -> None:
    """To each its own."""
    conn = server()
    fed(conn, AUTH_7 + b"AUTH\t8\tLOGIN\tservice=smtp\nAUTH\t9\tPLAIN\tservice=smtp\n")
    assert set(conn.outstanding) == {7, 8, 9}
    assert not conn.idle
    assert conn.send(da.Ok(9, b"ann")) == b"OK\t9\tuser=ann\n"
    assert conn.send(da.Cont(8, b"Username:")) == b"CONT\t8\tVXNlcm5hbWU6\n"
    assert conn.send(da.Fail(7, b"bob")) == b"FAIL\t7\tuser=bob\n"
    assert dict(conn.outstanding) == {8: da.Phase.CHALLENGED}
    assert fed(conn, b"CONT\t8\tYWxpY2U=\n") == [da.Cont(8, b"alice")]
    conn.send(da.Ok(8, b"alice"))
    assert conn.idle


def test_a_reply_to_nothing() -> None:
    """Nor a second one, nor one in the client's move."""
    conn = asked()
    for event in (da.Ok(8, b"x"), da.Fail(8), da.Cont(8, b""), da.Cancelled(7), da.Cancelled(8)):
        with pytest.raises(da.LocalProtocolError, match="can't be sent: the request is"):
            conn.send(event)
    conn.send(da.Cont(7, b""))
    for event in (da.Ok(7, b"x"), da.Fail(7), da.Cont(7, b"")):
        with pytest.raises(da.LocalProtocolError, match="the request is CHALLENGED"):
            conn.send(event)
    fed(conn, b"CONT\t7\t\n")
    conn.send(da.Ok(7, b"x"))
    with pytest.raises(da.LocalProtocolError, match="the request is not open"):
        conn.send(da.Fail(7))


def test_a_reply_that_can_not_be_sent_changes_nothing() -> None:
    """Another may be."""
    conn = asked(0)
    with pytest.raises(da.LocalProtocolError, match="Postfix"):
        conn.send(da.Ok(7, b"a\tb"))
    with pytest.raises(da.LocalProtocolError, match="wrong type"):
        conn.send(da.Fail(7, code="x"))  # type: ignore[arg-type]
    assert dict(conn.outstanding) == {7: da.Phase.ASKED}
    assert conn.send(da.Fail(7, code=da.TEMP_FAIL)) == b"FAIL\t7\ttemp\n"


def test_an_id_that_is_in_use_ends_the_connection() -> None:
    """Two answers would be on their way; after the answer it is free."""
    conn = asked()
    conn.send(da.Ok(7, b"ann"))
    assert len(fed(conn, AUTH_7)) == 1
    conn.receive_data(b"AUTH\t007\tPLAIN\tservice=smtp\n")
    with pytest.raises(da.RemoteProtocolError, match="still open"):
        conn.next_event()


def test_a_mechanism_that_was_not_offered_ends_the_connection() -> None:
    """As one would think of one with channel binding that was left out, too."""
    conn = server(2, 4, PLUS_HELLO)
    conn.receive_data(b"AUTH\t7\tSCRAM-SHA-256-PLUS\tservice=smtp\n")
    with pytest.raises(da.RemoteProtocolError, match="not offered"):
        conn.next_event()


def test_a_final_response_needs_leave() -> None:
    """Which the client gives by final-resp-ok; else it wants a challenge more."""
    conn = asked()
    for event in (da.Ok(7, b"ann", (), b"v=x"), da.Fail(7, response=b"{}")):
        with pytest.raises(da.LocalProtocolError, match="without final-resp-ok"):
            conn.send(event)
    conn.send(da.Ok(7, b"ann"))
    allowed = AUTH_7[:-1] + b"\tfinal-resp-ok\n"
    fed(conn, allowed)
    assert conn.send(da.Ok(7, b"ann", (), b"v=x")) == b"OK\t7\tuser=ann\tresp=dj14\n"
    fed(conn, AUTH_7)
    with pytest.raises(da.LocalProtocolError, match="without final-resp-ok"):
        conn.send(da.Ok(7, b"ann", (), b"v=x"))


@pytest.mark.parametrize("how", ["forgotten", "cancelled"])
def test_leave_for_a_final_response_ends_with_its_request(how: str) -> None:
    """The next one with that id has to give its own."""
    conn = asked(3, AUTH_7[:-1] + b"\tfinal-resp-ok\n")
    if how == "forgotten":
        conn.forget(7)
    else:
        fed(conn, b"CANCEL\t7\n")
    fed(conn, AUTH_7)
    with pytest.raises(da.LocalProtocolError, match="without final-resp-ok"):
        conn.send(da.Fail(7, response=b"x"))


@pytest.mark.parametrize(("minor", "response"), [(1, None), (2, b""), (4, b"")])
def test_a_request_is_read_in_the_version(minor: int, response: bytes | None) -> None:
    """An empty response is none from a client below 1.2."""
    (event,) = fed(server(minor), b"AUTH\t7\tPLAIN\tservice=smtp\tresp=\n")
    assert event == da.Auth(7, b"PLAIN", ((b"service", b"smtp"),), response)


# --- what can't be used --------------------------------------------------------------------


def one_malformed(conn: da.ServerConnection, line: bytes, reason: str = "") -> da.Malformed:
    (event,) = fed(conn, line)
    assert isinstance(event, da.Malformed)
    assert event.data == line.rstrip(b"\n")
    assert reason in event.reason
    return event


def test_a_bad_initial_response() -> None:
    """Is answered with Dovecot's words, and nothing else; others go on."""
    conn = asked()
    event = one_malformed(conn, b"AUTH\t8\tPLAIN\tservice=smtp\tresp=x\n")
    assert conn.outstanding[8] is da.Phase.REFUSED
    wrong: list[Any] = [da.Ok(8, b"ann"), da.Cont(8, b""), da.Cancelled(8)]
    for reply in wrong:
        with pytest.raises(da.LocalProtocolError, match="the request is REFUSED"):
            conn.send(reply)
    assert fed(conn, b"CONT\t8\tYQ==\n") == []  # the Fail that is due answers this, too
    assert conn.send(event.reply) == (
        b"FAIL\t8\tcode=invalid_base64\treason=Invalid base64 data in initial response\n"
    )
    assert set(conn.outstanding) == {7}


@pytest.mark.parametrize(
    ("line", "fail"),
    [
        (b"CONT\t7\tx\n", b"code=invalid_base64\treason=Invalid base64 data in continued response"),
        (b"CONT\t7\t#\tchannel_binding=YQ==\n", b"reason=Unexpected continuation"),
        (b"CONT\t7\t=\n", b"code=invalid_base64\treason=Invalid base64 data in continued response"),
    ],
)
def test_a_bad_response(line: bytes, fail: bytes) -> None:
    """The request is over."""
    conn = challenged()
    event = one_malformed(conn, line)
    assert conn.send(event.reply) == b"FAIL\t7\t" + fail + b"\n"
    assert conn.idle


def test_data_where_channel_binding_was_asked_for() -> None:
    """Is no answer."""
    conn = asked()
    conn.send(da.Cont(7, None, b"tls-exporter"))
    event = one_malformed(conn, b"CONT\t7\tYQ==\n", "a response to no challenge, or to another")
    assert event.reply.reason == b"Unexpected continuation"


def test_channel_binding() -> None:
    """Asked for, and given."""
    conn = asked()
    conn.send(da.Cont(7, None, b"tls-exporter"))
    assert dict(conn.outstanding) == {7: da.Phase.BINDING}
    assert fed(conn, b"CONT\t7\t#\tchannel_binding=AGE=\n") == [da.Cont(7, None, b"\0a")]
    assert dict(conn.outstanding) == {7: da.Phase.ASKED}


def test_a_response_that_was_not_asked_for() -> None:
    """Sent before the challenge; whatever its data."""
    for data in (b"YQ==", b"x"):
        conn = asked()
        event = one_malformed(conn, b"CONT\t7\t" + data + b"\n")
        assert conn.send(event.reply) == b"FAIL\t7\treason=Unexpected continuation\n"
        assert conn.idle


def test_a_response_to_what_is_not_there() -> None:
    """Dovecot says so of a request that it has forgotten."""
    conn = server()
    event = one_malformed(conn, b"CONT\t7\tx\n", "a response to a request that is not open")
    assert conn.send(event.reply) == b"FAIL\t7\treason=Authentication request timed out\n"
    assert conn.idle


@pytest.mark.parametrize("line", [b"FOO\t1\n", b"CONT\t7\n", b"CONT\n", b"CANCEL\n", b"auth\t1\n"])
def test_lines_that_end_the_connection(line: bytes) -> None:
    """With every request on it, as with Dovecot."""
    conn = challenged()
    conn.receive_data(line)
    with pytest.raises(da.RemoteProtocolError):
        conn.next_event()
    assert conn.idle  # nothing can be answered any more


# --- what is given up ----------------------------------------------------------------------


@pytest.mark.parametrize("minor", [0, 3])
@pytest.mark.parametrize("phase", ["asked", "challenged", "unknown", "refused"])
def test_a_cancel_below_1_4(minor: int, phase: str) -> None:
    """Is not answered; a response after it is one to nothing."""
    conn = {"asked": asked, "challenged": challenged, "unknown": server, "refused": asked}[phase](
        minor
    )
    if phase == "refused":
        fed(conn, b"CONT\t7\tx\n")
    assert fed(conn, b"CANCEL\t7\n") == [da.Cancel(7)]
    assert conn.idle
    with pytest.raises(da.LocalProtocolError, match="the request is not open"):
        conn.send(da.Cancelled(7))
    event = one_malformed(conn, b"CONT\t7\tAAAA\n")
    assert event.reply == da.Fail(7, reason=b"Authentication request timed out")


@pytest.mark.parametrize("phase", ["asked", "challenged", "unknown"])
def test_a_cancel_from_1_4_on(phase: str) -> None:
    """Is answered, whatever was cancelled."""
    conn = {"asked": asked, "challenged": challenged, "unknown": server}[phase]()
    assert fed(conn, b"CANCEL\t7\nCONT\t7\tYQ==\n") == [da.Cancel(7)]
    with pytest.raises(da.LocalProtocolError, match="the request is CANCELLED"):
        conn.send(da.Ok(7, b"ann"))
    assert conn.send(da.Cancelled(7)) == b"CANCELLED\t7\n"
    assert conn.idle
    assert len(fed(conn, AUTH_7)) == 1


def test_forget() -> None:
    """Postfix never says that its client gave up; the server drops it in silence."""
    conn = challenged()
    conn.forget(7)
    conn.forget(99)
    assert conn.idle
    event = one_malformed(conn, b"CONT\t7\tYQ==\n")
    assert event.reply.reason == b"Authentication request timed out"


# --- limits --------------------------------------------------------------------------------


def test_the_longest_line() -> None:
    """16383 bytes and LF are taken; one more is refused before its end has come."""
    head = b"AUTH\t7\tPLAIN\tservice=smtp\tx="
    conn = server()
    assert len(fed(conn, head + b"y" * (16383 - len(head)) + b"\n")) == 1
    conn.receive_data(b"y" * 16383)
    assert conn.next_event() is None
    conn.receive_data(b"y")
    with pytest.raises(da.RemoteProtocolError, match="a line of more than 16384 bytes"):
        conn.next_event()


def test_the_most_open_requests() -> None:
    """One more fails for now, the others go on; far more end the connection."""
    conn = server(max_outstanding=2)
    fed(conn, b"".join(b"AUTH\t%d\tPLAIN\tservice=a\n" % number for number in (1, 2)))
    event = one_malformed(conn, b"AUTH\t3\tPLAIN\tservice=a\n", "too many open requests")
    assert event.reply == da.Fail(3, code=b"temp_fail")
    conn.send(event.reply)
    conn.send(da.Ok(1, b"ann"))
    assert fed(conn, b"AUTH\t3\tPLAIN\tservice=a\n") == [
        da.Auth(3, b"PLAIN", ((b"service", b"a"),))
    ]
    fed(conn, b"AUTH\t4\tPLAIN\tservice=a\nCANCEL\t5\n")
    assert len(conn.outstanding) == 4
    conn.receive_data(b"CANCEL\t6\n")
    with pytest.raises(da.RemoteProtocolError, match="far too many open requests"):
        conn.next_event()
