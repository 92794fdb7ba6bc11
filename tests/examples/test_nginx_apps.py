"""The two web applications of the manual, each on a real server, asked by our client's side."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import attrs
import nginx_asgi
import nginx_wsgi
import pytest
import uvicorn
import waitress

import nginxauth as ng

from .adapter_hosts import PATIENCE

PAGE = (Path(__file__).parents[2] / "docs" / "nginx_web_app.md").read_text(encoding="utf-8")
KEY = ((b"X-Auth-Key", b"change me"),)
ANN = ng.AuthRequest(
    ng.PLAIN, b"ann@example.test", b"sesame", b"smtp", 1, b"192.0.2.1", b"[UNAVAILABLE]",
    headers=KEY,
)  # fmt: skip
SALT = b"<1.2@mx.test>"
BACKEND = ng.Allow(b"127.0.0.1", 10025)
LATER = ng.Deny(b"Temporary failure, try again later", b"451 4.3.0")


@contextlib.contextmanager
def uvicorn_serving(http: str) -> Iterator[int]:
    sock = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(nginx_asgi.app, http=http, log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([sock],))
    thread.start()
    try:
        yield sock.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        sock.close()


@contextlib.contextmanager
def waitress_serving() -> Iterator[int]:
    server = waitress.create_server(nginx_wsgi.app, listen="127.0.0.1:0")
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server.effective_port
    finally:
        # In its own thread, whose loop ends when nothing is left to look at.
        server.trigger.pull_trigger(server.close)
        thread.join(PATIENCE)
        server.task_dispatcher.shutdown()


SERVERS: dict[str, tuple[Callable[[], Any], Any]] = {
    "uvicorn": (lambda: uvicorn_serving("h11"), nginx_asgi),
    "waitress": (waitress_serving, nginx_wsgi),
}


@pytest.fixture(params=SERVERS)
def served(request: pytest.FixtureRequest) -> Iterator[tuple[int, Any]]:
    serve, module = SERVERS[request.param]
    with serve() as port:
        yield port, module


def exchange(port: int, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        sock.sendall(data)
        got = b""
        while piece := sock.recv(65536):
            got += piece
    return got


def ask(port: int, request: ng.AuthRequest) -> Any:
    """What nginx would make of the answer; and it has nothing to complain of."""
    conn = ng.ClientConnection(b"127.0.0.1", b"/auth")
    conn.receive_data(exchange(port, conn.send(request)))
    reply = conn.next_event()
    assert conn.warnings == ()
    return reply


def test_who_may_come_in(served: tuple[int, Any]) -> None:
    """With any bytes in the password, and by each method."""
    port, module = served
    for user, password in module.PASSWORDS.items():
        for protocol, (server, backend_port) in module.BACKENDS.items():
            allowed = ng.Allow(server, backend_port, password=password)
            request = attrs.evolve(ANN, user=user, password=password, protocol=protocol)
            if protocol != b"smtp":
                request = attrs.evolve(request, client_host=None)
            assert ask(port, request) == ng.Allow(server, backend_port)
            digest = hashlib.md5(SALT + password).hexdigest().encode()
            request = attrs.evolve(request, method=ng.APOP, password=digest, salt=SALT)
            assert ask(port, request) == allowed


def test_any_byte_comes_through(served: tuple[int, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """At both ends of a password, too, where a server may take off what it thinks is white."""
    port, module = served
    for byte in [0x20, *range(0x80, 0x100)]:
        password = bytes([byte]) + b"a" + bytes([byte])
        monkeypatch.setitem(module.PASSWORDS, b"u", password)
        assert ask(port, attrs.evolve(ANN, user=b"u", password=password)) == BACKEND


def said_of(module: Any) -> list[str]:
    """The row of the manual's table about the server that the application is on here."""
    name = {nginx_asgi: "uvicorn, with h11", nginx_wsgi: "waitress"}[module]
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| {name} | ")]
    return [cell.strip() for cell in row.strip("|").split("|")][1:]


CONTROLS = {*range(0x20), 0x7F} - set(b"\r\n")
REFUSED = {
    "400 for NUL, VT, FF": set(b"\0\v\f"),
    "400 for all but TAB": CONTROLS - set(b"\t"),
}


