"""What all four connections share: the buffer, the two greetings, the requests, the end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Final, Generic, TypeVar, cast

from ._buffer import LineBuffer
from ._errors import LocalProtocolError, RemoteProtocolError
from ._events import ConnectionClosed, Version
from ._handshake import NEWEST, decode_version, encode_version
from ._state import GREETING, Greeting, Phase, State

ReceivedT = TypeVar("ReceivedT")
SentT = TypeVar("SentT")

_OVER: Final = frozenset({State.CLOSED, State.FAILED})
# Looked up here once: a member of an Enum takes 3.11 longer to find than a line to find.
_UNGREETED: Final = Greeting.NOTHING


class Connection(ABC, Generic[ReceivedT, SentT]):
    """One side of one connection; `_read` and `_ENCODERS` are what makes it this side."""

    # Each gives the bytes for an event, if it may be sent, and moves the state last of all.
    _ENCODERS: ClassVar[Mapping[type, Callable[[Any, Any], bytes]]]
    # How far each side's greeting goes.
    _OUR_LAST: ClassVar[Greeting] = Greeting.DONE
    _THEIR_LAST: ClassVar[Greeting] = Greeting.DONE

    def __init__(self, max_line: int, newest: Version = NEWEST) -> None:
        self._buffer = LineBuffer(max_line)
        self._newest = newest
        self._state = State.HANDSHAKE
        self._eof = False
        self._close_delivered = False
        self._error = ""
        self._ours = self._theirs = Greeting.NOTHING
        self._our_version: Version | None = None
        self._peer_version: Version | None = None
        self._minor = 0
        self._requests: dict[int, Any] = {}
        self._outstanding: Mapping[int, Any] = MappingProxyType(self._requests)

    @property
    def state(self) -> State:
        """Where the connection stands, after the last event handed out or sent."""
        return self._state

    @property
    def peer_version(self) -> Version | None:
        """What the peer has announced; None until that was handed out."""
        return self._peer_version

    @property
    def minor(self) -> int:
        """The minor version that both sides have; 0 until that is known."""
        return self._minor

    def receive_data(self, data: bytes | bytearray | memoryview) -> None:
        """Store what came from the peer; ``b""`` means end of file.

        Raises LocalProtocolError for data after an end of file, and for what is not bytes. What
        comes after an error of the peer's is dropped.
        """
        if not isinstance(data, (bytes, bytearray, memoryview)):
            # None and "" above all: they are no end of file.
            raise LocalProtocolError(f"data has to be bytes, and not {type(data).__name__}")
        if not data:
            self._eof = True
        elif self._eof:
            raise LocalProtocolError("data after the end of file")
        elif self._state not in _OVER:
            self._buffer.feed(bytes(data))

    def events(self) -> Iterator[ReceivedT | ConnectionClosed]:
        """The events that are there now; ends when more bytes are needed."""
        while (event := self.next_event()) is not None:
            yield event

    def next_event(self) -> ReceivedT | ConnectionClosed | None:
        """The next event, or None until more bytes have come.

        Raises RemoteProtocolError if the peer broke the protocol.
        """
        if self._state in _OVER:
            if self._state is State.FAILED:
                raise RemoteProtocolError(self._error)
            return self._close()
        try:
            while (line := self._buffer.next()) is not None:
                event = self._understand(line)
                if event is not None:
                    return event
            return self._out_of_data()
        except RemoteProtocolError as error:
            self._state = State.FAILED
            self._buffer.clear()
            self._error = str(error)
            raise RemoteProtocolError(self._error) from None

    def send(self, event: SentT) -> bytes:
        """The bytes to write for an event.

        Raises LocalProtocolError, and changes nothing, if it can't be sent, or not now.
        """
        if self._state in _OVER:
            raise LocalProtocolError(f"the connection has {self._state.name.lower()}")
        encode: Callable[[Any, Any], bytes] | None = self._ENCODERS.get(type(event))
        if encode is None:
            if type(event) is not Version:
                raise LocalProtocolError(
                    f"{type(event).__name__}(...) is not for this side to send"
                )
            encode = cast("Callable[[Any, Any], bytes]", Connection._say_version)
        try:
            return encode(self, event)
        except (AttributeError, TypeError):
            raise LocalProtocolError(
                f"{type(event).__name__}(...) can't be sent: it, or a field of it, is of the "
                "wrong type"
            ) from None

    @abstractmethod
    def _read(self, words: list[bytes], line: bytes) -> ReceivedT | None:
        """The event of a line that comes after the peer's VERSION; None if it has none."""

    def _understand(self, line: bytes) -> ReceivedT | None:
        if not line or b"\0" in line:
            # Dovecot reads lines as C strings: what stands behind a NUL vanishes.
            raise RemoteProtocolError("an empty line, or one with NUL")
        words = line.split(b"\t")
        if self._theirs is not _UNGREETED:
            return self._read(words, line)
        self._peer_version = decode_version(words)
        self._they_said(Version)
        return cast("ReceivedT", self._peer_version)

    # --- greetings

    def _may_say(self, kind: type) -> None:
        """Raise if we can't say this now."""
        if (self._ours, kind) not in GREETING:
            raise LocalProtocolError(f"{kind.__name__} can't be sent now, or not twice")

    def _say_version(self, event: Version) -> bytes:
        self._may_say(Version)
        data = encode_version(event)
        self._our_version = event
        self._we_said(Version)
        return data

    def _unsaid_version(self, hello: type) -> tuple[Version, bytes]:
        """Our version, and the line for it if that has still to go out before our hello."""
        if self._our_version is None:
            return self._newest, encode_version(self._newest)
        self._may_say(hello)
        return self._our_version, b""

    def _we_said(self, kind: type) -> None:
        self._ours = GREETING[self._ours, kind]
        self._open_if_greeted()

    def _they_said(self, kind: type) -> None:
        self._theirs = GREETING[self._theirs, kind]
        self._open_if_greeted()

    def _open_if_greeted(self) -> None:
        if self._our_version is not None and self._peer_version is not None:
            self._minor = min(self._our_version.minor, self._peer_version.minor)
        if self._ours is self._OUR_LAST and self._theirs is self._THEIR_LAST:
            self._state = State.OPEN

    # --- requests

    def _move(self, number: int, phase: Phase | None) -> None:
        """Put a request where it stands from now on; None: nowhere."""
        if phase is None:
            self._requests.pop(number, None)
        else:
            self._requests[number] = phase

    # --- the end

    def _close(self) -> ConnectionClosed | None:
        """The one ConnectionClosed, then None."""
        self._state = State.CLOSED
        self._buffer.clear()
        if self._close_delivered:
            return None
        self._close_delivered = True
        return ConnectionClosed()

    def _out_of_data(self) -> ConnectionClosed | None:
        if not self._eof:
            return None
        if self._buffer:
            raise RemoteProtocolError("end of file inside a line")
        return self._close()
