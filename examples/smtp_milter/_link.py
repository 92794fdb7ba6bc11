"""One connection to a gateway: drives what `_dialogue` says, over a socket and in time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import TypeVar, final

from smtp_milter._content import DotStuffer
from smtp_milter._dialogue import Dialogue
from smtp_milter._errors import GatewayError
from smtp_milter._replies import Reply, ReplyError, ReplyReader

Outcome = TypeVar("Outcome")


@final
class Link:
    """A connection. After GatewayError, or when cancelled, it is good for nothing any more."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._replies = ReplyReader()
        self._watch: asyncio.Task[bytes] | None = None
        self.is_closed = False

    @classmethod
    async def open(cls, where: tuple[str, int] | Path, patience: float) -> Link:
        """Connect. Raises GatewayError."""
        try:
            async with asyncio.timeout(patience):
                if isinstance(where, Path):
                    return cls(*await asyncio.open_unix_connection(where))
                return cls(*await asyncio.open_connection(*where))
        except TimeoutError:
            raise GatewayError(f"no connection within {patience:g} s") from None
        except OSError as error:
            raise GatewayError(f"no connection: {error.strerror or error}") from None

    def write(self, data: bytes) -> None:
        """Write what has no reply."""
        self._writer.write(data)

    async def run(self, dialogue: Dialogue[Outcome], patience: float) -> Outcome:
        """Play a dialogue; ``patience`` in seconds for each reply. Raises what it raises."""
        with self._closed_on_error():
            command = next(dialogue)
            while True:
                if not self._replies.is_empty:
                    # Or from here on each command would get the answer to the one before.
                    raise GatewayError("it answers what nobody has asked")
                async with _within(patience):
                    if command:
                        self._writer.write(command)
                    reply = await self._reply()
                try:
                    command = dialogue.send(reply)
                except StopIteration as end:
                    outcome: Outcome = end.value
                    return outcome

    async def content(self, chunks: Iterable[bytes], patience: float) -> Reply:
        """Send a content, and read the reply; ``patience`` for all of it."""
        with self._closed_on_error():
            if not self._replies.is_empty:
                raise GatewayError("it answers the content before it has seen any")
            async with _within(patience):
                try:
                    stuffer = DotStuffer()
                    for chunk in chunks:
                        self._writer.write(stuffer.feed(chunk))
                        await self._writer.drain()
                    self._writer.write(stuffer.finish())
                except ConnectionError:
                    # It may have said why, and before it has read all.
                    pass
                return await self._reply()

    async def _reply(self) -> Reply:
        try:
            while (reply := self._replies.next_reply()) is None:
                data = await self._reader.read(65536)
                if not data:
                    raise GatewayError("it has closed the connection")
                self._replies.receive_data(data)
        except ReplyError as error:
            raise GatewayError(f"it does not talk SMTP: {error}") from None
        except OSError as error:
            raise GatewayError(f"the connection is broken: {error.strerror or error}") from None
        if reply.code == 421:
            self.close()  # so does the gateway
        return reply

    @contextlib.contextmanager
    def _closed_on_error(self) -> Iterator[None]:
        try:
            yield
        except (GatewayError, asyncio.CancelledError):
            self.close()
            raise

    # --- between messages ------------------------------------------------------------------

    def rest(self) -> None:
        """Nothing is said for a while; whatever comes now closes the connection."""
        self._watch = asyncio.get_running_loop().create_task(self._reader.read(1))
        self._watch.add_done_callback(self._disturbed)

    async def wake(self) -> bool:
        """Go on, if nothing has come meanwhile."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
            await asyncio.wait([watch])
        return not (self.is_closed or self._reader.at_eof())

    def _disturbed(self, watch: asyncio.Task[bytes]) -> None:
        if not watch.cancelled():
            watch.exception()  # looked at, or asyncio complains
            self.close()

    def close(self) -> None:
        """Close without a word: a message that was begun is none."""
        self.is_closed = True
        self._writer.transport.abort()

    async def quit(self) -> None:
        """Close in order, or at least soon."""
        if await self.wake():
            with contextlib.suppress(OSError):
                self._writer.write(b"QUIT\r\n")
                self._writer.close()
        self.is_closed = True


@contextlib.asynccontextmanager
async def _within(patience: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(patience):
            yield
    except TimeoutError:
        raise GatewayError(f"no reply within {patience:.3g} s") from None
