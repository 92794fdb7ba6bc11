"""An SMTP server that asks milters, as an MTA does: the pattern for those who write one.

    python examples/smtpd_with_milters.py --listen 127.0.0.1:2525 \
        inet:127.0.0.1:8891 unix:/run/filter.sock

The milters are asked in their order, and each is shown what those before it have made of the
message. The first that refuses ends it, and the SMTP client is told so at once. Where one does not
answer, the client is told to try again later. Messages that are accepted are printed, with the
reason if one is to be held.

The server is aiosmtpd's, which asks about a client only when it says HELO: so that is when milters
hear of the connection, too.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from aiosmtpd.smtp import SMTP, Envelope, Session

import milterproto as mp
from milterproto.message import Dialect, Message, Recipient, apply

LATER: Final = "451 4.7.1 Service unavailable - try again later"
REJECTED: Final = "550 5.7.1 Command rejected"
UNFIT: Final = "554 5.6.0 No filter can be asked about this"
PATIENCE: Final = 300.0  # seconds; a filter that thinks for longer says Progress
# The macros that are sent before a command, unless the filter asks for others.
MACROS: Final[Mapping[type[mp.Command], tuple[mp.Stage, tuple[bytes, ...]]]] = {
    mp.Connect: (mp.Stage.CONNECT, (b"j", b"{daemon_name}")),
    mp.Helo: (mp.Stage.HELO, ()),
    mp.MailFrom: (mp.Stage.MAIL, (b"i", b"{mail_addr}")),
    mp.RcptTo: (mp.Stage.RCPT, (b"{rcpt_addr}",)),
    mp.Data: (mp.Stage.DATA, (b"i",)),
    mp.EndOfHeaders: (mp.Stage.EOH, (b"i",)),
    mp.EndOfMessage: (mp.Stage.EOM, (b"i",)),
}
# What ends a filter's part in a message, or more.
Refusal: TypeAlias = mp.Reject | mp.TempFail | mp.ReplyCode | mp.Discard | mp.Shutdown


class Milter:
    """One connection to one filter, for one SMTP client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._conn = mp.MTAConnection()

    @classmethod
    async def open(cls, address: str) -> Milter:
        """Connect to ``unix:/path`` or ``inet:host:port``, and negotiate."""
        family, _, rest = address.partition(":")
        if family == "unix":
            connecting = asyncio.open_unix_connection(rest)
        else:
            host, _, port = rest.rpartition(":")
            connecting = asyncio.open_connection(host.strip("[]"), int(port))
        reader, writer = await asyncio.wait_for(connecting, PATIENCE)
        milter = cls(reader, writer)
        try:
            await milter.ask(mp.offer(), {}, [])
        except BaseException:
            writer.close()
            raise
        return milter

    async def ask(
        self, command: mp.Command, macros: Mapping[bytes, bytes], edits: list[mp.Edit]
    ) -> Refusal | None:
        """Tell the filter, if it wants to know; why it refuses, if it does.

        Its edits are put to the others. Raises OSError or RemoteProtocolError if it is of no use.
        """
        if not self._conn.wants(type(command)):
            return None
        if type(command) in MACROS:
            stage, usual = MACROS[type(command)]
            names = self._conn.macros_wanted(stage) or usual
            known = {name: macros[name] for name in names if name in macros}
            self._writer.write(self._conn.send(mp.Macros.of(type(command), known)))
        self._writer.write(self._conn.send(command))
        async for response in self._responses():
            match response:
                case mp.Reject() | mp.TempFail() | mp.ReplyCode() | mp.Discard() | mp.Shutdown():
                    return response
                case mp.ConnectionFailure() | mp.ConnectionClosed():
                    raise ConnectionError("the filter has given up")
                case mp.Negotiate() | mp.Continue() | mp.Accept() | mp.Skip() | mp.Progress():
                    pass  # what it wants to hear from here on, its connection knows
                case _:
                    edits.append(response)
        return None

    async def _responses(self) -> Any:
        while not self._conn.our_turn:
            event = self._conn.next_event()
            if event is not None:
                yield event
                continue
            await self._writer.drain()
            self._conn.receive_data(await asyncio.wait_for(self._reader.read(1 << 16), PATIENCE))

    def content(self, message: Message) -> Iterator[mp.Command]:
        """The header and the body as this filter wants them."""
        negotiated = self._conn.negotiated
        leading = negotiated is not None and negotiated.steps & mp.Steps.HDR_LEADSPC
        for field in message.headers:
            yield mp.Header(field.name, field.raw if leading else field.raw.removeprefix(b" "))
        yield mp.EndOfHeaders()
        for start in range(0, len(message.body), 65535):
            yield mp.Body(message.body[start : start + 65535])
        yield mp.EndOfMessage()

    def applied(self, message: Message, edits: Iterable[mp.Edit]) -> Message:
        """What this filter's edits make of the message; LocalProtocolError if they can't be."""
        negotiated = self._conn.negotiated
        leading = negotiated is not None and bool(negotiated.steps & mp.Steps.HDR_LEADSPC)
        return apply(message, edits, Dialect.POSTFIX, leading_space=leading)

    def abort(self) -> None:
        """The message is over."""
        if self._conn.our_turn and self._conn.wants(mp.Abort):
            self._writer.write(self._conn.send(mp.Abort()))

    def close(self) -> None:
        """The client is gone; a filter that owes an answer finds out by the end of file."""
        if self._conn.our_turn and self._conn.wants(mp.Quit):
            self._writer.write(self._conn.send(mp.Quit()))
        self._writer.close()


