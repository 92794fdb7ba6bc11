"""A peer's socket in `long_soak`, and how long the peers rest."""

from __future__ import annotations

import asyncio
import random
from typing import Any, Final

import attrs

import dovecotauth as da
import milterproto as mp
import nginxauth as ng
import tcptable as tt

from ._soak_answers import IDLE_TIMEOUT

_REMOTE_ERRORS: Final = (
    da.RemoteProtocolError,
    mp.RemoteProtocolError,
    ng.RemoteProtocolError,
    tt.RemoteProtocolError,
)
_MUCH: Final = 10**9
PATIENCE: Final = 60.0  # seconds, for what takes far less than one, unless a machine is very busy


class DisturbedError(Exception):
    """A good peer was not answered as it should be."""


class BrokenOffError(Exception):
    """A broken peer has said all that it is going to say."""


@attrs.define
class Pace:
    """How long peers rest: until both sides together use so much of one processor, and no more.

    Where other programs leave them less than that, answers take their time; then they rest, too.
    """

    share: float = 0.9
    wait: float = 0.05  # seconds
    rest: float = 1.0  # seconds, on the average

    def adapt(self, used: float, waited: float) -> None:
        """What part of a processor both used lately, and how long an answer took on the average."""
        pressure = max(used / self.share, waited / self.wait)
        longer = self.rest * min(max(pressure, 0.5), 2.0) ** 0.5
        # Not so long that the daemon closes.
        self.rest = min(max(longer, 0.1), IDLE_TIMEOUT / 4)


class Wire:
    """A socket to the daemon, and how a peer of that kind uses it."""

    def __init__(self, address: Any, pace: Pace, rng: random.Random, kind: str) -> None:
        self._address = address
        self._pace = pace
        self._rng = rng
        self._slow = kind == "slow"
        # After how many bytes, or how many messages, a broken one goes away.
        self._bytes = rng.randrange(400) if kind == "broken" and rng.random() < 0.5 else _MUCH
        self._messages = rng.randrange(1, 16) if kind == "broken" else _MUCH
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def open(self) -> None:
        """Connect."""
        # A low limit: who does not read is to block the daemon after a few answers.
        if isinstance(self._address, str):
            opened = asyncio.open_unix_connection(self._address, limit=4096)
        else:
            opened = asyncio.open_connection(*self._address, limit=4096)
        self.reader, self.writer = await opened

    def close(self) -> None:
        """At once."""
        if hasattr(self, "writer"):
            self.writer.transport.abort()

    async def rest(self, part: float = 1.0) -> None:
        """Some time, which is short or long."""
        wanted = self._rng.expovariate(1 / (self._pace.rest * part))
        await asyncio.sleep(min(wanted, IDLE_TIMEOUT / 2))

    async def say(self, data: bytes) -> None:
        """All of it; a few bytes at a time, if the peer is slow. BrokenOffError if it is broken."""
        if len(data) > self._bytes:
            self.writer.write(data[: self._bytes])
            raise BrokenOffError
        self._bytes -= len(data)
        at = 0
        while self._slow and at < len(data):
            size = self._rng.choice((1, 1, 2, 3, 5, 40))
            self.writer.write(data[at : at + size])
            at += size
            await self.rest(0.05)
        self.writer.write(data[at:])
        await self.writer.drain()
        self._messages -= 1
        if self._messages == 0:
            raise BrokenOffError  # with an answer due

    async def hear(self, conn: Any) -> Any:
        """The next event of a codec's. DisturbedError for the end, and for what no codec takes."""
        try:
            async with asyncio.timeout(PATIENCE):
                while (event := conn.next_event()) is None:
                    conn.receive_data(await self.reader.read(65536))
        except TimeoutError:
            raise DisturbedError(f"no answer in {PATIENCE:g} s") from None
        except _REMOTE_ERRORS as error:
            raise DisturbedError(f"no answer: {error}") from error
        if type(event).__name__ == "ConnectionClosed":
            raise DisturbedError("the daemon has closed")
        return event
