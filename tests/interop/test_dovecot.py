"""Our client asks a real Dovecot."""

from __future__ import annotations

import hashlib
import hmac
import io
import socket
import sys
from collections.abc import Iterator
from typing import Any, Final

import pytest
import scramp

import dovecotauth as da
from dovecotauth.__main__ import main

from ._dovecot import PASSWORD, Dovecot

# no-penalty: else Dovecot makes a client wait that has failed, and whoever asks from nowhere.
SMTP: Final = ((b"service", b"smtp"), (b"no-penalty", None))


class Client:
    """Our codec on a socket."""

    def __init__(self, sock: socket.socket, minor: int = 4) -> None:
        self.sock = sock
        self.conn = da.ClientConnection()
        self.send(da.Version(1, minor))
        self.send(da.ClientHello(4242))
        assert self.next() == da.Version(1, 2)
        hello = self.next()
        assert isinstance(hello, da.ServerHello)
        self.hello = hello

    def send(self, *events: da.FromClient) -> None:
        for event in events:
            self.sock.sendall(self.conn.send(event))

    def next(self) -> Any:
        """The next event."""
        while (event := self.conn.next_event()) is None:
            self.conn.receive_data(self.sock.recv(65536))
        return event

    def ask(self, *events: da.FromClient) -> Any:
        self.send(*events)
        return self.next()


@pytest.fixture
def client(dovecot: Dovecot) -> Iterator[Client]:
    with dovecot.connect(dovecot.client) as sock:
        yield Client(sock)


def plain(user: bytes, password: bytes = PASSWORD) -> bytes:
    return b"\0" + user + b"\0" + password


# --- our client ----------------------------------------------------------------------------


def test_the_handshake(client: Client) -> None:
    """What is offered, with its flags, and in an order that Postfix takes."""
    flags = {one.name: one.flags for one in client.conn.mechanisms}
    assert flags == {
        b"PLAIN": da.Flags.PLAINTEXT,
        b"LOGIN": da.Flags.PLAINTEXT,
        b"CRAM-MD5": da.Flags.DICTIONARY | da.Flags.ACTIVE,
        b"SCRAM-SHA-256": da.Flags.MUTUAL_AUTH,
    }
    assert len(client.hello.cookie) == 32
    assert not client.conn.spid_before_mech
    assert client.conn.minor == 2


@pytest.mark.parametrize("initial", [False, True])
def test_plain(client: Client, initial: bool) -> None:
    """At once, or when asked for it."""
    if initial:
        reply = client.ask(da.Auth(1, b"PLAIN", SMTP, plain(b"alice")))
    else:
        assert client.ask(da.Auth(1, b"PLAIN", SMTP)) == da.Cont(1, b"")
        reply = client.ask(da.Cont(1, plain(b"alice")))
    assert reply == da.Ok(1, b"alice")


@pytest.mark.parametrize("minor", [0, 1, 2, 4])
def test_an_empty_initial_response_is_one(dovecot: Dovecot, minor: int) -> None:
    """Whatever we announce: Dovecot does not ask for it."""
    with dovecot.connect(dovecot.client) as sock:
        assert Client(sock, minor).ask(da.Auth(1, b"PLAIN", SMTP, b"")) == da.Fail(1)


def test_login(client: Client) -> None:
    """A name, then a password."""
    assert client.ask(da.Auth(1, b"LOGIN", SMTP)) == da.Cont(1, b"Username:")
    assert client.ask(da.Cont(1, b"bob")) == da.Cont(1, b"Password:")
    assert client.ask(da.Cont(1, PASSWORD)) == da.Ok(1, b"bob")


def test_cram_md5(client: Client) -> None:
    """A challenge that is answered with a digest."""
    challenge = client.ask(da.Auth(1, b"CRAM-MD5", SMTP))
    digest = hmac.new(PASSWORD, challenge.data, hashlib.md5).hexdigest().encode()
    assert client.ask(da.Cont(1, b"alice " + digest)) == da.Ok(1, b"alice")


@pytest.mark.parametrize("final", [False, True])
def test_scram(client: Client, final: bool) -> None:
    """The server's last word comes with the result, or as a challenge more."""
    scram = scramp.ScramClient(["SCRAM-SHA-256"], "alice", PASSWORD.decode())
    extra = ((b"final-resp-ok", None),) if final else ()
    first = scram.get_client_first().encode()
    challenge = client.ask(da.Auth(1, b"SCRAM-SHA-256", SMTP + extra, first))
    scram.set_server_first(challenge.data.decode())
    reply = client.ask(da.Cont(1, scram.get_client_final().encode()))
    if final:
        scram.set_server_final(reply.response.decode())
        assert (reply.id, reply.user) == (1, b"alice")
    else:
        scram.set_server_final(reply.data.decode())
        assert client.ask(da.Cont(1, b"")) == da.Ok(1, b"alice")


