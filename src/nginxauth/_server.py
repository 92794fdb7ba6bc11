"""The server's side of one connection: h11 between our buffer and `parse_request`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import h11

from ._buffer import HeadBuffer, StrangerError
from ._errors import LocalProtocolError, RemoteProtocolError
from ._events import AuthRequest, ConnectionClosed, Deny, Malformed, Reply
from ._reply import DEFAULT_MAX_ATTEMPTS, reply_headers
from ._request import parse_request
from ._state import AFTER, State

# nginx sets no limit. A client's certificate takes up to 4 kB, and escaped a little more; a MAIL
# or RCPT command, or a login, what fits into nginx's buffers: 4 or 8 KiB, escaped three times that.
DEFAULT_MAX_REQUEST: Final = 64 * 1024

# An HTTP/1.1 client must not wait for a body, nor ask again.
_END: Final = ((b"Content-Length", b"0"), (b"Connection", b"close"))
_RESERVE: Final = sum(len(name) + len(value) + 4 for name, value in _END)
_HINT: Final = Deny(b"This request can't be read", b"451 4.3.0")


class ServerConnection:
    """A server's side of one connection, which is one request and one reply.

    ``max_request``: the longest request taken, in bytes, with a body if somebody sends one (nginx
    does not, and it is dropped). ``max_attempts`` and ``allow_controls`` as with `reply_headers`
    and `parse_request`.

    A NUL, which nginx passes on in the commands of ``Auth-SMTP-*``, is refused by h11, and so
    are VT and FF: nginx gets HTTP 400, and its client 451.
    """

    def __init__(
        self,
        *,
        max_request: int = DEFAULT_MAX_REQUEST,
        max_attempts: int = DEFAULT_MAX_ATTEMPTS,
        allow_controls: bool = False,
    ) -> None:
        self._buffer = HeadBuffer(max_request)
        self._room = max_request
        self._max_attempts = max_attempts
        self._allow_controls = allow_controls
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=max_request)
        self._has_head = False
        self._fields: list[tuple[bytes, bytes]] = []
        self._request: AuthRequest | Malformed | None = None
        self._state = State.IDLE
        self._eof = False
        self._close_delivered = False
        self._error = ""
        self._hint: Deny | None = None

    @property
    def state(self) -> State:
        """Where the connection stands, after the last event handed out or sent."""
        return self._state

    @property
    def our_turn(self) -> bool:
        """Whether the reply is due."""
        return self._state is State.BUSY

    @property
    def idle(self) -> bool:
        """Whether nothing is lost if the connection ends now: no request waits for its reply."""
        return self._state is not State.BUSY

    def receive_data(self, data: bytes | bytearray | memoryview) -> None:
        """Store what came from the client; ``b""`` means end of file.

        Raises LocalProtocolError for data after an end of file, and for what is not bytes. What
        comes after the reply, or after an error of the client's, is dropped.
        """
        if not isinstance(data, (bytes, bytearray, memoryview)):
            # None and "" above all: they are no end of file.
            raise LocalProtocolError(f"data has to be bytes, and not {type(data).__name__}")
        if not data:
            self._eof = True
        elif self._eof:
            raise LocalProtocolError("data after the end of file")
        elif self._state is State.IDLE:
            self._buffer.feed(bytes(data))

    def events(self) -> Iterator[AuthRequest | Malformed | ConnectionClosed]:
        """The events that are there now, for a loop whose body sends what is due.

        Ends when more bytes are needed, and when it is resumed while the reply is still due.
        """
        while (event := self.next_event()) is not None:
            yield event
            if self._state is State.BUSY:
                return

    def next_event(self) -> AuthRequest | Malformed | ConnectionClosed | None:
        """The next event, or None until more bytes have come.

        Raises RemoteProtocolError if the client broke the protocol, and LocalProtocolError while
        the reply is due; but an end of file is told even then, so that slow work can be given up.
        """
        if self._state is State.FAILED:
            raise RemoteProtocolError(self._error, hint=self._hint)
        if self._state is State.CLOSED:
            return self._close()
        if self._state is State.BUSY:
            if not self._eof:
                raise LocalProtocolError("reply to the request before asking for the next event")
            return self._close()
        try:
            event = self._read()
        except StrangerError as error:
            raise self._fail(str(error), None) from None
        except RemoteProtocolError as error:
            raise self._fail(str(error), _HINT) from None
        except h11.RemoteProtocolError:
            # h11's own text may quote the line, and so a password.
            reason = "a head or a body that HTTP does not allow, such as NUL in a header"
            raise self._fail(reason, _HINT) from None
        if event is None:
            return self._out_of_data()
        self._request = event
        self._state = AFTER[type(event)]
        self._buffer.clear()
        return event

    def send(self, event: Reply) -> bytes:
        """The bytes to write for a reply; then close, for that was all.

        Raises LocalProtocolError, and changes nothing, if no reply is due or if this one can't
        be sent. In state FAILED it takes the error's ``hint``, once, and makes HTTP 400 of it.
        """
        if self._state is not State.BUSY or self._request is None:
            return self._send_hint(event)
        headers = reply_headers(event, self._request, _RESERVE, max_attempts=self._max_attempts)
        data = self._respond(h11.Response(status_code=200, headers=[*headers, *_END], reason=b"OK"))
        self._state = AFTER[type(event)]
        return data

    def _send_hint(self, event: Reply) -> bytes:
        if self._state is not State.FAILED or self._hint is None or event != self._hint:
            raise LocalProtocolError(
                f"{type(event).__name__}(...) can't be sent: nothing was asked"
            )
        self._hint = None
        return self._respond(
            h11.Response(status_code=400, headers=list(_END), reason=b"Bad Request")
        )

    def _respond(self, response: h11.Response) -> bytes:
        """All of it. h11 can't refuse what `reply_headers` lets pass."""
        data = self._http.send(response)
        return (data or b"") + (self._http.send(h11.EndOfMessage()) or b"")

    def _read(self) -> AuthRequest | Malformed | None:
        """The request, once all of it has come."""
        if not self._has_head:
            head = self._buffer.head()
            if head is None:
                return None
            self._has_head = True
            self._hand_on(head)
        while type(event := self._http.next_event()) is not h11.EndOfMessage:
            if isinstance(event, h11.Request):
                self._fields = event.headers.raw_items()
            elif event is h11.NEED_DATA:
                if not self._room:
                    raise RemoteProtocolError("a body that makes the request too long")
                data = self._buffer.take(self._room)
                if not data:
                    return None
                self._hand_on(data)
        return parse_request(self._fields, allow_controls=self._allow_controls)

    def _hand_on(self, data: bytes) -> None:
        self._room -= len(data)
        self._http.receive_data(data)

    # --- the end

    def _fail(self, reason: str, hint: Deny | None) -> RemoteProtocolError:
        """Remember the error and give it to be raised."""
        self._state = State.FAILED
        self._buffer.clear()
        self._error = reason
        self._hint = hint
        return RemoteProtocolError(reason, hint=hint)

    def _close(self) -> ConnectionClosed | None:
        """The one ConnectionClosed, then None."""
        self._state = State.CLOSED
        if self._close_delivered:
            return None
        self._close_delivered = True
        return ConnectionClosed()

    def _out_of_data(self) -> ConnectionClosed | None:
        if not self._eof:
            return None
        if self._has_head or self._buffer:
            raise self._fail("end of file inside a request", None)
        return self._close()
