"""The macros that are in force, stage by stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from ._events import Macros

# Code bytes in the order of a session. A look-up goes from the last to the first.
_RANK: Final = {code: rank for rank, code in enumerate(b"CHMRTLNBE")}
_MAIL: Final = _RANK[ord("M")]
_UNKNOWN: Final = ord("U")
# Postfix sends macros with each header line, body piece and unknown command, too: they hold for
# that one event only.
_PASSING: Final = frozenset(b"LBU")
# An unknown command stands outside of the order: it hides and ends nothing.
_ENDS: Final = _RANK | {_UNKNOWN: len(_RANK)}


class MacroTable(Mapping[bytes, bytes]):
    """Macro values by name; ``b"i"`` and ``b"{i}"`` are the same name.

    Later stages hide earlier ones. Nothing is parsed until something is looked up.
    """

    __slots__ = ("_again", "_passing", "_pending", "_stack")

    def __init__(self) -> None:
        self._pending: dict[int, Macros] = {}
        # In the order of a session, with their ranks; the last is what a look-up begins with,
        # but for what holds for this event only.
        self._stack: list[tuple[int, Macros]] = []
        self._passing: Macros | None = None
        # The command that came last, if its macros are passing.
        self._again = 0

    def __getitem__(self, name: bytes) -> bytes:
        other = name[1:-1] if name[:1] == b"{" and name[-1:] == b"}" else b"{" + name + b"}"
        for values in self._newest_first():
            if name in values:
                return values[name]
            if other in values:
                return values[other]
        raise KeyError(name)

    def __iter__(self) -> Iterator[bytes]:
        return iter({name: None for values in self._newest_first() for name in values})

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"MacroTable({dict(self)!r})"

    def _newest_first(self) -> Iterator[Mapping[bytes, bytes]]:
        if self._passing is not None:
            yield self._passing.values
        for _, macros in reversed(self._stack):
            yield macros.values

    def copy(self) -> MacroTable:
        """Another table that stays as this one is now."""
        table = MacroTable()
        table._stack += self._stack
        table._passing = self._passing
        return table

    # --- for the connection --------------------------------------------------------------

    def announce(self, macros: Macros) -> None:
        """Keep macros for the command that they belong to; what no command has is dropped."""
        code = macros.command[0]
        if code in _ENDS:
            self._pending[code] = macros

    def enter(self, code: int) -> None:
        """The command `code` is handed out: its macros are in force, later stages' are not.

        So are those of earlier commands that were announced but never came, because the filter
        did not want them: both MTAs send their macros all the same.
        """
        pending = self._pending
        macros = pending.pop(code, None)
        # Another header line or body piece: there is nothing to be ended since the last one.
        if code == self._again and not pending:
            self._passing = macros
            return
        rank, stack = _ENDS[code], self._stack
        while stack and stack[-1][0] >= rank:
            stack.pop()
        if pending and code != _UNKNOWN:
            self._catch_up(rank)
        if code in _PASSING:
            self._passing = macros
            self._again = code
            return
        self._passing = None
        self._again = 0
        if macros is not None:
            self._stack.append((rank, macros))

    def _catch_up(self, rank: int) -> None:
        """Bring in force what is pending for commands before one of this rank; drop the rest."""
        found = dict(self._stack)
        found |= {_RANK[code]: macros for code, macros in self._pending.items() if code in _RANK}
        self._stack = sorted((at, found[at]) for at in found if at < rank)
        self._pending.clear()

    def forget_message(self) -> None:
        """Drop what belongs to a message; connection and HELO stand."""
        stack, pending = self._stack, self._pending
        while stack and stack[-1][0] >= _MAIL:
            stack.pop()
        self._passing = None
        for code in [code for code in pending if _ENDS[code] >= _MAIL]:
            del pending[code]

    def forget_all(self) -> None:
        """Drop everything: the next client is another one."""
        self._stack.clear()
        self._passing = None
        self._pending.clear()
