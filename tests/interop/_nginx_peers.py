"""The two that nginx talks to: who says whether a user may log in, and the mail server behind.

Both are as simple as can be and share no code with nginxauth: what they say is what a test tells
them to say, and what they hear they keep as it came.
"""

from __future__ import annotations

import contextlib
import re
import socket
import socketserver
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, Self

from ._postfix import PATIENCE

Chunks = Iterable[bytes]

_FIELD: Final = rb"(?mi)^%s: ?([^\r\n]*)"


def field(request: bytes, name: bytes) -> bytes:
    """The value of a request's header, undecoded; empty if there is none."""
    match = re.search(_FIELD % re.escape(name), request)
    return b"" if match is None else match[1]


class _TCPServer(socketserver.ThreadingTCPServer):
    request_queue_size = 128
    allow_reuse_address = True


class _TCP6Server(_TCPServer):
    address_family: int = socket.AF_INET6


class _UnixServer(socketserver.ThreadingUnixStreamServer):
    request_queue_size = 128


class _Server:
    """Threads, one for each connection; the end waits for all of them."""

    def __init__(
        self, handle: Callable[[socket.socket], None], address: str | Path, port: int = 0
    ) -> None:
        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                # nginx closes as soon as it knows enough, or has given up.
                with contextlib.suppress(ConnectionError, TimeoutError):
                    self.request.settimeout(PATIENCE)
                    handle(self.request)

        self.port = 0
        if isinstance(address, Path):
            self._server: socketserver.TCPServer = _UnixServer(str(address), Handler)
        else:
            self._server = (_TCP6Server if ":" in address else _TCPServer)((address, port), Handler)
            self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join(PATIENCE)
        self._server.server_close()


class RawAuthServer:
    """Answers with bytes; ``requests`` has what came, by the user's name as nginx wrote it.

    (If nobody has logged in, by the name in HELO.) `script` says what a user's requests are
    answered with, in turn; each answer is sent in the chunks that it is given in, and then the
    connection is closed. Later requests, and those of other users, are refused with the text
    ``over``. It listens on a port of ``address``, or, if that is a path, on a unix socket.
    """

    OVER: Final = b"HTTP/1.0 200 OK\r\nAuth-Status: over\r\n\r\n"

    def __init__(self, address: str | Path = "127.0.0.1") -> None:
        self.requests: defaultdict[bytes, list[bytes]] = defaultdict(list)
        self._answers: dict[bytes, list[Chunks]] = {}
        self._lock = threading.Lock()
        self._server = _Server(self._handle, address)
        self.port = self._server.port

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.close()

    def script(self, user: bytes, *answers: Chunks) -> None:
        """What to say when it is asked for ``user``, as nginx writes the name; once each."""
        with self._lock:
            self._answers[user] = list(answers)
            self.requests.pop(user, None)

    def _handle(self, sock: socket.socket) -> None:
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            data = sock.recv(65536)
            if not data:
                return
            request += data
        user = field(request, b"Auth-User") or field(request, b"Auth-SMTP-Helo")
        with self._lock:
            self.requests[user].append(request)
            left = self._answers.get(user)
            answer = left.pop(0) if left else (self.OVER,)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for chunk in answer:
            sock.sendall(chunk)


class Backend:
    """A mail server that takes every login, on one port at 127.0.0.1 and ::1.

    ``sessions`` has, for each connection, the lines that came.
    """

    def __init__(self, protocol: str) -> None:
        self.sessions: list[list[bytes]] = []
        converse = {"smtp": self._smtp, "imap": self._imap, "pop3": self._pop3}[protocol]

        def handle(sock: socket.socket) -> None:
            lines: list[bytes] = []
            self.sessions.append(lines)
            with sock.makefile("rb") as file:
                converse(file, sock.sendall, lines)

        self._servers: list[_Server] = []
        self.port = 0
        self._listen(handle)

    def _listen(self, handle: Callable[[socket.socket], None]) -> None:
        for attempt in range(20):
            first = _Server(handle, "127.0.0.1")
            try:
                self._servers = [first, _Server(handle, "::1", first.port)]
            except OSError:
                # Somebody else's port there.
                first.close()
                if attempt == 19:
                    raise
            else:
                self.port = first.port
                return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for server in self._servers:
            server.close()

    @staticmethod
    def _smtp(file: Any, send: Callable[[bytes], None], lines: list[bytes]) -> None:
        send(b"220 backend.test ESMTP\r\n")
        for line in file:
            lines.append(line)
            verb = line[:4].upper()
            if verb == b"QUIT":
                return
            send(b"235 2.7.0 in\r\n" if verb == b"AUTH" else b"250 2.0.0 fine\r\n")

    @staticmethod
    def _imap(file: Any, send: Callable[[bytes], None], lines: list[bytes]) -> None:
        send(b"* OK backend.test\r\n")
        for line in file:
            lines.append(line)
            data = line
            # nginx writes name and password as literals.
            while match := re.search(rb"\{([0-9]+)\}\r\n$", data):
                send(b"+ go on\r\n")
                data = file.read(int(match[1])) + file.readline()
                lines.append(data)
            send(line.split()[0] + b" OK in\r\n")

    @staticmethod
    def _pop3(file: Any, send: Callable[[bytes], None], lines: list[bytes]) -> None:
        send(b"+OK backend.test\r\n")
        for line in file:
            lines.append(line)
            send(b"+OK fine\r\n")
