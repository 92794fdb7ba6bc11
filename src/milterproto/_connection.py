"""The two classes that users drive. They hold the tables of the other modules together."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Final, cast

from ._asking import BETWEEN, CONTENT, REFUSALS, Taken, asks, refusal
from ._buffer import DEFAULT_MAX_PAYLOAD, HEADER, Frame, FrameBuffer, read_header, unknown_code
from ._errors import LocalProtocolError, RemoteProtocolError
from ._events import (
    COMMAND_CODES,
    Abort,
    Accept,
    AddRecipient,
    Command,
    Connect,
    ConnectionClosed,
    Continue,
    Data,
    Edit,
    EndOfMessage,
    Macros,
    Negotiate,
    Progress,
    Quit,
    QuitNewConnection,
    ReplyCode,
    Response,
    Shutdown,
    Skip,
    TempFail,
    Unknown,
    Verdict,
)
from ._flags import MIN_VERSION, Actions, Stage, Steps
from ._macros import MacroTable
from ._negotiation import answer_fault, macros_fault, offer_fault, packet_limit
from ._route import Answer, routes
from ._state import (
    EDITS,
    SENDABLE,
    TRANSACTION,
    VERDICTS,
    State,
    after_edit,
    reply_due,
    transitions,
)
from ._wire import (
    COMMAND_DECODERS,
    MAX_PACKET,
    RESPONSE_DECODERS,
    decode_macros,
    encode_command,
    encode_response,
)

_COMMAND_CODES: Final = frozenset(COMMAND_DECODERS)
_RESPONSE_CODES: Final = frozenset(RESPONSE_DECODERS)
_KINDS: Final = {code[0]: kind for kind, code in COMMAND_CODES.items()}
_MACROS: Final = COMMAND_CODES[Macros][0]
_NO_MACROS: Final = Macros(b"", b"")
_NO_STEPS: Final = Steps(0)
_FIRST_ROWS: Final = transitions(_NO_STEPS)
_FIRST_ROUTES: Final = routes(_NO_STEPS)
_FIRST_ASKS: Final = asks(_NO_STEPS, None)


def _name(event: object) -> str:
    """How an event shows in an error: without its contents."""
    if isinstance(event, type):
        return f"the class {event.__name__} itself, not {event.__name__}(...),"
    return f"{type(event).__name__}(...)"


class _Connection:
    """What both roles share: the buffer, the state, the two ends."""

    def __init__(self, codes: frozenset[int], max_payload: int) -> None:
        self._buffer = FrameBuffer(codes, max_payload)
        self._state = State.OPENING
        # The command that waits for its reply; in a filter, this is our turn.
        self._due: type[Command] | None = None
        self._offer: Negotiate | None = None
        self._answer: Negotiate | None = None
        self._steps = _NO_STEPS
        self._rows = _FIRST_ROWS
        self._limit = MAX_PACKET
        # Whether bytes may still come: no end of file, no Quit, no error. Asked with every read.
        self._open = True
        self._eof = False
        self._close_delivered = False
        self._error = ""
        self._hint: TempFail | None = None

    @property
    def state(self) -> State:
        """Where the session stands, after the last event handed out or sent."""
        return self._state

    @property
    def negotiated(self) -> Negotiate | None:
        """The filter's answer to the offer, in force from then on; None before it."""
        return self._answer

    def receive_data(self, data: bytes | bytearray | memoryview) -> None:
        """Store what came from the peer; ``b""`` means end of file.

        Raises LocalProtocolError for data after an end of file, and for what is not bytes. What
        comes after `Quit` or after a RemoteProtocolError is dropped.
        """
        if type(data) is not bytes:
            if not isinstance(data, (bytes, bytearray, memoryview)):
                # None and "" above all: they are no end of file.
                raise LocalProtocolError(f"data has to be bytes, and not {type(data).__name__}")
            data = bytes(data)
        if data and self._open:
            self._buffer.feed(data)
        elif not data:
            self._eof = True
            self._open = False
        elif self._eof:
            raise LocalProtocolError("data after the end of file")

    def _next_frame(self) -> Frame | None:
        try:
            return self._buffer.next_frame()
        except RemoteProtocolError as exc:
            self._fail(str(exc))
            raise

    def _fail(self, reason: str, hint: TempFail | None = None) -> RemoteProtocolError:
        """Remember the error and give it to be raised."""
        self._state = State.FAILED
        self._open = False
        self._due = None
        self._buffer.clear()
        self._error = reason
        self._hint = hint
        return RemoteProtocolError(reason, hint=hint)

    def _close(self) -> ConnectionClosed | None:
        """The one ConnectionClosed, then None."""
        self._state = State.CLOSED
        self._open = False
        self._due = None
        self._buffer.clear()
        if self._close_delivered:
            return None
        self._close_delivered = True
        return ConnectionClosed()

    def _out_of_data(self) -> ConnectionClosed | None:
        if self._open:
            return None
        if self._state is State.CLOSED:
            return self._close()
        if self._state is State.FAILED:
            raise RemoteProtocolError(self._error, hint=self._hint)
        if not self._buffer.empty:
            raise self._fail("end of file inside a frame")
        return self._close()

    def _agree(self, answer: Negotiate) -> None:
        self._answer = answer
        self._steps = answer.steps
        self._rows = transitions(answer.steps)
        self._limit = packet_limit(answer.steps)

    def _ends_unseen_message(self, macros: Macros) -> bool:
        # Sendmail sends no Abort for a message that it did not show the beginning of. The
        # macros for that still come, and are all that parts it from the next one.
        unseen = Steps.NOMAIL in self._steps and self._state in TRANSACTION
        return unseen and macros.command == b"M"