class Milters:
    """All filters of one SMTP client, and what they have decided so far."""

    def __init__(self, addresses: Iterable[str]) -> None:
        self._addresses = addresses
        self._milters: list[Milter] = []
        self._macros = {b"j": b"mx.test", b"{daemon_name}": b"mx.test"}
        self._about_client: str | None = None
        self.discarded = False

    async def greet(self, session: Session) -> None:
        """Tell of the client and its HELO; what is decided here, the client hears at MAIL."""
        if not self._milters:
            # It is the first time, or one of them was of no use: that may be over.
            self._about_client = None
            try:
                for address in self._addresses:
                    self._milters.append(await Milter.open(address))  # one after the other
            except (OSError, mp.RemoteProtocolError) as error:
                self._broken(error)
                return
            self._about_client = await self._all(_connect(session.peer))
        if self._about_client is None:
            name = (session.host_name or "").encode("utf-8", "surrogateescape")
            self._about_client = await self._all(mp.Helo(name))

    async def begin(self, queue_id: bytes, command: mp.MailFrom) -> str | None:
        """A message begins; the reply, if it is refused."""
        self._macros |= {b"i": queue_id, b"{mail_addr}": command.sender.strip(b"<>")}
        return await self._all(command)

    async def recipient(self, command: mp.RcptTo) -> str | None:
        """One more; the reply, if it is refused."""
        self._macros[b"{rcpt_addr}"] = command.recipient.strip(b"<>")
        return await self._all(command)

    async def data(self) -> str | None:
        """The client wants to send content; the reply, if it may not."""
        return await self._all(mp.Data())

    async def judge(self, message: Message) -> tuple[str | None, Message]:
        """The reply, if the message is refused, and what has become of it."""
        if self._about_client is not None:
            return self._about_client, message  # or nobody would be asked
        for milter in self._milters:
            edits: list[mp.Edit] = []
            for command in milter.content(message):
                reply = await self._one(milter, command, edits)
                if reply or self.discarded:
                    return reply, message
            # The next filter is shown what this one has made of it.
            try:
                message = milter.applied(message, edits)
            except mp.LocalProtocolError as error:
                return self._broken(error), message
        return None, message

    def abort(self) -> None:
        """The message is over, whatever became of it."""
        self.discarded = False
        for milter in self._milters:
            milter.abort()

    def close(self) -> None:
        """The client is gone."""
        for milter in self._milters:
            milter.close()
        self._milters.clear()

    async def _all(self, command: mp.Command) -> str | None:
        if self._about_client is not None:
            return self._about_client
        for milter in self._milters:
            reply = await self._one(milter, command, [])
            if reply or self.discarded:
                return reply
        return None

    async def _one(self, milter: Milter, command: mp.Command, edits: list[mp.Edit]) -> str | None:
        if self.discarded:
            return None  # nobody needs to hear more of it
        try:
            refusal = await milter.ask(command, self._macros, edits)
        except (OSError, mp.RemoteProtocolError) as error:
            return self._broken(error)
        except mp.LocalProtocolError:
            return UNFIT  # a NUL, or a header field that is too long for a packet
        if isinstance(refusal, mp.Discard):
            # The client is told that all is well.
            self.discarded = not isinstance(command, mp.Connect | mp.Helo)
            return None
        return None if refusal is None else _reply(refusal)

    def _broken(self, error: Exception) -> str:
        print(f"a filter is of no use: {error}", file=sys.stderr)
        self.close()
        self._about_client = LATER
        return LATER


def _reply(refusal: Refusal) -> str:
    match refusal:
        case mp.ReplyCode(code, enhanced, lines):
            words = [b" ".join(filter(None, (enhanced, line))) for line in lines]
            marks = [b"-"] * (len(words) - 1) + [b" "]
            full = [code + mark + text for mark, text in zip(marks, words, strict=True)]
            return b"\r\n".join(full).decode("ascii", "replace")
        case mp.TempFail():
            return LATER
        case mp.Shutdown():
            return "421 4.7.0 Service unavailable"
        case _:
            return REJECTED


def _connect(peer: Any) -> mp.Connect:
    if not isinstance(peer, tuple):
        return mp.Connect(b"localhost", mp.Family.UNKNOWN)
    host = ipaddress.ip_address(peer[0])
    family = mp.Family.INET if host.version == 4 else mp.Family.INET6
    return mp.Connect(f"[{host}]".encode(), family, peer[1], str(host).encode())


