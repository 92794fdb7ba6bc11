"""An SMTP gateway that does what a test says, and remembers what it was told."""

from __future__ import annotations

import contextlib
import socketserver
import threading
from collections.abc import Callable, Generator
from typing import Self

import attrs

from ._postfix import PATIENCE, free_port
from ._postfix_client import Client

Change = Callable[[bytes], bytes]
FORWARD = b"forward"  # what is usual for a content


@attrs.define
class Script:
    """``replies`` by the beginning of a command, ``b"CONNECT"`` and ``b"."`` for a content.

    A reply is bytes without the last line end; ``b""`` closes the connection; a function is called
    for it; of a list, one is used each time. What is not there goes well.
    """

    replies: dict[bytes, bytes | list[bytes] | Callable[[], bytes]] = attrs.field(factory=dict)
    extensions: tuple[bytes, ...] = (b"8BITMIME", b"DSN", b"SMTPUTF8")
    # Where messages go: the sink's port. ``is_proxy``: each command, and back each reply.
    sink: int = 0
    is_proxy: bool = False
    change: Change = lambda content: content
    sender: Change = lambda sender: sender
    recipients: Callable[[list[bytes]], list[bytes]] = lambda recipients: recipients
    copies: int = 1
    dies_after: int = 0  # so many bytes of a content


@attrs.define
class Told:
    """One connection: its commands, and the contents."""

    commands: list[bytes] = attrs.field(factory=list)
    contents: list[bytes] = attrs.field(factory=list)


class ScriptedGateway:
    """The server. ``told`` has its connections; they may still be going on."""

    def __init__(self, script: Script | None = None, port: int = 0) -> None:
        self.script = script or Script()
        self.told: list[Told] = []
        gateway = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                told = Told()
                gateway.told.append(told)
                replies = gateway._serve(told, self.rfile.readline)
                with contextlib.closing(replies), contextlib.suppress(ConnectionError):
                    for reply in replies:
                        self.wfile.write(reply + b"\r\n")

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True
            request_queue_size = 128

        self._server = Server(("127.0.0.1", port), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def commands(self) -> list[bytes]:
        """All commands, of all connections."""
        return [command for one in self.told for command in one.commands]

    @property
    def contents(self) -> list[bytes]:
        """All contents."""
        return [content for one in self.told for content in one.contents]

    def _reply(self, command: bytes, usual: bytes) -> bytes:
        for key in sorted(self.script.replies, key=len, reverse=True):
            if command.upper().startswith(key.upper()):
                reply = self.script.replies[key]
                if isinstance(reply, list):
                    return reply.pop(0) if reply else usual
                return reply if isinstance(reply, bytes) else reply()
        return usual

    def _serve(self, told: Told, readline: Callable[[], bytes]) -> Generator[bytes, None, None]:
        hop = Client(self.script.sink, PATIENCE) if self.script.is_proxy else None
        try:
            yield from self._talk(told, readline, hop)
        finally:
            if hop is not None:
                hop.vanish()

    def _talk(
        self, told: Told, readline: Callable[[], bytes], hop: Client | None
    ) -> Generator[bytes, None, None]:
        script = self.script
        reply = self._reply(b"CONNECT", hop.greeting if hop else b"220 gateway.test ESMTP")
        sender, recipients = b"", list[bytes]()
        while reply:
            yield reply
            line = readline()
            if not line:
                break
            command = line.rstrip(b"\r\n")
            told.commands.append(command)
            verb = command[:4].upper()
            usual = b"250 2.0.0 Ok"
            if hop is not None and verb != b"DATA":
                usual = hop.command(command)
            elif verb == b"EHLO":
                words = (b"gateway.test", *script.extensions)
                usual = b"\r\n".join(b"250-" + one for one in words[:-1]) + b"\r\n250 " + words[-1]
            elif verb == b"MAIL":
                sender, recipients = command[10:].split(b" ")[0], []
            elif verb == b"RCPT":
                recipients.append(command[8:].split(b" ")[0])
            elif verb == b"QUIT":
                usual = b"221 2.0.0 Bye"
            elif verb == b"XCLI":
                usual = b"220 gateway.test again"
            elif verb == b"DATA":
                usual = b"354 go on"
            reply = self._reply(command, usual)
            if verb == b"DATA" and reply.startswith(b"354"):
                yield reply
                content = b""
                while (line := readline()) != b".\r\n":
                    if not line:
                        return
                    content += line.removeprefix(b".")
                    if script.dies_after and len(content) > script.dies_after:
                        return
                told.contents.append(content)
                reply = self._reply(b".", FORWARD)
                if reply is FORWARD:
                    reply = self._forward(hop, sender, recipients, content)

    def _forward(
        self, hop: Client | None, sender: bytes, recipients: list[bytes], content: bytes
    ) -> bytes:
        """Hand it on, if that is what it does; its reply."""
        script = self.script
        if hop is not None:
            hop.must(b"354", b"DATA")
            return hop.content(script.change(content))
        replies = [b"250 2.0.0 Ok"]
        for _ in range(script.copies if script.sink else 0):
            with Client(script.sink, PATIENCE) as client:
                client.must(b"250", b"EHLO gateway.test")
                back = client.message(
                    script.change(content), script.sender(sender), script.recipients(recipients)
                )
                replies.append(b"250 2.0.0 from MTA: " + back)
        return replies[-1]


__all__ = ["Script", "ScriptedGateway", "Told", "free_port"]
