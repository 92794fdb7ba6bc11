"""The adapters, each driven by our MTA's side over real sockets: one set of tests for all."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from adapters import on_asyncio, on_threads, on_trio
from adapters._contract import Limits, Service
from adapters._listen import listen
from adapters.services import auth_http, milter, tcp_table

import milterproto as mp
import tcptable as tt

from .adapter_hosts import ASYNCIO, CLIENT, MTA, PATIENCE, THREADS, TRIO, Host, serving

EXAMPLES = Path(__file__).parents[2] / "examples"
WANTS = mp.Wants(actions=mp.ALL_ACTIONS)
MAIL = mp.MailFrom(b"<a@x.test>")
RCPT = mp.RcptTo(b"<b@y.test>")
MESSAGE = (MAIL, RCPT, mp.Data(), mp.EndOfHeaders(), mp.Body(b"x\r\n"))

Handler = Callable[[Any], Any]

pytestmark = pytest.mark.usefixtures("no_thread_is_left")
any_host = pytest.mark.parametrize("host", [ASYNCIO, TRIO, THREADS], ids=lambda host: host.name)
any_blocking = pytest.mark.parametrize(
    ("host", "options"),
    [(ASYNCIO, {"in_thread": True}), (TRIO, {"in_thread": True}), (THREADS, {})],
    ids=["asyncio", "trio", "threads"],
)
any_way = pytest.mark.parametrize(
    ("host", "options"),
    [
        (ASYNCIO, {}),
        (TRIO, {}),
        (ASYNCIO, {"in_thread": True}),
        (TRIO, {"in_thread": True}),
        (THREADS, {}),
    ],
    ids=["asyncio", "trio", "asyncio-in-thread", "trio-in-thread", "threads"],
)
any_loop = pytest.mark.parametrize("host", [ASYNCIO, TRIO], ids=lambda host: host.name)


@pytest.fixture
def no_thread_is_left() -> Any:
    """A server ends with all that it started."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        # trio keeps its worker threads for ten seconds, for the next one who needs one.
        if "Trio" not in thread.name:
            thread.join(PATIENCE)
            assert not thread.is_alive(), thread


def service(handle: Handler, **changes: Any) -> Service[Any, Any]:
    """A milter service; what the handler returns nothing for goes on."""
    return attrs.evolve(milter(lambda _: handle, WANTS), **changes)


def go_on(_event: Any) -> None:
    """A handler that lets everything pass."""


def at(kind: type, reply: Any) -> Handler:
    """A handler that says something at one kind of event."""
    return lambda event: reply() if isinstance(event, kind) else None


@any_host
def test_messages_on_one_connection(tmp_path: Path, host: Host) -> None:
    """A plain function, edits and a verdict, twice."""
    edits = [mp.AddHeader(b"A", b"b"), mp.Accept()]
    seen: list[Any] = []

    def handle(event: Any) -> Any:
        seen.append(event)
        return edits if isinstance(event, mp.EndOfMessage) else None

    with serving(host, service(handle), tmp_path) as bench:
        mta = bench.connect()
        for _ in range(2):
            assert mta.say(*MESSAGE, mp.EndOfMessage()) == edits
        mta.say(mp.Quit())
        assert mta.is_closed()
    assert seen[-2:] == [mp.Quit(), mp.ConnectionClosed()]


@any_host
def test_a_generator_of_edits(tmp_path: Path, host: Host) -> None:
    """A handler may yield what it has to say."""

    def judge() -> Any:
        yield mp.AddHeader(b"A", b"b")
        yield mp.Accept()

    with serving(host, service(at(mp.EndOfMessage, judge)), tmp_path) as bench:
        told = bench.connect().say(*MESSAGE, mp.EndOfMessage())
        assert told == [mp.AddHeader(b"A", b"b"), mp.Accept()]


@any_host
def test_frames_come_as_they_like(tmp_path: Path, host: Host) -> None:
    """Two in one write, one in two."""
    seen: list[Any] = []
    with serving(host, service(seen.append), tmp_path) as bench:
        mta = bench.connect()
        first = mta.conn.send(MAIL)
        macros = b"\0\0\0\x09DRi\0ABC\0\0" + b"\0\0\0\x0cR<b@y.test>\0"
        mta.socket.sendall(first)
        mta.hear()
        for cut in range(1, len(macros), 7):
            del seen[:]
            mta.socket.sendall(macros[:cut])
            mta.socket.sendall(macros[cut:])
            assert mta.socket.recv(5) == b"\0\0\0\x01c"
            assert [type(event) for event in seen] == [mp.RcptTo]  # which has the macros


@any_host
def test_macros_are_looked_up(tmp_path: Path, host: Host) -> None:
    """They are no event of the handler's."""
    seen: list[Any] = []

    def session(conn: mp.FilterConnection) -> Handler:
        return lambda event: seen.append((type(event), conn.macros.get(b"i")))

    with serving(host, milter(session, WANTS), tmp_path) as bench:
        mta = bench.connect()
        del seen[:]
        mta.socket.sendall(mta.conn.send(mp.Macros.of(mp.MailFrom, {b"i": b"Q1"})))
        mta.say(MAIL)
        assert seen == [(mp.MailFrom, b"Q1")]


@any_loop
def test_a_coroutine_function_is_awaited(tmp_path: Path, host: Host) -> None:
    """Its connection waits, and others do not."""
    slow = threading.Event()

    async def handle(event: Any) -> Any:
        while isinstance(event, mp.EndOfMessage) and not slow.is_set():
            await host.sleep(0.001)  # type: ignore[misc]
        return mp.Accept() if isinstance(event, mp.EndOfMessage) else None

    with serving(host, service(handle), tmp_path) as bench:
        first, second = bench.connect(), bench.connect()
        first.say(*MESSAGE)
        first.send(mp.EndOfMessage())
        second.say(*MESSAGE)
        slow.set()
        assert first.hear() == [mp.Accept()]


def test_a_coroutine_runs_in_a_task_from_its_first_step(tmp_path: Path) -> None:
    """Though it may not need to wait: asyncio.timeout(), and much else, asks for the task."""
    tasks: list[Any] = []

    async def handle(event: Any) -> Any:
        async with asyncio.timeout(PATIENCE):
            tasks.append(asyncio.current_task())
            if isinstance(event, mp.RcptTo):
                await asyncio.sleep(0)
            return mp.Accept() if isinstance(event, mp.EndOfMessage) else None

    with serving(ASYNCIO, service(handle), tmp_path) as bench:
        assert bench.connect().say(*MESSAGE, mp.EndOfMessage()) == [mp.Accept()]
    assert None not in tasks


