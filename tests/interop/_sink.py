"""An SMTP server on loopback that takes every message and keeps it as it came."""

from __future__ import annotations

import queue
import re
import socketserver
import threading
from typing import Final, Self

import attrs

# The extensions that make Postfix's SMTP client pass on what a filter may ask for: DSN for
# NOTIFY, ORCPT, RET and ENVID, and the others so that it leaves the content as it is.
_EXTENSIONS: Final = b"250-sink.test\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 DSN\r\n"


@attrs.frozen
class Delivery:
    """A message as it arrived: addresses in brackets, parameters as they were written."""

    sender: bytes
    sender_parameters: tuple[bytes, ...]
    recipients: tuple[tuple[bytes, tuple[bytes, ...]], ...]
    content: bytes

    @property
    def addresses(self) -> list[bytes]:
        """The recipients without their parameters."""
        return [address for address, _ in self.recipients]

    @property
    def header(self) -> list[tuple[bytes, bytes]]:
        """Name and raw value of each header line, folding and leading space included."""
        fields: list[tuple[bytes, bytes]] = []
        for line in self.content.partition(b"\r\n\r\n")[0].split(b"\r\n"):
            if line[:1] in (b" ", b"\t"):
                name, value = fields.pop()
                fields.append((name, value + b"\r\n" + line))
            else:
                name, _, value = line.partition(b":")
                fields.append((name, value))
        return fields

    @property
    def body(self) -> bytes:
        """What follows the empty line."""
        return self.content.partition(b"\r\n\r\n")[2]

    @property
    def without_received(self) -> bytes:
        """The content as it should be, to the byte, but for the MTA's own Received header.

        That is all that Postfix adds to a message that has From, Date and Message-Id: Return-Path
        is for the last MTA, and a header is folded only by who writes it.
        """
        received = rb"(?m)^Received: (?:from|by)[^\r]*(?:\r\n[ \t][^\r]*)*\r\n"
        content, count = re.subn(received, b"", self.content)
        assert count == 1, self.content
        return content

    def values(self, name: bytes) -> list[bytes]:
        """The raw values of the headers of that name, in order."""
        return [value for other, value in self.header if other.lower() == name.lower()]


class Sink:
    """The server; ``deliveries`` has what arrived and was not yet looked at."""

    def __init__(self) -> None:
        self.deliveries: queue.SimpleQueue[Delivery] = queue.SimpleQueue()
        deliveries = self.deliveries

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self.wfile.write(b"220 sink.test ESMTP\r\n")
                while self.transaction():
                    pass

            def transaction(self) -> bool:
                """Take commands until a message has arrived; False at the end of the session."""
                sender: tuple[bytes, tuple[bytes, ...]] = (b"", ())
                recipients: list[tuple[bytes, tuple[bytes, ...]]] = []
                for line in self.rfile:
                    verb = line[:4].upper()
                    reply = b"250 ok\r\n"
                    if verb == b"EHLO":
                        reply = _EXTENSIONS
                    elif verb == b"MAIL":
                        sender, recipients = _path(line), []
                    elif verb == b"RCPT":
                        recipients.append(_path(line))
                    elif verb == b"DATA":
                        self.wfile.write(b"354 go on\r\n")
                        content = self.content()
                        deliveries.put(Delivery(*sender, tuple(recipients), content))
                        self.wfile.write(b"250 taken\r\n")
                        return True
                    elif verb == b"QUIT":
                        self.wfile.write(b"221 bye\r\n")
                        return False
                    self.wfile.write(reply)
                return False

            def content(self) -> bytes:
                lines = []
                while (line := self.rfile.readline()) != b".\r\n":
                    if not line:
                        raise ConnectionError("end of file within a message")
                    lines.append(line.removeprefix(b"."))
                return b"".join(lines)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            # With the usual 5, some of Postfix's clients wait for ever when many come at once.
            request_queue_size = 128

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _path(line: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """The address and the parameters of a MAIL or RCPT command as Postfix writes it."""
    # A local part in quotes may have blanks, too.
    address, bracket, parameters = line.strip().partition(b":")[2].rpartition(b">")
    return address + bracket, tuple(parameters.split())
