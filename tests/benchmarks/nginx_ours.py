"""nginxauth's server: h11, and the typed layer on it."""

from __future__ import annotations

from typing import Final

import nginxauth
from tests.benchmarks._side import serve

TASK: Final = "server, a request and its answer"
REQUEST: Final = (
    b"GET /auth HTTP/1.0\r\nHost: 127.0.0.1\r\nAuth-Method: plain\r\n"
    b"Auth-User: ann@example.test\r\nAuth-Pass: secret%20word\r\nAuth-Protocol: imap\r\n"
    b"Auth-Login-Attempt: 1\r\nClient-IP: 192.0.2.7\r\nClient-Host: client.example.test\r\n\r\n"
)
ANSWER: Final = nginxauth.Allow(b"192.0.2.20", 143)


def answer() -> list[bytes]:
    """A connection, for nginx opens one for each login."""
    conn = nginxauth.ServerConnection()
    conn.receive_data(REQUEST)
    event = conn.next_event()
    assert isinstance(event, nginxauth.AuthRequest)
    assert event.password == b"secret word"
    return [conn.send(ANSWER)]


if __name__ == "__main__":
    serve({TASK: answer})
