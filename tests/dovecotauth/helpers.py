"""Connections that have come as far as a test needs them."""

from __future__ import annotations

import dovecotauth as da

COOKIE = b"aac51a370aafd10c239276dbd40cf593"
PLAIN = da.Mechanism(b"PLAIN", da.Flags.PLAINTEXT)
LOGIN = da.Mechanism(b"LOGIN", da.Flags.PLAINTEXT)
PLUS = da.Mechanism(b"SCRAM-SHA-256-PLUS", da.Flags.MUTUAL_AUTH | da.Flags.CHANNEL_BINDING)
HELLO = da.ServerHello((PLAIN, LOGIN), 32507, 1, COOKIE)
PLUS_HELLO = da.ServerHello((PLAIN, PLUS), 9, 3, COOKIE)
SMTP = ((b"service", b"smtp"),)


def server(
    minor: int = 4, ours: int = 4, hello: da.ServerHello = HELLO, **limits: int
) -> da.ServerConnection:
    """A server, greeted by a client of that version after it said its own."""
    conn = da.ServerConnection(**limits)
    conn.send(da.Version(1, ours))
    conn.receive_data(b"VERSION\t1\t%d\nCPID\t77\n" % minor)
    assert conn.next_event() == da.Connected() or conn.our_turn
    if conn.peer_version is None:
        conn.next_event()
    conn.send(hello)
    assert conn.next_event() == da.ClientHello(77)
    assert conn.state is da.State.OPEN
    return conn


def client(minor: int = 4, ours: int = 4, mechanisms: bytes = b"") -> da.ClientConnection:
    """A client, greeted by a server of that version."""
    conn = da.ClientConnection()
    conn.send(da.Version(1, ours))
    conn.send(da.ClientHello(77))
    mechanisms = mechanisms or b"MECH\tPLAIN\tplaintext\nMECH\tLOGIN\tplaintext\n"
    conn.receive_data(b"VERSION\t1\t%d\n%bSPID\t9\nCUID\t1\nDONE\n" % (minor, mechanisms))
    assert [type(event) for event in conn.events()] == [da.Version, da.ServerHello]
    assert conn.state is da.State.OPEN
    return conn


def fed(conn: da.ServerConnection, data: bytes) -> list[object]:
    """The events that bytes bring about."""
    conn.receive_data(data)
    return list(conn.events())


def heard(conn: da.ClientConnection, data: bytes) -> list[object]:
    """The same at a client."""
    conn.receive_data(data)
    return list(conn.events())
