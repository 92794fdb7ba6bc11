"""The example that takes XCLIENT, asked over a socket."""

from __future__ import annotations

import asyncio
import re
import sys

import pytest
import xclient_receiver as example

from nginxauth import xclient as xc

EHLO = b"EHLO proxy.test\r\n"
CLIENT = b"XCLIENT NAME=[UNAVAILABLE] ADDR=IPV6:2001:db8::1 LOGIN=ann+20lee\r\n"
LAST = re.compile(rb"[0-9]{3} ")


async def _talk(offers: dict[str, xc.Offer], lines: tuple[bytes, ...]) -> list[bytes]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: example.Server(offers), "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        replies = []
        for line in (b"", *lines):
            writer.write(line)
            reply = b""
            while not LAST.match(reply.splitlines(keepends=True)[-1] if reply else b""):
                piece = await asyncio.wait_for(reader.readline(), 10)
                if not piece:
                    break
                reply += piece
            replies.append(reply)
        writer.close()
        await writer.wait_closed()
    return replies[1:]


def talk(*lines: bytes, offers: dict[str, xc.Offer] | None = None) -> list[bytes]:
    """The reply to each line; empty once the server has closed."""
    trusted = {"127.0.0.1": example.WITH_LOGIN} if offers is None else offers
    return asyncio.run(_talk(trusted, lines))


def codes(*lines: bytes, offers: dict[str, xc.Offer] | None = None) -> list[bytes]:
    return [reply[:3] for reply in talk(*lines, offers=offers)]


def test_who_sends_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """In one line, whatever the login is; the proxy's name is not taken for the client's."""
    replies = talk(
        EHLO,
        CLIENT,
        *(b"EHLO client.test\r\n", b"MAIL FROM:<a@example.org>\r\n"),
        *(b"RCPT TO:<b@example.test>\r\n", b"DATA\r\n", b"x\r\n.\r\n"),
    )
    assert b"250-XCLIENT NAME " in replies[0]
    assert replies[1] == b"220 receiver.test ESMTP\r\n"
    assert b"XCLIENT" not in replies[2]
    assert replies[6].startswith(b"250 ")
    assert capsys.readouterr().err == (
        "mail: addr=2001:db8::1 name=[UNAVAILABLE] login=ann+20lee helo=client.test "
        "from=a@example.org to=b@example.test\n"
    )


def test_without_xclient_the_peer_is_the_client(capsys: pytest.CaptureFixture[str]) -> None:
    """As for every server."""
    talk(EHLO, b"MAIL FROM:<>\r\n", b"RCPT TO:<b@example.test>\r\n", b"DATA\r\n", b".\r\n")
    assert "mail: addr=127.0.0.1 helo=proxy.test from= to=b@example.test" in capsys.readouterr().err


def test_nobody_writes_into_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever a client says of himself stays one word."""
    talk(
        CLIENT,
        *(b"EHLO x login=admin\r\n", b'MAIL FROM:<"a login=admin"@b.test>\r\n'),
        *(b'RCPT TO:<"b\tto=c"@d.test>\r\n', b"DATA\r\n", b".\r\n"),
    )
    assert capsys.readouterr().err == (
        "mail: addr=2001:db8::1 name=[UNAVAILABLE] login=ann+20lee helo=x+20login+3Dadmin "
        "from=+22a+20login+3Dadmin+22@b.test to=+22b+09to+3Dc+22@d.test\n"
    )


def test_the_session_begins_again() -> None:
    """There has to be another EHLO, and there is no second XCLIENT."""
    assert codes(EHLO, CLIENT, b"MAIL FROM:<>\r\n", CLIENT) == [b"250", b"220", b"503", b"550"]


def test_who_is_not_trusted_is_told_so() -> None:
    """Not at all, or not with a login."""
    assert codes(EHLO, CLIENT, offers={}) == [b"250", b"550"]
    without = {"127.0.0.1": example.WITHOUT_LOGIN}
    assert codes(EHLO, CLIENT, offers=without) == [b"250", b"501"]


def test_not_in_a_transaction() -> None:
    """And not with something behind it."""
    assert codes(EHLO, b"MAIL FROM:<>\r\n", CLIENT) == [b"250", b"250", b"503"]
    assert codes(EHLO, b"XCLIENT\r\n", CLIENT + EHLO, b"") == [b"250", b"501", b"554", b""]


def test_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is trusted unless it is said."""
    got: list[tuple[str, int, dict[str, xc.Offer]]] = []

    async def serve(*arguments: object) -> None:
        got.append(arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(example, "serve", serve)
    for arguments in ([], ["--trust", "::1", "--port", "0"], ["--trust", "127.0.0.1", "--login"]):
        monkeypatch.setattr(sys, "argv", ["xclient_receiver.py", *arguments])
        example.main()
    assert got == [
        ("127.0.0.1", 2525, {}),
        ("127.0.0.1", 0, {"::1": example.WITHOUT_LOGIN}),
        ("127.0.0.1", 2525, {"127.0.0.1": example.WITH_LOGIN}),
    ]
