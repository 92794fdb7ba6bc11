"""Where a session stands: tables that know no bytes and no role.

The manual's page on states shows the same tables, and a test holds the two together. That page
also lists where libmilter's own matrix differs, and why.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

from ._events import (
    Abort,
    Accept,
    AddHeader,
    AddRecipient,
    Body,
    ChangeHeader,
    ChangeSender,
    Command,
    Connect,
    ConnectionFailure,
    Continue,
    Data,
    DeleteRecipient,
    Discard,
    Edit,
    EndOfHeaders,
    EndOfMessage,
    Header,
    Helo,
    InsertHeader,
    MailFrom,
    Negotiate,
    Progress,
    Quarantine,
    Quit,
    QuitNewConnection,
    RcptTo,
    Reject,
    ReplaceBody,
    ReplyCode,
    Response,
    Shutdown,
    Skip,
    TempFail,
    Unknown,
    Verdict,
)
from ._flags import Actions, Steps


class State(enum.Enum):
    """Where a connection stands; the same for both roles."""

    # Each is there once. The enum's own hashes the name, in Python: 0.1 us at each look-up.
    __hash__ = object.__hash__

    OPENING = enum.auto()
    """Nothing but the negotiation may come."""
    NEGOTIATED = enum.auto()
    """Negotiated, and no SMTP client yet (or its successor is awaited)."""
    CONNECTED = enum.auto()
    """A client, and no message."""
    MAIL = enum.auto()
    RCPT = enum.auto()
    DATA = enum.auto()
    HEADERS = enum.auto()
    EOH = enum.auto()
    BODY = enum.auto()
    EOM = enum.auto()
    """The message is complete: edits and the verdict are due."""
    REPLACING = enum.auto()
    """As EOM, and the last edit was a ReplaceBody."""
    REPLACED = enum.auto()
    """As EOM, and the new body has ended: no further ReplaceBody."""
    DONE = enum.auto()
    """The message was decided before its end; the MTA has yet to end or begin one."""
    RELEASED = enum.auto()
    """The whole connection was decided; the MTA closes it."""
    CLOSED = enum.auto()
    FAILED = enum.auto()


TRANSACTION: Final = frozenset(
    {
        State.MAIL,
        State.RCPT,
        State.DATA,
        State.HEADERS,
        State.EOH,
        State.BODY,
        State.EOM,
        State.REPLACING,
        State.REPLACED,
    }
)
"""The states inside of a message's transaction."""

Commands: TypeAlias = Mapping[type[Command], State]

# Begin a message, from anywhere after the negotiation: MAIL in a transaction is an implicit
# abort (Sendmail sends no ABORT after a message that was accepted or rejected early).
_ANYTIME: Final[Commands] = {
    Helo: State.CONNECTED,
    MailFrom: State.MAIL,
    Abort: State.CONNECTED,
    QuitNewConnection: State.NEGOTIATED,
    Quit: State.CLOSED,
}
# Any of these may be missing, for messages come without header, body or DATA; the order counts.
_BODY: Final[Commands] = {Body: State.BODY, EndOfMessage: State.EOM}
_CONTENT: Final[Commands] = {Header: State.HEADERS, EndOfHeaders: State.EOH, **_BODY}

_CONTINUING: Final = frozenset({RcptTo, Data, *_CONTENT})

COMMANDS: Final[Mapping[State, Commands]] = {
    State.OPENING: {Negotiate: State.NEGOTIATED, Quit: State.CLOSED},
    State.NEGOTIATED: {
        **_ANYTIME,
        Connect: State.CONNECTED,
        Abort: State.NEGOTIATED,
        Unknown: State.NEGOTIATED,
    },
    State.CONNECTED: {**_ANYTIME, Unknown: State.CONNECTED},
    State.MAIL: {**_ANYTIME, Unknown: State.MAIL, RcptTo: State.RCPT},
    State.RCPT: {
        **_ANYTIME,
        Unknown: State.RCPT,
        RcptTo: State.RCPT,
        Data: State.DATA,
        **_CONTENT,
    },
    # Another filter, or the MTA itself, may refuse the DATA that this filter took. The SMTP
    # transaction is then open still, and nothing tells this filter (seen with Postfix 3.7).
    State.DATA: {
        **_ANYTIME,
        Unknown: State.DATA,
        RcptTo: State.RCPT,
        Data: State.DATA,
        **_CONTENT,
    },
    State.HEADERS: {**_ANYTIME, Unknown: State.HEADERS, **_CONTENT},
    State.EOH: {**_ANYTIME, Unknown: State.EOH, **_BODY},
    State.BODY: {**_ANYTIME, Unknown: State.BODY, **_BODY},
    State.DONE: {**_ANYTIME, Unknown: State.DONE},
    State.RELEASED: {**_ANYTIME, Abort: State.RELEASED, Unknown: State.RELEASED},
}
"""The state after each command that may come. Macros may come in any of these but OPENING."""

