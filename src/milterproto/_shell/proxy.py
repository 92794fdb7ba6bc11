"""What the recorder does between two connections that it is given."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeAlias, final

from milterproto._shell.transcript import FROM_FILTER, FROM_MTA, Entry, Recorder

Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@final
class Proxy:
    """Passes bytes on as they come, and makes entries of them.

    ``connect`` opens a connection to the filter; OSError if it can't, and then the MTA's is closed,
    as if there were no recorder. ``clock`` gives seconds. ``write`` gets each entry once its last
    byte has been passed on, and must not raise: a full disk is no reason to keep mail back.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Streams]],
        clock: Callable[[], float],
        write: Callable[[Entry], object],
    ) -> None:
        self._connect = connect
        self._clock = clock
        self._write = write
        self._start = clock()
        self._connections = 0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """An MTA has connected: stay with it to the end."""
        with contextlib.closing(writer), contextlib.suppress(OSError):
            theirs, ours = await self._connect()
            self._connections += 1
            recorder = Recorder(self._connections)
            with contextlib.closing(ours):
                await asyncio.gather(
                    self._pump(recorder, FROM_MTA, reader, ours),
                    self._pump(recorder, FROM_FILTER, theirs, writer),
                )

    async def _pump(
        self, recorder: Recorder, way: str, source: asyncio.StreamReader, to: asyncio.StreamWriter
    ) -> None:
        data = b"-"
        while data:
            try:
                data = await source.read(1 << 16)
            except OSError:
                data = b""
            # The mail comes first. No answer to it can be read before this function waits.
            with contextlib.suppress(OSError, RuntimeError):
                if data:
                    to.write(data)
                else:
                    to.write_eof()
            for entry in recorder.take(way, data, self._clock() - self._start):
                self._write(entry)
            with contextlib.suppress(OSError):
                await to.drain()