@pytest.mark.parametrize("user", [b"alice", b"nobody"])
def test_a_wrong_password_and_an_unknown_user(client: Client, user: bytes) -> None:
    """Dovecot does not say which."""
    assert client.ask(da.Auth(1, b"PLAIN", SMTP, plain(user, b"x"))) == da.Fail(1, user)


def test_a_user_that_must_not_log_in(client: Client) -> None:
    """Though the password is right."""
    reply = client.ask(da.Auth(1, b"PLAIN", SMTP, plain(b"carol")))
    assert reply.nologin
    assert da.value_of(reply.fields, b"reason") == b"Closed"


def test_a_user_whose_name_is_another(client: Client) -> None:
    """And has an escape in it."""
    reply = client.ask(da.Auth(1, b"PLAIN", SMTP, plain(b"odd")))
    assert reply.user == b"a\x01b"
    assert da.value_of(reply.fields, b"original_user") == b"odd"


def test_answers_out_of_order(client: Client) -> None:
    """A failure waits, the others don't."""
    client.send(
        da.Auth(1, b"PLAIN", SMTP, plain(b"alice", b"x")),
        da.Auth(2, b"LOGIN", SMTP),
        da.Auth(3, b"PLAIN", SMTP, plain(b"bob")),
    )
    replies = [client.next() for _ in range(3)]
    assert replies == [da.Cont(2, b"Username:"), da.Ok(3, b"bob"), da.Fail(1, b"alice")]
    assert set(client.conn.outstanding) == {2}


def test_cancel(client: Client) -> None:
    """Before 1.4 it is not answered, and what else is asked goes on."""
    assert client.ask(da.Auth(1, b"LOGIN", SMTP)) == da.Cont(1, b"Username:")
    client.send(da.Cancel(1))
    assert client.ask(da.Auth(2, b"PLAIN", SMTP, plain(b"alice"))) == da.Ok(2, b"alice")
    assert not client.conn.outstanding


def test_parameters_with_everything_in_them(client: Client) -> None:
    """Escaped, they do no harm, and come back as they were."""
    evil = b"\t\r\n\x01\tsecured\nAUTH\t2\tNOPE"
    inner = ((b"forward_a", evil), (b"forward_b", b"="))
    forward = da.join_fields(((b"a", evil), (b"b", b"=")))
    parameters = (*SMTP, (b"session", evil), (b"forward_fields", forward), (b"lip", b"1.2.3.4"))
    reply = client.ask(da.Auth(1, b"PLAIN", parameters, plain(b"alice")))
    assert reply == da.Ok(1, b"alice", inner)


def test_a_master_socket_is_recognised(dovecot: Dovecot) -> None:
    """By its SPID; nothing else comes."""
    with dovecot.connect(dovecot.master) as sock:
        conn = da.ClientConnection()
        while not conn.spid_before_mech:
            conn.receive_data(sock.recv(65536))
            list(conn.events())
        assert conn.state is da.State.HANDSHAKE


def test_the_longest_line_that_we_write_is_taken(client: Client) -> None:
    """And one that is longer is not written, for it would end the connection."""
    head = len(b"AUTH\t1\tPLAIN\tservice=smtp\tno-penalty\tx=\n")
    for number, size, fits in ((1, 16384, True), (2, 16385, False)):
        auth = da.Auth(number, b"PLAIN", (*SMTP, (b"x", b"y" * (size - head))))
        if fits:
            assert client.ask(auth) == da.Cont(1, b"")
        else:
            with pytest.raises(da.LocalProtocolError, match="16385"):
                client.send(auth)


def test_the_command(
    dovecot: Dovecot, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """python -m dovecotauth."""
    for mechanism, user, password, status, output in (
        ("PLAIN", "alice", PASSWORD, 0, "yes: it is alice\n"),
        ("LOGIN", "bob", PASSWORD, 0, "yes: it is bob\n"),
        ("LOGIN", "carol", PASSWORD, 1, "right, but carol must not log in, nologin, reason\n"),
        ("PLAIN", "alice", b"x", 1, "no\n"),
    ):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(password + b"\n")))
        assert main(["auth", "--mechanism", mechanism, dovecot.client, user]) == status
        assert capsys.readouterr().out.endswith(output)


def test_the_command_on_a_master_socket(
    dovecot: Dovecot, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says what it has found."""
    assert main(["--timeout", "0.5", "mechanisms", dovecot.master]) == 2
    assert "it greets as a master socket does" in capsys.readouterr().out
    assert main(["mechanisms", dovecot.client]) == 0
    assert "CRAM-MD5 dictionary active\n" in capsys.readouterr().out
