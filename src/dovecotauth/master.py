"""Dovecot's master sockets (auth-userdb, auth-master), both roles: users are looked up and listed.

What a delivery agent or an IMAP server asks. The framing is that of `dovecotauth`; so are the
errors, the states, `Version`, `Fail` and what a connection does at its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Final, TypeAlias

from . import _master_wire as _wire
from ._connection import Connection
from ._errors import LocalProtocolError, RemoteProtocolError
from ._events import Connected, ConnectionClosed, Fail, Version
from ._master_events import (
    Answer,
    FromMaster,
    FromServer,
    GetPass,
    GetUser,
    Listed,
    ListEnd,
    ListUsers,
    MasterHello,
    NotFound,
    PassFound,
    Query,
    Request,
    UserFound,
)
from ._server import DEFAULT_MAX_OUTSTANDING
from ._state import Greeting, State

__all__ = [
    "ANSWERS",
    "NEWEST",
    "Answer",
    "ClientConnection",
    "FromMaster",
    "FromServer",
    "GetPass",
    "GetUser",
    "ListEnd",
    "ListUsers",
    "Listed",
    "MasterHello",
    "NotFound",
    "PassFound",
    "Query",
    "Request",
    "ServerConnection",
    "UserFound",
]

# What Dovecot 2.3 announces here; 2.4 announces the version of the other sockets.
NEWEST: Final = Version(1, 1)

ANSWERS: Final[Mapping[type, Mapping[type, bool]]] = MappingProxyType(
    {
        GetUser: {UserFound: True, NotFound: True, Fail: True},
        GetPass: {PassFound: True, NotFound: True, Fail: True},
        ListUsers: {Listed: False, ListEnd: True, Fail: True},
        Request: {UserFound: True, Fail: True},
    }
)
"""What may answer each query, and whether the query is over then."""

FromServerReceived: TypeAlias = Version | MasterHello | Answer
FromMasterReceived: TypeAlias = Connected | Version | Query


class ServerConnection(Connection[FromMasterReceived, FromServer]):
    """A server's side of one master connection.

    The first event is `dovecotauth.Connected`, before any byte has come; send a `MasterHello`,
    which sends the version, too. ``max_line``: the longest line taken, in bytes with its LF.
    ``max_outstanding``: how many queries may be open; one more ends the connection.
    """

    _THEIR_LAST = Greeting.VERSION

    def __init__(
        self,
        *,
        max_line: int = _wire.MAX_QUERY,
        max_outstanding: int = DEFAULT_MAX_OUTSTANDING,
    ) -> None:
        super().__init__(max_line, NEWEST)
        self._max_outstanding = max_outstanding
        self._connected_delivered = False

    @property
    def outstanding(self) -> Mapping[int, type[Query]]:
        """The open queries by id, and of what kind each is."""
        return self._outstanding

    @property
    def our_turn(self) -> bool:
        """Whether our greeting is due, before the next event can be had. Answers are never."""
        return self._state is State.HANDSHAKE and self._ours is not Greeting.DONE

    @property
    def idle(self) -> bool:
        """Whether nothing is lost if the connection ends now."""
        return not self._requests or self._state in (State.CLOSED, State.FAILED)

    def forget(self, number: int) -> None:
        """Drop a query without a word; unknown ones are fine."""
        self._requests.pop(number, None)

    def events(self) -> Iterator[FromMasterReceived | ConnectionClosed]:
        """The events that are there now, for a loop whose body sends what is due."""
        for event in super().events():
            yield event
            if self.our_turn:
                return

    def next_event(self) -> FromMasterReceived | ConnectionClosed | None:
        """The next event, or None until more bytes have come.

        Raises RemoteProtocolError if the master broke the protocol, and LocalProtocolError while
        our greeting is due; but an end of file is told even then.
        """
        if self.our_turn:
            if not self._connected_delivered:
                self._connected_delivered = True
                return Connected()
            if self._eof:
                return self._close()
            raise LocalProtocolError("greet the master before asking for the next event")
        return super().next_event()

    def _read(self, words: list[bytes], _line: bytes) -> FromMasterReceived | None:
        decode = _wire.DECODE_QUERY.get(words[0])
        if decode is None:
            raise RemoteProtocolError("a command that there isn't on a master socket")
        event: Query = decode(words)
        kind = type(event)
        if event.id in self._requests:
            # Dovecot answers both; who gets which, nobody can tell.
            raise RemoteProtocolError("a query with the id of one that is still open")
        if len(self._requests) >= self._max_outstanding:
            raise RemoteProtocolError("too many open queries")
        self._requests[event.id] = kind
        return event

    def _encode_hello(self, event: MasterHello) -> bytes:
        version, line = self._unsaid_version(MasterHello)
        data = line + _wire.encode_hello(event)
        if line:
            self._our_version = version
            self._we_said(Version)
        self._we_said(MasterHello)
        return data

    def _encode_answer(self, event: Answer) -> bytes:
        over = ANSWERS.get(self._requests.get(event.id, object), {}).get(type(event))
        if over is None:
            raise LocalProtocolError(
                f"{type(event).__name__}(...) answers no open query: it has another id, or kind"
            )
        data = _wire.ENCODE_ANSWER[type(event)](event)
        if over:
            del self._requests[event.id]
        return data

    _ENCODERS: ClassVar[Mapping[type, Callable[[Any, Any], bytes]]] = {
        MasterHello: _encode_hello,
        **dict.fromkeys(_wire.ENCODE_ANSWER, _encode_answer),
    }


class ClientConnection(Connection[FromServerReceived, FromMaster]):
    """A master's side of one connection.

    Send a `dovecotauth.Version` at once, `NEWEST` unless you know better. When the `MasterHello`
    has come, queries may be made, any number at a time but for lists; answers come in any order.
    """

    _OUR_LAST = Greeting.VERSION

    def __init__(self, *, max_line: int = _wire.MAX_ANSWER) -> None:
        super().__init__(max_line)
        self._given_up: set[int] = set()

    @property
    def outstanding(self) -> Mapping[int, type[Query]]:
        """The open queries by id, and of what kind each is. After the end: those lost."""
        return self._outstanding

    def forget(self, number: int) -> None:
        """Give a query up: its answer will not be handed out, and its id not be used again."""
        if self._requests.pop(number, None) is not None:
            self._given_up.add(number)

    def _read(self, words: list[bytes], _line: bytes) -> FromServerReceived | None:
        if self._theirs is not Greeting.DONE:
            hello = _wire.decode_hello(words)
            self._they_said(MasterHello)
            return hello
        decode = _wire.DECODE_ANSWER.get(words[0])
        if decode is None:
            raise RemoteProtocolError("an answer of no known kind")
        event: Answer = decode(words)
        if event.id in self._given_up:
            return None
        over = ANSWERS.get(self._requests.get(event.id, object), {}).get(type(event))
        if over is None:
            raise RemoteProtocolError("an answer to what was not asked")
        if over:
            del self._requests[event.id]
        return event

    def _encode_query(self, event: Query) -> bytes:
        if self._state is not State.OPEN:
            raise LocalProtocolError("no query can be made before both sides have greeted")
        if event.id in self._requests or event.id in self._given_up:
            raise LocalProtocolError("the id is that of a query that is open, or was given up")
        if type(event) is ListUsers and ListUsers in self._requests.values():
            raise LocalProtocolError("one list at a time: Dovecot makes the second one fail")
        data = _wire.ENCODE_QUERY[type(event)](event)
        self._requests[event.id] = type(event)
        return data

    _ENCODERS: ClassVar[Mapping[type, Callable[[Any, Any], bytes]]] = dict.fromkeys(
        _wire.ENCODE_QUERY, _encode_query
    )