@any_loop
def test_a_function_in_a_thread(tmp_path: Path, host: Host) -> None:
    """It may block, and another connection goes on."""
    slow = threading.Event()
    threads = set()

    def handle(event: Any) -> None:
        threads.add(threading.current_thread())
        if isinstance(event, mp.EndOfMessage):
            assert slow.wait(PATIENCE)

    with serving(host, service(handle), tmp_path, in_thread=True) as bench:
        first, second = bench.connect(), bench.connect()
        first.say(*MESSAGE)
        first.send(mp.EndOfMessage())
        second.say(*MESSAGE)
        slow.set()
        assert first.hear() == [mp.Continue()]
        assert threading.current_thread() not in threads


async def coroutine_function(_event: Any) -> None:
    """No server without a loop can wait for it."""


class Callable_:  # noqa: N801 - the built-in's name
    async def __call__(self, _event: Any) -> None:
        """Nor for this."""


THREADED: list[Any] = [
    on_threads.Server,
    lambda service: on_asyncio.Server(service, in_thread=True),
    lambda service: on_trio.Server(service, in_thread=True),
]


@pytest.mark.parametrize("start", THREADED, ids=["threads", "asyncio", "trio"])
@pytest.mark.parametrize("handler", [coroutine_function, Callable_()], ids=["function", "object"])
def test_threads_refuse_a_coroutine_function(start: Any, handler: Any) -> None:
    """At the start, not at the first message."""
    plain = attrs.evolve(service(go_on), handler=lambda _: handler)
    with pytest.raises(TypeError, match="is a coroutine function"):
        start(plain)


@pytest.mark.parametrize("in_thread", [False, True], ids=["", "in-thread"])
@pytest.mark.parametrize("broken", ["raises", "says nonsense", "yields and raises"])
@any_host
def test_a_handler_that_fails(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, host: Host, broken: str, in_thread: bool
) -> None:
    """Its traceback is logged, the client is told to try again, the connection goes on."""

    def fail() -> Any:
        if broken == "raises":
            raise ZeroDivisionError
        return [mp.Skip()] if broken == "says nonsense" else generator()

    def generator() -> Any:
        yield mp.Continue()
        raise ZeroDivisionError

    options: dict[str, Any] = {"in_thread": in_thread} if host is not THREADS else {}
    with serving(host, service(at(mp.RcptTo, fail)), tmp_path, **options) as bench:
        mta = bench.connect()
        assert mta.say(MAIL, RCPT) == [mp.TempFail()]
        assert mta.say(mp.Abort(), MAIL) == [mp.Continue()]
    assert "the handler has failed at RcptTo" in caplog.text
    (record,) = [one for one in caplog.records if one.name == "mailwire.adapters"]
    assert record.exc_info is not None


@any_loop
def test_a_coroutine_that_fails(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, host: Host
) -> None:
    """Just the same."""

    async def handle(event: Any) -> None:
        await host.sleep(0)  # type: ignore[misc]
        if isinstance(event, mp.RcptTo):
            raise ZeroDivisionError

    with serving(host, service(handle), tmp_path) as bench:
        mta = bench.connect()
        assert mta.say(MAIL, RCPT) == [mp.TempFail()]
        assert mta.say(mp.Abort(), MAIL) == [mp.Continue()]
    assert "ZeroDivisionError" in caplog.text


@any_host
def test_the_user_chooses_what_a_failure_means(tmp_path: Path, host: Host) -> None:
    """Here everything passes that the filter can't judge."""

    def fail() -> None:
        raise ZeroDivisionError

    open_ = milter(lambda _: at(mp.RcptTo, fail), WANTS, on_error=mp.Accept())
    with serving(host, open_, tmp_path) as bench:
        assert bench.connect().say(MAIL, RCPT) == [mp.Accept()]


@pytest.mark.parametrize("choice", [None, mp.Skip()], ids=["nothing", "nonsense"])
@any_host
def test_where_nothing_can_be_said_the_connection_is_closed(
    tmp_path: Path, host: Host, choice: Any
) -> None:
    """The MTA's default action decides; the handler hears of the end."""
    seen: list[Any] = []

    def handle(event: Any) -> None:
        seen.append(event)
        if isinstance(event, mp.RcptTo):
            raise ZeroDivisionError

    silent = milter(lambda _: handle, WANTS, on_error=choice)
    with serving(host, silent, tmp_path) as bench:
        mta = bench.connect()
        with pytest.raises(ConnectionError):
            mta.say(MAIL, RCPT)
    assert seen[-1] == mp.ConnectionClosed()


@any_host
def test_a_handler_that_can_not_be_made(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, host: Host
) -> None:
    """The connection is closed, and the next one may have more luck."""
    luck: list[Handler] = []

    def session(_conn: object) -> Handler:
        return luck[-1]

    if host is THREADS:  # looks at one at the start
        luck.append(go_on)
    with serving(host, milter(session, WANTS), tmp_path) as bench:
        del luck[:]
        assert bench.connect(begin=False).is_closed()
        luck.append(go_on)
        bench.connect()
    assert "no handler could be made" in caplog.text


@any_host
def test_a_codec_that_fails_ends_its_own_connection_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, host: Host
) -> None:
    """That must not happen, and when it does the others go on."""

    class Faulty(mp.FilterConnection):
        def next_event(self) -> Any:
            event = super().next_event()
            if isinstance(event, mp.RcptTo):
                raise ZeroDivisionError
            return event

    with serving(host, service(go_on, connect=Faulty), tmp_path) as bench:
        good, bad = bench.connect(), bench.connect()
        good.say(MAIL)
        bad.say(MAIL)
        bad.send(RCPT)
        assert bad.is_closed()
        assert good.say(mp.Abort(), MAIL) == [mp.Continue()]
    assert "ZeroDivisionError" in caplog.text


@any_host
def test_one_broken_connection_never_disturbs_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, host: Host
) -> None:
    """It gets the hint, if there is one, and is closed."""
    with serving(host, service(go_on), tmp_path) as bench:
        good, bad, worse = bench.connect(), bench.connect(), bench.connect()
        good.say(MAIL)
        bad.socket.sendall(b"\0\0\0\x01L")
        assert bad.socket.recv(100) == b"\0\0\0\x01t"
        assert bad.is_closed()
        worse.socket.sendall(b"GET / HTTP/1.0\r\n")
        assert worse.is_closed()
        assert good.say(RCPT, mp.EndOfHeaders(), mp.EndOfMessage()) == [mp.Continue()]
    assert caplog.text.count("connection dropped") == 2


