"""The adapters, each driven by our MTA's side over real sockets: one set of tests for all."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from adapters import on_asyncio, on_threads, on_trio
from adapters._contract import Limits, Service
from adapters.services import milter

import milterproto as mp

from .adapter_hosts import ASYNCIO, MTA, PATIENCE, THREADS, TRIO, Host, serving

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
            assert [type(event) for event in seen] == [mp.Macros, mp.RcptTo]


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


@pytest.mark.parametrize(
    "start",
    [
        on_threads.Server,
        lambda service: on_asyncio.Server(service, in_thread=True),
        lambda service: on_trio.Server(service, in_thread=True),
    ],
    ids=["threads", "asyncio", "trio"],
)
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
        (told,) = mta.say(MAIL, RCPT)
        # What was yielded before is sent, where that has no thread of its own.
        assert told == mp.TempFail() or (told == mp.Continue() and broken == "yields and raises")
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