# Verdicts. A state that is not named in a row is one that the command left behind.
_STAY: Final = None
_REFUSALS: Final = (Reject, TempFail, ReplyCode)
_GIVE_UP: Final[Mapping[type[Verdict], State | None]] = {
    Shutdown: State.RELEASED,
    ConnectionFailure: State.RELEASED,
}


def _row(
    *,
    go_on: State | None = _STAY,
    accept: State | None,
    refuse: State | None,
    discard: State | None,
    skip: bool = False,
) -> Mapping[type[Verdict], State | None]:
    row: dict[type[Verdict], State | None] = {Continue: go_on, Accept: accept}
    row.update(dict.fromkeys(_REFUSALS, refuse))
    row[Discard] = discard
    if skip:
        row[Skip] = _STAY
    return {**row, **_GIVE_UP}


# Postfix ignores DISCARD outside of a message, and an MTA's side has to cope with filters that
# send it: it changes nothing there.
_CLIENT: Final = _row(accept=State.RELEASED, refuse=State.RELEASED, discard=_STAY)
_MESSAGE: Final = _row(accept=State.DONE, refuse=State.DONE, discard=State.DONE)

VERDICTS: Final[Mapping[type[Command], Mapping[type[Verdict], State | None]]] = {
    Connect: _CLIENT,
    Helo: _CLIENT,
    MailFrom: _MESSAGE,
    # One recipient is refused, the message goes on. Postfix takes Skip here and for headers.
    RcptTo: _row(accept=State.DONE, refuse=_STAY, discard=State.DONE, skip=True),
    # Both MTAs leave the SMTP transaction open: RCPT and DATA may come again.
    Data: _row(accept=State.DONE, refuse=State.RCPT, discard=State.DONE),
    Header: _row(accept=State.DONE, refuse=State.DONE, discard=State.DONE, skip=True),
    EndOfHeaders: _MESSAGE,
    Body: _row(accept=State.DONE, refuse=State.DONE, discard=State.DONE, skip=True),
    EndOfMessage: _row(
        go_on=State.CONNECTED,
        accept=State.CONNECTED,
        refuse=State.CONNECTED,
        discard=State.CONNECTED,
    ),
    # Sendmail takes Accept for the message, though the unknown command said nothing about it.
    Unknown: _row(accept=State.DONE, refuse=_STAY, discard=_STAY),
}
"""The state after each verdict that can be understood; None: it does not change."""

EDITS: Final[Mapping[type[Edit], Actions]] = {
    AddHeader: Actions.ADDHDRS,
    InsertHeader: Actions.ADDHDRS,
    ChangeHeader: Actions.CHGHDRS,
    ReplaceBody: Actions.CHGBODY,
    AddRecipient: Actions.ADDRCPT,
    DeleteRecipient: Actions.DELRCPT,
    ChangeSender: Actions.CHGFROM,
    Quarantine: Actions.QUARANTINE,
}
"""The action that each edit needs (AddRecipient with parameters: ``Actions.ADDRCPT_PAR``)."""

_EVERYWHERE: Final[frozenset[type[Response]]] = frozenset({Continue, Reject, TempFail, ReplyCode})
_IN_MESSAGE: Final[frozenset[type[Response]]] = _EVERYWHERE | {Accept, Discard}
_SHUTDOWN: Final[frozenset[type[Response]]] = frozenset({Shutdown})