class FilterConnection(_Connection):
    """A filter's side of one connection from an MTA.

    ``max_payload``: the longest payload taken, in bytes, without length and code byte.
    ``allow_shutdown``: whether `Shutdown` may be sent. Only Postfix understands it.
    """

    def __init__(
        self, *, max_payload: int = DEFAULT_MAX_PAYLOAD, allow_shutdown: bool = False
    ) -> None:
        super().__init__(_COMMAND_CODES, max_payload)
        self._allow_shutdown = allow_shutdown
        self._macros = MacroTable()
        # The macros that came last, and how they stood on the wire.
        self._repeated = _NO_MACROS
        self._payload: bytes | None = None
        self._routes = _FIRST_ROUTES
        # Where frames lead to from this state, and verdicts while a reply is due.
        self._row = self._routes[State.OPENING]
        self._answers: Mapping[type[Response], Answer] = {}
        self._message_over = False
        self._transactions = 0

    @property
    def our_turn(self) -> bool:
        """Whether a reply is due: `send` now, before asking for the next event."""
        return self._due is not None

    @property
    def idle(self) -> bool:
        """Whether nothing is lost if the connection ends now.

        No message is open, no reply is due, and no byte waits to be looked at: the time to stop
        a filter whose other connections go on.
        """
        return self._due is None and self._buffer.empty and self._state not in TRANSACTION

    @property
    def macros(self) -> Mapping[bytes, bytes]:
        """The macro values in force for the event in hand; look up ``b"i"`` or ``b"{i}"``.

        A live view: what it shows changes when the next event is handed out.
        """
        return self._macros

    @property
    def transaction(self) -> int:
        """Which message of this connection is being talked about, from 1; 0 outside of one.

        A better key than the queue id, which Postfix has not made yet at MAIL.
        """
        return self._transactions if self._state in TRANSACTION else 0

    def events(self) -> Iterator[Command | ConnectionClosed]:
        """The events that are there now, for a loop whose body sends what is due.

        Ends when more bytes are needed, and when it is resumed while a reply is still due.
        """
        while (event := self.next_event()) is not None:
            yield event
            if self._due is not None:
                return

    def next_event(self) -> Command | ConnectionClosed | None:
        """The next event, or None until more bytes have come.

        Raises RemoteProtocolError if the MTA broke the protocol, and LocalProtocolError while
        a reply is due; but an end of file is told even then, so that slow work can be given up.
        """
        if self._due is not None:
            return self._next_while_due(self._due)
        buffer = self._buffer
        start = buffer.offset
        if start == buffer.size:
            return None if self._open else self._out_of_data()
        # Nearly all frames are cut here: `next_frame` would be a fifth of a session's time.
        chunk = buffer.chunk
        try:
            length, code = read_header(chunk, start)
        except struct.error:
            length = code = 0
        if length and (end := start + 4 + length) <= buffer.size:
            payload = chunk[start + HEADER : end]
            buffer.offset = end
        else:
            frame = self._next_frame()
            if frame is None:
                return None if self._open else self._out_of_data()
            code, payload = frame
        route = self._row.get(code)
        if route is None:
            return self._place(code, payload)
        if self._message_over:
            self._message_over = False
            self._macros.forget_message()
        if code == _MACROS:
            if payload != self._payload:
                self._read_macros(payload)
            self._macros.announce(self._repeated)
            return self._repeated
        try:
            event = route.decode(payload)
        except RemoteProtocolError as exc:
            # The frame was whole, so a reply can be told from its neighbours.
            raise self._fail(str(exc), self._hint_for(code)) from None
        self._macros.enter(code)
        if route.begins_message:
            self._transactions += 1
        self._state = route.state
        self._row = route.row
        self._answers = route.answers
        self._due = route.due
        return event

    def _read_macros(self, payload: bytes) -> None:
        # Postfix repeats its macros before each header line and body piece: nearly half of all
        # frames, and 0.3 us each to decode again.
        try:
            self._repeated = decode_macros(payload)
        except RemoteProtocolError as exc:
            raise self._fail(str(exc)) from None
        self._payload = payload

    def _next_while_due(self, due: type[Command]) -> ConnectionClosed | None:
        if self._eof:
            return self._close()
        raise LocalProtocolError(f"reply to {due.__name__}(...) before asking for the next event")

    def _place(self, code: int, payload: bytes) -> Command:
        """The event of a frame that has no route, and the move to the state that it leads to."""
        if code not in _COMMAND_CODES:
            raise self._fail(unknown_code(code))
        try:
            event = COMMAND_DECODERS[code](payload)
        except RemoteProtocolError as exc:
            raise self._fail(str(exc), self._hint_for(code)) from None
        if self._message_over:
            self._message_over = False
            self._macros.forget_message()
        if type(event) is Macros and self._state is not State.OPENING:
            if self._ends_unseen_message(event):
                self._move(State.CONNECTED)
                self._macros.forget_message()
            self._macros.announce(event)
            return event
        kind = type(event)
        after = self._rows[self._state].get(kind)
        if after is None:
            raise self._fail(
                f"{kind.__name__} can't follow in state {self._state.name}", self._hint_for(code)
            )
        if type(event) is Negotiate:
            if event.version < MIN_VERSION:
                raise self._fail(f"the MTA offers milter version {event.version}, too old")
            self._offer = event
            self._answers = {}
            self._due = Negotiate
        elif kind is Abort:
            self._macros.forget_message()
        elif kind is QuitNewConnection:
            self._macros.forget_all()
        else:  # after Quit, nothing may come
            self._open = False
            self._buffer.clear()
        self._move(after[0])
        return event

    def _move(self, state: State) -> None:
        self._state = state
        self._row = self._routes[state]

    def _hint_for(self, code: int) -> TempFail | None:
        """The reply that the sender of a frame with this code waits for, if it does."""
        waits = self._state is not State.OPENING and reply_due(_KINDS[code], self._steps)
        return TempFail() if waits else None

    def send(self, event: Response) -> bytes:
        """The bytes to write for a reply or an edit.

        Raises LocalProtocolError, and changes nothing, if it is not our turn, if the event is
        not allowed as a reply here, if its action was not negotiated, or if a field can't be
        sent.
        """
        due = self._due
        kind = type(event)
        if due is None:
            return self._send_hint(event)
        answer = self._answers.get(kind)
        if answer is not None:
            self._message_over = answer.ends_message
            self._state = answer.state
            self._row = answer.row
            self._due = None
            return answer.data
        if kind not in SENDABLE[due]:
            raise LocalProtocolError(f"{_name(event)} is no reply to {due.__name__}(...)")
        # First of all, for the checks below rely on fields of the right types.
        data = encode_response(event, self._limit)
        if type(event) is Negotiate:
            self._answer_offer(event)
            return data
        self._check_negotiated(event, due)
        if kind in VERDICTS[due]:
            self._decide(due, cast("type[Verdict]", kind))
            return data
        after = after_edit(self._state, cast("type[Edit | Progress]", kind))
        if after is None:
            raise LocalProtocolError(
                "the new body must be sent in one go, and something else has followed it"
            )
        self._state = after
        return data

    def _send_hint(self, event: Response) -> bytes:
        if self._state is not State.FAILED or event != self._hint:
            raise LocalProtocolError(f"no reply is due, so {_name(event)} can't be sent")
        self._hint = None
        return encode_response(event)

    def _answer_offer(self, answer: Negotiate) -> None:
        offer = cast("Negotiate", self._offer)  # can't be None: an answer is due to it
        fault = answer_fault(answer, offer) or macros_fault(answer)
        if fault is not None:
            raise LocalProtocolError(f"this answer can't be sent: {fault}")
        self._due = None
        self._agree(answer)
        self._routes = routes(answer.steps)
        self._move(self._state)

    def _check_negotiated(self, event: Response, due: type[Command]) -> None:
        kind = type(event)
        if kind is Skip and Steps.SKIP not in self._steps:
            raise LocalProtocolError("Skip(...) needs Steps.SKIP, which was not negotiated")
        if kind is Shutdown and not self._allow_shutdown:
            raise LocalProtocolError(
                "Shutdown() is an error to Sendmail; FilterConnection(allow_shutdown=True) "
                "allows it for a filter that serves Postfix only"
            )
        if type(event) is ReplyCode and due is Connect and _is_long_421(event):
            raise LocalProtocolError("Sendmail knows only a one-line 421 at Connect")
        if kind in EDITS:
            needed = EDITS[cast("type[Edit]", kind)]
            if type(event) is AddRecipient and event.parameters:
                needed = Actions.ADDRCPT_PAR
            if needed not in cast("Negotiate", self._answer).actions:
                raise LocalProtocolError(
                    f"{kind.__name__}(...) needs Actions.{needed.name}, which was not negotiated"
                )

    def _decide(self, due: type[Command], verdict: type[Verdict]) -> None:
        after = VERDICTS[due][verdict]
        if after is not None:
            self._message_over = self._state in TRANSACTION and after not in TRANSACTION
            self._move(after)
        self._due = None


