"""Each adapter's server, run in a thread, so that one set of tests serves all of them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import trio
from adapters import on_asyncio, on_threads, on_trio
from adapters._contract import Limits, Service
from adapters._listen import listen

import milterproto as mp

PATIENCE = 20  # seconds, for what should take none
CLIENT = mp.Connect(b"client.test", mp.Family.INET, 1, b"192.0.2.1")


@attrs.frozen
class Host:
    """A way to serve: what waits there without a thread, and what stops the server."""

    name: str
    serve: Callable[..., contextlib.AbstractContextManager[Callable[[], None]]]
    sleep: Callable[[float], Awaitable[object]] | None = None


@contextlib.contextmanager
def _thread(run: Callable[[], object]) -> Iterator[None]:
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join(PATIENCE)
        assert not thread.is_alive()


@contextlib.contextmanager
def _asyncio(
    service: Service[Any, Any], limits: Limits | None, *listeners: socket.socket, **options: Any
) -> Iterator[Callable[[], None]]:
    loop = asyncio.new_event_loop()
    loop.set_debug(True)
    told = asyncio.Event()
    ready = threading.Event()

    async def main() -> None:
        server = on_asyncio.Server(service, limits, **options)
        await server.listen(*listeners)
        ready.set()
        await told.wait()
        await server.stop()
        assert server.sessions == set()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(main())

    with _thread(run):
        ready.wait(PATIENCE)
        try:
            yield lambda: _quietly(loop.call_soon_threadsafe, told.set)
        finally:
            _quietly(loop.call_soon_threadsafe, told.set)


@contextlib.contextmanager
def _trio(
    service: Service[Any, Any], limits: Limits | None, *listeners: socket.socket, **options: Any
) -> Iterator[Callable[[], None]]:
    ready = threading.Event()
    stop: list[Callable[[], None]] = []

    async def main() -> None:
        server = on_trio.Server(service, limits, **options)
        token = trio.lowlevel.current_trio_token()
        stop.append(lambda: _quietly(token.run_sync_soon, server.stop))
        async with trio.open_nursery() as nursery:
            await nursery.start(
                lambda task_status: server.serve(*listeners, task_status=task_status)
            )
            ready.set()
        assert server.sessions == set()

    with _thread(lambda: trio.run(main)):
        ready.wait(PATIENCE)
        try:
            yield stop[0]
        finally:
            stop[0]()


@contextlib.contextmanager
def _threads(
    service: Service[Any, Any], limits: Limits | None, *listeners: socket.socket, **options: Any
) -> Iterator[Callable[[], None]]:
    server = on_threads.Server(service, limits, **options)
    server.listen(*listeners)
    stopping: list[threading.Thread] = []

    def stop() -> None:
        thread = threading.Thread(target=server.stop)
        thread.start()
        stopping.append(thread)

    try:
        yield stop
    finally:
        if not stopping:
            stop()
        for thread in stopping:
            thread.join(PATIENCE)
            assert not thread.is_alive()


def _quietly(call: Callable[..., object], *arguments: object) -> None:
    """Tell a loop something, if it still runs."""
    with contextlib.suppress(RuntimeError, trio.RunFinishedError):
        call(*arguments)


ASYNCIO = Host("asyncio", _asyncio, asyncio.sleep)
TRIO = Host("trio", _trio, trio.sleep)
THREADS = Host("threads", _threads)


class MTA:
    """A connection to the filter, negotiated unless told otherwise."""

    def __init__(self, path: Path, *, begin: bool = True) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        self.conn = mp.MTAConnection()
        try:
            self.socket.connect(str(path))
            if begin:
                self.say(mp.offer(), CLIENT)
        except BaseException:
            self.socket.close()
            raise

    def send(self, command: mp.Command) -> None:
        """Send, and wait for nothing."""
        self.socket.sendall(self.conn.send(command))

    def say(self, *commands: mp.Command) -> list[mp.Response]:
        """Send commands in turn; the filter's responses to the last one."""
        told: list[mp.Response] = []
        for command in commands:
            self.send(command)
            told = self.hear()
        return told

    def hear(self) -> list[mp.Response]:
        """The responses up to the verdict."""
        told: list[mp.Response] = []
        while not self.conn.our_turn and self.conn.state is not mp.State.CLOSED:
            self.conn.receive_data(self.socket.recv(65536))
            for event in self.conn.events():
                if isinstance(event, mp.ConnectionClosed):
                    raise ConnectionError("the filter has closed")
                told.append(event)
        return told

    def is_closed(self) -> bool:
        """Whether the filter closes without another byte."""
        return self.socket.recv(65536) == b""


class Bench:
    """A filter that is being served; ``connect`` makes the next MTA."""

    def __init__(self, path: Path, stop: Callable[[], None]) -> None:
        self.path = path
        self.stop = stop
        self.open: list[MTA] = []

    def connect(self, *, begin: bool = True) -> MTA:
        mta = MTA(self.path, begin=begin)
        self.open.append(mta)
        return mta


@contextlib.contextmanager
def serving(
    host: Host,
    service: Service[Any, Any],
    directory: Path,
    limits: Limits | None = None,
    **options: Any,
) -> Iterator[Bench]:
    """Serve on a unix socket in that directory."""
    path = directory / "filter"
    with host.serve(service, limits, listen(f"unix:{path}"), **options) as stop:
        bench = Bench(path, stop)
        try:
            yield bench
        finally:
            for mta in bench.open:
                mta.socket.close()