def test_control_bytes_are_as_the_manual_says(served: tuple[int, Any]) -> None:
    """In a login, DEL only, which nginx does not escape; in a client's commands any."""
    port, module = served
    delete, controls, how = said_of(module)
    assert how == "in every test run"
    data = ng.ClientConnection(b"127.0.0.1", b"/auth").send(attrs.evolve(ANN, user=b"a\x7fb"))
    answer = exchange(port, data)
    assert (b" 400 Bad Request\r\n" in answer) == (delete == "400")
    assert (b"Authentication failed\r\n" in answer) == (delete == "comes through")
    envelope = ng.Envelope(b"a", b"MAIL FROM:<a?b>", b"RCPT TO:<c>")
    mail = attrs.evolve(ANN, method=ng.NONE, envelope=envelope)
    data = ng.ClientConnection(b"127.0.0.1", b"/auth").send(mail)
    refused = {
        byte
        for byte in CONTROLS
        if b" 400 Bad Request\r\n" in exchange(port, data.replace(b"<a?b>", b"<a%cb>" % byte))
    }
    assert refused == REFUSED[controls]


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - its name there
        pass


def test_wsgiref_is_no_server_for_this() -> None:
    """It takes 0x85 and 0xA0 off the ends, and "à" ends in that; the manual says so."""
    with make_server("127.0.0.1", 0, nginx_wsgi.app, handler_class=_Quiet) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        bob = attrs.evolve(ANN, user=b"bob@example.test", password="100% voilà".encode())
        assert isinstance(ask(server.server_port, bob), ng.Deny)
        thread.join(PATIENCE)


@pytest.mark.parametrize(
    "change", [{"password": b"wrong"}, {"user": b"nobody"}, {"password": b"sesame "}], ids=repr
)
def test_who_may_not(served: tuple[int, Any], change: dict[str, Any]) -> None:
    """And may try again."""
    port, _ = served
    reply = ask(port, attrs.evolve(ANN, **change))
    assert reply == ng.Deny(b"Wrong name or password", b"535 5.7.8", 2)


def test_what_can_not_be_used(served: tuple[int, Any]) -> None:
    """It is refused, and the application never sees it."""
    port, _ = served
    reply = ask(port, attrs.evolve(ANN, user=b"ann@example.test\r\nQUIT"))
    assert reply == ng.Deny(b"Authentication failed", b"535 5.7.8")


@pytest.mark.parametrize("headers", [(), ((b"X-Auth-Key", b"guess"),)], ids=["none", "wrong"])
def test_a_stranger(served: tuple[int, Any], headers: ng.Headers) -> None:
    """He learns nothing, and to nginx it would be an internal error."""
    port, _ = served
    data = ng.ClientConnection(b"127.0.0.1", b"/auth").send(attrs.evolve(ANN, headers=headers))
    answer = exchange(port, data)
    assert b" 403 Forbidden\r\n" in answer
    assert b"auth-" not in answer.lower()


def broken(_request: ng.AuthRequest) -> Any:
    raise ZeroDivisionError


def too_long(_request: ng.AuthRequest) -> Any:
    return ng.Deny(b"x" * 1000)


@pytest.mark.parametrize("fault", [broken, too_long])
def test_a_fault_is_no_refusal(
    served: tuple[int, Any],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[ng.AuthRequest], Any],
) -> None:
    """Whether the judgement can't be made, or can't be sent."""
    port, module = served

    async def later(request: ng.AuthRequest) -> Any:
        await asyncio.sleep(0)
        return fault(request)

    monkeypatch.setattr(module, "judge", later if module is nginx_asgi else fault)
    with caplog.at_level(logging.ERROR):
        assert ask(port, ANN) == LATER
    assert "no answer" in caplog.text


def test_the_reserve_is_enough(served: tuple[int, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """For what the framework and the server really add: the longest reply is read by nginx."""
    port, module = served
    without = len(b"HTTP/1.1 200 OK\r\nAuth-Status: \r\n\r\n")
    longest = b"x" * (1024 - without - module.RESERVE)

    def judge(_request: ng.AuthRequest) -> ng.Reply:
        return ng.Deny(longest)

    async def judge_later(request: ng.AuthRequest) -> ng.Reply:
        await asyncio.sleep(0)
        return judge(request)

    monkeypatch.setattr(module, "judge", judge_later if module is nginx_asgi else judge)
    answer = exchange(port, ng.ClientConnection(b"127.0.0.1", b"/auth").send(ANN))
    head = answer[: answer.index(b"\r\n\r\n") + 4]
    assert longest in head
    assert 1024 - module.RESERVE < len(head) <= 1024