def _is_long_421(reply: ReplyCode) -> bool:
    return reply.code == b"421" and len(reply.lines) > 1


class MTAConnection(_Connection):
    """An MTA's side of one connection to a filter.

    ``max_payload``: the longest payload taken, in bytes, without length and code byte.
    """

    def __init__(self, *, max_payload: int = DEFAULT_MAX_PAYLOAD) -> None:
        super().__init__(_RESPONSE_CODES, max_payload)
        self._last: type[Command] | None = None
        self._last_verdict: type[Response] | None = None
        self._skipping: type[Command] | None = None
        self._data_refused = False
        self._asks = _FIRST_ASKS
        # What may be sent in this state, and the verdicts on what was sent; as long as nothing
        # has happened that they know nothing of.
        self._row = self._asks[State.OPENING]
        self._verdicts: Mapping[type[Response], Taken] = {}
        self._plain = True

    @property
    def our_turn(self) -> bool:
        """Whether a command may be sent: nothing waits for the filter's reply."""
        if self._due is not None:
            return False
        return self._open or self._state not in (State.CLOSED, State.FAILED)

    def wants(self, event: type[Command]) -> bool:
        """Whether the filter wants such an event now: `send` takes no other.

        Knows what was negotiated, Skip and earlier verdicts. With ``NOMAIL`` negotiated, tell
        the end of each transaction by `Abort`, as Postfix does.
        """
        return self._unwanted(event) is None

    def macros_wanted(self, stage: Stage) -> tuple[bytes, ...] | None:
        """The macro names that the filter asked for at a stage; None: the MTA's own choice.

        For an empty tuple Sendmail sends no macros, and Postfix those of its own choice.
        """
        return dict(self._answer.macros).get(stage) if self._answer else None

    def events(self) -> Iterator[Response | ConnectionClosed]:
        """The events that are there now; ends when more bytes are needed, or after a verdict."""
        while (event := self.next_event()) is not None:
            yield event
            if self.our_turn:
                return

    def next_event(self) -> Response | ConnectionClosed | None:
        """The next event, or None until more bytes have come.

        Raises RemoteProtocolError if the filter broke the protocol: by bytes that are no frame,
        by a response that makes no sense here, or by speaking when nothing was asked.
        """
        due = self._due
        if due is None:
            self._refuse_unasked()
            return self._out_of_data()
        frame = self._next_frame()
        if frame is None:
            return None if self._open else self._out_of_data()
        code, payload = frame
        try:
            event = RESPONSE_DECODERS[code](payload)
        except RemoteProtocolError as exc:
            raise self._fail(str(exc)) from None
        taken = self._verdicts.get(type(event))
        if taken is None:
            self._take(event, due)
        else:
            self._last_verdict = type(event)
            self._state = taken.state
            self._row = taken.row
            self._due = None
        return event

    def _refuse_unasked(self) -> None:
        if not self._buffer.empty:
            raise self._fail("the filter sent something that it was not asked for")

    def _take(self, event: Response, due: type[Command]) -> None:
        kind = type(event)
        # Sendmail takes Progress at end of message only, but Postfix before any answer.
        if kind is Progress and due is not Negotiate and due is not EndOfMessage:
            return
        if type(event) is Negotiate and due is Negotiate:
            fault = answer_fault(event, cast("Negotiate", self._offer))
            if fault is not None:
                raise self._fail(f"the filter's answer to the offer: {fault}")
            self._agree(event)
            self._asks = asks(event.steps, event.version)
            self._move(self._state)
            self._due = None
            return
        if due is EndOfMessage and (kind in EDITS or kind is Progress):
            after = after_edit(self._state, cast("type[Edit | Progress]", kind))
            if after is None:
                raise self._fail("a ReplaceBody after the new body had ended")
            self._state = after
            return
        verdicts = VERDICTS.get(due, {})
        if kind not in verdicts:
            raise self._fail(f"{kind.__name__} is no reply to {due.__name__}")
        if kind is Skip:
            self._skipping = due
        self._last_verdict = kind
        self._data_refused = due is Data and kind in REFUSALS
        self._plain = not (self._skipping or self._data_refused or due is Unknown)
        self._move(verdicts[cast("type[Verdict]", kind)] or self._state)
        self._due = None

    def _move(self, state: State) -> None:
        self._state = state
        self._row = self._asks[state]

    def send(self, event: Command) -> bytes:
        """The bytes to write for a command.

        Raises LocalProtocolError, and changes nothing, while a reply is due, if the filter does
        not want the event, if it can't follow here, or if a field can't be sent. Raises
        RemoteProtocolError if the filter has spoken without being asked.
        """
        kind = type(event)
        ask = self._row.get(kind)
        buffer = self._buffer  # whose `empty` is written out, for each command comes here
        usual = self._plain and self._open and buffer.offset == buffer.size
        if ask is None or self._due is not None or not usual:
            return self._send_unusual(event)
        data = encode_command(event, self._limit)
        if kind is not Macros:
            self._state = ask.state
            self._row = ask.row
            if ask.verdicts is not None:
                self._verdicts = ask.verdicts
                self._due = kind
            self._last = kind
            self._last_verdict = None
        return data

    def _send_unusual(self, event: Command) -> bytes:
        """All of `send`, with every check, for what has no row or meets a history."""
        if self._state in (State.CLOSED, State.FAILED):
            raise LocalProtocolError(f"the connection has {self._state.name.lower()}")
        kind = type(event)
        if self._due is not None:
            raise LocalProtocolError(
                f"{self._due.__name__}(...) waits for its reply; to give up, close the connection"
            )
        self._refuse_unasked()
        reason = self._unwanted(kind)
        if reason is not None:
            raise LocalProtocolError(f"{_name(event)} can't be sent: {reason}")
        if type(event) is Macros and self._ends_unseen_message(event):
            raise LocalProtocolError(
                "with NOMAIL, these macros would begin another message; send Abort first"
            )
        data = encode_command(event, self._limit)
        if type(event) is Negotiate:
            fault = offer_fault(event)
            if fault is not None:
                raise LocalProtocolError(f"this offer can't be sent: {fault}")
            self._offer = event
        if kind is not Macros:
            state, due = self._rows[self._state][kind]
            self._move(state)
            self._verdicts = {}
            self._due = kind if due else None
            self._last = kind
            self._last_verdict = None
            self._skipping = None
            self._data_refused = False
            self._plain = kind is not Unknown
            if kind is Quit:
                self._open = False
        return data

    def _unwanted(self, kind: type[Command]) -> str | None:
        """Why such a command must not be sent now, or None."""
        if self._data_refused and kind not in BETWEEN and kind is not Macros:
            return "the filter has refused DATA; send Abort, or MailFrom for the next message"
        version = self._answer.version if self._answer else None
        reason = refusal(kind, self._state, self._steps, version)
        if reason is not None:
            return reason
        if self._skipping is kind:
            return "the filter asked to skip the rest"
        if self._last is Unknown and kind in CONTENT:
            return "libmilter would not answer it after an unknown command; send Data first"
        if kind is QuitNewConnection and not self._libmilter_hears_quit_nc():
            return "libmilter would not answer the Connect; open a new connection instead"
        return None

    def _libmilter_hears_quit_nc(self) -> bool:
        # Any other verdict takes libmilter to a state in which it ignores QUIT_NC.
        if self._last is EndOfMessage:
            return self._last_verdict is Continue
        return self._last is Unknown and self._last_verdict is not Accept
