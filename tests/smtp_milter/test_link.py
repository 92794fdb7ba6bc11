"""A connection to a gateway that breaks off, is slow, or talks rubbish."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from smtp_milter import _dialogue as dialogue
from smtp_milter._errors import GatewayError
from smtp_milter._link import Link
from smtp_milter._replies import Reply

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def against(serve: Serve, work: Callable[[Link], Awaitable[None]], folder: Path) -> None:
    """Run both ends."""
    serving: list[asyncio.Task[None] | None] = []

    async def safely(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        with contextlib.suppress(ConnectionError):
            await serve(reader, writer)
        with contextlib.suppress(ConnectionError):
            writer.close()
            await writer.wait_closed()

    async def main() -> None:
        server = await asyncio.start_unix_server(safely, folder / "gateway")
        link = await Link.open(folder / "gateway", 2)
        try:
            async with asyncio.timeout(10):
                await work(link)
        finally:
            link.close()
            server.close()
            await asyncio.gather(*filter(None, serving))

    asyncio.run(main())


def says(*replies: bytes) -> Serve:
    """A reply to each line."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for reply in replies:
            if not await reader.readline():
                return
            writer.write(reply)

    return serve


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (b"", "closed"),
        (b"250-half", "closed"),
        (b"hello\r\n", "does not talk SMTP"),
        (b"\x16\x03\x01" + b"x" * 5000, "does not talk SMTP"),
    ],
)
def test_no_reply(tmp_path: Path, reply: bytes, why: str) -> None:
    """The link is of no use any more."""

    async def work(link: Link) -> None:
        with pytest.raises(GatewayError, match=why):
            await link.run(dialogue.must(b"NOOP\r\n"), 2)
        assert link.is_closed

    against(says(reply), work, tmp_path)


def test_no_reply_in_time(tmp_path: Path) -> None:
    """For each reply anew."""

    async def serve(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def work(link: Link) -> None:
        with pytest.raises(GatewayError, match=r"within 0\.05 s"):
            await link.run(dialogue.must(b"NOOP\r\n"), 0.05)
        assert link.is_closed

    against(serve, work, tmp_path)


def test_given_up(tmp_path: Path) -> None:
    """Whoever is cancelled leaves no half conversation behind."""

    async def serve(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def work(link: Link) -> None:
        task = asyncio.create_task(link.run(dialogue.must(b"NOOP\r\n"), 5))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert link.is_closed

    against(serve, work, tmp_path)


def test_a_refusal_in_the_middle(tmp_path: Path) -> None:
    """A gateway has had enough: what it says is heard, and not only that it has gone."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(b"552 5.3.4 Too much\r\n")
        await writer.drain()
        writer.close()

    async def work(link: Link) -> None:
        chunks = (b"x" * 65_000 + b"\r\n" for _ in range(400))
        # Where the kernel has thrown its words away with the connection, there are none.
        with contextlib.suppress(GatewayError):
            assert await link.content(chunks, 5) == Reply(552, (b"5.3.4 Too much",))

    against(serve, work, tmp_path)


def test_an_answer_too_many(tmp_path: Path) -> None:
    """Else the next command would get it, and a recipient another's verdict."""

    async def work(link: Link) -> None:
        await link.run(dialogue.must(b"NOOP\r\n"), 2)
        with pytest.raises(GatewayError, match="nobody has asked"):
            await link.run(dialogue.must(b"NOOP\r\n"), 2)
        assert link.is_closed

    against(says(b"250 ok\r\n250 ok\r\n"), work, tmp_path)


def test_an_answer_before_the_question(tmp_path: Path) -> None:
    """A content that nobody has seen is not accepted."""

    async def work(link: Link) -> None:
        await link.run(dialogue.data(), 2)
        with pytest.raises(GatewayError, match="before it has seen any"):
            await link.content([b"x"], 2)
        assert link.is_closed

    against(says(b"354 go on\r\n250 ok\r\n"), work, tmp_path)


def test_421_is_the_end(tmp_path: Path) -> None:
    """Whoever says so closes."""

    async def work(link: Link) -> None:
        reply = await link.content([b"x"], 2)
        assert reply.code == 421
        assert link.is_closed

    against(says(b"421 bye\r\n"), work, tmp_path)


def test_no_connection(tmp_path: Path) -> None:
    """Nobody is there."""

    async def main() -> None:
        for where in (tmp_path / "nobody", ("127.0.0.1", 1)):
            with pytest.raises(GatewayError, match="no connection"):
                await Link.open(where, 2)

    asyncio.run(main())
