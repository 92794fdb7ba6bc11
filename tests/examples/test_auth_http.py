"""nginx's authentication service on each adapter, asked by our own client's side."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from adapters._listen import listen
from adapters.services import auth_http

import nginxauth as ng

from .adapter_hosts import ASYNCIO, PATIENCE, THREADS, TRIO, Host

Ask = Callable[[ng.AuthRequest], ng.Reply | ng.ConnectionClosed | None]
BACKEND = ng.Allow(b"127.0.0.1", 10025)
AGAIN = ng.Deny(b"Temporary authentication failure", b"451 4.3.0")

any_host = pytest.mark.parametrize("host", [ASYNCIO, TRIO, THREADS], ids=lambda host: host.name)
any_loop = pytest.mark.parametrize("host", [ASYNCIO, TRIO], ids=lambda host: host.name)


def request(user: bytes, password: bytes = b"right", method: bytes = ng.PLAIN) -> ng.AuthRequest:
    return ng.AuthRequest(method, user, password, b"smtp", 1, b"192.0.2.1", b"[UNAVAILABLE]")


@contextlib.contextmanager
def serving(host: Host, judge: Any, directory: Path, **options: Any) -> Iterator[Path]:
    path = directory / "auth"
    with host.serve(auth_http(judge), None, listen(f"unix:{path}"), **options):
        yield path


def ask(path: Path, event: ng.AuthRequest, size: int = 65536) -> Any:
    """What comes for a request that is sent in pieces of that size."""
    conn = ng.ClientConnection()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(str(path))
        data = conn.send(event)
        for start in range(0, len(data), size):
            sock.sendall(data[start : start + size])
        while (reply := conn.next_event()) is None:
            conn.receive_data(sock.recv(65536))
        # nginx closes, and so do we.
        assert sock.recv(1) == b""
    assert conn.warnings == ()
    return reply


def judge(event: ng.AuthRequest) -> ng.Reply:
    """Some users, by name."""
    match event.user:
        case b"fails":
            raise ZeroDivisionError
        case b"nonsense":
            return ng.Allow(b"localhost", 25)
        case b"nothing":
            return None  # type: ignore[return-value]
        case b"later":
            return ng.Wait(3)
        case _:
            return BACKEND if ng.verify(event, b"right") else ng.Deny(b"no", b"535 5.7.8", 3)


@any_host
def test_a_user_may_come_in_or_not(tmp_path: Path, host: Host) -> None:
    """One connection each, however the bytes come."""
    with serving(host, judge, tmp_path) as path:
        for size in (1, 7, 65536):
            assert ask(path, request(b"u"), size) == BACKEND
            assert ask(path, request(b"u", b"wrong"), size) == ng.Deny(b"no", b"535 5.7.8", 3)
            assert ask(path, request(b"later"), size) == ng.Wait(3)


@any_loop
def test_a_coroutine_function(tmp_path: Path, host: Host) -> None:
    """It is awaited, and when it fails that is no refusal."""

    async def slow(event: ng.AuthRequest) -> ng.Reply:
        await host.sleep(0)  # type: ignore[misc]
        return judge(event)

    with serving(host, slow, tmp_path) as path:
        assert ask(path, request(b"u")) == BACKEND
        assert ask(path, request(b"fails")) == AGAIN


@any_host
@pytest.mark.parametrize("user", [b"fails", b"nonsense", b"nothing"])
def test_a_failure_is_no_refusal(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, host: Host, user: bytes
) -> None:
    """The user tries again; nobody is let in, and nobody is told that his password is wrong."""
    with serving(host, judge, tmp_path) as path:
        assert ask(path, request(user)) == AGAIN
        assert ask(path, request(b"u")) == BACKEND
    assert "the handler has failed at AuthRequest" in caplog.text
    assert "right" not in caplog.text


@any_host
def test_what_can_not_be_used_is_never_seen(tmp_path: Path, host: Host) -> None:
    """Malformed requests are answered for the user."""
    with serving(host, judge, tmp_path) as path:
        assert ask(path, request(b"u\r\nQUIT")) == ng.Deny(b"Authentication failed", b"535 5.7.8")
        event = request(b"u", method=ng.EXTERNAL)
        assert ask(path, event) == ng.Deny(b"Authentication failed", b"535 5.7.8")


def raw(path: Path, data: bytes) -> bytes:
    """All that comes for these bytes, to the end."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(str(path))
        sock.sendall(data)
        got = b""
        while piece := sock.recv(65536):
            got += piece
    return got


@any_host
def test_what_is_no_request(tmp_path: Path, host: Host) -> None:
    """HTTP 400 where somebody can read it, else just the end."""
    with serving(host, judge, tmp_path) as path:
        assert raw(path, b"GET / HTTP/1.0\r\nA: \0\r\n\r\n").startswith(b"HTTP/1.1 400 Bad Request")
        assert raw(path, b"\x16\x03\x01\0\0") == b""
        assert ask(path, request(b"u")) == BACKEND


@any_loop
def test_who_has_gone_is_not_waited_for(tmp_path: Path, host: Host) -> None:
    """nginx has given up: so does the coroutine."""
    begun, cancelled = threading.Event(), threading.Event()

    async def slow(_event: ng.AuthRequest) -> ng.Reply:
        begun.set()
        try:
            await host.sleep(1000)  # type: ignore[misc]
        finally:
            cancelled.set()
        return BACKEND

    with serving(host, slow, tmp_path) as path:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(path))
            sock.sendall(ng.ClientConnection().send(request(b"u")))
            assert begun.wait(PATIENCE)
        assert cancelled.wait(PATIENCE)
