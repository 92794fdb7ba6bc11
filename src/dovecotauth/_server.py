"""The server's side: what Dovecot is to Postfix."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Final, TypeAlias

from . import _wire
from ._connection import Connection
from ._errors import LocalProtocolError, RemoteProtocolError
from ._events import (
    TEMP_FAIL,
    Auth,
    Cancel,
    Cancelled,
    ClientHello,
    Connected,
    ConnectionClosed,
    Cont,
    Fail,
    Flags,
    FromServer,
    Malformed,
    Mechanism,
    Ok,
    ServerHello,
    Version,
    has,
)
from ._handshake import CANCELLED, CHANNEL_BINDING, decode_client_hello, encode_server_hello
from ._state import CLIENTS_MOVE, REQUESTS, Greeting, Phase, State, kind

# Far more than a client has users at work, and little memory. Postfix leaves one behind for each
# exchange that its client gave up, until somebody forgets it.
DEFAULT_MAX_OUTSTANDING: Final = 1000

# As in `Connection`.
_HANDSHAKE: Final = State.HANDSHAKE
_GREETED: Final = Greeting.DONE

Received: TypeAlias = Connected | Version | ClientHello | Auth | Cont | Cancel | Malformed
"""What a server is told, but for the end."""


class ServerConnection(Connection[Received, FromServer]):
    """A server's side of one connection.

    The first event is `Connected`, before any byte has come. Sent then, a `ServerHello` is the
    whole greeting, which suits every client. Sent a `Version` in its place, the server waits
    for the client's, and then a `ServerHello` is due: so a mechanism with channel binding, which
    only a client of 1.3 may see, can be offered. (A `ServerHello` leaves such out where the
    client is older, or not known to be as new.)

    Any number of requests may be open, and be answered in any order. ``max_line``: the longest
    line taken, in bytes with its LF. ``max_outstanding``: how many requests may be open; one
    more is `Malformed`, and a temporary failure.
    """

    def __init__(
        self,
        *,
        max_line: int = _wire.MAX_LINE,
        max_outstanding: int = DEFAULT_MAX_OUTSTANDING,
    ) -> None:
        super().__init__(max_line)
        self._max_outstanding = max_outstanding
        self._connected_delivered = False
        self._offered: tuple[Mechanism, ...] = ()
        self._names: frozenset[bytes] = frozenset()
        self._final_allowed: set[int] = set()

    @property
    def mechanisms(self) -> tuple[Mechanism, ...]:
        """Those that this client was offered."""
        return self._offered

    @property
    def outstanding(self) -> Mapping[int, Phase]:
        """The open requests by id, and whose move it is in each."""
        return self._outstanding

    @property
    def our_turn(self) -> bool:
        """Whether our greeting is due, before the next event can be had. Replies are never."""
        if self._state is not State.HANDSHAKE or self._ours is Greeting.DONE:
            return False
        return self._ours is Greeting.NOTHING or self._theirs is not Greeting.NOTHING

    @property
    def idle(self) -> bool:
        """Whether nothing is lost if the connection ends now."""
        return not self._requests or self._state in (State.CLOSED, State.FAILED)

    def forget(self, number: int) -> None:
        """Drop a request without a word, as Dovecot does after 150 s; unknown ones are fine.

        Postfix never says that its client gave up. A response that comes after all is Malformed.
        """
        self._move(number, None)
        self._final_allowed.discard(number)

    def events(self) -> Iterator[Received | ConnectionClosed]:
        """The events that are there now, for a loop whose body sends what is due.

        Ends when more bytes are needed, and when it is resumed while our greeting is due.
        """
        for event in super().events():
            yield event
            if self.our_turn:
                return

    def next_event(self) -> Received | ConnectionClosed | None:
        """The next event, or None until more bytes have come.

        Raises RemoteProtocolError if the client broke the protocol, and LocalProtocolError while
        our greeting is due; but an end of file is told even then.
        """
        if self._state is _HANDSHAKE and self.our_turn:
            if self._ours is Greeting.NOTHING and not self._connected_delivered:
                self._connected_delivered = True
                return Connected()
            if self._eof:
                return self._close()
            raise LocalProtocolError("greet the client before asking for the next event")
        return super().next_event()

    # --- what comes

    def _read(self, words: list[bytes], line: bytes) -> Received | None:
        if self._theirs is not _GREETED:
            hello = decode_client_hello(words)
            self._they_said(ClientHello)
            return hello
        read = self._READERS.get(words[0])
        if read is None:
            raise RemoteProtocolError("a command that there isn't, or not after the handshake")
        return read(self, words, line)

    def _read_auth(self, words: list[bytes], line: bytes) -> Received:
        event = _wire.decode_auth(words, line, self._minor, self._names)
        number = event.id if type(event) is Auth else event.reply.id
        if number in self._requests:
            raise RemoteProtocolError("an AUTH with the id of a request that is still open")
        if len(self._requests) >= self._max_outstanding:
            return self._refuse(line, "too many open requests", Fail(number, code=TEMP_FAIL))
        self._requests[number] = REQUESTS[None, type(event)]
        if type(event) is Auth and has(event.parameters, b"final-resp-ok"):
            self._final_allowed.add(number)
        return event

    def _read_cont(self, words: list[bytes], line: bytes) -> Received | None:
        number = _wire.id_of(words)
        phase = self._requests.get(number)
        if phase in (Phase.REFUSED, Phase.CANCELLED):
            return None  # what is owed for it answers this, too
        event = _wire.decode_client_cont(words, line, self.minor)
        # In the order in which Dovecot looks: the id, the turn, the data.
        if phase is None:
            reply = Fail(number, reason=_wire.UNKNOWN_ID)
            return self._refuse(line, "a response to a request that is not open", reply)
        step = (phase, kind(event))
        if phase not in CLIENTS_MOVE or step not in REQUESTS:
            reply = Fail(number, reason=_wire.UNEXPECTED)
            return self._refuse(line, "a response to no challenge, or to another", reply)
        self._requests[number] = REQUESTS[step]
        return event

    def _read_cancel(self, words: list[bytes], _line: bytes) -> Received:
        event = _wire.decode_cancel(words)
        self.forget(event.id)
        if self.minor >= CANCELLED:
            self._owe(event.id, Phase.CANCELLED)
        return event

    _READERS: Final[Mapping[bytes, Callable[[Any, list[bytes], bytes], Received | None]]] = {
        b"AUTH": _read_auth,
        b"CONT": _read_cont,
        b"CANCEL": _read_cancel,
    }

    def _refuse(self, line: bytes, reason: str, reply: Fail) -> Malformed:
        self._owe(reply.id, Phase.REFUSED)
        return Malformed(line, reason, reply)

    def _owe(self, number: int, phase: Phase) -> None:
        """A reply that is owed for a request that is over takes a place, too, till it is sent."""
        if len(self._requests) >= 2 * self._max_outstanding:
            raise RemoteProtocolError("far too many open requests")
        self._requests[number] = phase

    # --- what goes

    def _encode_hello(self, event: ServerHello) -> bytes:
        version, line = self._unsaid_version(ServerHello)
        binding = self._peer_version is not None and self.minor >= CHANNEL_BINDING
        offered = tuple(
            one for one in event.mechanisms if binding or Flags.CHANNEL_BINDING not in one.flags
        )
        if all(Flags.PRIVATE in one.flags for one in offered):
            raise LocalProtocolError("no mechanism for the client: without any, Postfix gives up")
        names = frozenset(one.name for one in offered)
        if len(names) < len(offered):
            raise LocalProtocolError("a mechanism is there twice")
        data = line + encode_server_hello(event, version.minor, offered)
        if line:
            self._our_version = version
            self._we_said(Version)
        self._we_said(ServerHello)
        self._offered, self._names = offered, names
        return data

    def _encode_reply(self, event: Cont | Ok | Fail | Cancelled) -> bytes:
        phase = self._requests.get(event.id)
        step = (phase, kind(event))
        if phase in CLIENTS_MOVE or step not in REQUESTS:
            stand = "is not open" if phase is None else f"is {phase.name}"
            raise LocalProtocolError(
                f"{type(event).__name__}(...) can't be sent: the request {stand}"
            )
        data = self._REPLIES[type(event)](event, self._minor)
        final = (type(event) is Ok or type(event) is Fail) and event.response is not None
        if final and event.id not in self._final_allowed:
            raise LocalProtocolError(
                "a response can't be sent with the result of a request without final-resp-ok: "
                "send a Cont with it before, and wait for an empty one"
            )
        self._move(event.id, REQUESTS[step])
        if REQUESTS[step] is None:
            self._final_allowed.discard(event.id)
        return data

    _ENCODERS: ClassVar[Mapping[type, Callable[[Any, Any], bytes]]] = {
        ServerHello: _encode_hello,
        **dict.fromkeys((Cont, Ok, Fail, Cancelled), _encode_reply),
    }
    _REPLIES: Final[Mapping[type, Callable[[Any, int], bytes]]] = {
        Cont: _wire.encode_server_cont,
        Ok: _wire.encode_ok,
        Fail: _wire.encode_fail,
        Cancelled: _wire.encode_cancelled,
    }
