"""The asyncio adapter, driven by our MTA's side over real sockets."""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from adapters._contract import Limits, Service
from adapters._listen import listen
from adapters.on_asyncio import Server

import milterproto as mp

PATIENCE = 20  # seconds, for what should take none
WANTS = mp.Wants(actions=mp.ALL_ACTIONS)
CLIENT = mp.Connect(b"client.test", mp.Family.INET, 1, b"192.0.2.1")
MAIL = mp.MailFrom(b"<a@x.test>")
RCPT = mp.RcptTo(b"<b@y.test>")
MESSAGE = (MAIL, RCPT, mp.Data(), mp.EndOfHeaders(), mp.Body(b"x\r\n"))

Handler = Callable[[Any], Any]


def service(handle: Handler, **changes: Any) -> Service[Any, Any]:
    """A milter service; the handler answers what it returns something for, others go on."""

    def make(_conn: object) -> Handler:
        def handler(event: Any) -> Any:
            if isinstance(event, mp.Negotiate):
                return mp.negotiate(event, WANTS)
            return handle(event)

        return handler

    return Service(
        connect=mp.FilterConnection,
        handler=make,
        on_error=lambda event: () if isinstance(event, mp.Negotiate) else (mp.TempFail(),),
        remote_error=mp.RemoteProtocolError,
        **changes,
    )


def go_on(event: Any) -> Any:
    """A handler that lets everything pass."""
    quiet = (mp.Macros, mp.Abort, mp.Quit, mp.QuitNewConnection, mp.ConnectionClosed)
    return None if isinstance(event, quiet) else mp.Continue()


class MTA:
    """A connection to the filter."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.conn = mp.MTAConnection()

    async def say(self, *commands: mp.Command) -> list[mp.Response]:
        """Send commands in turn; the filter's responses to the last one."""
        told: list[mp.Response] = []
        for command in commands:
            self.writer.write(self.conn.send(command))
            told = await self.listen()
        return told

    async def listen(self) -> list[mp.Response]:
        """The responses up to the verdict."""
        told: list[mp.Response] = []
        while not self.conn.our_turn and self.conn.state is not mp.State.CLOSED:
            self.conn.receive_data(await self.reader.read(65536))
            for event in self.conn.events():
                if isinstance(event, mp.ConnectionClosed):
                    raise ConnectionError("the filter has closed")
                told.append(event)
        return told

    async def is_closed(self) -> bool:
        """Whether the filter closes without another byte."""
        return await self.reader.read() == b""


@asynccontextmanager
async def serving(
    service: Service[Any, Any], path: Path, limits: Limits | None = None, **options: Any
) -> AsyncIterator[tuple[Server[Any, Any], Callable[[], Awaitable[MTA]]]]:
    """A server, and a function that makes a connection to it, negotiated with a client."""
    server = Server(service, limits, **options)
    await server.listen(listen(f"unix:{path / 'filter'}"))
    open_: list[MTA] = []

    async def connect() -> MTA:
        mta = MTA(*await asyncio.open_unix_connection(path / "filter"))
        open_.append(mta)
        await mta.say(mp.offer(), CLIENT)
        return mta

    try:
        yield server, connect
    finally:
        for mta in open_:
            mta.writer.close()
        await server.stop()
        assert server.sessions == set()


def run(coroutine: Awaitable[None]) -> None:
    """Run a test's coroutine, but not for ever."""

    async def limited() -> None:
        async with asyncio.timeout(PATIENCE):
            await coroutine

    asyncio.run(limited())


def test_messages_on_one_connection(tmp_path: Path) -> None:
    """A plain function, edits and a verdict, twice."""

    def handle(event: Any) -> Any:
        if isinstance(event, mp.EndOfMessage):
            return [mp.AddHeader(b"A", b"b"), mp.Accept()]
        return go_on(event)

    async def test() -> None:
        async with serving(service(handle), tmp_path) as (_, connect):
            mta = await connect()
            for _ in range(2):
                told = await mta.say(*MESSAGE, mp.EndOfMessage())
                assert told == [mp.AddHeader(b"A", b"b"), mp.Accept()]
            await mta.say(mp.Quit())
            assert await mta.is_closed()

    run(test())