SENDABLE: Final[Mapping[type[Command], frozenset[type[Response]]]] = {
    Negotiate: frozenset({Negotiate}),
    # Sendmail lets the mail of a discarded connection through unfiltered.
    Connect: _EVERYWHERE | {Accept, Shutdown},
    Helo: _EVERYWHERE | {Accept, Shutdown},
    MailFrom: _IN_MESSAGE | _SHUTDOWN,
    RcptTo: _IN_MESSAGE | _SHUTDOWN,
    Data: _IN_MESSAGE | _SHUTDOWN,
    # With Shutdown from here on, Postfix 3.7 says 250 and throws the message away (seen).
    Header: _IN_MESSAGE,
    EndOfHeaders: _IN_MESSAGE,
    Body: _IN_MESSAGE | {Skip},
    # Anywhere else Progress is a protocol error to Sendmail.
    EndOfMessage: _IN_MESSAGE | {Progress} | frozenset(EDITS),
    # Accept or Discard before MAIL crashes Postfix's smtpd.
    Unknown: _EVERYWHERE | _SHUTDOWN,
}
"""What a filter may answer to each command, so that no MTA refuses or misreads it."""

SUPPRESS: Final[Mapping[type[Command], Steps]] = {
    Connect: Steps.NOCONNECT,
    Helo: Steps.NOHELO,
    MailFrom: Steps.NOMAIL,
    RcptTo: Steps.NORCPT,
    Data: Steps.NODATA,
    Header: Steps.NOHDRS,
    EndOfHeaders: Steps.NOEOH,
    Body: Steps.NOBODY,
    Unknown: Steps.NOUNKNOWN,
}
"""The step by which a filter says that it does not want an event."""

NO_REPLY: Final[Mapping[type[Command], Steps]] = {
    Connect: Steps.NR_CONN,
    Helo: Steps.NR_HELO,
    MailFrom: Steps.NR_MAIL,
    RcptTo: Steps.NR_RCPT,
    Data: Steps.NR_DATA,
    Header: Steps.NR_HDR,
    EndOfHeaders: Steps.NR_EOH,
    Body: Steps.NR_BODY,
    Unknown: Steps.NR_UNKN,
}
"""The step by which a filter says that it will not reply to an event."""

Transition: TypeAlias = tuple[State, bool]


def transition(state: State, command: type[Command], steps: Steps) -> Transition | None:
    """The state after `command`, and whether a reply is due; None if it can't be placed."""
    return transitions(steps)[state].get(command)


# As many results as there may be kinds of filters beside one MTA; each is a small dict.
@functools.lru_cache(maxsize=64)
def transitions(steps: Steps) -> Mapping[State, Mapping[type[Command], Transition]]:
    """All of `transition` for one negotiated set of steps, for a look-up at each event."""
    return {
        state: {
            command: (after, reply_due(command, steps))
            for source in reversed([state, *_stand_ins(state, steps)])
            for command, after in COMMANDS.get(source, {}).items()
            # From a stand-in only what continues the message that it stands for.
            if source is state or command in _CONTINUING
        }
        for state in State
    }


def _stand_ins(state: State, steps: Steps) -> Iterator[State]:
    """The states that events the filter did not want would have led to."""
    if state in (State.NEGOTIATED, State.CONNECTED, State.DONE, State.RELEASED):
        if not steps & Steps.NOMAIL:
            return
        yield State.MAIL
        state = State.MAIL
    if state is State.MAIL and steps & Steps.NORCPT:
        yield State.RCPT


def reply_due(command: type[Command], steps: Steps) -> bool:
    """Whether an MTA waits for a reply to such a command."""
    return command in SENDABLE and not steps & NO_REPLY.get(command, Steps(0))


def after_edit(state: State, kind: type[Edit | Progress]) -> State | None:
    """The state after an edit or Progress at end of message; None: the body was complete."""
    if kind is ReplaceBody:
        return None if state is State.REPLACED else State.REPLACING
    # Whatever stands between two of its pieces, even Progress, makes Postfix give up (seen).
    return State.REPLACED if state is State.REPLACING else state
