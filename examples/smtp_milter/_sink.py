"""The sink's sockets: who may connect, and what becomes of what comes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
from pathlib import Path
from typing import Final, final

from adapters._listen import address_of, listen

from smtp_milter import _dialogue as dialogue
from smtp_milter import _metrics as metrics
from smtp_milter._client import Client
from smtp_milter._config import Foreign, SinkConfig, target
from smtp_milter._correlator import Correlator, Way
from smtp_milter._errors import GatewayError, Refused
from smtp_milter._link import Link
from smtp_milter._returned import Returned
from smtp_milter._sink_protocol import SinkConnection
from smtp_milter._tokens import nonce

logger = logging.getLogger("smtp_milter")
IDLE: Final = 330.0  # seconds; RFC 5321, 4.5.3.2.7, wants five minutes


@final
class Sink:
    """Takes what gateways hand on. What nobody has sent to them is not taken, unless relayed."""

    def __init__(self, config: SinkConfig, name: str, max_size: int) -> None:
        self.config = config
        self.correlator = Correlator(frozenset(config.known_by), self._keep)
        self._name = name
        # A gateway adds to a message.
        self._max_size = 2 * max_size + 1024 * 1024
        self._server: asyncio.Server | None = None
        self._sessions: set[asyncio.Task[None]] = set()

    async def start(self, mode: int) -> str:
        """Listen; where. Raises OSError or ValueError."""
        if Way.ECHO in self.config.known_by:
            _check_folder(self.config.unclaimed)
        listener = listen(self.config.listen, mode=mode)
        where = address_of(listener)
        self._server = await asyncio.start_server(self._serve, sock=listener)
        return where

    async def stop(self) -> None:
        """Close all."""
        if self._server is not None:
            self._server.close()
        for session in self._sessions:
            session.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = asyncio.current_task()
        assert session is not None
        self._sessions.add(session)
        session.add_done_callback(self._sessions.discard)
        peer = writer.get_extra_info("peername")
        try:
            if isinstance(peer, tuple) and peer[0] not in self.config.allow:
                logger.warning("sink: %s may not connect here", peer[0])
                writer.write(b"554 5.7.1 Not for you\r\n")
                return
            # Only `stop` cancels it, and asyncio complains of what ends so.
            with contextlib.suppress(ConnectionError, TimeoutError, asyncio.CancelledError):
                await self._talk(reader, writer)
        except OSError as error:
            # No room for a message, for one; the gateway keeps it.
            logger.error("sink: a connection is given up: %s", error.strerror or error)  # noqa: TRY400
        finally:
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conn = SinkConnection(
            self._name, max_size=self._max_size, nonce=lambda: nonce(secrets.token_bytes(16))
        )
        while True:
            while (message := conn.next_message()) is not None:
                conn.answer(await self._judge(message))
            writer.write(conn.data_to_send())
            await writer.drain()
            if conn.is_over:
                return
            async with asyncio.timeout(IDLE):
                data = await reader.read(65536)
            if not data:
                return
            conn.receive_data(data)

    async def _judge(self, message: Returned) -> bytes:
        marks = message.fields(self.config.mark.encode())
        if self.correlator.takes(message, marks):
            metrics.SUNK.labels("taken").inc()
            return b"250 2.0.0 " + message.nonce + b" taken"
        what = self.config.foreign
        metrics.SUNK.labels(f"foreign: {what.value}").inc()
        logger.warning("sink: a message that nobody has sent to the gateway: %s", what.value)
        if what is Foreign.DISCARD:
            return b"250 2.0.0 Discarded"
        if what is Foreign.TEMPFAIL:
            return b"451 4.3.0 Nobody here has sent this to you"
        try:
            return await self._relay(message)
        except GatewayError as error:
            logger.error("sink: it can't be relayed: %s", error)  # noqa: TRY400 - what, not where
            return b"451 4.3.0 It can't be relayed for now"
        except Refused as refused:
            reply = refused.reply
            return b"%d " % reply.code + b" ".join(reply.lines)[:400]

    async def _relay(self, message: Returned) -> bytes:
        """Hand a message to the MTA, whose answer is ours."""
        link = await Link.open(target(self.config.relay_to), 5)
        try:
            name = self._name.encode("ascii", "replace")
            session = await link.run(dialogue.begin(name, Client(), dialogue.Tell.NOTHING), 30)
            await link.run(dialogue.mail(session, Client(), b"", message.sender, ()), 30)
            for recipient in message.recipients:
                await link.run(dialogue.rcpt(session, recipient, ()), 30)
            await link.run(dialogue.data(), 30)
            reply = dialogue.accepted(await link.content(message.content.chunks(), 60))
        finally:
            await link.quit()
        return b"250 " + reply.lines[0]

    def _keep(self, message: Returned) -> None:
        try:
            self._save(message)
        except OSError as error:
            # Not the fault of the message whose end brought it to light.
            logger.critical("sink: a message that was taken is lost: %s", error)

    def _save(self, message: Returned) -> None:
        """What was taken, and turned out to be nobody's, is not lost."""
        metrics.SUNK.labels("unclaimed").inc()
        folder = Path(self.config.unclaimed)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{message.nonce.decode()}.eml"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(b"X-Envelope-From: " + message.sender + b"\r\n")
            file.write(b"X-Envelope-To: " + b", ".join(message.recipients) + b"\r\n")
            file.writelines(message.content.chunks())
        logger.error("sink: a message that was taken, and is nobody's, is kept in %s", path)


def _check_folder(name: str) -> None:
    """ValueError if nothing could be kept there: later is too late."""
    folder = Path(name).absolute()
    there = next(path for path in (folder, *folder.parents) if os.access(path, os.F_OK))
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        raise ValueError(f"nothing can be kept in the folder unclaimed = {str(folder)!r}")