def test_a_coroutine_function_is_awaited(tmp_path: Path) -> None:
    """Its connection waits, and others do not."""

    async def test() -> None:
        slow = asyncio.Event()

        def handle(event: Any) -> Any:
            async def later() -> mp.Verdict:
                await slow.wait()
                return mp.Accept()

            return later() if isinstance(event, mp.EndOfMessage) else go_on(event)

        async with serving(service(handle), tmp_path) as (_, connect):
            first, second = await connect(), await connect()
            waiting = asyncio.create_task(first.say(*MESSAGE, mp.EndOfMessage()))
            await second.say(*MESSAGE)
            slow.set()
            assert await waiting == [mp.Accept()]

    run(test())


def test_a_function_in_a_thread(tmp_path: Path) -> None:
    """It may block."""
    seen = set()

    def handle(event: Any) -> Any:
        seen.add(threading.current_thread() is threading.main_thread())
        return go_on(event)

    async def test() -> None:
        async with serving(service(handle), tmp_path, in_thread=True) as (_, connect):
            mta = await connect()
            assert await mta.say(*MESSAGE, mp.EndOfMessage()) == [mp.Continue()]

    run(test())
    assert seen == {False}


@pytest.mark.parametrize("broken", ["raises", "says nothing", "says nonsense", "awaits"])
def test_a_handler_that_fails(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    """Its traceback is logged, the client is told to try again, the connection goes on."""

    async def fail() -> None:
        await asyncio.get_running_loop().run_in_executor(None, int)
        raise ZeroDivisionError

    def handle(event: Any) -> Any:
        if not isinstance(event, mp.RcptTo):
            return go_on(event)
        if broken == "raises":
            raise ZeroDivisionError
        if broken == "awaits":
            return fail()
        return mp.Skip() if broken == "says nonsense" else None

    async def test() -> None:
        async with serving(service(handle), tmp_path) as (_, connect):
            mta = await connect()
            assert await mta.say(MAIL, RCPT) == [mp.TempFail()]
            assert await mta.say(mp.Abort(), MAIL) == [mp.Continue()]

    with caplog.at_level(logging.ERROR):
        run(test())
    assert "the handler has failed at RcptTo" in caplog.text
    assert caplog.records[0].exc_info is not None


def test_where_nothing_can_be_said_the_connection_is_closed(tmp_path: Path) -> None:
    """The MTA's default action decides."""

    def handle(event: Any) -> Any:
        if isinstance(event, mp.RcptTo):
            raise ZeroDivisionError
        return go_on(event)

    async def test() -> None:
        quiet = service(handle)
        quiet = Service(quiet.connect, quiet.handler, lambda _: (), quiet.remote_error)
        async with serving(quiet, tmp_path) as (_, connect):
            mta = await connect()
            with pytest.raises(ConnectionError):
                await mta.say(MAIL, RCPT)

    run(test())


def test_one_broken_connection_never_disturbs_another(tmp_path: Path) -> None:
    """It gets the hint, if there is one, and is closed."""

    async def test() -> None:
        async with serving(service(go_on), tmp_path) as (_, connect):
            good, bad, worse = await connect(), await connect(), await connect()
            await good.say(MAIL)
            bad.writer.write(b"\0\0\0\x01L")
            assert await bad.reader.read() == b"\0\0\0\x01t"
            worse.writer.write(b"GET / HTTP/1.0\r\n")
            assert await worse.is_closed()
            assert await good.say(RCPT, mp.EndOfHeaders(), mp.EndOfMessage()) == [mp.Continue()]

    run(test())


def test_a_handler_is_cancelled_when_the_mta_closes(tmp_path: Path) -> None:
    """Nobody waits for its verdict any more; the handler hears of the end."""

    async def test() -> None:
        begun, cancelled, closed = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def forever() -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        def handle(event: Any) -> Any:
            if isinstance(event, mp.ConnectionClosed):
                closed.set()
            return forever() if isinstance(event, mp.EndOfMessage) else go_on(event)

        async with serving(service(handle), tmp_path) as (_, connect):
            mta = await connect()
            await mta.say(*MESSAGE)
            mta.writer.write(mta.conn.send(mp.EndOfMessage()))
            await begun.wait()
            mta.writer.close()
            await cancelled.wait()
            await closed.wait()

    run(test())


def test_progress_while_a_slow_filter_works(tmp_path: Path) -> None:
    """The MTA's read timeout begins anew with each."""

    async def test() -> None:
        enough = asyncio.Event()

        async def slow() -> mp.Verdict:
            await enough.wait()
            return mp.Accept()

        def handle(event: Any) -> Any:
            return slow() if isinstance(event, mp.EndOfMessage) else go_on(event)

        def alive(conn: Any) -> mp.Progress | None:
            return mp.Progress() if conn.state is mp.State.EOM else None

        lively = service(handle, keep_alive=alive, keep_alive_interval=0.001)
        async with serving(lively, tmp_path) as (_, connect):
            mta = await connect()
            await mta.say(*MESSAGE)
            mta.writer.write(mta.conn.send(mp.EndOfMessage()))
            for _ in range(3):
                await mta.reader.readexactly(5)
            enough.set()
            rest = await mta.reader.readuntil(b"a")
            assert rest.replace(b"\0\0\0\x01p", b"") == b"\0\0\0\x01a"

    run(test())


def test_reading_stops_while_events_are_undelivered(tmp_path: Path) -> None:
    """A peer that writes on and on fills its own buffer, not ours."""

    async def test() -> None:
        enough = asyncio.Event()

        async def slow() -> mp.Verdict:
            await enough.wait()
            return mp.Continue()

        def handle(event: Any) -> Any:
            return slow() if isinstance(event, mp.MailFrom) else go_on(event)

        async with serving(service(handle), tmp_path) as (server, connect):
            mta = await connect()
            mta.writer.write(mta.conn.send(MAIL))
            aborts = b"\0\0\0\x01A" * 1_000_000
            mta.writer.write(aborts)
            (session,) = server.sessions
            while session.transport.is_reading():  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0)
            assert session._unread < 1_000_000
            enough.set()
            assert await mta.reader.readexactly(5) == b"\0\0\0\x01c"
            await mta.writer.drain()
            mta.writer.write(mta.conn.send(mp.Quit()) if mta.conn.our_turn else b"\0\0\0\x01Q")
            assert await mta.is_closed()

    run(test())


