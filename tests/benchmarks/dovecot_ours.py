"""mailwire's dovecotauth, both roles."""

from __future__ import annotations

import dovecotauth as da
from tests.benchmarks import _dovecot_tasks as tasks
from tests.benchmarks._side import serve


def client() -> list[bytes]:
    """One request at a time."""
    conn = da.ClientConnection()
    conn.receive_data(tasks.SERVER_HELLO)
    conn.send(da.ClientHello(4242))
    *_, hello = conn.events()
    assert isinstance(hello, da.ServerHello)
    written = []
    for number, ((name, password), reply) in enumerate(
        zip(tasks.USERS, tasks.REPLIES, strict=True), start=1
    ):
        response = b"\0%b\0%b" % (name.encode(), password.encode())
        written.append(conn.send(da.Auth(number, b"PLAIN", ((b"service", b"smtp"),), response)))
        conn.receive_data(reply)
        assert type(conn.next_event()) is da.Ok
    return written


def server() -> list[bytes]:
    """Likewise."""
    conn = da.ServerConnection()
    assert isinstance(conn.next_event(), da.Connected)
    conn.send(da.ServerHello((da.Mechanism(b"PLAIN"),), 17, 1, b"0123456789abcdef" * 2))
    conn.receive_data(tasks.CLIENT_HELLO)
    list(conn.events())
    written = []
    for request in tasks.REQUESTS:
        conn.receive_data(request)
        event = conn.next_event()
        assert isinstance(event, da.Auth)
        assert event.response is not None
        _, name, password = event.response.split(b"\0")
        assert password.startswith(b"secret")
        written.append(conn.send(da.Ok(event.id, name)))
    return written


if __name__ == "__main__":
    serve({tasks.CLIENT: client, tasks.SERVER: server})
