from typing import Any

import pytest

import dovecotauth as da

from .helpers import LOGIN, PLAIN, SMTP, client, heard

AUTH = da.Auth(7, b"PLAIN", SMTP)


def asked(minor: int = 4) -> da.ClientConnection:
    """A client whose request, 7, has been sent."""
    conn = client(minor)
    assert conn.send(AUTH) == b"AUTH\t7\tPLAIN\tservice=smtp\n"
    return conn


def challenged(minor: int = 4) -> da.ClientConnection:
    """One that was asked for more."""
    conn = asked(minor)
    assert heard(conn, b"CONT\t7\t\n") == [da.Cont(7, b"")]
    return conn


# --- the greeting --------------------------------------------------------------------------


def test_a_client_speaks_at_once() -> None:
    """Dovecot 2.4 waits for it; 2.3 has said all by then."""
    conn = da.ClientConnection()
    offered = [conn.mechanisms]
    assert conn.send(da.ClientHello(77)) == b"VERSION\t1\t4\nCPID\t77\n"
    assert heard(conn, b"VERSION\t1\t4\n") == [da.Version(1, 4)]
    assert conn.minor == 4
    states = [conn.state]
    (hello,) = heard(
        conn, b"MECH\tPLAIN\tplaintext\nMECH\tLOGIN\tplaintext\nSPID\t9\nCUID\t3\nCOOKIE\tx\nDONE\n"
    )
    assert hello == da.ServerHello((PLAIN, LOGIN), 9, 3, b"x")
    assert [*states, conn.state] == [da.State.HANDSHAKE, da.State.OPEN]
    assert [*offered, conn.mechanisms] == [(), (PLAIN, LOGIN)]
    assert not conn.spid_before_mech


@pytest.mark.parametrize(("minor", "end"), [(1, b"resp=="), (2, b"resp="), (4, b"resp=")])
def test_a_request_is_written_for_the_version(minor: int, end: bytes) -> None:
    """An empty response is none for a server below 1.2."""
    auth = da.Auth(7, b"PLAIN", SMTP, b"")
    assert client(minor).send(auth) == b"AUTH\t7\tPLAIN\tservice=smtp\t" + end + b"\n"


def test_a_client_may_greet_late() -> None:
    """Its VERSION first, and its CPID after DONE, as Exim from 4.99 on."""
    conn = da.ClientConnection()
    conn.send(da.Version(1, 0))
    heard(conn, b"VERSION\t1\t2\nMECH\tPLAIN\nSPID\t1\nDONE\n")
    states = [conn.state]
    with pytest.raises(da.LocalProtocolError, match="before both sides have greeted"):
        conn.send(AUTH)
    assert conn.send(da.ClientHello(5)) == b"CPID\t5\n"
    assert [*states, conn.state] == [da.State.HANDSHAKE, da.State.OPEN]


def test_a_pid_that_is_none() -> None:
    """Nothing was sent, and the version will be, with a better one."""
    conn = da.ClientConnection()
    with pytest.raises(da.LocalProtocolError, match="the pid"):
        conn.send(da.ClientHello(0))
    assert conn.send(da.ClientHello(1)) == b"VERSION\t1\t4\nCPID\t1\n"


def test_a_master_socket_shows_itself() -> None:
    """By its SPID, after which nothing comes."""
    conn = da.ClientConnection()
    conn.send(da.ClientHello(1))
    heard(conn, b"VERSION\t1\t1\nSPID\t1976\n")
    assert conn.spid_before_mech
    assert conn.state is da.State.HANDSHAKE


@pytest.mark.parametrize("greeting", [b"220 mail.test ESMTP\r\n", b"SPID\t1\n", b"VERSION\t2\t0\n"])
def test_a_server_of_another_kind(greeting: bytes) -> None:
    """Its first line is no VERSION 1."""
    conn = da.ClientConnection()
    conn.receive_data(greeting)
    with pytest.raises(da.RemoteProtocolError):
        conn.next_event()


