"""An MTA that is no more than its side of the conversation with a filter: for tests."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias, cast, final

import attrs

from ._apply import apply
from ._connection import MTAConnection
from ._errors import LocalProtocolError, RemoteProtocolError
from ._events import (
    Abort,
    Accept,
    Body,
    Command,
    Connect,
    ConnectionClosed,
    ConnectionFailure,
    Continue,
    Data,
    Edit,
    EndOfHeaders,
    EndOfMessage,
    Family,
    Header,
    Helo,
    Macros,
    MailFrom,
    Negotiate,
    Quit,
    RcptTo,
    Reject,
    ReplyCode,
    Response,
    Shutdown,
    Skip,
    TempFail,
    Unknown,
    Verdict,
)
from ._filter import MessageFilter
from ._flags import ALL_ACTIONS, MAX_VERSION, Actions, Steps
from ._habits import MACROS, STAGES, Habits, MacroValues
from ._headers import Field, Headers
from ._memory import Filter, MemoryWire, Run, Wire, run_alone
from ._message import Client, Message, Recipient
from ._negotiation import offer
from ._state import EDITS, State
from ._wire import MAX_PACKET

Tested: TypeAlias = Filter | Callable[[Message], Any] | Wire
Said: TypeAlias = tuple[str, Command | Response | ConnectionClosed]
Last: TypeAlias = tuple[Verdict, type[Command]]

_REFUSALS: Final = (Reject, TempFail, ReplyCode)
# What ends a message, or more, wherever it is said.
_GIVE_UP: Final = (Shutdown, ConnectionFailure)
# Before these, Postfix sends no macros if the filter does not want the event.
_STREAMED: Final = (Header, EndOfHeaders, Body, Unknown)

# An address for documentation, RFC 5737.
_SOMEBODY: Final = Client(b"client.test", Family.INET, 40112, b"192.0.2.1", helo=b"client.test")
_SOMEONE: Final = Recipient(b"<someone@example.test>")
_JUNK: Final = Message(
    b"<junk@junk.test>",
    [Recipient(b"<junk@junk.test>")],
    Headers([Field(b"X-Junk", b" junk")]),
)


@final
@attrs.frozen
class Result:
    """What has become of a message.

    ``verdict`` is the filter's last word, and ``stage`` the event that it was said to. There is
    none of a message that the MTA gave up. If all recipients were refused, the last was the last.
    ``edits`` are those that came before the verdict. ``message`` is what is delivered, with its
    recipients; None if it is not.
    ``refused`` are recipients with their verdicts.
    ``transcript`` has what was said on the connection so far: ``">"`` and a command, or ``"<"``
    and a response.
    """

    verdict: Verdict | None
    stage: type[Command] | None
    edits: tuple[Edit, ...]
    message: Message | None
    refused: tuple[tuple[Recipient, Verdict], ...]
    transcript: tuple[Said, ...] = attrs.field(repr=False)

    @property
    def accepted(self) -> bool:
        """Whether the message is delivered to anybody."""
        return self.message is not None and bool(self.message.recipients)

    @property
    def text(self) -> str:
        """The transcript to be read, an event on each line."""
        return "".join(f"{way} {event!r}\n" for way, event in self.transcript)


@final
class MTA:
    """An MTA with one connection to the filter that is tested.

    ``tested`` as in `milterproto.testing`. ``habits``: whose way of going about it. ``version``:
    the milter version to offer, 2, 3, 4 or 6. ``actions``: the edits to offer. ``run``: what runs
    the filter's coroutines, such as ``asyncio.run``; needless where they never really wait.

    What a filter of ours raises comes out of these methods, and so does LocalProtocolError for a
    reply that it must not give. RemoteProtocolError is about a filter at the end of a socket.
    """

    def __init__(
        self,
        tested: Tested,
        *,
        habits: Habits = Habits.POSTFIX,
        version: int = MAX_VERSION,
        actions: Actions = ALL_ACTIONS,
        run: Run = run_alone,
    ) -> None:
        self.habits = habits
        self.transcript: list[Said] = []
        self._wire = _wire_to(tested, run)
        self._conn = MTAConnection()
        self._unsent = bytearray()
        self._client: Client | None = None
        self._about_client: Last | None = None
        self._messages = 0
        self._say(offer(version, actions=actions))
        self._responses()

    def deliver(self, message: Message, *, until: type[Command] | None = None) -> Result:
        """Take a message through the filter.

        The client of the first message connects; each later one must come from the same. Where the
        client is nobody, or there is no recipient, somebody stands in. Macros of the message are
        sent where they would be: where this MTA sends them anyway, or the filter asks for them.

        ``until``: the message is given up after the first such event, as if the client said RSET.
        """
        message = message.copy()
        if message.client == Client():
            message.client = _SOMEBODY
        message.recipients = message.recipients or [_SOMEONE]
        self._greet(message)
        if self.habits is Habits.HOSTILE:
            _Transaction(self, attrs.evolve(_JUNK, client=message.client), Header).play()
        return _Transaction(self, message, until).play()

    def quit(self) -> None:
        """End the session as this MTA does."""
        # To a filter that has decided about the client when it came, or has shut the connection,
        # Postfix says nothing more. Otherwise it gives up once more what is over.
        verdict, stage = self._about_client or (None, None)
        silent = stage in (Connect, Helo) or isinstance(verdict, _GIVE_UP)
        ending = {
            Habits.POSTFIX: () if silent else (Abort(), Quit()),
            Habits.SENDMAIL: (Quit(),),
            Habits.HOSTILE: (),
        }
        with contextlib.suppress(OSError):  # a filter at the end of a socket may have gone
            for command in ending[self.habits]:
                self._say(command)
            self._flush()
            self._wire.shutdown(1)

    # --- for transactions ----------------------------------------------------------------

    @property
    def about_client(self) -> Last | None:
        """What was decided about the client once and for all, and at which event."""
        return self._about_client

    @property
    def leading_space(self) -> bool:
        """Whether it was negotiated."""
        return bool(self._steps & Steps.HDR_LEADSPC)

    def next_queue_id(self) -> bytes:
        """A name for a message."""
        self._messages += 1
        return b"4F2Q%d" % self._messages

    def ask(self, command: Command, values: MacroValues, edits: list[Edit]) -> Verdict | None:
        """Tell the filter, with macros, if it wants to know; its verdict, if it has any."""
        kind = type(command)
        # Always; where libmilter would not answer it, `send` says why.
        wanted = kind is EndOfMessage or self._conn.wants(kind)
        if self._conn.state not in (State.DONE, State.RELEASED, State.CLOSED):
            self._tell_macros(kind, values, wanted=wanted)
        if not wanted:
            return None
        self._say(command)
        responses = self._responses()
        if not responses:
            return None
        *given, verdict = responses
        edits += (cast("Edit", one) for one in given if type(one) in EDITS)
        if self._ends_session(verdict) or (
            kind in (Connect, Helo) and isinstance(verdict, (Accept, *_REFUSALS))
        ):
            self._about_client = cast("Verdict", verdict), kind
        return cast("Verdict | None", verdict)

    def _ends_session(self, verdict: Response) -> bool:
        """Whether the client is disconnected, too."""
        if isinstance(verdict, ReplyCode):
            return verdict.code in self.habits.last_replies
        return isinstance(verdict, _GIVE_UP)

    def abort(self, *, decided: bool) -> None:
        """The message is over; ``decided`` if the filter knows, for it has given its verdict."""
        if self._about_client is not None and isinstance(self._about_client[0], _GIVE_UP):
            return
        # With NOMAIL nothing else tells Sendmail's messages apart.
        unseen = bool(self._steps & Steps.NOMAIL)
        if self.habits is Habits.SENDMAIL and decided and not unseen:
            return
        for _ in range(2 if self.habits is Habits.HOSTILE else 1):
            self._say(Abort())
        self._flush()

    # --- the wire ------------------------------------------------------------------------

    @property
    def _steps(self) -> Steps:
        # Can't be None: the negotiation is the first thing of all.
        return cast("Negotiate", self._conn.negotiated).steps

    def _greet(self, message: Message) -> None:
        client = message.client
        if self._client is not None:
            if client != self._client:
                raise LocalProtocolError("another client needs a connection of its own")
            return
        self._client = client
        values = MacroValues(self.habits, message, b"")
        greetings: list[Command] = [
            Connect(client.hostname, client.family, client.port, client.address)
        ]
        greetings += [Helo(client.helo)] * (2 if self.habits is Habits.HOSTILE else 1)
        for command in greetings:
            if self._about_client is None:
                self.ask(command, values, [])

    def _tell_macros(self, kind: type[Command], values: MacroValues, *, wanted: bool) -> None:
        if not wanted and kind in _STREAMED:
            return
        names = MACROS[self.habits].get(kind)
        stage = STAGES.get(kind)
        asked = None if stage is None else self._conn.macros_wanted(stage)
        # For an empty list Postfix sends what it always does, and Sendmail nothing.
        if asked or (asked is not None and self.habits is Habits.SENDMAIL):
            names = asked or None
        if names is not None:
            self._say(Macros.of(kind, values.of(names)))

    def _say(self, command: Command) -> None:
        self._unsent += self._conn.send(command)
        self.transcript.append((">", command))
        if self.habits is Habits.SENDMAIL:
            self._flush()

    def _flush(self) -> None:
        data = bytes(self._unsent)
        self._unsent.clear()
        if self.habits is Habits.HOSTILE:
            # Enough for all that has an end of its own; the rest would only take long.
            for at in range(min(len(data), 200)):
                self._wire.sendall(data[at : at + 1])
            data = data[200:]
        if data:
            self._wire.sendall(data)

    def _responses(self) -> list[Response]:
        """All that the filter answers, the verdict last."""
        responses: list[Response] = []
        if self._waits():
            self._flush()
        while self._waits():
            event = self._conn.next_event()
            if event is None:
                self._conn.receive_data(self._wire.recv(1 << 16))
                continue
            self.transcript.append(("<", event))
            if isinstance(event, ConnectionClosed):
                raise RemoteProtocolError("the filter has closed the connection, and owes a reply")
            responses.append(event)
        return responses

    def _waits(self) -> bool:
        return not self._conn.our_turn


class _Transaction:
    """One message on its way through the filter."""

    def __init__(self, mta: MTA, message: Message, until: type[Command] | None) -> None:
        self._mta = mta
        self._message = message
        self._until = until
        self._any_taken = False
        self._refused: list[tuple[Recipient, Verdict]] = []
        self._edits: list[Edit] = []
        self._values = MacroValues(mta.habits, message, mta.next_queue_id())

    def play(self) -> Result:
        if self._mta.about_client is not None:
            return self._result(self._mta.about_client)
        for command in self._commands():
            last = self._tell(command)
            if last is not None:
                self._mta.abort(decided=True)
                return self._result(last)
            if type(command) is self._until:
                self._mta.abort(decided=False)
                return self._result(None)
        self._mta.abort(decided=False)
        return self._result((self._refused[-1][1], RcptTo))

    def _commands(self) -> Iterator[Command]:
        message = self._message
        yield MailFrom(message.sender, message.sender_parameters)
        for recipient in message.recipients:
            self._values.recipient = recipient
            yield RcptTo(recipient.address, recipient.parameters)
        if not self._any_taken:
            return
        if self._mta.habits is Habits.HOSTILE:
            yield Unknown(b"XJUNK")
        yield Data()
        for field in message.headers:
            raw = field.raw
            yield Header(field.name, raw if self._mta.leading_space else raw.removeprefix(b" "))
        yield EndOfHeaders()
        size = MAX_PACKET
        if self._mta.habits is Habits.HOSTILE:
            size = min(3 + len(message.body) // 100, size)
        for start in range(0, len(message.body), size):
            yield Body(message.body[start : start + size])
        yield EndOfMessage()

    def _tell(self, command: Command) -> Last | None:
        """Tell the filter; what it has decided about the message, if it has."""
        kind = type(command)
        verdict = self._mta.ask(command, self._values, self._edits)
        if type(command) is RcptTo:
            recipient = Recipient(command.recipient, command.parameters)
            if isinstance(verdict, _REFUSALS):
                self._refused.append((recipient, verdict))
                return self._mta.about_client
            self._any_taken = True
            self._values.has_queue_id = True
        if verdict is None or (isinstance(verdict, Continue | Skip) and kind is not EndOfMessage):
            return None
        # An unknown command fails anyway, whatever the filter says of it; but Sendmail takes Accept
        # for the message.
        if kind is Unknown and self._mta.about_client is None and not isinstance(verdict, Accept):
            return None
        return verdict, kind

    def _result(self, last: Last | None) -> Result:
        verdict, stage = last or (None, None)
        delivered = None
        if isinstance(verdict, (Continue, Accept)):
            refused = [recipient for recipient, _ in self._refused]
            delivered = self._message.copy()
            # Whom the filter was not asked about, for it had accepted all, is a recipient, too.
            delivered.recipients = [one for one in delivered.recipients if one not in refused]
            delivered = apply(
                delivered,
                self._edits,
                self._mta.habits.dialect,
                leading_space=self._mta.leading_space,
            )
        return Result(
            verdict,
            stage,
            tuple(self._edits),
            delivered,
            tuple(self._refused),
            tuple(self._mta.transcript),
        )


def _wire_to(tested: Tested, run: Run) -> Wire:
    """A wire with the filter at its end."""
    if hasattr(tested, "sendall"):
        return cast("Wire", tested)
    if hasattr(tested, "session"):
        return MemoryWire(cast("Filter", tested), run)
    return MemoryWire(MessageFilter(tested), run)
