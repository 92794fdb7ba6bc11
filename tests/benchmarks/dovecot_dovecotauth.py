"""PyPI's dovecotauth: its client on a file with all the replies, and its demonstration server."""

from __future__ import annotations

import importlib
import io
from typing import Any

from tests.benchmarks import _dovecot_tasks as tasks
from tests.benchmarks._side import serve

# By that name our own package is meant wherever this one is not installed.
theirs: Any = importlib.import_module("dovecotauth")


class File:
    """What it takes for a socket: read line by line, and written to."""

    def __init__(self, content: bytes) -> None:
        self.readline = io.BytesIO(content).readline
        self.written: list[bytes] = []
        self._line = b""

    def write(self, data: bytes) -> None:
        self._line += data

    def flush(self) -> None:
        self.written.append(self._line)
        self._line = b""


def client() -> list[bytes]:
    """One request at a time."""
    file = File(tasks.SERVER_HELLO + b"".join(tasks.REPLIES))
    protocol = theirs.Protocol("smtp", file)
    for name, password in tasks.USERS:
        allowed, _ = protocol.auth("PLAIN", name, password)
        assert allowed
    return file.written[2:]


class Server:
    """What its handler wants to know about the server."""

    cuid = 0

    def __init__(self) -> None:
        self.db = self

    def check_password(self, _name: str, password: str) -> bool:
        return password.startswith("secret")


def server() -> list[bytes]:
    """Likewise."""
    handler = theirs._RequestHandler.__new__(theirs._RequestHandler)
    file = File(tasks.CLIENT_HELLO + b"".join(tasks.REQUESTS))
    handler.rfile = handler.wfile = file
    handler.server, handler.cookie = Server(), "0" * 32
    handler.handle()
    return file.written[6:]


if __name__ == "__main__":
    serve({tasks.CLIENT: client, tasks.SERVER: server})