@any_loop
def test_a_coroutine_is_cancelled_when_the_mta_closes(tmp_path: Path, host: Host) -> None:
    """Nobody waits for its verdict any more; the handler hears of the end."""
    begun, cancelled, closed = threading.Event(), threading.Event(), threading.Event()

    async def handle(event: Any) -> None:
        if isinstance(event, mp.ConnectionClosed):
            assert cancelled.is_set()
            closed.set()
        if isinstance(event, mp.EndOfMessage):
            begun.set()
            try:
                await host.sleep(1000)  # type: ignore[misc]
            finally:
                cancelled.set()

    with serving(host, service(handle), tmp_path) as bench:
        mta = bench.connect()
        mta.say(*MESSAGE)
        mta.send(mp.EndOfMessage())
        assert begun.wait(PATIENCE)
        mta.socket.close()
        assert closed.wait(PATIENCE)


@any_blocking
def test_a_thread_hears_of_the_end_afterwards(
    tmp_path: Path, host: Host, options: dict[str, Any]
) -> None:
    """Never two events at a time."""
    begun, enough, closed = threading.Event(), threading.Event(), threading.Event()
    order: list[str] = []

    def handle(event: Any) -> None:
        if isinstance(event, mp.EndOfMessage):
            begun.set()
            assert enough.wait(PATIENCE)
            order.append("end of message")
        if isinstance(event, mp.ConnectionClosed):
            order.append("closed")
            closed.set()

    with serving(host, service(handle), tmp_path, **options) as bench:
        mta = bench.connect()
        mta.say(*MESSAGE)
        mta.send(mp.EndOfMessage())
        assert begun.wait(PATIENCE)
        mta.socket.close()
        assert not closed.wait(0.1)  # as long as a wrong adapter needs to tell of it
        enough.set()
        assert closed.wait(PATIENCE)
    assert order == ["end of message", "closed"]


@any_host
def test_progress_while_a_slow_filter_works(tmp_path: Path, host: Host) -> None:
    """The MTA's read timeout begins anew with each."""
    enough = threading.Event()

    async def slow(event: Any) -> None:
        while isinstance(event, mp.EndOfMessage) and not enough.is_set():
            await host.sleep(0.001)  # type: ignore[misc]

    def blocking(event: Any) -> None:
        if isinstance(event, mp.EndOfMessage):
            assert enough.wait(PATIENCE)

    handle = blocking if host is THREADS else slow
    lively = service(handle, keep_alive_interval=0.001)
    with serving(host, lively, tmp_path) as bench:
        mta = bench.connect()
        mta.say(*MESSAGE)
        mta.send(mp.EndOfMessage())
        got = b""
        while got.count(b"p") < 3:
            got += mta.socket.recv(5)
        enough.set()
        while not got.endswith(b"c"):
            got += mta.socket.recv(5)
        assert got.replace(b"\0\0\0\x01p", b"") == b"\0\0\0\x01c"


@any_host
def test_reading_stops_while_events_are_undelivered(tmp_path: Path, host: Host) -> None:
    """A peer that writes on and on fills its own buffer, not ours."""
    enough = threading.Event()

    async def slow(event: Any) -> None:
        while isinstance(event, mp.MailFrom) and not enough.is_set():
            await host.sleep(0.001)  # type: ignore[misc]

    def blocking(event: Any) -> None:
        if isinstance(event, mp.MailFrom):
            assert enough.wait(PATIENCE)

    handle = blocking if host is THREADS else slow
    with serving(host, service(handle), tmp_path) as bench:
        mta = bench.connect()
        mta.send(MAIL)
        macros = b"DRi\0" + b"x" * 60000 + b"\0"
        flood = memoryview((len(macros).to_bytes(4, "big") + macros) * 100)
        sent = 0
        # A pause of a tenth of a second is the end: the kernel's buffers take no more.
        while sent < len(flood) and select.select([], [mta.socket], [], 0.1)[1]:
            sent += mta.socket.send(flood[sent : sent + 4096])
        assert sent < len(flood) // 2
        enough.set()
        assert mta.socket.recv(5) == b"\0\0\0\x01c"
        mta.socket.sendall(flood[sent:])
        mta.socket.sendall(b"\0\0\0\x01Q")
        assert mta.is_closed()


@any_host
def test_a_peer_that_does_not_read_is_not_read_from(tmp_path: Path, host: Host) -> None:
    """Its replies would fill our memory."""
    long = mp.ReplyCode.text(550, "5.7.1", "x" * 900)
    handle = at(mp.MailFrom, lambda: long)
    with serving(host, service(handle), tmp_path, Limits(grace=0.05)) as bench:
        mta = bench.connect()
        flood = memoryview((mta.conn.send(MAIL) + b"\0\0\0\x01A") * 100_000)
        sent = 0
        while sent < len(flood) and select.select([], [mta.socket], [], 0.1)[1]:
            sent += mta.socket.send(flood[sent : sent + 4096])
        assert sent < len(flood) // 2


@any_host
def test_one_connection_too_many_is_closed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, host: Host
) -> None:
    """Those that are open go on, and when one has gone there is room again."""
    gone = threading.Event()
    handle = at(mp.ConnectionClosed, gone.set)
    with serving(host, service(handle), tmp_path, Limits(connections=1)) as bench:
        mta = bench.connect()
        assert bench.connect(begin=False).is_closed()
        assert mta.say(MAIL) == [mp.Continue()]
        mta.socket.close()
        assert gone.wait(PATIENCE)
        # The handler has heard of it a moment before there is room.
        for _ in range(1000):
            with contextlib.suppress(ConnectionError):
                bench.connect()
                break
        else:
            pytest.fail("there is never room again")
    assert "connection refused: 1 are open" in caplog.text


@any_host
def test_an_idle_connection_is_closed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, host: Host
) -> None:
    """Nothing came for as long as was allowed; the handler hears of the end."""
    seen: list[Any] = []
    caplog.set_level(logging.INFO)
    with serving(host, service(seen.append), tmp_path, Limits(idle_timeout=0.05)) as bench:
        mta = bench.connect()
        assert mta.is_closed()
    assert seen[-1] == mp.ConnectionClosed()
    assert "nothing came for 0.05 s" in caplog.text


@any_host
def test_a_connection_that_talks_is_not_idle(tmp_path: Path, host: Host) -> None:
    """However long it has been open."""
    with serving(host, service(go_on), tmp_path, Limits(idle_timeout=0.3)) as bench:
        mta = bench.connect()
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            assert mta.say(mp.Helo(b"again.test")) == [mp.Continue()]


@any_host
def test_a_stop_lets_open_messages_end(tmp_path: Path, host: Host) -> None:
    """Idle connections are closed at once, the others after their message."""
    ends: list[Any] = []
    handle = at(mp.ConnectionClosed, lambda: ends.append(None))
    with serving(host, service(handle), tmp_path) as bench:
        idle, busy = bench.connect(), bench.connect()
        busy.say(*MESSAGE)
        bench.stop()
        assert idle.is_closed()
        with pytest.raises(OSError, match=r"refused|No such file|reset|Broken"):
            bench.connect()
        assert busy.say(mp.EndOfMessage()) == [mp.Continue()]
        assert busy.is_closed()
    assert len(ends) == 2