def test_a_handshake_without_end() -> None:
    """Lines that mean nothing are skipped, but not for ever."""
    conn = da.ClientConnection()
    conn.receive_data(b"VERSION\t1\t1\n" + b"X\tyyyyy\n" * 8192)
    assert conn.next_event() == da.Version(1, 1)
    assert conn.next_event() is None
    conn.receive_data(b"DONE\n")
    with pytest.raises(da.RemoteProtocolError, match="a handshake of more than 65536 bytes"):
        conn.next_event()


# --- requests ------------------------------------------------------------------------------


def test_answers_in_any_order() -> None:
    """With their own ids."""
    conn = client()
    for number in (7, 8, 9):
        conn.send(da.Auth(number, b"LOGIN", SMTP))
    assert heard(conn, b"OK\t9\tuser=a\nCONT\t8\t\nFAIL\t7\n") == [
        da.Ok(9, b"a"),
        da.Cont(8, b""),
        da.Fail(7),
    ]
    assert dict(conn.outstanding) == {8: da.Phase.CHALLENGED}
    assert conn.send(da.Cont(8, b"alice")) == b"CONT\t8\tYWxpY2U=\n"
    assert heard(conn, b"FAIL\t8\tuser=alice\ttemp\n") == [da.Fail(8, b"alice", b"temp_fail")]
    assert not conn.outstanding


def test_what_would_end_the_connection_is_not_sent() -> None:
    """With every other request on it."""
    conn = asked()
    with pytest.raises(da.LocalProtocolError, match="that is open"):
        conn.send(AUTH)
    for mechanism in (b"NOPE", b"plain"):
        with pytest.raises(da.LocalProtocolError, match="was not offered"):
            conn.send(da.Auth(8, mechanism, SMTP))
    with pytest.raises(da.LocalProtocolError, match="needs its service"):
        conn.send(da.Auth(8, b"PLAIN"))
    assert set(conn.outstanding) == {7}
    heard(conn, b"FAIL\t7\n")
    assert conn.send(AUTH)


def test_a_response_answers_a_challenge() -> None:
    """One each, of the same kind, and never before it."""
    conn = asked()
    for event in (da.Cont(7, b""), da.Cont(8, b"")):
        with pytest.raises(da.LocalProtocolError, match="can only answer a Cont"):
            conn.send(event)
    heard(conn, b"CONT\t7\tYQ==\n")
    with pytest.raises(da.LocalProtocolError, match="of the same kind"):
        conn.send(da.Cont(7, None, b"x"))
    with pytest.raises(da.LocalProtocolError, match="bytes"):
        conn.send(da.Cont(7, "x"))  # type: ignore[arg-type]
    assert conn.send(da.Cont(7, b"")) == b"CONT\t7\t\n"
    with pytest.raises(da.LocalProtocolError, match="can only answer a Cont"):
        conn.send(da.Cont(7, b""))
    heard(conn, b"CONT\t7\t#\tchannel_binding=tls-exporter\n")
    with pytest.raises(da.LocalProtocolError, match="of the same kind"):
        conn.send(da.Cont(7, b"x"))
    assert conn.send(da.Cont(7, None, b"x")) == b"CONT\t7\t#\tchannel_binding=eA==\n"


def test_channel_binding_that_an_old_client_was_asked_for() -> None:
    """It could not answer."""
    conn = asked(2)
    conn.receive_data(b"CONT\t7\t#\tchannel_binding=tls-exporter\n")
    with pytest.raises(da.RemoteProtocolError, match="no base64"):
        conn.next_event()


@pytest.mark.parametrize(
    "line",
    [b"OK\t8\tuser=a\n", b"FAIL\t8\n", b"CONT\t8\t\n", b"CANCELLED\t8\n", b"CANCELLED\t7\n",
     b"MECH\tX\n", b"DONE\n", b"ok\t7\tuser=a\n", b"OK\t7\n", b"NOTFOUND\t7\n", b"CONT\t7\t!\n"],
)  # fmt: skip
def test_replies_to_what_was_not_asked(line: bytes) -> None:
    """Or of no known kind: somebody is waiting for an answer that will not come."""
    conn = asked()
    conn.receive_data(line)
    with pytest.raises(da.RemoteProtocolError):
        conn.next_event()


