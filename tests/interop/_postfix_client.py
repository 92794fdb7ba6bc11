"""An SMTP client that hides nothing: replies are the bytes that came."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterable
from typing import Self

_LAST_LINE = re.compile(rb"[0-9]{3}(?: |\r?\n)")


class Client:
    """One SMTP session; every method that talks returns the server's whole reply.

    A reply is given without its last line end; ``b""`` means that the server has closed.
    """

    def __init__(self, port: int, patience: float) -> None:
        self._socket: socket.socket = socket.create_connection(("127.0.0.1", port), patience)
        self.name: tuple[str, int] = self._socket.getsockname()
        self._file = self._socket.makefile("rb")
        try:
            self.greeting = self.reply()
        except BaseException:
            self.vanish()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.vanish()

    def reply(self) -> bytes:
        """Read one reply."""
        lines = []
        for line in self._file:
            lines.append(line)
            if _LAST_LINE.match(line):
                break
        return b"".join(lines).removesuffix(b"\r\n")

    def send(self, data: bytes) -> None:
        """Send bytes, and wait for nothing."""
        self._socket.sendall(data)

    def command(self, line: bytes) -> bytes:
        """Send one command."""
        try:
            self.send(line + b"\r\n")
            return self.reply()
        except (ConnectionResetError, BrokenPipeError):
            return b""

    def content(self, content: bytes) -> bytes:
        """Send what follows an accepted DATA; ``content`` has CRLF line ends."""
        stuffed = re.sub(rb"(?m)^\.", b"..", content)
        return self.command(stuffed + (b"." if stuffed.endswith(b"\r\n") else b"\r\n."))

    def start_tls(self) -> None:
        """STARTTLS, without a look at the server's certificate."""
        self.must(b"220", b"STARTTLS")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self._file.close()
        self._socket = context.wrap_socket(self._socket)
        self._file = self._socket.makefile("rb")

    def envelope(
        self,
        sender: bytes = b"<a@example.org>",
        recipients: Iterable[bytes] = (b"<b@example.test>",),
    ) -> None:
        """MAIL and RCPT, which must succeed."""
        self.must(b"250", b"MAIL FROM:" + sender)
        for recipient in recipients:
            self.must(b"250", b"RCPT TO:" + recipient)

    def message(
        self,
        content: bytes = b"Subject: hello\r\nX-A: one\r\n\r\nbody\r\n",
        sender: bytes = b"<a@example.org>",
        recipients: Iterable[bytes] = (b"<b@example.test>",),
    ) -> bytes:
        """A whole transaction; the reply is the one to the content."""
        self.envelope(sender, recipients)
        self.must(b"354", b"DATA")
        return self.content(content)

    def walk(self, content: bytes = b"Subject: hello\r\n\r\nbody\r\n") -> dict[str, bytes]:
        """A transaction as far as the server lets it go: the reply to each command."""
        replies: dict[str, bytes] = {}
        for line in (b"MAIL FROM:<a@example.org>", b"RCPT TO:<b@example.test>", b"DATA"):
            reply = replies[line[:4].decode()] = self.command(line)
            if reply[:1] not in (b"2", b"3"):
                return replies
        replies["content"] = self.content(content)
        return replies

    def must(self, code: bytes, line: bytes) -> bytes:
        """Send a command whose reply must begin with ``code``."""
        reply = self.command(line)
        assert reply.startswith(code), f"{line!r}: {reply!r}"
        return reply

    def quit(self) -> None:
        """End the session in order."""
        self.must(b"221", b"QUIT")

    def vanish(self) -> None:
        """Close without a word."""
        self._file.close()
        self._socket.close()