@any_host
def test_a_stop_waits_no_longer_than_the_grace_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, host: Host
) -> None:
    """What is still open then is cut."""
    with serving(host, service(go_on), tmp_path, Limits(grace=0.05)) as bench:
        busy = bench.connect()
        busy.say(MAIL)
        bench.stop()
        assert busy.is_closed()
    assert "1 connections cut" in caplog.text


@any_loop
def test_a_coroutine_is_cancelled_at_the_end_of_the_grace_time(tmp_path: Path, host: Host) -> None:
    """However long it would have taken."""
    begun, cancelled = threading.Event(), threading.Event()

    async def handle(event: Any) -> None:
        if isinstance(event, mp.MailFrom):
            begun.set()
            try:
                await host.sleep(1000)  # type: ignore[misc]
            finally:
                cancelled.set()

    with serving(host, service(handle), tmp_path, Limits(grace=0.05)) as bench:
        mta = bench.connect()
        mta.send(MAIL)
        assert begun.wait(PATIENCE)
        bench.stop()
        assert cancelled.wait(PATIENCE)


@any_blocking
def test_a_stop_does_not_wait_for_a_thread(
    tmp_path: Path, host: Host, options: dict[str, Any]
) -> None:
    """Nobody can end it; the connection is cut all the same."""
    begun, enough = threading.Event(), threading.Event()

    def handle(event: Any) -> None:
        if isinstance(event, mp.MailFrom):
            begun.set()
            assert enough.wait(PATIENCE)

    try:
        with serving(host, service(handle), tmp_path, Limits(grace=0.05), **options) as bench:
            mta = bench.connect()
            mta.send(MAIL)
            assert begun.wait(PATIENCE)
            bench.stop()
            assert mta.is_closed()
    finally:
        enough.set()


@any_host
def test_a_peer_that_reads_nothing_is_dropped(tmp_path: Path, host: Host) -> None:
    """What it does not take fills no memory, and holds no connection for ever."""
    big = [mp.ReplaceBody(bytes(60000))] * 100
    seen: list[Any] = []
    limits = Limits(idle_timeout=0.2)

    def handle(event: Any) -> Any:
        seen.append(event)
        return [*big, mp.Accept()] if isinstance(event, mp.EndOfMessage) else None

    with serving(host, service(handle), tmp_path, limits) as bench:
        mta = bench.connect()
        mta.say(*MESSAGE)
        mta.send(mp.EndOfMessage())
        # Its own end is closed first, while the filter still writes.
        poll = select.poll()
        poll.register(mta.socket, select.POLLHUP)
        assert poll.poll(PATIENCE * 1000)
    assert seen[-1] == mp.ConnectionClosed()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@any_host
def test_a_signal_stops_the_server(tmp_path: Path, number: signal.Signals, host: Host) -> None:
    """systemd sends SIGTERM, a terminal SIGINT."""
    program = f"""
import asyncio, trio
import milterproto as mp
from adapters import on_{host.name}
from adapters._listen import listen
from adapters.services import milter

server = on_{host.name}.Server(milter(lambda _: print, mp.Wants()))
listener = listen("unix:{tmp_path}/filter")
print("listening", flush=True)
"""
    program += {
        "asyncio": "asyncio.run(server.run(listener))",
        "trio": "trio.run(server.run, listener)",
        "threads": "server.run(listener)",
    }[host.name]
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=EXAMPLES, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        mta = MTA(tmp_path / "filter")
        os.kill(process.pid, number)
        assert mta.is_closed()
        mta.socket.close()
        assert process.wait(PATIENCE) == 0
        assert process.stdout.read().endswith("ConnectionClosed()\n")


# --- what a handler does wrong harms nobody else ---------------------------------------------


def stops() -> Any:
    """No future can hold this exception."""
    return next(iter(()))


def exits() -> Any:
    """As a library does that takes itself for a program."""
    raise SystemExit(3)


def asks_a_future_that_was_cancelled() -> Any:
    """Which is no Exception, and would end a loop that does not expect it."""
    raise asyncio.CancelledError


def first_edits_then_fails() -> Any:
    """The edits must not go without the verdict that they were made for."""
    yield mp.DeleteRecipient(b"<b@y.test>")
    raise ZeroDivisionError


def an_edit_that_can_not_be_sent() -> Any:
    """The one before it is fine."""
    delete = mp.DeleteRecipient(b"<b@y.test>")
    return [delete, mp.AddHeader(b"bad name", b"x"), mp.AddRecipient(b"<c@y.test>"), mp.Accept()]


@any_way
@pytest.mark.parametrize(
    "fail",
    [
        stops,
        exits,
        asks_a_future_that_was_cancelled,
        first_edits_then_fails,
        an_edit_that_can_not_be_sent,
    ],
    ids=lambda fail: fail.__name__,
)
def test_of_a_failing_handler_only_on_error_is_heard(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, host: Host, options: Any, fail: Handler
) -> None:
    """Nothing that it said before, whatever it raises; and other connections go on."""
    handle = at(mp.EndOfMessage, fail)
    open_ = milter(lambda _: handle, WANTS, on_error=mp.Accept())
    with serving(host, open_, tmp_path, **options) as bench:
        bad, good = bench.connect(), bench.connect()
        good.say(MAIL)
        assert bad.say(*MESSAGE, mp.EndOfMessage()) == [mp.Accept()]
        assert good.say(RCPT) == [mp.Continue()]
        assert bad.say(MAIL) == [mp.Continue()]
    assert caplog.text.count("the handler has failed at EndOfMessage") == 1


@any_host
def test_what_follows_a_verdict_does_not_undo_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, host: Host
) -> None:
    """One verdict is sent, and the log says what was wrong."""
    handle = at(mp.RcptTo, lambda: [mp.Reject(), mp.Accept()])
    with serving(host, service(handle), tmp_path) as bench:
        mta = bench.connect()
        assert mta.say(MAIL, RCPT) == [mp.Reject()]
        assert mta.say(mp.Abort(), MAIL) == [mp.Continue()]
    assert "the handler has failed at RcptTo" in caplog.text


@any_loop
def test_a_coroutine_that_exits(tmp_path: Path, host: Host) -> None:
    """It takes the program with it no more than a function does."""

    async def handle(event: Any) -> None:
        await host.sleep(0)  # type: ignore[misc]
        if isinstance(event, mp.RcptTo):
            raise SystemExit

    with serving(host, service(handle), tmp_path) as bench:
        mta, good = bench.connect(), bench.connect()
        assert mta.say(MAIL, RCPT) == [mp.TempFail()]
        assert good.say(MAIL) == [mp.Continue()]


