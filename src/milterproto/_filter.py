"""A filter that is a function of whole messages; all that the protocol wants is worked out here."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Final, TypeAlias, cast, final

import attrs

from ._apply import Dialect
from ._connection import FilterConnection
from ._diff import diff
from ._events import (
    Abort,
    Accept,
    Body,
    Command,
    Connect,
    ConnectionClosed,
    Continue,
    EndOfHeaders,
    EndOfMessage,
    Header,
    Helo,
    MailFrom,
    Negotiate,
    Quit,
    QuitNewConnection,
    RcptTo,
    Reject,
    ReplyCode,
    Response,
    TempFail,
    Verdict,
)
from ._flags import Actions, Stage, Steps
from ._headers import Field, Headers
from ._macros import MacroTable
from ._message import Client, Message, Recipient
from ._negotiation import OptionalEvent, Wants, negotiate

Decision: TypeAlias = Verdict | None
"""What a function says: None lets the message go on."""

Judge: TypeAlias = Callable[[Message], Decision | Awaitable[Decision]]
ClientJudge: TypeAlias = Callable[[Client], Decision | Awaitable[Decision]]
RecipientJudge: TypeAlias = Callable[[Message, Recipient], Decision | Awaitable[Decision]]

Event: TypeAlias = Command | ConnectionClosed
Responses: TypeAlias = Sequence[Response]
Handler: TypeAlias = Callable[[Event], Responses | Awaitable[Responses]]

# All that edits may need. Macro lists are asked for where there are any.
EDITING: Final = Actions(0x1FF) & ~Actions.SETSYMLIST

# In bytes. Three times what Postfix takes unless told otherwise (message_size_limit).
DEFAULT_MAX_SIZE: Final = 32 * 1024 * 1024
# What Python needs for an object beside the bytes in it, roughly.
_OBJECT: Final = 100

_REFUSALS: Final = (Reject, TempFail, ReplyCode)


def refuse_too_large(_message: Message) -> Verdict:
    """The usual answer to a message over ``max_size``: a permanent refusal that says why."""
    return ReplyCode.text(552, "5.3.4", "Message too large for the mail filter")


@final
@attrs.frozen
class MessageFilter:
    """A filter made of functions.

    ``function`` gets each complete message, changes it as it likes, and returns a verdict, or None
    to let it pass. The edits are found by `diff`; of a message that is not taken none are made.

    The others decide early, before there is any content, and None lets things go on:
    ``on_connect`` and ``on_helo`` get the `Client`, ``on_sender`` the `Message` so far, and
    ``on_recipient`` that and the `Recipient`. They change nothing: only ``function`` edits.

    Each may be a coroutine function. None of them is called for what the MTA's other filters, or
    the MTA itself, have refused already.

    ``body``: False for a filter that does not look at it; it is then not sent, and seems empty.
    ``actions``: which edits ``function`` may make; a filter that makes fewer may say so.
    ``macros``: names to be asked for, as in `Wants`.
    ``dialect``: whose positions `diff` uses. Without one it is Postfix's if the MTA calls itself
    so, and otherwise only edits are made that all MTAs take alike.
    ``max_size``: how much of a message is kept, in bytes; one that is larger goes to
    ``on_too_large``, without its header fields and its body, and is not edited.
    """

    function: Judge | None = None
    on_connect: ClientJudge | None = attrs.field(default=None, kw_only=True)
    on_helo: ClientJudge | None = attrs.field(default=None, kw_only=True)
    on_sender: Judge | None = attrs.field(default=None, kw_only=True)
    on_recipient: RecipientJudge | None = attrs.field(default=None, kw_only=True)
    body: bool = attrs.field(default=True, kw_only=True)
    actions: Actions = attrs.field(default=EDITING, kw_only=True)
    macros: Mapping[Stage, Collection[bytes]] = attrs.field(factory=dict, kw_only=True)
    dialect: Dialect | None = attrs.field(default=None, kw_only=True)
    max_size: int = attrs.field(default=DEFAULT_MAX_SIZE, kw_only=True)
    on_too_large: Judge = attrs.field(default=refuse_too_large, kw_only=True)

    @property
    def wants(self) -> Wants:
        """What to negotiate: no event without a use, and no reply that decides nothing."""
        replies: dict[OptionalEvent, object] = {
            Connect: self.on_connect,
            Helo: self.on_helo,
            MailFrom: self.on_sender,
            RcptTo: self.on_recipient,
        }
        decided = {event for event, function in replies.items() if function}
        # What comes earlier is a part of what a function is given.
        order: list[OptionalEvent] = [Connect, Helo, MailFrom, RcptTo]
        latest = max((order.index(event) for event in decided), default=-1)
        events = set(order[: latest + 1])
        if self.function is not None:
            events |= {*order, Header, EndOfHeaders}
            if self.body:
                events.add(Body)
        return Wants(
            events=events,
            replies=decided,
            actions=self.actions if self.function is not None else Actions(0),
            macros=self._macro_lists(),
            # The only way to see a field as it is, and to write one so.
            leading_space=self.function is not None,
        )

    def _macro_lists(self) -> Mapping[Stage, Collection[bytes]]:
        names = self.macros.get(Stage.CONNECT)
        if names is None or self.dialect is not None:
            return self.macros
        # A list of one's own stands in place of the MTA's, in which Postfix says what it is.
        return {**self.macros, Stage.CONNECT: (*(one for one in names if one != b"v"), b"v")}

    def session(self, connection: FilterConnection) -> Handler:
        """What handles the events of one connection from the MTA, in order.

        It returns all that is to be sent, nothing if no reply is due; or an awaitable of that, and
        it is a coroutine function, if any of the functions is one. It raises what a function
        raises, and LocalProtocolError for changes that no edits can express; nothing of a reply
        has then been made, and whoever drives the connection sends a verdict in its place.
        """
        session = _Session(self, connection)
        functions = (
            *(self.function, self.on_connect, self.on_helo, self.on_sender, self.on_recipient),
            self.on_too_large,
        )
        if not any(_is_async(function) for function in functions):
            return session.handle

        async def handle(event: Event) -> Responses:
            answer = session.handle(event)
            return await answer if inspect.isawaitable(answer) else answer

        return handle


def _is_async(function: Any) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        type(function).__call__
    )


class _Session:
    """One connection, and its message of the moment."""

    def __init__(self, functions: MessageFilter, connection: FilterConnection) -> None:
        self._functions = functions
        self._conn = connection
        self._client = Client()
        self._forget()

    def handle(self, event: Event) -> Responses | Awaitable[Responses]:
        step = _STEPS.get(type(event))
        return self._silence() if step is None else step(self, event)

    def _silence(self) -> Responses:
        """To an event about which nothing is decided; old MTAs want an answer all the same."""
        return [Continue()] if self._conn.our_turn else []

    def _ask(
        self,
        function: Callable[..., Decision | Awaitable[Decision]] | None,
        *given: object,
        then: Callable[[Decision], Responses] | None = None,
    ) -> Responses | Awaitable[Responses]:
        if function is None:
            return self._silence()
        then = then or _early
        decision = function(*given)
        if not inspect.isawaitable(decision):
            return then(decision)

        async def later() -> Responses:
            return then(await decision)

        return later()

    # --- the client ----------------------------------------------------------------------

    def negotiate(self, offer: Negotiate) -> Responses:
        return [negotiate(offer, self._functions.wants)]

    def connect(self, event: Connect) -> Responses | Awaitable[Responses]:
        self._forget()
        self._client = Client(event.hostname, event.family, event.port, event.address)
        return self._ask(self._functions.on_connect, self._client)

    def helo(self, event: Helo) -> Responses | Awaitable[Responses]:
        self._forget()
        self._client = attrs.evolve(self._client, helo=event.name)
        self._identify()
        return self._ask(self._functions.on_helo, self._client)

    def new_client(self, _event: object) -> Responses:
        self._client = Client()
        return self.end(_event)

    def _identify(self) -> None:
        """Note what macros tell of the client: from HELO on after STARTTLS, at MAIL after AUTH."""
        macros = self._conn.macros
        self._client = attrs.evolve(
            self._client,
            tls=macros.get(b"{tls_version}", b""),
            login=macros.get(b"{auth_authen}", b""),
        )

    # --- the envelope --------------------------------------------------------------------

    def _forget(self) -> None:
        """No message, or none any more."""
        # What a function sees early, and may do with as it likes; what is to be edited is made of
        # the rest, at the end.
        self._draft = Message()
        self._sender = MailFrom(b"<>")
        self._recipients: list[Recipient] = []
        self._fields: list[Field] = []
        self._body = bytearray()
        self._size = 0

    def end(self, _event: object) -> Responses:
        self._forget()
        return []

    def _fits(self, size: int) -> bool:
        """Count what is to be kept; once it is too much, nothing is."""
        self._size += size
        if self._size <= self._functions.max_size:
            return True
        self._fields.clear()
        self._body.clear()
        return False

    def mail(self, event: MailFrom) -> Responses | Awaitable[Responses]:
        self._forget()
        self._identify()
        self._sender = event
        self._draft = self._message(self._conn.macros)
        return self._ask(self._functions.on_sender, self._draft)

    def rcpt(self, event: RcptTo) -> Responses | Awaitable[Responses]:
        recipient = Recipient(event.recipient, event.parameters)

        def then(decision: Decision) -> Responses:
            if not isinstance(decision, _REFUSALS):
                self._add(recipient)
            return _early(decision)

        function = self._functions.on_recipient
        if function is None:
            self._add(recipient)
        return self._ask(function, self._draft, recipient, then=then)

    def _add(self, recipient: Recipient) -> None:
        if self._fits(len(recipient.address) + sum(map(len, recipient.parameters)) + _OBJECT):
            self._recipients.append(recipient)
            self._draft.recipients.append(recipient)

    # --- the content ---------------------------------------------------------------------

    @property
    def _leading_space(self) -> bool:
        answer = cast("Negotiate", self._conn.negotiated)
        return bool(answer.steps & Steps.HDR_LEADSPC)

    def header(self, event: Header) -> Responses:
        if self._fits(len(event.name) + len(event.value) + _OBJECT):
            # Otherwise the MTA has taken off the one blank that usually is there.
            blank = b"" if self._leading_space else b" "
            self._fields.append(Field(event.name, blank + event.value))
        return self._silence()

    def body(self, event: Body | EndOfMessage) -> Responses:
        if self._fits(len(event.data)):
            self._body += event.data
        return self._silence()

    def end_of_message(self, event: EndOfMessage) -> Responses | Awaitable[Responses]:
        functions = self._functions
        self.body(event)
        before = self._message(cast("MacroTable", self._conn.macros).copy())
        too_large = self._size > functions.max_size
        self._forget()
        if functions.function is None:
            return self._silence()
        message = before.copy()
        if too_large:
            return self._ask(functions.on_too_large, message, then=_early)

        def then(decision: Decision) -> Responses:
            verdict = Continue() if decision is None else decision
            if not isinstance(verdict, Continue | Accept):
                return [verdict]
            edits = diff(before, message, self._dialect(before), leading_space=self._leading_space)
            return [*edits, verdict]

        return self._ask(functions.function, message, then=then)

    def _message(self, macros: Mapping[bytes, bytes]) -> Message:
        return Message(
            self._sender.sender,
            list(self._recipients),
            Headers(self._fields),
            bytes(self._body),
            self._sender.parameters,
            self._client,
            macros=macros,
        )

    def _dialect(self, message: Message) -> Dialect | None:
        if self._functions.dialect is not None:
            return self._functions.dialect
        # Sendmail does not send this macro unless told to, and calls itself 8.18 then.
        return Dialect.POSTFIX if message.macros.get(b"v", b"").startswith(b"Postfix") else None


def _early(decision: Decision) -> Responses:
    return [Continue() if decision is None else decision]


_STEPS: Final[Mapping[type[Event], Callable[[_Session, Any], Responses | Awaitable[Responses]]]] = {
    Negotiate: _Session.negotiate,
    Connect: _Session.connect,
    Helo: _Session.helo,
    MailFrom: _Session.mail,
    RcptTo: _Session.rcpt,
    Header: _Session.header,
    Body: _Session.body,
    EndOfMessage: _Session.end_of_message,
    Abort: _Session.end,
    Quit: _Session.end,
    QuitNewConnection: _Session.new_client,
    ConnectionClosed: _Session.end,
}
