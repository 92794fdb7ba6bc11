"""The two classes that users drive, and what they share with socketmap's two."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Generic, Protocol, TypeVar

from . import _wire
from ._buffer import LineBuffer
from ._errors import LocalProtocolError, RemoteProtocolError
from ._events import ConnectionClosed, Get, Malformed, Put, Reply, Request, TempError
from ._state import AFTER, State

# Looking a member up in its class takes time, and this is done several times for each look-up.
_IDLE: Final = State.IDLE
_BUSY: Final = State.BUSY
_CLOSED: Final = State.CLOSED
_FAILED: Final = State.FAILED

RequestT = TypeVar("RequestT")
ReplyT = TypeVar("ReplyT")


class Buffer(Protocol):
    """Cuts bytes into messages."""

    def __bool__(self) -> bool: ...
    def feed(self, data: bytes) -> None: ...
    def clear(self) -> None: ...
    def next(self) -> bytes | None: ...


class _Connection:
    """What both roles share: the buffer, the state, the two ends."""

    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer
        self._state = _IDLE
        self._eof = False
        self._close_delivered = False
        self._error = ""
        self._hint: TempError | None = None

    @property
    def state(self) -> State:
        """Where the connection stands, after the last event handed out or sent."""
        return self._state

    def receive_data(self, data: bytes | bytearray | memoryview) -> None:
        """Store what came from the peer; ``b""`` means end of file.

        Raises LocalProtocolError for data after an end of file, and for what is not bytes. What
        comes after an error of the peer's is dropped.
        """
        if type(data) is not bytes:
            if not isinstance(data, (bytes, bytearray, memoryview)):
                # None and "" above all: they are no end of file.
                raise LocalProtocolError(f"data has to be bytes, and not {type(data).__name__}")
            data = bytes(data)
        if not data:
            self._eof = True
        elif self._eof:
            raise LocalProtocolError("data after the end of file")
        elif self._state is _IDLE or self._state is _BUSY:
            self._buffer.feed(data)

    def _fail(self, reason: str, hint: TempError | None = None) -> RemoteProtocolError:
        """Remember the error and give it to be raised."""
        self._state = _FAILED
        self._buffer.clear()
        self._error = reason
        self._hint = hint
        return RemoteProtocolError(reason, hint=hint)

    def _close(self) -> ConnectionClosed | None:
        """The one ConnectionClosed, then None."""
        self._state = _CLOSED
        self._buffer.clear()
        if self._close_delivered:
            return None
        self._close_delivered = True
        return ConnectionClosed()

    def _out_of_data(self) -> ConnectionClosed | None:
        if not self._eof:
            return None
        if self._buffer:
            raise self._fail("end of file inside a message")
        return self._close()


class Server(_Connection, Generic[RequestT, ReplyT]):
    """The answering side, for any framing and encoding."""

    def __init__(
        self,
        buffer: Buffer,
        decode: Callable[[bytes], RequestT],
        encode: Callable[[ReplyT], bytes],
    ) -> None:
        super().__init__(buffer)
        self._decode = decode
        self._encode = encode

    @property
    def our_turn(self) -> bool:
        """Whether a reply is due."""
        return self._state is _BUSY

    @property
    def idle(self) -> bool:
        """Whether nothing is lost if the connection ends now: no request waits for its reply."""
        return self._state is not _BUSY

    def events(self) -> Iterator[RequestT | ConnectionClosed]:
        """The events that are there now, for a loop whose body sends what is due.

        Ends when more bytes are needed, and when it is resumed while a reply is still due.
        """
        while (event := self.next_event()) is not None:
            yield event
            if self._state is _BUSY:
                return

    def next_event(self) -> RequestT | ConnectionClosed | None:
        """The next event, or None until more bytes have come.

        Raises RemoteProtocolError if the client broke the protocol, and LocalProtocolError while
        a reply is due; but an end of file is told even then, so that slow work can be given up.
        """
        if self._state is not _IDLE:
            return self._next_if_not_idle()
        try:
            message = self._buffer.next()
        except RemoteProtocolError as error:
            raise self._fail(str(error), TempError(b"this can't be read")) from None
        if message is None:
            return self._out_of_data()
        event = self._decode(message)
        self._state = AFTER[type(event)]
        return event

    def _next_if_not_idle(self) -> ConnectionClosed | None:
        if self._state is _FAILED:
            raise RemoteProtocolError(self._error, hint=self._hint)
        if self._state is _BUSY and not self._eof:
            raise LocalProtocolError("reply to the last request before asking for the next event")
        return self._close()

    def send(self, event: ReplyT) -> bytes:
        """The bytes to write for a reply.

        Raises LocalProtocolError, and changes nothing, if no reply is due or if this one can't
        be sent. In state FAILED it takes the error's ``hint``, once.
        """
        if self._state is not _BUSY:
            return self._send_hint(event)
        data = self._encode(event)
        self._state = AFTER[type(event)]
        return data

    def _send_hint(self, event: ReplyT) -> bytes:
        if self._state is not _FAILED or self._hint is None or event != self._hint:
            raise LocalProtocolError(
                f"{type(event).__name__}(...) can't be sent: nothing was asked"
            )
        self._hint = None
        return self._encode(event)


class Client(_Connection, Generic[RequestT, ReplyT]):
    """The asking side, for any framing and encoding."""

    def __init__(
        self,
        buffer: Buffer,
        decode: Callable[[bytes], ReplyT],
        encode: Callable[[RequestT], bytes],
    ) -> None:
        super().__init__(buffer)
        self._decode = decode
        self._encode = encode

    @property
    def our_turn(self) -> bool:
        """Whether a request may be sent: none waits for its reply."""
        return self._state is _IDLE

    def events(self) -> Iterator[ReplyT | ConnectionClosed]:
        """The events that are there now; ends when more bytes are needed, or after a reply."""
        while (event := self.next_event()) is not None:
            yield event
            if self._state is _IDLE:
                return

    def next_event(self) -> ReplyT | ConnectionClosed | None:
        """The next event, or None until more bytes have come.

        Raises RemoteProtocolError if the server broke the protocol: by a reply that Postfix would
        not take either, or by speaking when nothing was asked.
        """
        if self._state is _CLOSED:
            return self._close()
        if self._state is _FAILED:
            raise RemoteProtocolError(self._error)
        if self._state is _IDLE:
            self._refuse_unasked()
            return self._out_of_data()
        try:
            message = self._buffer.next()
            if message is None:
                return self._out_of_data()
            event = self._decode(message)
        except RemoteProtocolError as error:
            raise self._fail(str(error)) from None
        self._state = AFTER[type(event)]
        return event

    def send(self, event: RequestT) -> bytes:
        """The bytes to write for a request.

        Raises LocalProtocolError, and changes nothing, while a reply is due or if the request
        can't be sent. Raises RemoteProtocolError if the server has spoken without being asked:
        what it said would be taken for the answer to this request, and all later answers for
        those of the request after theirs. That is how Postfix gets out of step.
        """
        if self._state is _BUSY:
            raise LocalProtocolError("the last request waits for its reply; to give up, close")
        if self._state is not _IDLE:
            raise LocalProtocolError(f"the connection has {self._state.name.lower()}")
        self._refuse_unasked()
        if self._eof:
            raise LocalProtocolError("the server has closed: ask on a new connection")
        data = self._encode(event)
        self._state = AFTER[type(event)]
        return data

    def _refuse_unasked(self) -> None:
        if self._buffer:
            raise self._fail("the server sent something that it was not asked for")


class ServerConnection(Server[Get | Put | Malformed, Reply]):
    """A server's side of one connection, tcp_table.

    ``max_request``: the longest line taken, in bytes, encoded and with its LF.
    """

    def __init__(self, *, max_request: int = _wire.DEFAULT_MAX_REQUEST) -> None:
        super().__init__(LineBuffer(max_request), _wire.decode_request, _wire.encode_reply)


class ClientConnection(Client[Request, Reply]):
    """A client's side of one connection, tcp_table; takes and refuses what Postfix does.

    After a `TempError` it is closed, as Postfix closes it: ask again on a new connection.
    """

    def __init__(self) -> None:
        super().__init__(LineBuffer(_wire.MAX_REPLY), _wire.decode_reply, _wire.encode_request)

    def next_event(self) -> Reply | ConnectionClosed | None:
        event = super().next_event()
        if type(event) is TempError:
            self._state = _CLOSED
        return event