def test_a_coroutine_that_exits_in_a_nursery_of_its_own(tmp_path: Path) -> None:
    """Which wraps what is raised in it. asyncio itself ends at a task that exits."""

    async def fail() -> None:
        raise SystemExit

    async def handle(event: Any) -> None:
        if isinstance(event, mp.RcptTo):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fail)

    with serving(TRIO, service(handle), tmp_path) as bench:
        mta, good = bench.connect(), bench.connect()
        assert mta.say(MAIL, RCPT) == [mp.TempFail()]
        assert good.say(MAIL) == [mp.Continue()]


@any_host
def test_an_on_error_that_exits(tmp_path: Path, host: Host) -> None:
    """The connection is closed, for there is nothing to be said; the others go on."""

    def fail(_event: Any) -> Any:
        raise SystemExit

    with serving(host, service(at(mp.RcptTo, stops), on_error=fail), tmp_path) as bench:
        mta, good = bench.connect(), bench.connect()
        with pytest.raises(ConnectionError):
            mta.say(MAIL, RCPT)
        assert good.say(MAIL) == [mp.Continue()]


@any_host
def test_a_sign_of_life_that_exits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, host: Host
) -> None:
    """There is none, then; the work goes on."""
    failed = threading.Event()

    def fail(_conn: Any) -> Any:
        failed.set()
        raise SystemExit

    async def slow(event: Any) -> None:
        while isinstance(event, mp.MailFrom) and not failed.is_set():
            await host.sleep(0.001)  # type: ignore[misc]

    def blocking(event: Any) -> None:
        if isinstance(event, mp.MailFrom):
            assert failed.wait(PATIENCE)

    handle = blocking if host is THREADS else slow
    with serving(
        host, service(handle, keep_alive=fail, keep_alive_interval=0.001), tmp_path
    ) as bench:
        assert bench.connect().say(MAIL) == [mp.Continue()]
    assert "no sign of life can be given" in caplog.text


def test_a_thread_that_can_not_be_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One reply is a temporary failure; the next event has a thread again."""
    start = threading.Thread.start
    luck = [False]

    def sometimes(thread: threading.Thread) -> None:
        if thread.name == "handler" and not luck.pop():
            luck.append(True)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", sometimes)
    with serving(ASYNCIO, tcp_table(lambda _: tt.Found(b"x")), tmp_path, in_thread=True) as bench:
        client = bench.connect(begin=False).socket
        client.sendall(b"get a\n")
        assert client.recv(100).startswith(b"400 ")
        client.sendall(b"get a\n")
        assert client.recv(100) == b"200 x\n"
    assert "can't start new thread" in caplog.text


@any_host
def test_for_a_connection_that_is_refused_nothing_is_made(tmp_path: Path, host: Host) -> None:
    """A flood of them costs the user's code nothing."""
    made: list[object] = []

    def session(conn: object) -> Handler:
        made.append(conn)
        return go_on

    with serving(host, milter(session, WANTS), tmp_path, Limits(connections=1)) as bench:
        bench.connect()
        before = len(made)
        assert bench.connect(begin=False).is_closed()
        assert len(made) == before


@any_host
@pytest.mark.parametrize("what", ["receive_data", "send", "our_turn"])
def test_a_codec_that_fails_anywhere_frees_its_place(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, host: Host, what: str
) -> None:
    """Whatever the adapter asked of it."""
    bad: list[object] = []

    class Faulty(mp.FilterConnection):
        def fail(self, kind: str) -> None:
            if kind == what and self in bad:
                raise ZeroDivisionError

        def receive_data(self, data: bytes | bytearray | memoryview) -> None:
            self.fail("receive_data")
            super().receive_data(data)

        def send(self, event: mp.Response) -> bytes:
            self.fail("send")
            return super().send(event)

        @property
        def our_turn(self) -> bool:
            self.fail("our_turn")
            return super().our_turn

    made: list[Any] = []

    def session(conn: object) -> Handler:
        made.append(conn)
        return go_on

    limits = Limits(connections=1)
    faulty = attrs.evolve(milter(session, WANTS), connect=Faulty)
    with serving(host, faulty, tmp_path, limits) as bench:
        mta = bench.connect()
        bad.append(made[-1])
        mta.send(MAIL)
        assert mta.is_closed()
        for _ in range(1000):
            with contextlib.suppress(ConnectionError):
                bench.connect()
                break
        else:
            pytest.fail("there is never room again")
    assert "ZeroDivisionError" in caplog.text


@any_host
def test_replies_in_a_row_are_sent_at_once(host: Host) -> None:
    """Nagle's algorithm lets the second wait 40 ms for a sign that the first has come."""
    listener = listen("inet:127.0.0.1:0")
    address = listener.getsockname()
    seconds = []
    with (
        host.serve(tcp_table(lambda _: tt.Found(b"x")), None, listener),
        socket.create_connection(address, PATIENCE) as client,
    ):
        for _ in range(10):
            start = time.monotonic()
            client.sendall(b"get a\n" * 3)
            got = b""
            while got.count(b"\n") < 3:
                got += client.recv(100)
            seconds.append(time.monotonic() - start)
    # The first few acknowledgements are sent quickly.
    assert min(seconds[5:]) < 0.03


def test_a_handler_that_cancels_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A task of its own was cancelled, say: not our doing, so a failure."""

    async def handle(event: Any) -> None:
        if isinstance(event, mp.RcptTo):
            task = asyncio.ensure_future(asyncio.sleep(1000))
            task.cancel()
            await task

    with serving(ASYNCIO, service(handle), tmp_path) as bench:
        assert bench.connect().say(MAIL, RCPT) == [mp.TempFail()]
    assert "the handler has failed at RcptTo" in caplog.text


@any_host
def test_a_connection_that_can_not_be_made(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, host: Host
) -> None:
    """It is closed, and takes no place from the others."""
    made: list[Callable[[], Any]] = [mp.FilterConnection]

    def connect() -> Any:
        return made[-1]()

    limits = Limits(connections=1)
    with serving(host, service(go_on, connect=connect), tmp_path, limits) as bench:
        made.append(exits)
        assert bench.connect(begin=False).is_closed()
        made.pop()
        for _ in range(1000):
            with contextlib.suppress(ConnectionError):
                bench.connect()
                break
        else:
            pytest.fail("there is never room again")
    assert "a connection is closed" in caplog.text


@any_host
def test_a_codec_that_fails_behind_a_slow_handler(tmp_path: Path, host: Host) -> None:
    """Where no read is under way that would see it; its place is free again."""
    enough = threading.Event()

    class Faulty(mp.FilterConnection):
        def next_event(self) -> Any:
            event = super().next_event()
            if isinstance(event, mp.Header):
                raise ZeroDivisionError
            return event

    async def slow(event: Any) -> None:
        while isinstance(event, mp.MailFrom) and not enough.is_set():
            await host.sleep(0.001)  # type: ignore[misc]

    def blocking(event: Any) -> None:
        if isinstance(event, mp.MailFrom):
            assert enough.wait(PATIENCE)

    wants = mp.Wants(events={mp.MailFrom, mp.Header}, replies={mp.MailFrom})
    handle = blocking if host is THREADS else slow
    faulty = attrs.evolve(milter(lambda _: handle, wants), connect=Faulty)
    with serving(host, faulty, tmp_path) as bench:
        mta = bench.connect(begin=False)
        mta.say(mp.offer())
        mta.socket.sendall(b"\0\0\0\x07M<a@x>\0" + b"\0\0\0\x05LA\0b\0")
        enough.set()
        assert mta.socket.recv(5) == b"\0\0\0\x01c"
        assert mta.is_closed()


# --- what kind of function it is -------------------------------------------------------------


async def two_arguments(_more: object, _event: Any) -> None:
    """For a partial, or a lambda."""


async def asynchronous_generator(_event: Any) -> Any:
    """Nobody's handler."""
    yield mp.Accept()


