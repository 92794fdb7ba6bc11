"""A conversation that keeps to no order: for sessions that an MTA of ours would not hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, cast, final

from milterproto._buffer import DEFAULT_MAX_PAYLOAD, FrameBuffer
from milterproto._errors import RemoteProtocolError
from milterproto._events import (
    Body,
    Command,
    Connect,
    Continue,
    Data,
    EndOfHeaders,
    EndOfMessage,
    Header,
    Helo,
    MailFrom,
    Negotiate,
    Progress,
    Quit,
    RcptTo,
    Response,
    Skip,
    Unknown,
    Verdict,
)
from milterproto._flags import Steps
from milterproto._memory import Wire
from milterproto._message import Client, Message
from milterproto._negotiation import SINCE, answer_fault, offer
from milterproto._shell.transcript import FROM_FILTER, FROM_MTA, Entry, Recorder
from milterproto._state import EDITS, SUPPRESS, reply_due
from milterproto._wire import MAX_PACKET, RESPONSE_DECODERS, encode_command


class Peer(Wire, Protocol):
    """A `Wire` that can be closed."""

    def close(self) -> object:
        """Of no use any more."""


class DecidedError(Exception):
    """The filter has decided before the point that was to be looked at; the text says so."""


@final
class Tap:
    """A wire that keeps what crosses it."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._recorder = Recorder(1)
        self.entries: list[Entry] = []

    def sendall(self, data: bytes, /) -> None:
        self.entries += self._recorder.take(FROM_MTA, data, 0)
        self._peer.sendall(data)

    def recv(self, size: int, /) -> bytes:
        data = self._peer.recv(size)
        self.entries += self._recorder.take(FROM_FILTER, data, 0)
        return data

    def shutdown(self, how: int, /) -> None:
        self._peer.shutdown(how)

    def close(self) -> None:
        self._peer.close()

    @property
    def last(self) -> str:
        """What was said last to the filter."""
        said = [type(entry.seen).__name__ for entry in self.entries if entry.way == FROM_MTA]
        return said[-1] if said else "the connection"


@final
class Talk:
    """A connection to a filter, negotiated, on which any command may follow any other.

    What the filter does not want is left out, and each reply that is due is waited for.
    """

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._buffer = FrameBuffer(frozenset(RESPONSE_DECODERS), DEFAULT_MAX_PAYLOAD)
        self._skipped: type[Command] | None = None
        self.answer = self._negotiate(offer())

    def tell(self, *commands: Command) -> None:
        """Say them; DecidedError once the filter's verdict ends the message, or more."""
        for command in commands:
            kind = type(command)
            if not self._wanted(kind):
                continue
            self._skipped = None
            self.write(command)
            if not reply_due(kind, self.answer.steps):
                continue
            verdict = self.verdict()
            if isinstance(verdict, Skip):
                self._skipped = kind
            elif kind not in (Unknown, EndOfMessage) and not isinstance(verdict, Continue):
                raise DecidedError(f"{type(verdict).__name__} to {kind.__name__}")

    def write(self, command: Command) -> None:
        """Say it, and wait for nothing. RemoteProtocolError if the filter has said too much."""
        if not self._buffer.empty:
            raise RemoteProtocolError("the filter sent something that it was not asked for")
        self._wire.sendall(encode_command(command))

    def verdict(self) -> Verdict:
        """Wait for a verdict."""
        while True:
            response = self._response()
            if type(response) not in EDITS and not isinstance(response, Progress):
                return cast("Verdict", response)

    def header(self, message: Message) -> Iterator[Header]:
        """The fields of a message as they are negotiated."""
        for field in message.headers:
            leading = self.answer.steps & Steps.HDR_LEADSPC
            yield Header(field.name, field.raw if leading else field.raw.removeprefix(b" "))

    def content(self, message: Message) -> Iterable[Command]:
        """DATA and all that follows it, but its end."""
        size = MAX_PACKET
        pieces = [message.body[at : at + size] for at in range(0, len(message.body), size)]
        return [Data(), *self.header(message), EndOfHeaders(), *map(Body, pieces)]

    def _wanted(self, kind: type[Command]) -> bool:
        suppressed = self.answer.steps & SUPPRESS.get(kind, Steps(0))
        too_new = self.answer.version < SINCE.get(kind, 0)
        return not suppressed and not too_new and kind is not self._skipped

    def _negotiate(self, offered: Negotiate) -> Negotiate:
        self.write(offered)
        answer = self._response()
        if not isinstance(answer, Negotiate):
            raise RemoteProtocolError(f"{type(answer).__name__} is no reply to Negotiate")
        if fault := answer_fault(answer, offered):
            raise RemoteProtocolError(f"the filter's answer to the offer: {fault}")
        return answer

    def _response(self) -> Response:
        while (frame := self._buffer.next_frame()) is None:
            data = self._wire.recv(1 << 16)
            if not data:
                raise RemoteProtocolError("the filter has closed the connection, and owes a reply")
            self._buffer.feed(data)
        return RESPONSE_DECODERS[frame[0]](frame[1])


def hello(client: Client) -> list[Command]:
    """A client connects, and says EHLO."""
    connect = Connect(client.hostname, client.family, client.port, client.address)
    return [connect, Helo(client.helo)]


def envelope(message: Message) -> list[Command]:
    """Sender and recipients."""
    recipients = [RcptTo(one.address, one.parameters) for one in message.recipients]
    return [MailFrom(message.sender, message.sender_parameters), *recipients]


def transaction(talk: Talk, message: Message) -> list[Command]:
    """All of a message."""
    return [*envelope(message), *talk.content(message), EndOfMessage()]


def bye(talk: Talk, wire: Wire) -> Iterator[str]:
    """Say QUIT; why the filter does not take it as it should."""
    talk.write(Quit())
    yield from at_end(wire)


def at_end(wire: Wire) -> Iterator[str]:
    """The session is over; why the filter does not end it as it should."""
    rest = b""
    try:
        while data := wire.recv(1 << 16):
            rest += data
    except TimeoutError:
        yield "keeps the connection open at the end of the session"
    if rest:
        yield f"sends {len(rest)} bytes more than it was asked for: {rest[:20].hex(' ')}"
