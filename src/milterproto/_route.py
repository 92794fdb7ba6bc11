"""The common way through a filter's session, worked out once for each set of steps.

Nothing stands here that the tables of `_state` and `_wire` do not say. But a filter meets a frame
with one look-up by its code byte, and a verdict with one by its type, where asking those tables
each time took twice as long for the whole of a session.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias, final

import attrs

from ._events import (
    COMMAND_CODES,
    Accept,
    Command,
    Continue,
    Discard,
    Macros,
    MailFrom,
    Negotiate,
    Reject,
    Response,
    TempFail,
)
from ._flags import Steps
from ._state import COMMANDS, SENDABLE, TRANSACTION, VERDICTS, State, transitions
from ._wire import COMMAND_DECODERS, encode_response

Row: TypeAlias = "Mapping[int, Route]"
"""The routes out of one state, by code byte."""


@final
@attrs.frozen(eq=False)
class Answer:
    """What a verdict without fields does: its bytes, and what follows from it."""

    data: bytes
    state: State
    ends_message: bool
    row: Row = attrs.field(repr=False)


@final
@attrs.frozen(eq=False, kw_only=True)
class Route:
    """What a frame does: how it is read, the state after it, and the verdicts it may have.

    ``due`` is the event's type if a reply to it is due.
    """

    due: type[Command] | None
    decode: Callable[[bytes], Command]
    state: State
    begins_message: bool
    answers: Mapping[type[Response], Answer] = attrs.field(repr=False)
    row: Row = attrs.field(repr=False)


_BARE: Final = {
    kind: encode_response(kind()) for kind in (Continue, Accept, Reject, TempFail, Discard)
}
# The events that macros belong to. The others end something, and are looked at one by one.
_COMMON: Final = frozenset(SENDABLE) - {Negotiate}
_MACROS: Final = COMMAND_CODES[Macros][0]
_WITH_MACROS: Final = frozenset(COMMANDS) - {State.OPENING}


# As many as of `transitions`, and for the same reason.
@functools.lru_cache(maxsize=64)
def routes(steps: Steps) -> Mapping[State, Row]:
    """The routes out of every state, for one negotiated set of steps."""
    rows: dict[State, dict[int, Route]] = {state: {} for state in State}
    for before, row in transitions(steps).items():
        for kind, (after, due) in row.items():
            if kind in _COMMON:
                code = COMMAND_CODES[kind][0]
                rows[before][code] = Route(
                    due=kind if due else None,
                    decode=COMMAND_DECODERS[code],
                    state=after,
                    begins_message=after in TRANSACTION
                    and (kind is MailFrom or before not in TRANSACTION),
                    answers=_answers(kind, after, rows) if due else {},
                    row=rows[after],
                )
        # With NOMAIL, some macros end a message that was not seen.
        if before in _WITH_MACROS and not (before in TRANSACTION and steps & Steps.NOMAIL):
            rows[before][_MACROS] = Route(
                due=None,
                decode=COMMAND_DECODERS[_MACROS],
                state=before,
                begins_message=False,
                answers={},
                row=rows[before],
            )
    return rows


def _answers(
    kind: type[Command], state: State, rows: Mapping[State, Row]
) -> Mapping[type[Response], Answer]:
    answers: dict[type[Response], Answer] = {}
    for verdict, data in _BARE.items():
        if verdict in SENDABLE[kind]:
            after = VERDICTS[kind][verdict] or state
            over = state in TRANSACTION and after not in TRANSACTION
            answers[verdict] = Answer(data, after, over, rows[after])
    return answers
