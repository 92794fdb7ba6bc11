"""What an MTA may ask a filter: as far as the negotiation and the state alone decide about it.

What the session's history adds to that (Skip, a refused DATA) is `MTAConnection`'s. The common way
through a session is worked out here once for each negotiation, as `_route` does it for a filter.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Final, TypeAlias, final

import attrs

from ._events import (
    Abort,
    Body,
    Command,
    Data,
    EndOfHeaders,
    EndOfMessage,
    Header,
    Helo,
    Macros,
    MailFrom,
    Negotiate,
    Quit,
    QuitNewConnection,
    RcptTo,
    Reject,
    ReplyCode,
    Response,
    Skip,
    TempFail,
    Unknown,
)
from ._flags import Steps
from ._negotiation import SINCE
from ._state import COMMANDS, SUPPRESS, TRANSACTION, VERDICTS, State, transitions

# What may come between two messages, and ends one that is open.
BETWEEN: Final = frozenset({Abort, Helo, MailFrom, QuitNewConnection, Quit})
CONTENT: Final = frozenset({Header, EndOfHeaders, Body, EndOfMessage})
REFUSALS: Final = frozenset({Reject, TempFail, ReplyCode})
_BEFORE_EOH: Final = frozenset({State.RCPT, State.DATA, State.HEADERS})
_NO_STEPS: Final = Steps(0)


def refusal(kind: type[Command], state: State, steps: Steps, version: int | None) -> str | None:
    """Why such a command must not be sent in this state, or None.

    ``steps`` and ``version`` are the filter's answer; ``version`` is None before it.
    """
    if kind is Macros:
        return "nothing was negotiated yet" if version is None else None
    if steps & SUPPRESS.get(kind, _NO_STEPS):
        return f"the filter negotiated {SUPPRESS[kind].name}"
    if version is not None and version < SINCE.get(kind, 0):
        return f"it is unknown in milter version {version}"
    if state is State.RELEASED and kind not in (Abort, Quit, QuitNewConnection):
        return "the filter has decided about the whole connection"
    if state is State.DONE and kind not in BETWEEN:
        return "the filter has decided about the message"
    if kind not in transitions(steps)[state]:
        return f"it can't follow in state {state.name}"
    return _lost_on_libmilter(kind, state, steps, version)


def _lost_on_libmilter(
    kind: type[Command], state: State, steps: Steps, version: int | None
) -> str | None:
    """Why libmilter would ignore such a command without a word, or None.

    Its state table is narrower than ours, and an MTA that runs into one of its gaps waits for a
    reply until its timeout.
    """
    if state is State.DATA and kind in (RcptTo, Data):
        return "libmilter would not answer it after DATA; send Abort, and the message again"
    # libmilter leaves out the states of unwanted events, but not that of wanted headers.
    headers_due = state is State.DATA and not steps & Steps.NOHDRS
    if steps & Steps.NOEOH and headers_due and kind in (Body, EndOfMessage):
        return "libmilter would not answer it without a header before; send Abort"
    before_eoh = state in _BEFORE_EOH and not steps & Steps.NOEOH
    if before_eoh and kind in (Body, EndOfMessage):
        return "EndOfHeaders must come first"
    awaits_connect = state is State.NEGOTIATED and not steps & Steps.NOCONNECT
    if kind is Unknown:
        # After an unknown command, libmilter takes a message's content up again at DATA only.
        content_follows = EndOfMessage in transitions(steps)[state]
        data_can_come = refusal(Data, state, steps, version) is None
        if awaits_connect or (content_follows and not data_can_come):
            return "libmilter would not answer what follows"
    if kind is Abort and awaits_connect:
        return "there is nothing to abort, and libmilter would not answer the Connect"
    return None


@final
@attrs.frozen(eq=False)
class Taken:
    """What a verdict without a history does to an MTA: the state after it."""

    state: State
    row: Row = attrs.field(repr=False)


@final
@attrs.frozen(eq=False)
class Ask:
    """What a command does: the state after it, and the verdicts on it; None: no reply is due."""

    state: State
    verdicts: Mapping[type[Response], Taken] | None = attrs.field(repr=False)
    row: Row = attrs.field(repr=False)


Row: TypeAlias = Mapping[type[Command], Ask]
"""What may be sent in one state, as long as the history has nothing to add."""

_UNUSUAL: Final = frozenset({Negotiate, Unknown, *BETWEEN}) - {Helo, MailFrom}


# As many as of `transitions`, and for the same reason.
@functools.lru_cache(maxsize=64)
def asks(steps: Steps, version: int | None) -> Mapping[State, Row]:
    """All that may be sent, for one negotiation; the filter's own look-ups in `_route`."""
    rows: dict[State, dict[type[Command], Ask]] = {state: {} for state in State}
    for before, row in transitions(steps).items():
        for kind, (after, due) in row.items():
            if kind not in _UNUSUAL and refusal(kind, before, steps, version) is None:
                verdicts = _verdicts(kind, after, rows) if due else None
                rows[before][kind] = Ask(after, verdicts, rows[after])
        # With NOMAIL, some macros end a message that was not seen.
        unseen = before in TRANSACTION and steps & Steps.NOMAIL
        if before in COMMANDS and not unseen and version is not None:
            rows[before][Macros] = Ask(before, None, rows[before])
    return rows


def _verdicts(
    kind: type[Command], state: State, rows: Mapping[State, Row]
) -> Mapping[type[Response], Taken]:
    verdicts: dict[type[Response], Taken] = {}
    for verdict, after in VERDICTS[kind].items():
        # These two are remembered.
        if verdict is not Skip and not (kind is Data and verdict in REFUSALS):
            verdicts[verdict] = Taken(after or state, rows[after or state])
    return verdicts