def test_one_connection_too_many_is_closed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And those that are open go on."""

    async def test() -> None:
        async with serving(service(go_on), tmp_path, Limits(connections=1)) as (_, connect):
            mta = await connect()
            with pytest.raises((ConnectionError, BrokenPipeError)):
                await connect()
            assert await mta.say(MAIL) == [mp.Continue()]

    run(test())
    assert "connection refused: 1 are open" in caplog.text


def test_an_idle_connection_is_closed(tmp_path: Path) -> None:
    """Nothing came for as long as was allowed."""

    async def test() -> None:
        limits = Limits(idle_timeout=0.05)
        async with serving(service(go_on), tmp_path, limits) as (_, connect):
            mta = await connect()
            assert await mta.is_closed()

    run(test())


def test_a_stop_lets_open_messages_end(tmp_path: Path) -> None:
    """Idle connections are closed at once, the others after their message."""

    async def test() -> None:
        async with serving(service(go_on), tmp_path) as (server, connect):
            idle, busy = await connect(), await connect()
            await busy.say(*MESSAGE)
            stopping = asyncio.create_task(server.stop())
            assert await idle.is_closed()
            assert await busy.say(mp.EndOfMessage()) == [mp.Continue()]
            assert await busy.is_closed()
            await stopping
            with pytest.raises(OSError, match=r"refused|No such file"):
                await asyncio.open_unix_connection(tmp_path / "filter")

    run(test())


def test_a_stop_waits_no_longer_than_the_grace_time(tmp_path: Path) -> None:
    """What is still open then is cut."""

    async def test() -> None:
        async with serving(service(go_on), tmp_path, Limits(grace=0.05)) as (server, connect):
            busy = await connect()
            await busy.say(MAIL)
            await server.stop()
            with pytest.raises(ConnectionError):
                await busy.say(RCPT)

    run(test())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_server(tmp_path: Path, number: signal.Signals) -> None:
    """systemd sends SIGTERM, a terminal SIGINT."""

    async def test() -> None:
        server = Server(service(go_on))
        running = asyncio.create_task(server.run(listen(f"unix:{tmp_path / 'filter'}")))
        mta = MTA(*await asyncio.open_unix_connection(tmp_path / "filter"))
        await mta.say(mp.offer(), CLIENT)
        os.kill(os.getpid(), number)
        assert await mta.is_closed()
        mta.writer.close()
        await running

    run(test())
