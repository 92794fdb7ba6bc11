"""A transcript played back to a filter, and what it does otherwise this time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import groupby
from typing import Any, Final, cast, final

import attrs

from milterproto._asking import CONTENT, REFUSALS
from milterproto._connection import MTAConnection
from milterproto._errors import LocalProtocolError, RemoteProtocolError
from milterproto._events import (
    COMMAND_CODES,
    Abort,
    AddHeader,
    Body,
    ChangeHeader,
    Command,
    ConnectionClosed,
    Data,
    EndOfMessage,
    InsertHeader,
    Macros,
    MailFrom,
    Quit,
    RcptTo,
)
from milterproto._memory import Wire
from milterproto._shell.talk import Peer, at_end
from milterproto._shell.transcript import FROM_MTA, Entry, Seen
from milterproto._shell.words import as_json, words
from milterproto._state import State

# What a filter has no say in; not to send it makes no difference.
_SILENT: Final = (Macros, Abort, Quit)
# What no MTA says of a message that is for nobody, and the macros for it.
_FOR_SOMEBODY: Final = CONTENT | {Data}
_CODES_FOR_SOMEBODY: Final = {COMMAND_CODES[kind] for kind in _FOR_SOMEBODY}


@final
@attrs.frozen
class Difference:
    """What was answered to ``command`` then and now; ``why`` if it could not be asked."""

    connection: int
    command: Seen
    recorded: tuple[Seen, ...] = ()
    now: tuple[Seen, ...] = ()
    why: str = ""

    @property
    def text(self) -> list[str]:
        """To be read."""
        lines = [f"connection {self.connection}, {words(self.command)}"]
        if self.why:
            return [*lines, f"  {self.why}"]
        lines += [f"- {words(one)}" for one in self.recorded or ("nothing",)]
        return [*lines, *(f"+ {words(one)}" for one in self.now or ("nothing",))]

    @property
    def as_json(self) -> dict[str, Any]:
        """For `json.dumps`."""
        return {
            "connection": self.connection,
            "command": as_json(self.command),
            "recorded": [as_json(one) for one in self.recorded],
            "now": [as_json(one) for one in self.now],
            "why": self.why,
        }


def replay(
    entries: Iterable[Entry], connect: Callable[[], Peer], ignore: Collection[bytes] = ()
) -> Iterator[Difference]:
    """Play all connections, one after the other.

    ``connect`` raises OSError if it can't; if it can't any more, that is a difference, too, and the
    last one. ``ignore``: names of header fields whose values may differ, as a signature's does. The
    values that a filter gives to them are neither compared nor told.
    """
    ignored = {name.lower() for name in ignore}
    by_connection = sorted(entries, key=lambda entry: entry.connection)
    any_played = False
    for number, group in groupby(by_connection, key=lambda entry: entry.connection):
        try:
            peer = connect()
        except OSError as error:
            if not any_played:
                raise
            why = f"the filter takes no connections any more: {error}"
            yield Difference(number, "the connection", why=why)
            return
        any_played = True
        try:
            yield from _Player(number, peer, ignored).play(_exchanges(group))
        finally:
            peer.close()


def _exchanges(entries: Iterable[Entry]) -> list[tuple[Seen, list[Seen]]]:
    """Each command with the answers that followed it."""
    found: list[tuple[Seen, list[Seen]]] = []
    for entry in entries:
        if entry.way != FROM_MTA:
            if found:
                found[-1][1].append(entry.seen)
            continue
        seen = entry.seen
        if isinstance(seen, ConnectionClosed):
            continue
        # Filters on libmilter may answer twice to an end that has data.
        if isinstance(seen, EndOfMessage) and seen.data:
            found.append((Body(seen.data), []))
            seen = EndOfMessage()
        found.append((seen, []))
    return found


class _Player:
    def __init__(self, number: int, wire: Wire, ignored: set[bytes]) -> None:
        self._number = number
        self._wire = wire
        self._ignored = ignored
        self._conn = MTAConnection()
        # Recipients of the message so far, and those among them that were refused.
        self._recipients = 0
        self._refused = 0

    def play(self, exchanges: Iterable[tuple[Seen, list[Seen]]]) -> Iterator[Difference]:
        asked: Seen = "the connection"
        unasked: list[tuple[Seen, str]] = []
        try:
            for seen, recorded in exchanges:
                why = self._tell(seen)
                if why is None:
                    asked = seen
                    now = self._answers()
                    self._count(seen, now)
                    yield from self._compare(seen, recorded, now)
                elif not isinstance(seen, _SILENT):
                    unasked.append((seen, why))
            yield from self._left_out(unasked)
            self._wire.shutdown(1)
            for fault in at_end(self._wire):
                yield Difference(self._number, asked, why=f"the filter {fault}")
        except (RemoteProtocolError, OSError) as error:
            reason = "no answer" if isinstance(error, TimeoutError) else str(error)
            yield Difference(self._number, asked, why=reason)

    def _tell(self, seen: Seen) -> str | None:
        """Say it; why it can't be said, or None."""
        if isinstance(seen, str):
            return seen
        if self._recipients == self._refused > 0 and _is_for_somebody(seen):
            return "the filter has refused all recipients"
        try:
            data = self._conn.send(cast("Command", seen))
        except LocalProtocolError as error:
            return str(error)
        self._wire.sendall(data)
        return None

    def _count(self, command: Seen, answers: list[Seen]) -> None:
        if isinstance(command, MailFrom | Abort):
            self._recipients = self._refused = 0
        elif isinstance(command, RcptTo):
            self._recipients += 1
            self._refused += any(type(answer) in REFUSALS for answer in answers)

    def _answers(self) -> list[Seen]:
        found: list[Seen] = []
        while not self._conn.our_turn and self._conn.state is not State.CLOSED:
            event = self._conn.next_event()
            if event is None:
                self._conn.receive_data(self._wire.recv(1 << 16))
            else:
                found.append(event)
        return found

    def _compare(
        self, command: Seen, recorded: list[Seen], answers: list[Seen]
    ) -> Iterator[Difference]:
        then = tuple(map(self._comparable, recorded))
        # That it closed when it owed nothing can't be seen here, where nothing more is asked.
        owed = 1 if isinstance(command, _SILENT) else 2
        if len(then) >= owed and then[-1] == ConnectionClosed():
            then = then[:-1]
        now = tuple(map(self._comparable, answers))
        if then != now:
            yield Difference(self._number, command, then, now)

    def _comparable(self, seen: Seen) -> Seen:
        if not isinstance(seen, AddHeader | InsertHeader | ChangeHeader):
            return seen
        ignored = seen.name.lower() in self._ignored
        return attrs.evolve(seen, value=b"(ignored)") if ignored else seen

    def _left_out(self, unasked: list[tuple[Seen, str]]) -> Iterator[Difference]:
        if unasked:
            (first, why), *more = unasked
            others = f"; nor were {len(more)} commands after it" if more else ""
            yield Difference(self._number, first, why=f"was not said again: {why}{others}")


def _is_for_somebody(seen: Seen) -> bool:
    if isinstance(seen, Macros):
        return seen.command in _CODES_FOR_SOMEBODY
    return type(seen) in _FOR_SOMEBODY
