"""Our client asks the master socket of a real Dovecot."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterator
from typing import Any

import pytest

import dovecotauth as da
from dovecotauth import master

from ._dovecot import PASSWORD, Dovecot

LMTP = ((b"service", b"lmtp"),)


def next_of(conn: Any, sock: socket.socket) -> Any:
    while (event := conn.next_event()) is None:
        conn.receive_data(sock.recv(65536))
    return event


class Master:
    """Our codec on a socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.conn = master.ClientConnection()
        sock.sendall(self.conn.send(master.NEWEST))
        assert self.next() == da.Version(1, 1)
        assert isinstance(self.next(), master.MasterHello)

    def next(self) -> Any:
        return next_of(self.conn, self.sock)

    def ask(self, query: master.Query) -> Any:
        self.sock.sendall(self.conn.send(query))
        return self.next()


@pytest.fixture
def asker(dovecot: Dovecot) -> Iterator[Master]:
    with dovecot.connect(dovecot.master) as sock:
        yield Master(sock)


def test_users(asker: Master) -> None:
    """With all that the database says of them."""
    reply = asker.ask(master.GetUser(1, b"alice", LMTP))
    assert (reply.id, reply.user) == (1, b"alice")
    fields = dict(reply.fields)
    assert (fields[b"uid"], fields[b"home"]) == (b"1000", b"/home/alice")
    assert asker.ask(master.GetUser(2, b"nobody", LMTP)) == master.NotFound(2)
    assert asker.ask(master.GetUser(3, b"a\tb\n\x01", LMTP)) == master.NotFound(3)


def test_passwords(asker: Master) -> None:
    """Whether there would be one, and under which name."""
    assert asker.ask(master.GetPass(1, b"alice", LMTP)) == master.PassFound(1, b"alice")
    assert asker.ask(master.GetPass(2, b"nobody", LMTP)) == master.NotFound(2)


def test_the_list(asker: Master) -> None:
    """And a second one when it is over."""
    for number in (1, 2):
        events = [asker.ask(master.ListUsers(number, LMTP))]
        while number in asker.conn.outstanding:
            events.append(asker.next())
        assert [one.user for one in events[:-1]] == [b"alice", b"bob", b"carol", b"odd"]
        assert events[-1] == master.ListEnd(number)


def test_the_longest_line(asker: Master) -> None:
    """Is taken."""
    head = len(b"USER\t1\ta\tservice=\n")
    query = master.GetUser(1, b"a", ((b"service", b"x" * (1024 - head)),))
    assert asker.ask(query) == master.NotFound(1)


def test_a_login_is_handed_over(dovecot: Dovecot) -> None:
    """By REQUEST, once, to who knows the cookie."""
    with dovecot.connect(dovecot.login) as login, dovecot.connect(dovecot.auth_master) as sock:
        conn = da.ClientConnection()
        login.sendall(conn.send(da.ClientHello(4242)))
        next_of(conn, login)
        hello = next_of(conn, login)
        parameters = ((b"service", b"imap"), (b"no-penalty", None))
        for number in (12, 13):
            auth = da.Auth(number, b"PLAIN", parameters, b"\0alice\0" + PASSWORD)
            login.sendall(conn.send(auth))
            assert next_of(conn, login).user == b"alice"
        asker = Master(sock)
        wrong = secrets.token_hex(16).encode()
        assert asker.ask(master.Request(1, 4242, 13, wrong)) == da.Fail(1)
        found = asker.ask(master.Request(2, 4242, 12, hello.cookie))
        assert (found.id, found.user) == (2, b"alice")
        assert dict(found.fields)[b"auth_mech"] == b"PLAIN"
        assert asker.ask(master.Request(3, 4242, 12, hello.cookie)) == da.Fail(3)
