"""Connections to gateways: how many, which are used again, and when one is left alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from smtp_milter import _dialogue as dialogue
from smtp_milter import _gateways as gateways
from smtp_milter._client import Client
from smtp_milter._config import GatewayConfig, Timeouts
from smtp_milter._errors import BusyError, GatewayError, Refused
from smtp_milter._gateways import Breaker, Gateway, Gateways

TIMEOUTS = Timeouts(connect=2, command=2)


class Server:
    """Takes connections, and says what it is told to."""

    def __init__(self) -> None:
        self.writers: list[asyncio.StreamWriter] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.greeting = b"220 hi\r\n"
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        task = asyncio.current_task()
        assert task is not None
        self.tasks.append(task)
        writer.write(self.greeting)
        with contextlib.suppress(ConnectionError):
            while await reader.readline():
                writer.write(b"250 ok\r\n")
        with contextlib.suppress(ConnectionError):
            writer.close()
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[Server]:
    server = Server()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for writer in server.writers:
            writer.transport.abort()
        await asyncio.gather(*server.tasks)


def gateway(server: Server, connections: int = 1, wait: float = 0.05) -> Gateway:
    config = GatewayConfig(
        address=f"inet:127.0.0.1:{server.port}",
        connections=connections,
        wait_for_connection=wait,
        failures=2,
        rest=60.0,
    )
    return Gateway(config, TIMEOUTS, b"us.test")


def test_the_breaker() -> None:
    """So many failures in a row, then a rest, and then one more is enough."""
    now = [0.0]
    breaker = Breaker(3, 10, lambda: now[0])
    told = [breaker.failed(), breaker.failed(), breaker.is_open]
    breaker.succeeded()
    told += [breaker.failed(), breaker.failed(), breaker.failed(), breaker.is_open]
    now[0] = 10.0
    told += [breaker.is_open, breaker.failed(), breaker.is_open]
    assert told == [False, False, False, *(False, False, True, True), *(False, True, True)]


def test_connections_are_used_again() -> None:
    """As long as nothing has come meanwhile; and never more than there may be."""

    async def main() -> None:
        async with running() as server:
            one = gateway(server)
            lease = await one.begin(Client())
            with pytest.raises(BusyError):
                await one.begin(Client())
            await one.end(lease)
            again = await one.begin(Client(b"other"))
            assert again.link is lease.link
            assert again.is_used
            assert again.client.hostname == b"other"
            await lease.link.run(dialogue.must(b"NOOP\r\n"), 2)
            await one.end(again)
            # It closes; the next one gets another.
            watch = lease.link._watch
            assert watch is not None
            server.writers[0].write(b"421 bye\r\n")
            await asyncio.wait([watch])
            await asyncio.sleep(0)  # its callbacks come in the next round
            assert again.link.is_closed
            fresh = await one.begin(Client())
            assert fresh.link is not lease.link
            assert not fresh.is_used
            fresh.drop()
            fresh.drop()  # gives its place back once only
            another = await one.begin(Client())
            with pytest.raises(BusyError):
                await one.begin(Client())
            await one.end(another)
            await one.close()

    asyncio.run(main())


def test_a_connection_rests_for_some_time_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it is closed in order."""
    monkeypatch.setattr(gateways, "KEEP", 0.2)

    async def main() -> None:
        async with running() as server:
            one = gateway(server)
            lease = await one.begin(Client())
            await one.end(lease)
            await asyncio.wait(server.tasks)
            assert lease.link.is_closed
            (await one.begin(Client())).drop()
            assert len(server.writers) == 2

    asyncio.run(main())


def test_the_first_that_works() -> None:
    """A gateway that is down is not asked for ever; one that is busy is in good health."""

    async def main() -> None:
        async with running() as server, running() as other:
            server.greeting = b"421 no\r\n"
            first, second = gateway(server), gateway(other)
            both = Gateways([first, second], TIMEOUTS)
            for number in range(4):
                lease = await both.begin(Client())
                assert lease.gateway is second
                lease.drop()
                assert len(server.writers) == min(number + 1, 2)
            lease = await both.begin(Client())
            for _ in range(4):
                with pytest.raises(GatewayError, match=r"left alone.*all its 1 connections"):
                    await both.begin(Client())
            assert not second.breaker.is_open
            lease.drop()
            (await both.begin(Client())).drop()

    asyncio.run(main())


def test_a_refusal_is_no_failure() -> None:
    """It is for the client, and no other gateway is asked."""

    async def main() -> None:
        async with running() as server:
            server.greeting = b"554 not you\r\n"
            one = gateway(server)
            one.config = GatewayConfig(address=one.name, tell=dialogue.Tell.PROXY)
            for _ in range(3):
                with pytest.raises(Refused):
                    await Gateways([one], TIMEOUTS).begin(Client())
            assert not one.breaker.is_open

    asyncio.run(main())
