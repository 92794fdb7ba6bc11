"""A transcript played back to a filter, and what it does otherwise this time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import groupby
from typing import Any, Final, cast, final

import attrs

from milterproto._connection import MTAConnection
from milterproto._errors import LocalProtocolError, RemoteProtocolError
from milterproto._events import (
    Abort,
    AddHeader,
    Body,
    ChangeHeader,
    Command,
    ConnectionClosed,
    EndOfMessage,
    InsertHeader,
    Macros,
    Quit,
)
from milterproto._memory import Wire
from milterproto._shell.talk import Peer, at_end
from milterproto._shell.transcript import FROM_MTA, Entry, Seen
from milterproto._shell.words import as_json, words
from milterproto._state import State

# What a filter has no say in; not to send it makes no difference.
_SILENT: Final = (Macros, Abort, Quit)


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

    ``ignore``: names of header fields whose values may differ, as a signature's does. The values
    that a filter gives to them are neither compared nor told.
    """
    ignored = {name.lower() for name in ignore}
    by_connection = sorted(entries, key=lambda entry: entry.connection)
    for number, group in groupby(by_connection, key=lambda entry: entry.connection):
        peer = connect()
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

    def play(self, exchanges: Iterable[tuple[Seen, list[Seen]]]) -> Iterator[Difference]:
        asked: Seen = "the connection"
        unasked: list[tuple[Seen, str]] = []
        try:
            for seen, recorded in exchanges:
                why = self._tell(seen)
                if why is None:
                    asked = seen
                    yield from self._compare(seen, recorded)
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
        try:
            data = self._conn.send(cast("Command", seen))
        except LocalProtocolError as error:
            return str(error)
        self._wire.sendall(data)
        return None

    def _answers(self) -> list[Seen]:
        found: list[Seen] = []
        while not self._conn.our_turn and self._conn.state is not State.CLOSED:
            event = self._conn.next_event()
            if event is None:
                self._conn.receive_data(self._wire.recv(1 << 16))
            else:
                found.append(event)
        return found

    def _compare(self, command: Seen, recorded: list[Seen]) -> Iterator[Difference]:
        then = tuple(map(self._comparable, recorded))
        # That it closed when it owed nothing can't be seen here, where nothing more is asked.
        owed = 1 if isinstance(command, _SILENT) else 2
        if len(then) >= owed and then[-1] == ConnectionClosed():
            then = then[:-1]
        now = tuple(map(self._comparable, self._answers()))
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
