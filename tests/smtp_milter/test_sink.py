"""The sink's sockets: who may connect, and what becomes of what nobody has sent."""

from __future__ import annotations

import asyncio
import errno
import logging
from pathlib import Path

import pytest
from smtp_milter import _dialogue as dialogue
from smtp_milter._client import Client
from smtp_milter._config import Foreign, SinkConfig
from smtp_milter._correlator import Way
from smtp_milter._errors import GatewayError, Refused
from smtp_milter._link import Link
from smtp_milter._replies import Reply
from smtp_milter._sink import Sink
from smtp_milter._spool import Spool

from .helpers import returned


async def send(where: Path | tuple[str, int], content: bytes) -> Reply:
    """A message from a stranger; the reply to it."""
    link = await Link.open(where, 2)
    try:
        session = await link.run(dialogue.begin(b"us.test", Client(), dialogue.Tell.NOTHING), 2)
        await link.run(dialogue.mail(session, Client(), b"", b"<a@b>", ()), 2)
        await link.run(dialogue.rcpt(session, b"<c@d>", ()), 2)
        await link.run(dialogue.data(), 2)
        return await link.content([content], 2)
    finally:
        await link.quit()
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("foreign", "code"), [(Foreign.TEMPFAIL, 451), (Foreign.DISCARD, 250), (Foreign.RELAY, 451)]
)
def test_foreign_mail(tmp_path: Path, foreign: Foreign, code: int) -> None:
    """Over a unix socket; where it can't be relayed, it stays where it is."""
    config = SinkConfig(
        listen=f"unix:{tmp_path}/sink",
        foreign=foreign,
        relay_to=f"unix:{tmp_path}/nobody",
        known_by=[Way.HEADER],
    )

    async def main() -> None:
        sink = Sink(config, "sink.test", 100)
        assert await sink.start(0o600) == f"unix:{tmp_path}/sink"
        assert (tmp_path / "sink").stat().st_mode & 0o777 == 0o600
        try:
            assert (await send(tmp_path / "sink", b"A: 1\r\n\r\nx\r\n")).code == code
            sink.correlator.expect(b"mark", b"<a@b>")
            marked = b"X-SMTP-Milter-Mark: mark\r\n\r\nx\r\n"
            reply = await send(tmp_path / "sink", marked)
            assert reply.code == 250
            (back,) = sink.correlator.claim(b"mark", ())
            assert b"".join(back.content.chunks()) == marked
            assert back.nonce in reply.lines[0]
            # A gateway adds to a message; but not without end.
            assert (await send(tmp_path / "sink", b"x" * 1_100_000)).code == 552
        finally:
            await sink.stop()

    asyncio.run(main())


def test_who_may_connect() -> None:
    """By address."""

    async def main() -> None:
        sink = Sink(SinkConfig(listen="inet:127.0.0.1:0", allow=["192.0.2.1"]), "sink.test", 100)
        port = int((await sink.start(0o600)).rpartition(":")[2])
        try:
            link = await Link.open(("127.0.0.1", port), 2)
            with pytest.raises(Refused) as raised:
                await link.run(dialogue.must(b""), 2)
            assert raised.value.reply.code == 554
            link.close()
        finally:
            await sink.stop()
            await asyncio.sleep(0)

    asyncio.run(main())


def test_what_is_kept(tmp_path: Path) -> None:
    """Nobody else can read it, and nothing is written over."""
    config = SinkConfig(listen="unix:x", unclaimed=str(tmp_path / "unclaimed"))
    sink = Sink(config, "sink.test", 100)
    message = returned(b"A: 1\r\n\r\nx\r\n", nonce=b"mw1")
    sink._save(message)
    (kept,) = (tmp_path / "unclaimed").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.read_bytes() == (
        b"X-Envelope-From: <a@example.org>\r\nX-Envelope-To: <b@example.test>\r\nA: 1\r\n\r\nx\r\n"
    )
    with pytest.raises(FileExistsError):
        sink._save(message)


def test_where_nothing_can_be_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Said at the start; and later, it is not the fault of who happens to be there."""
    (tmp_path / "file").write_bytes(b"")
    config = SinkConfig(listen=f"unix:{tmp_path}/sink", unclaimed=f"{tmp_path}/file/unclaimed")
    sink = Sink(config, "sink.test", 100)
    with pytest.raises(ValueError, match="unclaimed"):
        asyncio.run(sink.start(0o600))
    sink.correlator.expect(b"t", b"<a@example.org>")
    assert sink.correlator.takes(returned(b"", nonce=b"mw1"), [])
    sink.correlator.forget(b"t")
    assert [one.levelno for one in caplog.records] == [logging.CRITICAL]


def test_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The gateway is not told that it is taken, and the log says why."""

    def full(_: Spool, _data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Spool, "write", full)

    async def main() -> None:
        sink = Sink(SinkConfig(listen=f"unix:{tmp_path}/sink"), "sink.test", 100)
        await sink.start(0o600)
        try:
            with pytest.raises(GatewayError):
                await send(tmp_path / "sink", b"x\r\n")
        finally:
            await sink.stop()

    asyncio.run(main())
    assert "No space left on device" in caplog.text
