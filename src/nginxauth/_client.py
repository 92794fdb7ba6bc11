"""The client's side: what nginx is to the authentication service."""

from __future__ import annotations

from collections.abc import Iterator

from ._answer import AnswerBuffer
from ._encode_request import check_target, encode_request
from ._errors import LocalProtocolError, RemoteProtocolError
from ._events import AuthRequest, ConnectionClosed, Reply
from ._judge import judge
from ._state import AFTER, State
from ._strict import warnings_of


class ClientConnection:
    """A client's side of one connection, which is one request; takes and refuses what nginx does.

    ``host`` is what stands in ``auth_http``, without ``http://`` and port (``b"127.0.0.1"``,
    ``b"[::1]"``); for a unix socket it is ``b"localhost"``. ``uri`` is the rest: ``b"/auth?a=b"``.
    Raises LocalProtocolError for those that no HTTP request can have.
    """

    def __init__(self, host: bytes = b"localhost", uri: bytes = b"/") -> None:
        check_target(host, uri)
        self._host = host
        self._uri = uri
        self._buffer = AnswerBuffer()
        self._state = State.IDLE
        self._request: AuthRequest | None = None
        self._warnings: tuple[str, ...] = ()
        self._eof = False
        self._close_delivered = False
        self._error = ""

    @property
    def state(self) -> State:
        """Where the connection stands, after the last event handed out or sent."""
        return self._state

    @property
    def our_turn(self) -> bool:
        """Whether the request may be sent."""
        return self._state is State.IDLE

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was wrong with the answer although nginx could read it; of `WARNINGS`, in order.

        They are there with the reply, or with the error that stands for one.
        """
        return self._warnings

    def receive_data(self, data: bytes | bytearray | memoryview) -> None:
        """Store what came from the server; ``b""`` means end of file.

        Raises LocalProtocolError for data after an end of file, and for what is not bytes. What
        comes after the answer's head, or after an error of the server's, is dropped: nginx does
        not wait for it.
        """
        if not isinstance(data, (bytes, bytearray, memoryview)):
            # None and "" above all: they are no end of file.
            raise LocalProtocolError(f"data has to be bytes, and not {type(data).__name__}")
        if not data:
            self._eof = True
        elif self._eof:
            raise LocalProtocolError("data after the end of file")
        elif self._state is State.IDLE or self._state is State.BUSY:
            self._buffer.feed(bytes(data))

    def events(self) -> Iterator[Reply | ConnectionClosed]:
        """The events that are there now; ends when more bytes are needed."""
        while (event := self.next_event()) is not None:
            yield event

    def next_event(self) -> Reply | ConnectionClosed | None:
        """The next event, or None until more bytes have come.

        Raises RemoteProtocolError for whatever nginx makes an internal error: an answer that it
        can't read or can't follow, an end of file before the answer's empty line, and (nginx
        does not look) bytes that came before the request.
        """
        if self._state is State.FAILED:
            raise RemoteProtocolError(self._error)
        if self._state is State.CLOSED:
            return self._close()
        if self._request is None:
            self._refuse_unasked()
            return self._close() if self._eof else None
        try:
            event = self._read(self._request)
        except RemoteProtocolError as error:
            raise self._fail(str(error)) from None
        if event is not None:
            self._buffer.clear()
            self._state = AFTER[type(event)]
        return event

    def send(self, event: AuthRequest) -> bytes:
        """The bytes to write for the request; the same that nginx writes.

        Raises LocalProtocolError, and changes nothing, if it has been sent or can't be. Raises
        RemoteProtocolError if the server has spoken without being asked.

        NUL is refused, though nginx sends it in what an SMTP client has said: no HTTP server
        should take it. So is white space at either end of a value, which no HTTP server keeps.
        For the methods external and none it takes a user and password that `parse_request` drops:
        nginx sends those of an earlier attempt, and a service should be tried with them.
        """
        if self._state is not State.IDLE:
            raise LocalProtocolError("there is one request on each connection")
        self._refuse_unasked()
        if self._eof:
            raise LocalProtocolError("the server has closed the connection")
        data = encode_request(event, self._host, self._uri)
        self._request = event
        self._state = AFTER[type(event)]
        return data

    def _read(self, request: AuthRequest) -> Reply | None:
        answer = self._buffer.next()
        if answer is None:
            if self._eof:
                raise RemoteProtocolError("end of file before the answer's empty line")
            return None
        try:
            reply = judge(answer, request)
        except RemoteProtocolError:
            self._warnings = warnings_of(answer, request, None)
            raise
        self._warnings = warnings_of(answer, request, reply)
        return reply

    def _refuse_unasked(self) -> None:
        if self._buffer:
            raise self._fail("the server sent something that it was not asked for")

    def _fail(self, reason: str) -> RemoteProtocolError:
        """Remember the error and give it to be raised."""
        self._state = State.FAILED
        self._buffer.clear()
        self._error = reason
        return RemoteProtocolError(reason)

    def _close(self) -> ConnectionClosed | None:
        """The one ConnectionClosed, then None."""
        self._state = State.CLOSED
        if self._close_delivered:
            return None
        self._close_delivered = True
        return ConnectionClosed()
