"""The gateways, in order: which to ask, how many connections, and when to leave one alone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import final

import attrs

from smtp_milter import _dialogue as dialogue
from smtp_milter import _metrics as metrics
from smtp_milter._client import Client
from smtp_milter._config import GatewayConfig, Timeouts, target
from smtp_milter._errors import BusyError, GatewayError
from smtp_milter._link import Link

logger = logging.getLogger("smtp_milter")
# Seconds that a connection is kept for the next message. Gateways wait for 30 s at the least, and
# those that serve one connection with one process would do nothing else meanwhile.
KEEP = 5.0


@final
class Breaker:
    """Leaves a gateway alone for some time after it has failed so often in a row."""

    def __init__(
        self, failures: int, rest: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._failures = failures
        self._rest = rest
        self._clock = clock
        self._count = 0
        self._until = 0.0

    @property
    def is_open(self) -> bool:
        """Whether it is to be left alone."""
        return self._clock() < self._until

    def succeeded(self) -> None:
        """It has judged a message; that it greets, and takes MAIL and RCPT, says nothing."""
        self._count = 0

    def failed(self) -> bool:
        """It has not; whether it is left alone from now on."""
        self._count += 1
        if self._count < self._failures:
            return False
        # After the rest one more failure is enough.
        self._until = self._clock() + self._rest
        return True


@final
@attrs.define(eq=False)
class Lease:
    """A session with a gateway, for one client until it is given back."""

    gateway: Gateway
    link: Link
    session: dialogue.Session
    client: Client
    is_used: bool = False  # it has served another message
    at: float = 0.0
    is_over: bool = False

    def drop(self) -> None:
        """Give it up without a word, in the middle of whatever it was."""
        self.link.close()
        self.release()

    def release(self) -> None:
        """Another may have its place."""
        if not self.is_over:
            self.is_over = True
            self.gateway.release()


@final
class Gateway:
    """One of them."""

    def __init__(self, config: GatewayConfig, timeouts: Timeouts, own_name: bytes) -> None:
        self.config = config
        self.name = config.address
        self.breaker = Breaker(config.failures, config.rest)
        self._where = target(config.address)
        self._timeouts = timeouts
        self._own_name = own_name
        self._free = asyncio.Semaphore(config.connections)
        self._resting: list[Lease] = []

    async def begin(self, client: Client) -> Lease:
        """A session in which MAIL is next. Raises GatewayError, or Refused."""
        try:
            async with asyncio.timeout(self.config.wait_for_connection):
                await self._free.acquire()
        except TimeoutError:
            raise BusyError(f"all its {self.config.connections} connections are used") from None
        metrics.CONNECTIONS.labels(self.name).inc()
        try:
            while self._resting:
                lease = self._resting.pop()
                if await lease.link.wake():
                    return attrs.evolve(lease, client=client, is_over=False)
            link = await Link.open(self._where, self._timeouts.connect)
            try:
                tell = self.config.tell
                link.write(dialogue.preamble(client, tell))
                begin = dialogue.begin(self._own_name, client, tell)
                session = await link.run(begin, self._timeouts.command)
            except BaseException:
                link.close()
                raise
        except BaseException:
            self.release()
            raise
        return Lease(self, link, session, client)

    async def end(self, lease: Lease) -> None:
        """Give a session back, between two messages; it may serve the next client."""
        lease.release()
        if lease.link.is_closed or lease.session.is_bound:
            await lease.link.quit()
            return
        lease.is_used = True
        lease.at = time.monotonic()
        lease.link.rest()
        self._resting.append(lease)
        asyncio.get_running_loop().call_later(KEEP, self._tidy)

    def end_soon(self, lease: Lease) -> None:
        """The same for a session that serves nobody else, for who can't wait."""
        lease.release()
        _quit_soon(lease.link)

    def release(self) -> None:
        """One connection fewer is used."""
        self._free.release()
        metrics.CONNECTIONS.labels(self.name).dec()

    def _tidy(self) -> None:
        now = time.monotonic()
        old = [lease for lease in self._resting if now - lease.at >= KEEP - 0.1]
        self._resting = [lease for lease in self._resting if lease not in old]
        for lease in old:
            _quit_soon(lease.link)

    async def close(self) -> None:
        """End what rests."""
        for lease in self._resting:
            await lease.link.quit()
        self._resting.clear()


_QUITTING: set[asyncio.Task[None]] = set()


def _quit_soon(link: Link) -> None:
    quitting = asyncio.get_running_loop().create_task(link.quit())
    _QUITTING.add(quitting)
    quitting.add_done_callback(_QUITTING.discard)


@final
class Gateways:
    """All of them, the first that works is asked."""

    def __init__(self, gateways: Sequence[Gateway], timeouts: Timeouts) -> None:
        self._gateways = gateways
        self._timeouts = timeouts

    async def begin(self, client: Client) -> Lease:
        """A session with the first gateway that has one. Raises GatewayError, or Refused."""
        reasons = []
        for gateway in self._gateways:
            if gateway.breaker.is_open:
                reasons.append(f"{gateway.name}: left alone for a while")
                continue
            try:
                return await gateway.begin(client)
            except GatewayError as error:
                if not isinstance(error, BusyError):
                    self.note_failure(gateway, error)
                reasons.append(f"{gateway.name}: {error}")
        raise GatewayError("; ".join(reasons))

    def note_failure(self, gateway: Gateway, error: GatewayError) -> None:
        """A gateway has failed, at whatever."""
        metrics.FAILURES.labels(gateway.name).inc()
        if gateway.breaker.failed():
            logger.error("%s is left alone for %g s: %s", gateway.name, gateway.config.rest, error)
        else:
            logger.warning("%s has failed: %s", gateway.name, error)

    async def close(self) -> None:
        """End what rests."""
        with contextlib.suppress(OSError):
            for gateway in self._gateways:
                await gateway.close()
