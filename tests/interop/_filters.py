"""A filter on the codec and a plain asyncio loop, whose behaviour each test chooses.

Everything that happens on a connection is kept for the test: events, macros, raw bytes.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Self, TypeAlias

import attrs

import milterproto as mp

Event: TypeAlias = mp.Command | mp.ConnectionClosed
# None leaves the answer to the server: Continue, if one is due.
Handler: TypeAlias = Callable[[mp.FilterConnection, Event], Sequence[mp.Response] | None]
# A program's own way to serve a connection, in place of the test's.
Serve: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Answers: TypeAlias = Mapping[type[mp.Command], Sequence[mp.Response]]


@attrs.frozen
class Seen:
    """An event, and what the connection said about it while it was in hand."""

    event: Event
    macros: dict[bytes, bytes]
    transaction: int
    due: bool


@attrs.define
class Session:
    """One connection from the MTA."""

    seen: list[Seen] = attrs.field(factory=list)
    # ">" and what was read in one go (empty: end of file), "<" and what was written.
    chunks: list[tuple[str, bytes]] = attrs.field(factory=list)
    error: Exception | None = None

    @property
    def events(self) -> list[Event]:
        """The events without the Macros, which Postfix sends before each of them."""
        return [one.event for one in self.seen if type(one.event) is not mp.Macros]

    @property
    def kinds(self) -> list[str]:
        """The names of the events' classes, without Macros."""
        return [type(event).__name__ for event in self.events]

    def of(self, kind: type[Event]) -> list[Seen]:
        """What was seen of one class of events."""
        return [one for one in self.seen if type(one.event) is kind]


@attrs.define
class Filter:
    """What a test wants of the filter, and the sessions that came."""

    handle: Handler
    wants: mp.Wants
    serve: Serve | None = None
    sessions: list[Session] = attrs.field(factory=list)

    @property
    def session(self) -> Session:
        """The only session."""
        (session,) = self.sessions
        return session


def answering(answers: Answers) -> Handler:
    """A handler that always gives the same responses to one class of events."""

    def handle(conn: mp.FilterConnection, event: Event) -> Sequence[mp.Response] | None:
        return None if isinstance(event, mp.ConnectionClosed) else answers.get(type(event))

    return handle


class FilterServer:
    """Serves the filter of the moment on a unix socket and on a loopback port."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.port = 0
        self._filter: Filter | None = None
        self._open = 0
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)
        self._ready = threading.Event()
        self._stop = asyncio.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def install(self, wanted: Filter | None) -> None:
        """Serve this filter from now on."""
        with self._changed:
            self._filter = wanted

    def wait_until_idle(self, patience: float) -> None:
        """Return once every connection has ended."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._open == 0, patience):
                raise AssertionError("Postfix keeps a connection to the filter open")

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._listen())

    async def _listen(self) -> None:
        unix = await asyncio.start_unix_server(self._serve, self.path)
        # Postfix connects as a user of its own.
        self.path.chmod(0o666)
        inet = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = inet.sockets[0].getsockname()[1]
        self._ready.set()
        async with unix, inet:
            await self._stop.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = Session()
        with self._changed:
            self._open += 1
            wanted = self._filter
            if wanted is not None:
                wanted.sessions.append(session)
        try:
            if wanted is not None and wanted.serve is not None:
                await wanted.serve(reader, writer)
            elif wanted is not None:
                await _converse(session, wanted, reader, writer)
        except Exception as exc:  # noqa: BLE001 - raised again in the test
            session.error = exc
        finally:
            writer.close()
            with self._changed:
                self._open -= 1
                self._changed.notify_all()


async def _converse(
    session: Session, wanted: Filter, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    conn = mp.FilterConnection(allow_shutdown=True)
    while True:
        data = await reader.read(1 << 16)
        session.chunks.append((">", data))
        conn.receive_data(data)
        for event in conn.events():
            session.seen.append(Seen(event, dict(conn.macros), conn.transaction, conn.our_turn))
            responses = wanted.handle(conn, event)
            if responses is None:
                responses = _usual_answer(conn, event, wanted.wants)
            for response in responses:
                answer = conn.send(response)
                session.chunks.append(("<", answer))
                writer.write(answer)
        await writer.drain()
        if not data or conn.state is mp.State.CLOSED:
            return


def _usual_answer(
    conn: mp.FilterConnection, event: Event, wants: mp.Wants
) -> Sequence[mp.Response]:
    if isinstance(event, mp.Negotiate):
        return [mp.negotiate(event, wants)]
    return [mp.Continue()] if conn.our_turn else []
