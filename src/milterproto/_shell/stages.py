"""A session as a table: what the MTA said, and what the filter said to that."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, final

import attrs

from milterproto._events import (
    Accept,
    ConnectionClosed,
    ConnectionFailure,
    Continue,
    Discard,
    Macros,
    Negotiate,
    Progress,
    Reject,
    ReplyCode,
    Shutdown,
    Skip,
    TempFail,
)
from milterproto._shell.transcript import FROM_MTA, Entry, Seen
from milterproto._shell.words import words

# Styles, as rich names them; where they stand for a colour of a picture, `diagram` has it.
GOOD: Final = "green"
BAD: Final = "bold red"
LATER: Final = "yellow"
EDIT: Final = "cyan"
QUIET: Final = "dim"
PLAIN: Final = ""


@final
@attrs.define
class Stage:
    """Commands of one kind in a row, and what each of them was answered, if all were alike.

    ``macros`` are those that came before the first of them. Without a command, it is something
    that the filter said by itself.
    """

    commands: list[Seen]
    answers: list[Seen]
    macros: list[Macros]

    @property
    def title(self) -> str:
        """The command on a line."""
        if not self.commands:
            return ""
        first = self.commands[0]
        if len(self.commands) > 1:
            return f"{type(first).__name__} ({len(self.commands)} times)"
        return words(first)


def stages(entries: Iterable[Entry]) -> list[Stage]:
    """All stages of one connection, in order."""
    found: list[Stage] = []
    macros: list[Macros] = []
    for entry in entries:
        seen = entry.seen
        if isinstance(seen, Macros):
            macros.append(seen)
        elif entry.way == FROM_MTA:
            _merge(found)
            found.append(Stage([seen], [], macros))
            macros = []
        else:
            if not found:
                found.append(Stage([], [], []))
            found[-1].answers.append(seen)
    _merge(found)
    if macros:
        found.append(Stage([], [], macros))
    return found


def _merge(found: list[Stage]) -> None:
    """Make one stage of the last two, if there is no difference to be seen."""
    if len(found) < 2:
        return
    before, last = found[-2:]
    alike = [type(stage.commands[0]) if stage.commands else None for stage in (before, last)]
    if alike[0] is alike[1] is not None and before.answers == last.answers:
        before.commands += last.commands
        found.pop()


def style_of(seen: Seen) -> str:
    """Whether that is good news."""
    match seen:
        case Continue() | Accept() | Skip() | Negotiate():
            return GOOD
        case TempFail() | Shutdown():
            return LATER
        case ReplyCode(code):
            return LATER if code[:1] == b"4" else BAD
        case Reject() | Discard() | ConnectionFailure() | str():
            return BAD
        case Progress() | ConnectionClosed():
            return QUIET
        case _:
            return EDIT
