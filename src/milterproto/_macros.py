"""The macros that are in force, stage by stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from ._events import Macros

# Code bytes in the order of a session. A look-up goes from the last to the first.
_ORDER: Final = b"CHMRTLNBE"
_RANK: Final = {code: rank for rank, code in enumerate(_ORDER)}
_UNKNOWN: Final = ord("U")
# Postfix sends macros with each header line, body piece and unknown command, too: they hold
# for that one event only.
_PASSING: Final = frozenset(b"LBU")


class MacroTable(Mapping[bytes, bytes]):
    """Macro values by name; ``b"i"`` and ``b"{i}"`` are the same name.

    Later stages hide earlier ones. Nothing is parsed until something is looked up.
    """

    __slots__ = ("_last", "_pending", "_slots")

    def __init__(self) -> None:
        self._pending: dict[int, Macros] = {}
        self._slots: dict[int, Macros] = {}
        self._last = _UNKNOWN

    def __getitem__(self, name: bytes) -> bytes:
        other = name[1:-1] if name[:1] == b"{" and name[-1:] == b"}" else b"{" + name + b"}"
        for values in self._newest_first():
            for spelling in (name, other):
                if spelling in values:
                    return values[spelling]
        raise KeyError(name)

    def __iter__(self) -> Iterator[bytes]:
        return iter({name: None for values in self._newest_first() for name in values})

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"MacroTable({dict(self)!r})"

    def _newest_first(self) -> Iterator[Mapping[bytes, bytes]]:
        for code in (_UNKNOWN, *reversed(_ORDER)):
            if code in self._slots:
                yield self._slots[code].values

    def copy(self) -> MacroTable:
        """Another table that stays as this one is now."""
        table = MacroTable()
        table._slots.update(self._slots)
        return table

    # --- for the connection --------------------------------------------------------------

    def announce(self, macros: Macros) -> None:
        """Keep macros for the command that they belong to; what no command has is dropped."""
        code = macros.command[0]
        if code in _RANK or code == _UNKNOWN:
            self._pending[code] = macros

    def enter(self, code: int) -> None:
        """The command `code` is handed out: its macros are in force, later stages' are not.

        So are those of earlier commands that were announced but never came, because the filter
        did not want them: both MTAs send their macros all the same.
        """
        slots, pending = self._slots, self._pending
        if self._last in _PASSING:
            slots.pop(self._last, None)
        self._last = code
        if code == _UNKNOWN:
            if code in pending:
                slots[code] = pending.pop(code)
            return
        rank = _RANK[code]
        if slots:
            for later in _ORDER[rank:]:
                slots.pop(later, None)
        if pending:
            for earlier in _ORDER[: rank + 1]:
                if earlier in pending:
                    slots[earlier] = pending.pop(earlier)
            pending.clear()

    def forget_message(self) -> None:
        """Drop what belongs to a message; connection and HELO stand."""
        for code in (*_ORDER[_RANK[ord("M")] :], _UNKNOWN):
            self._slots.pop(code, None)
            self._pending.pop(code, None)

    def forget_all(self) -> None:
        """Drop everything: the next client is another one."""
        self._slots.clear()
        self._pending.clear()