def test_a_second_answer() -> None:
    """Belongs to nobody."""
    conn = asked()
    conn.receive_data(b"OK\t7\tuser=a\nFAIL\t7\n")
    assert conn.next_event() == da.Ok(7, b"a")
    with pytest.raises(da.RemoteProtocolError, match="a reply to what was not asked"):
        conn.next_event()


@pytest.mark.parametrize("line", [b"OK\t7\tuser=a\n", b"CONT\t7\t\n"])
def test_the_client_is_asked_and_the_server_goes_on(line: bytes) -> None:
    """Without its response nobody can be let in."""
    conn = challenged()
    conn.receive_data(line)
    with pytest.raises(da.RemoteProtocolError, match="a reply to what was not asked"):
        conn.next_event()


def test_a_failure_may_come_any_time() -> None:
    """It does no harm."""
    assert heard(challenged(), b"FAIL\t7\n") == [da.Fail(7)]


def test_scram_without_final_resp_ok() -> None:
    """Its last word is a challenge, to which the response is empty."""
    conn = asked()
    assert heard(conn, b"CONT\t7\tdj1hYmM=\n") == [da.Cont(7, b"v=abc")]
    assert conn.send(da.Cont(7, b"")) == b"CONT\t7\t\n"
    assert heard(conn, b"OK\t7\tuser=alice\n") == [da.Ok(7, b"alice")]


# --- what is given up ----------------------------------------------------------------------

LATE = b"OK\t7\tuser=a\n"


@pytest.mark.parametrize("given_up", ["cancelled", "forgotten"])
@pytest.mark.parametrize("minor", [0, 3])
def test_an_id_that_was_given_up_below_1_4(minor: int, given_up: str) -> None:
    """Is gone for ever: nobody can tell whose the late answer is."""
    conn = challenged(minor)
    if given_up == "cancelled":
        assert conn.send(da.Cancel(7)) == b"CANCEL\t7\n"
    else:
        conn.forget(7)
    assert not conn.outstanding
    assert heard(conn, LATE + LATE) == []
    with pytest.raises(da.LocalProtocolError, match="that was given up"):
        conn.send(AUTH)
    with pytest.raises(da.LocalProtocolError, match="no open request to cancel"):
        conn.send(da.Cancel(7))


def test_an_id_that_was_cancelled_from_1_4_on() -> None:
    """Is free again when the server has heard; what it said before is dropped."""
    conn = asked()
    conn.send(da.Cancel(7))
    assert dict(conn.outstanding) == {7: da.Phase.CANCELLED}
    with pytest.raises(da.LocalProtocolError, match="no open request to cancel"):
        conn.send(da.Cancel(7))
    with pytest.raises(da.LocalProtocolError, match="that is open"):
        conn.send(AUTH)
    assert heard(conn, LATE) == []
    assert heard(conn, b"CONT\t7\t\nCANCELLED\t7\n") == [da.Cancelled(7)]
    assert conn.send(AUTH)
    assert heard(conn, LATE) == [da.Ok(7, b"a")]


def test_what_is_not_there_can_not_be_given_up() -> None:
    """To forget it does nothing."""
    conn = client()
    with pytest.raises(da.LocalProtocolError, match="no open request"):
        conn.send(da.Cancel(7))
    conn.forget(7)
    assert conn.send(AUTH)


def test_the_requests_that_an_end_has_left() -> None:
    """Have failed for now; their ids can still be seen."""
    conn = asked()
    conn.receive_data(b"")
    events: list[Any] = list(conn.events())
    assert events == [da.ConnectionClosed()]
    assert set(conn.outstanding) == {7}