_MESSAGES: Final = itertools.count(1)


class Handler:
    """What aiosmtpd calls, for one client."""

    def __init__(self, addresses: Iterable[str], deliver: Callable[[Message], object]) -> None:
        self._milters = Milters(addresses)
        self._deliver = deliver

    async def handle_HELO(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, _envelope: Envelope, name: str
    ) -> str:
        """HELO."""
        session.host_name = name
        await self._milters.greet(session)
        return f"250 {server.hostname}"

    async def handle_EHLO(  # noqa: N802
        self, _server: SMTP, session: Session, _envelope: Envelope, name: str, replies: list[str]
    ) -> list[str]:
        """EHLO."""
        session.host_name = name
        await self._milters.greet(session)
        return replies

    async def handle_MAIL(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """MAIL FROM."""
        command = mp.MailFrom(_bracketed(address), _parameters(options))
        reply = await self._milters.begin(b"%08X" % next(_MESSAGES), command)
        if reply is not None:
            self.abort()  # those before the one that refuses it think that it has begun
        else:
            envelope.mail_from = address
            envelope.mail_options.extend(options)
        return reply or "250 2.1.0 OK"

    async def handle_RCPT(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """RCPT TO."""
        reply = await self._milters.recipient(mp.RcptTo(_bracketed(address), _parameters(options)))
        if reply is None:
            envelope.rcpt_tos.append(address)
        return reply or "250 2.1.5 OK"

    async def before_data(self) -> str | None:
        """DATA, for which aiosmtpd has no hook of its own."""
        return await self._milters.data()

    async def handle_DATA(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        """The content has come."""
        content = envelope.content
        message = Message.parse(
            content if isinstance(content, bytes) else b"",
            sender=_bracketed(envelope.mail_from or ""),
            recipients=[_bracketed(address) for address in envelope.rcpt_tos],
        )
        message.sender_parameters = _parameters(envelope.mail_options)
        reply, message = await self._milters.judge(message)
        if reply is None and not self._milters.discarded and message.recipients:
            self._deliver(message)
        return reply or "250 2.0.0 OK"

    def abort(self) -> None:
        """The message is over."""
        self._milters.abort()

    def gone(self) -> None:
        """The client has gone."""
        self._milters.close()


class Server(SMTP):
    """aiosmtpd's, which asks before content is sent, and tells the handler of the end."""

    def __init__(self, handler: Handler) -> None:
        super().__init__(handler, hostname="mx.test", enable_SMTPUTF8=True)
        self._own = handler

    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802 - aiosmtpd's name
        """The filters may refuse before the content is sent; the rest is aiosmtpd's."""
        if self.envelope is not None and self.envelope.rcpt_tos and not arg:
            reply = await self._own.before_data()
            if reply:
                # Or the client might say DATA again, which no filter wants to hear then.
                self._set_rset_state()  # type: ignore[no-untyped-call]
                await self.push(reply)
                return
        await super().smtp_DATA(arg)

    def _set_post_data_state(self) -> None:
        """However a message ends: by RSET, by EHLO, or by its content, taken or too long."""
        super()._set_post_data_state()  # type: ignore[no-untyped-call]
        self._own.abort()

    async def push(self, status: Any) -> None:
        """A reply of 421 is the last."""
        await super().push(status)
        if str(status).startswith("421") and self.transport is not None:
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        """However it ended."""
        self._own.gone()
        super().connection_lost(error)


def _bracketed(address: str) -> bytes:
    if address == "<>":
        return b"<>"  # aiosmtpd takes the brackets off all others
    return b"<%b>" % address.encode("utf-8", "surrogateescape")


def _parameters(options: Iterable[str]) -> tuple[bytes, ...]:
    return tuple(option.encode("utf-8", "surrogateescape") for option in options)


def show(message: Message) -> None:
    """In place of a queue."""
    print(f"from {message.sender.decode()}", *(_shown(one) for one in message.recipients))
    if message.quarantined is not None:
        print(f"to be held: {message.quarantined.decode(errors='replace')}")
    print(message.content.decode("utf-8", "replace").replace("\r\n", "\n"), flush=True)


def _shown(recipient: Recipient) -> str:
    return f"to {recipient.address.decode()}"


async def serve(
    host: str, port: int, milters: Iterable[str], deliver: Callable[[Message], object] = show
) -> asyncio.Server:
    """Listen there. Each client gets connections to the filters of its own."""
    addresses = list(milters)
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: Server(Handler(addresses, deliver)), host, port)


async def main() -> None:
    """Until Ctrl-C."""
    parser = argparse.ArgumentParser(description="An SMTP server that asks milters.")
    parser.add_argument("--listen", default="127.0.0.1:2525", metavar="HOST:PORT")
    parser.add_argument("milters", nargs="*", metavar="MILTER", help="unix:/path, inet:host:port")
    options = parser.parse_args()
    host, _, port = options.listen.rpartition(":")
    server = await serve(host, int(port), options.milters)
    print(f"listening on {options.listen}", file=sys.stderr, flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