HIDDEN = {
    "object": Callable_(),
    "partial": functools.partial(two_arguments, 1),
    "partial of an object": functools.partial(Callable_()),
    "generator": asynchronous_generator,
}


@pytest.mark.parametrize("start", THREADED, ids=["threads", "asyncio", "trio"])
@pytest.mark.parametrize(
    "handler", [coroutine_function, *HIDDEN.values()], ids=["function", *HIDDEN]
)
@pytest.mark.parametrize(
    "wrap",
    [lambda one: milter(lambda _: one, WANTS), tcp_table, auth_http],
    ids=["milter", "tcp_table", "auth_http"],
)
def test_a_coroutine_function_is_seen_through_a_service(
    start: Any, handler: Any, wrap: Any
) -> None:
    """Which has the user's function only inside of its own."""
    with pytest.raises(TypeError, match="is a coroutine function"):
        start(wrap(handler))


@any_loop
@pytest.mark.parametrize(
    "handler",
    [Callable_(), HIDDEN["partial"], lambda event: coroutine_function(event)],  # noqa: PLW0108
    ids=["object", "partial", "lambda"],
)
def test_a_hidden_coroutine_function_is_awaited(
    tmp_path: Path, host: Host, handler: Handler
) -> None:
    """And what it returns None for goes on."""
    with serving(host, service(handler), tmp_path) as bench:
        assert bench.connect().say(MAIL) == [mp.Continue()]


@any_blocking
def test_what_only_a_loop_can_await(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, host: Host, options: dict[str, Any]
) -> None:
    """No one can see it in a lambda before it is called."""
    hidden = service(lambda event: coroutine_function(event))  # noqa: PLW0108
    with serving(host, hidden, tmp_path, **options) as bench:
        mta = bench.connect(begin=False)
        mta.say(mp.offer())
        assert mta.say(CLIENT) == [mp.TempFail()]
    assert "must be awaited, and here nothing can" in caplog.text


@any_loop
def test_an_async_generator_is_refused_by_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, host: Host
) -> None:
    """Yielding is for plain functions."""
    with serving(host, service(asynchronous_generator), tmp_path) as bench:
        mta = bench.connect(begin=False)
        mta.say(mp.offer())
        assert mta.say(CLIENT) == [mp.TempFail()]
    assert "can't be an async generator" in caplog.text


# --- memory ------------------------------------------------------------------------------------


class Counting(mp.FilterConnection):
    """Counts what is fed."""

    fed = 0

    def receive_data(self, data: bytes | bytearray | memoryview) -> None:
        type(self).fed += len(data)
        super().receive_data(data)


def flood(mta: MTA, data: memoryview, start: int, pause: float) -> int:
    """Send until the kernel's buffers take no more; where it stopped."""
    while select.select([], [mta.socket], [], pause)[1]:
        start = (start + mta.socket.send(data[start : start + 4096])) % len(data)
    return start


@any_way
def test_no_more_is_held_the_longer_it_takes(tmp_path: Path, host: Host, options: Any) -> None:
    """Each event takes its time, and meanwhile the peer writes whatever it can."""
    gate = threading.Semaphore(0)
    handled: list[int] = []
    over = threading.Event()

    class Fed(Counting):
        fed = 0

    def blocking(event: Any) -> None:
        if isinstance(event, mp.Macros):
            assert over.is_set() or gate.acquire(timeout=PATIENCE)
            handled.append(1)

    async def slow(event: Any) -> None:
        if isinstance(event, mp.Macros):
            while not (over.is_set() or gate.acquire(blocking=False)):
                await host.sleep(0.001)  # type: ignore[misc]
            handled.append(1)

    handle = slow if host is not THREADS and not options else blocking
    macros = b"DRi\0" + b"x" * 60000 + b"\0"
    frame = len(macros).to_bytes(4, "big") + macros
    data = memoryview(frame * 4)
    served = service(handle, connect=Fed, skip=None)
    with serving(host, served, tmp_path, Limits(grace=0.05), **options) as bench:
        mta = bench.connect()
        start, before = 0, Fed.fed
        for number in range(12):
            start = flood(mta, data, start, 0.02)
            gate.release()
            deadline = time.monotonic() + PATIENCE
            while len(handled) <= number:
                assert time.monotonic() < deadline
                time.sleep(0.001)
        flood(mta, data, start, 0.1)
        # The limit, one read beyond it (asyncio's is 256 KiB), and the frame that is not whole.
        assert Fed.fed - before - len(handled) * len(frame) < 65536 + 262144 + len(frame)
        over.set()
        gate.release(1000)


@any_host
def test_no_more_is_held_for_a_peer_that_reads_slowly(tmp_path: Path, host: Host) -> None:
    """It writes faster than it takes its replies."""
    long = mp.ReplyCode.text(550, "5.7.1", "x" * 900)
    handled: list[int] = []

    class Fed(Counting):
        fed = 0

    def handle(event: Any) -> Any:
        if not isinstance(event, mp.MailFrom):
            return None
        handled.append(1)
        return long

    with serving(host, service(handle, connect=Fed), tmp_path, Limits(grace=0.05)) as bench:
        mta = bench.connect()
        unit = mta.conn.send(MAIL) + b"\0\0\0\x01A"
        data = memoryview(unit * 1000)
        start = 0
        for _ in range(40):
            start = flood(mta, data, start, 0.01)
            mta.socket.recv(30000)
        assert Fed.fed - len(handled) * len(unit) < 65536 + 262144 + 1000


# --- the end -------------------------------------------------------------------------------------


