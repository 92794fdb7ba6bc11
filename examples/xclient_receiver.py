"""An SMTP server behind a proxy: it takes XCLIENT from those it trusts, and says who sends.

It stands behind nginx, or behind whatever else sends XCLIENT, and throws the mail away:

    python examples/xclient_receiver.py --trust 127.0.0.1 --login
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import signal
import sys
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session

from nginxauth import xclient as xc

WITHOUT_LOGIN = xc.Offer(tuple(name for name in xc.EVERYTHING.xclient if name != b"LOGIN"))
WITH_LOGIN = xc.Offer(xc.EVERYTHING.xclient)


class Server(SMTP):
    """aiosmtpd's server, with XCLIENT; `offers` has what each trusted address may use."""

    def __init__(self, offers: dict[str, xc.Offer]) -> None:
        super().__init__(Handler(), hostname="receiver.test", ident="ESMTP")
        self.offers = offers
        self.receiver = xc.Receiver(xc.Offer())
        self.peer = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A peer has come, who may use XCLIENT or not."""
        super().connection_made(transport)
        self.peer = str(ipaddress.ip_address(transport.get_extra_info("peername")[0]))
        self.receiver = xc.Receiver(self.offers.get(self.peer, xc.Offer()))

    async def smtp_XCLIENT(self, arg: str | None) -> None:  # noqa: N802 - aiosmtpd looks for it
        """Called by aiosmtpd with what follows the verb."""
        assert self.session is not None
        event = self.receiver.receive(
            b"XCLIENT " + (arg or "").encode("utf-8", "surrogateescape"),
            in_transaction=bool(self.envelope and self.envelope.mail_from is not None),
            # There is no public way to ask whether more has come.
            pipelined=bool(vars(self._reader)["_buffer"]),
        )
        if isinstance(event, xc.Refused):
            await self.push(event.reply)
            if event.close and self.transport is not None:
                self.transport.close()
            return
        # As if he had just connected. What the proxy has said or was trusted for is forgotten.
        peer = self.session.peer
        self.session = self._create_session()
        self.session.peer = peer
        self.envelope = self._create_envelope()
        # The place to refuse him: with 554, or with 421 for now.
        await self.push(f"220 {self.hostname} ESMTP")


class Handler:
    """What aiosmtpd asks at each step."""

    async def handle_EHLO(  # noqa: N802
        self, server: Any, session: Session, _envelope: Envelope, hostname: str, replies: list[str]
    ) -> list[str]:
        """The extensions, with XCLIENT for who may use it."""
        session.host_name = hostname
        offered = [f"250-{line.decode()}" for line in xc.ehlo_lines(server.receiver.offer)]
        return [replies[0], *offered, *replies[1:]]

    async def handle_DATA(  # noqa: N802
        self, server: Any, session: Session, envelope: Envelope
    ) -> str:
        """Say who sends."""
        client = server.receiver.client
        # In the words of the command, where [UNAVAILABLE] can't be mistaken for a name.
        told = {
            "addr": client.addr or server.peer.encode(),
            "name": client.name,
            "login": client.login,
        }
        words = [f"{key}={shown(value)}" for key, value in told.items() if value is not None]
        # The bounce's sender is "<>" here, and here alone there are brackets.
        sender = (envelope.mail_from or "").replace("<>", "")
        words += [f"helo={shown(session.host_name or '')}", f"from={shown(sender)}"]
        print("mail:", *words, *(f"to={shown(one)}" for one in envelope.rcpt_tos), file=sys.stderr)
        return "250 2.0.0 Thrown away"


def shown(value: bytes | str | xc.Special) -> str:
    """A value for a log: as xtext, so that it stays one word of one line."""
    if isinstance(value, xc.Special):
        return value.value.decode()
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogateescape")
    return xc.encode_xtext(value).decode()


async def serve(host: str, port: int, offers: dict[str, xc.Offer]) -> None:
    """Until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = await loop.create_server(lambda: Server(offers), host, port)
    where = server.sockets[0].getsockname()
    print(f"listening on {where[0]}:{where[1]}", file=sys.stderr, flush=True)
    await stop.wait()
    server.close()


def main() -> None:
    """Read the command line, and serve."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=2525, help="0: any that is free")
    parser.add_argument("--trust", action="append", default=[], help="a proxy's IP address")
    parser.add_argument("--login", action="store_true", help="they check passwords; nginx does")
    options = parser.parse_args()
    offer = WITH_LOGIN if options.login else WITHOUT_LOGIN
    offers = {str(ipaddress.ip_address(one)): offer for one in options.trust}
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(options.host, options.port, offers))


if __name__ == "__main__":
    main()
