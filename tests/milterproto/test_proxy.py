"""What the recorder does between two connections."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from milterproto._shell.proxy import Proxy, Streams
from milterproto._shell.transcript import FROM_FILTER, FROM_MTA, Entry

from .peers import frame

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
PATIENCE = 20


def through(
    directory: Path, serve: Serve | None, talk: Callable[[Streams], Awaitable[None]]
) -> list[Entry]:
    """Let `talk` be an MTA, and `serve` a filter, with a proxy between them; what it saw."""
    found: list[Entry] = []
    target, front = str(directory / "target"), str(directory / "front")

    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            if serve is not None:

                async def served(
                    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
                ) -> None:
                    with contextlib.closing(writer):
                        await serve(reader, writer)

                server = await asyncio.start_unix_server(served, target)
                await stack.enter_async_context(server)
            proxy = Proxy(
                lambda: asyncio.open_unix_connection(target),
                iter(range(10**9)).__next__,
                found.append,
            )
            done = asyncio.Event()

            async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await proxy.connected(reader, writer)
                done.set()

            await stack.enter_async_context(await asyncio.start_unix_server(connected, front))
            reader, writer = await asyncio.open_unix_connection(front)
            with contextlib.closing(writer):
                await talk((reader, writer))
            await done.wait()

    asyncio.run(asyncio.wait_for(main(), PATIENCE))
    return found


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()


def test_bytes_are_passed_on(directory: Path) -> None:
    """Packets or not, there and back; each is in the file, in order, and so are the ends."""
    sent = frame(b"H", b"x\0") + frame(b"B", bytes(300_000)) + b"\0\0\0\0junk"

    async def talk(streams: Streams) -> None:
        reader, writer = streams
        writer.write(sent)
        writer.write_eof()
        assert await reader.read() == sent

    found = through(directory, echo, talk)
    for way in (FROM_MTA, FROM_FILTER):
        mine = [entry for entry in found if entry.way == way]
        assert b"".join(entry.raw for entry in mine) == sent
        assert mine[-1] == Entry(1, mine[-1].seconds, way, b"", b"")
    seconds = [entry.seconds for entry in found]
    assert seconds == sorted(seconds)
    assert found[0] == Entry(1, found[0].seconds, FROM_MTA, b"H", b"x\0")


@settings(max_examples=20)
@given(st.lists(st.binary(min_size=1, max_size=50), max_size=5))
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes]) -> None:
    """As they come, and before more is there: nothing is kept back until a packet is whole."""

    async def talk(streams: Streams) -> None:
        reader, writer = streams
        for chunk in chunks:
            writer.write(chunk)
            assert await reader.readexactly(len(chunk)) == chunk

    found = through(tmp_path_factory.mktemp("proxy"), echo, talk)
    for way in (FROM_MTA, FROM_FILTER):
        assert b"".join(one.raw for one in found if one.way == way) == b"".join(chunks)


def test_a_command_stands_before_its_answer(directory: Path) -> None:
    """However quick the filter is."""

    async def talk(streams: Streams) -> None:
        reader, writer = streams
        for number in range(200):
            data = frame(b"H", b"%d\0" % number)
            writer.write(data)
            assert await reader.readexactly(len(data)) == data

    packets = [(entry.way, entry.payload) for entry in through(directory, echo, talk) if entry.code]
    assert packets == [
        (way, b"%d\0" % number) for number in range(200) for way in (FROM_MTA, FROM_FILTER)
    ]


def test_a_filter_that_closes_first(directory: Path) -> None:
    """The MTA sees it at once, and what it says then is in the file all the same."""

    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)

    async def talk(streams: Streams) -> None:
        reader, writer = streams
        writer.write(frame(b"H", b"x\0"))
        assert await reader.read() == b""
        for _ in range(3):
            writer.write(frame(b"Q"))
            await asyncio.sleep(0)

    found = through(directory, close, talk)
    assert [entry.code for entry in found if entry.way == FROM_MTA][:1] == [b"H"]
    assert [entry.code for entry in found if entry.way == FROM_FILTER] == [b""]


@pytest.mark.parametrize("resets", ["mta", "filter"])
def test_connections_that_are_reset(directory: Path, resets: str) -> None:
    """An end like another."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(frame(b"c"))
        await reader.read(1)
        if resets == "filter":
            writer.transport.abort()
        else:
            while await reader.read(1 << 16):
                pass

    async def talk(streams: Streams) -> None:
        reader, writer = streams
        # Unread bytes make a reset of a close.
        writer.write(frame(b"H", bytes(100_000)))
        if resets == "mta":
            writer.transport.abort()
        else:
            await reader.read()

    found = through(directory, serve, talk)
    assert {entry.way for entry in found if not entry.raw} == {FROM_MTA, FROM_FILTER}


def test_an_error_of_the_socket_is_an_end() -> None:
    """Whenever asyncio tells it."""
    found: list[Entry] = []

    class Writer:
        def write_eof(self) -> None:
            raise BrokenPipeError("gone, too")

        async def drain(self) -> None:
            raise ConnectionResetError("gone, too")

        def close(self) -> None:
            pass

    async def streams() -> Any:
        reader = asyncio.StreamReader()
        reader.set_exception(ConnectionResetError("reset"))
        return reader, Writer()

    async def main() -> None:
        proxy = Proxy(streams, lambda: 0, found.append)
        await proxy.connected(*await streams())

    asyncio.run(main())
    assert [(entry.way, entry.raw) for entry in found] == [(FROM_MTA, b""), (FROM_FILTER, b"")]


def test_no_filter(directory: Path) -> None:
    """The MTA's connection is closed, and there is nothing to write."""

    async def talk(streams: Streams) -> None:
        assert await streams[0].read() == b""

    assert through(directory, None, talk) == []