@any_loop
@pytest.mark.parametrize("last", [(), (mp.Abort(), mp.Quit())], ids=["closes", "quits"])
def test_what_needs_no_reply_is_done_to_its_end(
    tmp_path: Path, host: Host, last: tuple[mp.Command, ...]
) -> None:
    """A handler tidies up, and takes its time over it; the MTA has long gone."""
    begun, gone = threading.Event(), threading.Event()
    done: list[type] = []

    async def handle(event: Any) -> None:
        if isinstance(event, (mp.Abort, mp.Quit, mp.ConnectionClosed)):
            begun.set()
            while not gone.is_set():
                await host.sleep(0.001)  # type: ignore[misc]
            await host.sleep(0.01)  # type: ignore[misc]
            done.append(type(event))

    with serving(host, service(handle), tmp_path) as bench:
        mta = bench.connect()
        mta.say(MAIL)
        for command in last:
            mta.send(command)
        if last:
            assert begun.wait(PATIENCE)
        mta.socket.close()
        gone.set()
    assert done == [*map(type, last), mp.ConnectionClosed]


@any_loop
def test_the_end_is_not_cancelled_by_the_peers_own(tmp_path: Path, host: Host) -> None:
    """Ours was first: nothing had come for long. Then the MTA closes, too."""
    begun, gone, done = threading.Event(), threading.Event(), threading.Event()

    async def handle(event: Any) -> None:
        if isinstance(event, mp.ConnectionClosed):
            begun.set()
            while not gone.is_set():
                await host.sleep(0.001)  # type: ignore[misc]
            await host.sleep(0.01)  # type: ignore[misc]
            done.set()

    with serving(host, service(handle), tmp_path, Limits(idle_timeout=0.05)) as bench:
        mta = bench.connect()
        assert begun.wait(PATIENCE)
        mta.socket.close()
        gone.set()
        assert done.wait(PATIENCE)


@any_loop
def test_a_cancelled_coroutine_may_tidy_up(tmp_path: Path, host: Host) -> None:
    """Though the next sign of life finds the connection broken."""
    begun, tidied = threading.Event(), threading.Event()

    async def handle(event: Any) -> None:
        if isinstance(event, mp.EndOfMessage):
            begun.set()
            try:
                await host.sleep(1000)  # type: ignore[misc]
            finally:
                with trio.CancelScope(shield=True) if host is TRIO else contextlib.nullcontext():
                    await host.sleep(0.1)  # type: ignore[misc]
                tidied.set()

    lively = service(handle, keep_alive_interval=0.001)
    with serving(host, lively, tmp_path) as bench:
        mta = bench.connect()
        mta.say(*MESSAGE)
        mta.send(mp.EndOfMessage())
        assert begun.wait(PATIENCE)
        mta.socket.close()
        assert tidied.wait(PATIENCE)


@any_loop
def test_what_is_begun_after_the_end_is_done(tmp_path: Path, host: Host) -> None:
    """It had come before: a handler sees all that came, and one end."""
    begun, gone = threading.Event(), threading.Event()
    done: list[type] = []

    async def handle(event: Any) -> None:
        if isinstance(event, mp.Body):
            begun.set()
            while not gone.is_set():
                await host.sleep(0.001)  # type: ignore[misc]
        await host.sleep(0.01)  # type: ignore[misc]
        done.append(type(event))

    wants = mp.Wants(events={mp.MailFrom, mp.Body}, replies=())
    with serving(host, milter(lambda _: handle, wants), tmp_path) as bench:
        mta = bench.connect(begin=False)
        mta.say(mp.offer())
        for command in (MAIL, mp.Body(b"x"), mp.EndOfMessage()):
            mta.send(command)
        assert begun.wait(PATIENCE)
        mta.socket.close()
        gone.set()
    assert done == [mp.MailFrom, mp.Body, mp.EndOfMessage, mp.ConnectionClosed]


@any_host
def test_one_that_takes_no_sign_of_life_holds_up_nobody(tmp_path: Path, host: Host) -> None:
    """Neither another connection's, nor a stop."""
    enough = threading.Event()
    signs: dict[int, int] = {}

    def sign(conn: Any) -> Any:
        signs[id(conn)] = signs.get(id(conn), 0) + 1
        return mp.Progress() if conn.state is mp.State.EOM else None

    async def slow(event: Any) -> None:
        while isinstance(event, mp.EndOfMessage) and not enough.is_set():
            await host.sleep(0.001)  # type: ignore[misc]

    def blocking(event: Any) -> None:
        if isinstance(event, mp.EndOfMessage):
            assert enough.wait(PATIENCE)

    handle = blocking if host is THREADS else slow
    lively = service(handle, keep_alive=sign, keep_alive_interval=0.0005)
    with serving(host, lively, tmp_path, Limits(grace=0.05)) as bench:
        deaf, other = bench.connect(), bench.connect()
        other.say(*MESSAGE)
        deaf.say(*MESSAGE)
        deaf.send(mp.EndOfMessage())
        deadline, last = time.monotonic() + PATIENCE, -1
        # Until no more is given, for the buffers are full.
        while sum(signs.values()) > last or last <= 0:
            assert time.monotonic() < deadline
            last = sum(signs.values())
            time.sleep(0.2)
        other.send(mp.EndOfMessage())
        assert other.socket.recv(5) == b"\0\0\0\x01p"
        bench.stop()
        other.socket.settimeout(PATIENCE)
        while other.socket.recv(65536):
            pass
        enough.set()


@any_host
def test_one_that_is_written_to_holds_up_no_sign_of_life(tmp_path: Path, host: Host) -> None:
    """What it is sent is more than it takes."""
    enough = threading.Event()
    ends: list[Any] = []
    big = [*[mp.ReplaceBody(bytes(60000))] * 100, mp.Accept()]

    async def slow(event: Any) -> Any:
        if isinstance(event, mp.EndOfMessage):
            ends.append(event)
            while len(ends) == 2 and not enough.is_set():
                await host.sleep(0.001)  # type: ignore[misc]
            return big
        return None

    def blocking(event: Any) -> Any:
        if isinstance(event, mp.EndOfMessage):
            ends.append(event)
            assert len(ends) == 1 or enough.wait(PATIENCE)
            return big
        return None

    handle = blocking if host is THREADS else slow
    lively = service(handle, keep_alive_interval=0.001)
    with serving(host, lively, tmp_path, Limits(grace=0.05)) as bench:
        deaf, other = bench.connect(), bench.connect()
        deaf.say(*MESSAGE)
        deaf.send(mp.EndOfMessage())
        assert select.select([deaf.socket], [], [], PATIENCE)[0]
        other.say(*MESSAGE)
        other.send(mp.EndOfMessage())
        assert other.socket.recv(5) == b"\0\0\0\x01p"
        enough.set()


