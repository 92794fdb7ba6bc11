"""The client's side: what Postfix is to Dovecot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, TypeAlias

from . import _wire
from ._connection import Connection
from ._errors import LocalProtocolError, RemoteProtocolError
from ._events import (
    Auth,
    Cancel,
    Cancelled,
    ClientHello,
    Cont,
    Fail,
    FromClient,
    Mechanism,
    Ok,
    ServerHello,
    Version,
)
from ._handshake import CANCELLED, HelloReader, encode_client_hello
from ._state import CLIENTS_MOVE, REQUESTS, Greeting, Phase, State, kind

# Dovecot's own greeting with every mechanism that it knows has less than 1 KiB.
MAX_HANDSHAKE: Final = 65536

# As in `Connection`.
_OPEN: Final = State.OPEN
_GREETED: Final = Greeting.DONE
_CANCELLED: Final = Phase.CANCELLED

Received: TypeAlias = Version | ServerHello | Cont | Ok | Fail | Cancelled
"""What a client is told, but for the end."""


class ClientConnection(Connection[Received, FromClient]):
    """A client's side of one connection.

    Send a `ClientHello` at once: Dovecot 2.4 waits for it. (A `Version` at once and the
    `ClientHello` after the `ServerHello`, as Exim does it, will do too; a `Version` may also
    announce less than we know.) When the `ServerHello` has come, requests may be made, any
    number of them at a time; their answers come in any order.

    Ids are yours to give: count upwards. One that is open can't be given again; nor can one that
    was given up, as long as an answer to it may be under way, which before 1.4 is for ever.
    ``max_line``: the longest line taken, in bytes with its LF.
    """

    def __init__(self, *, max_line: int = _wire.MAX_LINE) -> None:
        super().__init__(max_line)
        self._hello = HelloReader()
        self._handshake_left = MAX_HANDSHAKE
        self._offered: tuple[Mechanism, ...] = ()
        self._names: frozenset[bytes] = frozenset()
        self._given_up: set[int] = set()

    @property
    def mechanisms(self) -> tuple[Mechanism, ...]:
        """Those that the server has offered."""
        return self._offered

    @property
    def outstanding(self) -> Mapping[int, Phase]:
        """The open requests by id, and whose move it is in each. After the end: those lost."""
        return self._outstanding

    @property
    def spid_before_mech(self) -> bool:
        """Whether the server's SPID came before any MECH.

        Postfix and Exim give up then, for that is how a master socket greets. (There neither
        MECH nor DONE follows.)
        """
        return self._hello.spid_before_mech

    def forget(self, number: int) -> None:
        """Give a request up without a word: its answer will not be handed out."""
        if self._requests.pop(number, None) is not None:
            self._given_up.add(number)

    # --- what comes

    def _read(self, words: list[bytes], line: bytes) -> Received | None:
        if self._theirs is _GREETED:
            return self._read_reply(words)
        self._handshake_left -= len(line) + 1
        if self._handshake_left < 0:
            raise RemoteProtocolError(f"a handshake of more than {MAX_HANDSHAKE} bytes")
        hello = self._hello.read(words)
        if hello is not None:
            self._offered = hello.mechanisms
            self._names = frozenset(one.name for one in self._offered)
            self._they_said(ServerHello)
        return hello

    def _read_reply(self, words: list[bytes]) -> Received | None:
        decode = _DECODERS.get(words[0])
        if decode is None:
            raise RemoteProtocolError("a reply of no known kind")
        event: Cont | Ok | Fail | Cancelled = decode(words, self._minor)
        phase = self._requests.get(event.id)
        late = phase is _CANCELLED and type(event) is not Cancelled
        if late or event.id in self._given_up:
            return None
        step = (phase, kind(event))
        if step not in REQUESTS or (phase in CLIENTS_MOVE and type(event) is Cont):
            raise RemoteProtocolError("a reply to what was not asked")
        self._move(event.id, REQUESTS[step])
        return event

    # --- what goes

    def _encode_hello(self, event: ClientHello) -> bytes:
        version, line = self._unsaid_version(ClientHello)
        data = line + encode_client_hello(event)
        if line:
            self._our_version = version
            self._we_said(Version)
        self._we_said(ClientHello)
        return data

    def _encode_auth(self, event: Auth) -> bytes:
        if self._state is not _OPEN:
            raise LocalProtocolError("no request can be made before both sides have greeted")
        if event.id in self._requests or event.id in self._given_up:
            raise LocalProtocolError(
                "the id is that of a request that is open, or that was given up: its answer "
                "would be taken for the answer to this one"
            )
        if event.mechanism not in self._names:
            raise LocalProtocolError(
                "the mechanism was not offered: Dovecot would disconnect, and every open request "
                "with it"
            )
        data = _wire.encode_auth(event, self._minor)
        self._move(event.id, REQUESTS[None, Auth])
        return data

    def _encode_cont(self, event: Cont) -> bytes:
        phase = self._requests.get(event.id)
        step = (phase, kind(event))
        if phase not in CLIENTS_MOVE or step not in REQUESTS:
            raise LocalProtocolError("a Cont can only answer a Cont, and of the same kind")
        data = _wire.encode_client_cont(event, self.minor)
        self._move(event.id, REQUESTS[step])
        return data

    def _encode_cancel(self, event: Cancel) -> bytes:
        if self._requests.get(event.id) in (None, Phase.CANCELLED):
            raise LocalProtocolError("there is no open request to cancel")
        data = _wire.encode_cancel(event)
        if self.minor >= CANCELLED:
            self._move(event.id, Phase.CANCELLED)
        else:
            self.forget(event.id)
        return data

    _ENCODERS: ClassVar[Mapping[type, Callable[[Any, Any], bytes]]] = {
        ClientHello: _encode_hello,
        Auth: _encode_auth,
        Cont: _encode_cont,
        Cancel: _encode_cancel,
    }


_DECODERS: Final[Mapping[bytes, Callable[[list[bytes], int], Any]]] = {
    b"CONT": _wire.decode_server_cont,
    b"OK": _wire.decode_ok,
    b"FAIL": _wire.decode_fail,
    b"CANCELLED": _wire.decode_cancelled,
}