PROGRAM = """
import asyncio, sys, time, trio
import milterproto as mp
from adapters import on_asyncio, on_threads, on_trio
from adapters._contract import Limits
from adapters._listen import listen
from adapters.services import milter

def handle(event):
    if isinstance(event, mp.MailFrom) and {blocks}:
        print("blocked", flush=True)
        time.sleep(1000)

service = milter(lambda _: handle, mp.Wants())
server = on_{name}.Server(service, Limits(grace={grace}), **{options})
listener = listen("unix:{path}")
print("listening", flush=True)
"""
RUN = {
    "asyncio": "asyncio.run(server.run(listener))",
    "trio": "trio.run(server.run, listener)",
    "threads": "server.run(listener)",
}


@contextlib.contextmanager
def program(host: Host, path: Path, **settings: Any) -> Any:
    """A server in a process of its own."""
    text = PROGRAM.format(name=host.name, path=path, **settings) + RUN[host.name]
    with subprocess.Popen(
        [sys.executable, "-c", text], cwd=EXAMPLES, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "listening\n"
            yield process
        finally:
            process.kill()


@any_blocking
def test_a_program_ends_though_a_thread_is_blocked(
    tmp_path: Path, host: Host, options: dict[str, Any]
) -> None:
    """At the end of the grace time, and not when the user's code pleases."""
    path = tmp_path / "filter"
    with program(host, path, options=options, grace=0.05, blocks=True) as process:
        mta = MTA(path)
        mta.send(MAIL)
        assert process.stdout.readline() == "blocked\n"
        process.terminate()
        assert process.wait(PATIENCE) == 0
        mta.socket.close()


@any_host
def test_a_second_signal_does_not_shorten_the_grace_time(tmp_path: Path, host: Host) -> None:
    """The open message is heard to its end."""
    path = tmp_path / "filter"
    with program(host, path, options={}, grace=PATIENCE, blocks=False) as process:
        idle, mta = MTA(path), MTA(path)
        mta.say(*MESSAGE)
        process.terminate()
        assert idle.is_closed()  # so the first has been heard
        # Not more, or they fill the pipe by which trio hears of them.
        for _ in range(50):
            process.terminate()
        assert mta.say(mp.EndOfMessage()) == [mp.Continue()]
        assert mta.is_closed()
        mta.socket.close()
        idle.socket.close()
        assert process.wait(PATIENCE) == 0


SIGNAL_TO_ANOTHER_THREAD = """
import signal, threading

def handle(event):
    if isinstance(event, mp.MailFrom):
        kill = lambda: signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        thread = threading.Thread(target=kill)
        thread.start()
        thread.join()
"""


@any_host
def test_a_signal_that_another_thread_gets(tmp_path: Path, host: Host) -> None:
    """The kernel gives it to any that does not block it; the main thread may sleep."""
    path = tmp_path / "filter"
    text = PROGRAM.format(name=host.name, path=path, options={}, grace=PATIENCE, blocks=False)
    text += SIGNAL_TO_ANOTHER_THREAD + RUN[host.name]
    with subprocess.Popen(
        [sys.executable, "-c", text], cwd=EXAMPLES, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "listening\n"
            mta = MTA(path)
            mta.say(MAIL)
            mta.socket.close()
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


OUT_OF_DESCRIPTORS = """
import resource, time
from adapters.on_threads import Server, _Acceptor
import os
number = max(map(int, os.listdir("/proc/self/fd"))) + 1
resource.setrlimit(resource.RLIMIT_NOFILE, (number + 5, 100))
asked = []
before = _Acceptor.get_request
def get_request(self):
    asked.append(1)
    return before(self)
_Acceptor.get_request = get_request
import threading
threading.Timer(1.5, lambda: (print(len(asked), flush=True), resource.setrlimit(
    resource.RLIMIT_NOFILE, (100, 100)))).start()
"""


def test_threads_out_of_descriptors_do_not_spin(tmp_path: Path) -> None:
    """The connection waits in the kernel's queue; it is asked for once a second."""
    path = tmp_path / "filter"
    text = PROGRAM.format(name="threads", path=path, options={}, grace=1, blocks=False)
    text += OUT_OF_DESCRIPTORS + RUN["threads"]
    with subprocess.Popen(
        [sys.executable, "-c", text], cwd=EXAMPLES, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "listening\n"
            open_ = [MTA(path, begin=False) for _ in range(12)]
            assert int(process.stdout.readline()) < 20
            assert open_[-1].say(mp.offer(), CLIENT) == [mp.Continue()]
            for mta in open_:
                mta.socket.close()
        finally:
            process.kill()


@any_host
def test_one_that_asks_much_and_goes_fills_no_log(
    tmp_path: Path, host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    """asyncio warns of each write after the fifth to a socket that is lost."""
    begun, gone = threading.Event(), threading.Event()
    seen: list[Any] = []

    def look_up(event: tt.Get) -> tt.Reply:
        seen.append(event)
        begun.set()
        assert gone.wait(PATIENCE)  # on a loop that does nothing else meanwhile
        return tt.Found(b"x")

    with host.serve(tcp_table(look_up), None, listen(f"unix:{tmp_path}/table")):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"{tmp_path}/table")
            client.sendall(b"get x\n" * 100)
            assert begun.wait(PATIENCE)
        gone.set()
    assert len(seen) > 10 or host is not ASYNCIO
    assert "socket.send() raised" not in caplog.text


def test_threads_keep_nothing_of_a_connection_that_has_ended(tmp_path: Path) -> None:
    """Nor does the one that gives signs of life, which has looked at all of them."""
    asked, gone = threading.Event(), threading.Event()

    class Filter:
        def __call__(self, event: Any) -> None:
            if isinstance(event, mp.EndOfMessage):
                weakref.finalize(self, gone.set)
                assert asked.wait(PATIENCE)

    filters = milter(lambda _: Filter(), WANTS)
    keeping = attrs.evolve(filters, keep_alive=lambda _: asked.set(), keep_alive_interval=0.01)
    with serving(THREADS, keeping, tmp_path) as bench:
        mta = bench.connect()
        mta.say(*MESSAGE, mp.EndOfMessage(), mp.Quit())
        assert mta.is_closed()
        assert gone.wait(PATIENCE)


@any_host
def test_a_connection_that_waits_holds_little(tmp_path: Path, host: Host) -> None:
    """After a long body, too: where each waits with room for a whole read, 1000 take 64 MiB."""
    body = mp.Body(b"x" * 60000)
    with serving(host, service(lambda _: None), tmp_path) as bench:
        bench.connect().say(*MESSAGE, body, mp.EndOfMessage())
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            peers = [bench.connect() for _ in range(20)]
            for peer in peers:
                peer.say(*MESSAGE, body, mp.EndOfMessage(), MAIL)
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert after - before < 40_000 * len(peers)
