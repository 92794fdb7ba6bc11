"""The adapters with a multiplexed protocol: many requests open on one connection."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from adapters._contract import Limits
from adapters.services import dovecot_auth

import dovecotauth as da

from .adapter_hosts import ASYNCIO, PATIENCE, THREADS, TRIO, Bench, Host, serving

any_loop = pytest.mark.parametrize("host", [ASYNCIO, TRIO], ids=lambda host: host.name)
in_turn = pytest.mark.parametrize(
    ("host", "options"),
    [(ASYNCIO, {"in_thread": True}), (TRIO, {"in_thread": True}), (THREADS, {})],
    ids=["asyncio-in-thread", "trio-in-thread", "threads"],
)

HELLO = da.ServerHello((da.Mechanism(b"PLAIN"),), 1, 1, b"0" * 32)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the adapters have logged; asyncio says when it is slow, which is the machine's doing."""
    return [one.message for one in caplog.records if one.name == "mailwire.adapters"]


class Client:
    """Asks for as many things at once as it likes."""

    def __init__(self, path: Path, minor: int = 2) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(str(path))
        self.conn = da.ClientConnection()
        self.socket.sendall(
            self.conn.send(da.Version(1, minor)) + self.conn.send(da.ClientHello(1))
        )
        while not isinstance(self.hear(), da.ServerHello):
            pass

    def ask(self, *numbers: int) -> None:
        """Begin exchanges, and wait for nothing."""
        auths = [da.Auth(one, b"PLAIN", ((b"service", b"smtp"),), b"x") for one in numbers]
        self.socket.sendall(b"".join(map(self.conn.send, auths)))

    def hear(self) -> Any:
        """The next event."""
        while (event := self.conn.next_event()) is None:
            self.conn.receive_data(self.socket.recv(65536))
        return event


class Desk:
    """The handler of a connection: takes as long for each request as the test wants."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.log: list[tuple[str, int]] = []
        self.gates: dict[int, threading.Event] = {}
        self.at_work = self.most = 0
        self.raises: set[int] = set()
        self.closed = threading.Event()

    def gate(self, number: int) -> threading.Event:
        return self.gates.setdefault(number, threading.Event())

    async def handle(self, event: Any) -> Any:
        """Opens with its request's gate."""
        if isinstance(event, da.ConnectionClosed):
            self.log.append(("closed", 0))
            self.closed.set()
            return None
        if isinstance(event, da.Malformed):
            return None  # the service answers
        name = type(event).__name__
        self.log.append((name, event.id))
        if isinstance(event, da.Cancel):
            return None
        self.at_work += 1
        self.most = max(self.most, self.at_work)
        try:
            while not self.gate(event.id).is_set():
                await self.host.sleep(0.001)  # type: ignore[misc]
            if event.id in self.raises:
                raise ZeroDivisionError
        finally:
            # As one does who has to tidy up.
            with trio.CancelScope(shield=True) if self.host is TRIO else contextlib.nullcontext():
                await self.host.sleep(0.01)  # type: ignore[misc]
            self.at_work -= 1
            self.log.append(("end", event.id))
        return da.Ok(event.id, b"u%d" % event.id)

    def wait_for(self, *wanted: tuple[str, int]) -> None:
        """Until these are in the log."""
        deadline = time.monotonic() + PATIENCE
        while not set(wanted) <= set(self.log):
            assert time.monotonic() < deadline, self.log
            time.sleep(0.001)


@contextlib.contextmanager
def desk(
    host: Host, path: Path, limits: Limits | None = None, *, temp_fail: bool = False
) -> Iterator[tuple[Desk, Bench, Callable[..., Client]]]:
    """A desk that is open, and a way to come to it."""
    one = Desk(host)
    service = dovecot_auth(lambda _: one.handle, lambda: HELLO, temp_fail=temp_fail)
    clients: list[Client] = []

    def come(**options: Any) -> Client:
        clients.append(Client(path / "filter", **options))
        return clients[-1]

    with serving(host, service, path, limits) as bench:
        try:
            yield one, bench, come
        finally:
            for client in clients:
                client.socket.close()


@any_loop
def test_a_request_waits_for_no_other(tmp_path: Path, host: Host) -> None:
    """Each is answered when it is done."""
    with desk(host, tmp_path) as (one, _, come):
        client = come()
        client.ask(1, 2)
        client.ask(3)
        one.wait_for(("Auth", 1), ("Auth", 2), ("Auth", 3))
        for number in (3, 1, 2):
            one.gate(number).set()
            assert client.hear() == da.Ok(number, b"u%d" % number)
        client.ask(3)
        assert client.hear() == da.Ok(3, b"u3")


@in_turn
def test_in_threads_they_come_in_turn(tmp_path: Path, host: Host, options: Any) -> None:
    """A function is never called twice at a time for one connection; all are answered."""
    busy = threading.Lock()

    def handle(event: Any) -> Any:
        if isinstance(event, da.ConnectionClosed):
            return None
        with contextlib.ExitStack() as stack:
            assert busy.acquire(blocking=False)
            stack.callback(busy.release)
            time.sleep(0.001)
        return da.Ok(event.id, b"u")

    service = dovecot_auth(lambda _: handle, lambda: HELLO)
    with serving(host, service, tmp_path, **options):
        client = Client(tmp_path / "filter")
        client.ask(*range(1, 21))
        assert [client.hear().id for _ in range(20)] == list(range(1, 21))
        client.socket.close()


@any_loop
@pytest.mark.parametrize("minor", [2, 4])
def test_a_new_event_for_a_request_ends_what_is_done_for_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, host: Host, minor: int
) -> None:
    """The client has given it up, and reuses its id; the others go on."""
    with desk(host, tmp_path) as (one, _, come):
        client = come(minor=minor)
        client.ask(6, 7)
        one.wait_for(("Auth", 6), ("Auth", 7))
        client.socket.sendall(client.conn.send(da.Cancel(7)) if minor >= 4 else b"CANCEL\t7\n")
        one.wait_for(("Cancel", 7))
        assert one.log.index(("end", 7)) < one.log.index(("Cancel", 7))
        if minor >= 4:
            assert client.hear() == da.Cancelled(7)
        else:
            client.socket.sendall(b"AUTH\t7\tPLAIN\tservice=smtp\n")
            while one.log.count(("Auth", 7)) < 2:
                time.sleep(0.001)
            one.gate(7).set()
            assert client.hear() == da.Ok(7, b"u7")
        one.gate(6).set()
        assert client.hear() == da.Ok(6, b"u6")
    assert not said(caplog)


@any_loop
def test_what_comes_of_a_request_that_was_given_up_is_dropped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, host: Host
) -> None:
    """Its handler may not let itself be cancelled."""
    begun = threading.Event()

    async def handle(event: Any) -> Any:
        if isinstance(event, da.Auth) and event.id == 7:
            begun.set()
            with contextlib.suppress(asyncio.CancelledError, trio.Cancelled):
                await host.sleep(1000)  # type: ignore[misc]
        return da.Ok(event.id, b"u") if isinstance(event, da.Auth) else None

    with serving(host, dovecot_auth(lambda _: handle, lambda: HELLO), tmp_path):
        client = Client(tmp_path / "filter")
        client.ask(7)
        assert begun.wait(PATIENCE)
        client.socket.sendall(b"CANCEL\t7\nAUTH\t8\tPLAIN\tservice=smtp\n")
        assert client.socket.recv(100).startswith(b"OK\t8\t")
        client.socket.close()
    assert not said(caplog)


@any_loop
def test_requests_that_are_given_up_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, host: Host
) -> None:
    """In the same write: some may never have begun, and the rest is answered."""
    with desk(host, tmp_path) as (one, _, come):
        client = come()
        lines = [b"AUTH\t%d\tPLAIN\tservice=smtp\n" % number for number in range(1, 200)]
        lines[0::2] = [line + b"CANCEL\t%d\n" % (2 * at + 1) for at, line in enumerate(lines[0::2])]
        for number in range(2, 200, 2):
            one.gate(number).set()
        client.socket.sendall(b"".join(lines))
        got = b""
        while got.count(b"\n") < 99:
            got += client.socket.recv(65536)
        assert {int(line.split(b"\t")[1]) for line in got.splitlines()} == set(range(2, 200, 2))
    gc.collect()  # what was never awaited is told of then, and that is an error here
    assert not said(caplog)


@any_loop
def test_a_response_to_no_challenge_ends_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, host: Host
) -> None:
    """What is owed is a Fail, and no more."""
    with desk(host, tmp_path) as (one, _, come):
        client = come()
        client.ask(7, 8)
        one.wait_for(("Auth", 7), ("Auth", 8))
        client.socket.sendall(b"CONT\t7\tQQ==\n")
        assert isinstance(client.hear(), da.Fail)
        assert ("end", 7) in one.log
        one.gate(8).set()
        assert client.hear() == da.Ok(8, b"u8")
    assert not said(caplog)


@any_loop
def test_no_more_at_work_than_the_limit(tmp_path: Path, host: Host) -> None:
    """The others wait, and are answered all the same."""
    with desk(host, tmp_path, Limits(requests=3)) as (one, _, come):
        client = come()
        client.ask(*range(1, 51))
        one.wait_for(("Auth", 1), ("Auth", 2), ("Auth", 3))
        for number in range(1, 51):
            one.gate(number).set()
        assert {client.hear().id for _ in range(50)} == set(range(1, 51))
        assert one.most == 3


@any_loop
def test_the_limit_stops_reading(tmp_path: Path, host: Host) -> None:
    """Who asks on and on fills his own buffers, not ours."""
    with desk(host, tmp_path, Limits(requests=3, grace=0.05)) as (one, _, come):
        client = come()
        client.ask(1, 2, 3)
        one.wait_for(("Auth", 1), ("Auth", 2), ("Auth", 3))
        flood = b"".join(b"AUTH\t%d\tPLAIN\tservice=smtp\n" % n for n in range(4, 100_000))
        sent = 0
        while sent < len(flood) and select.select([], [client.socket], [], 0.1)[1]:
            sent += client.socket.send(flood[sent : sent + 4096])
        assert sent < len(flood) // 2
        assert one.most == 3


@any_loop
@pytest.mark.parametrize("requests", [3, 100], ids=["full", "not full"])
def test_the_end_of_the_connection_ends_them_all(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, host: Host, requests: int
) -> None:
    """Then the handler hears of it, and nothing is begun for nobody."""
    with desk(host, tmp_path, Limits(requests=requests, unread=1 << 20)) as (one, _, come):
        client = come()
        client.ask(1, 2, 3)
        one.wait_for(("Auth", 1), ("Auth", 2), ("Auth", 3))
        if requests == 3:
            # More than may be open: they are not begun, and yet it is no breach of the protocol.
            client.ask(*range(4, 2100))
        client.socket.close()
        assert one.closed.wait(PATIENCE)
        assert one.log[-1] == ("closed", 0)
        assert {number for name, number in one.log if name == "end"} == {1, 2, 3}
        assert ("Auth", 4) not in one.log
    assert not said(caplog)


@any_loop
@pytest.mark.parametrize("nonsense", [b"NONSENSE\n", b"AUTH\t1\tPLAIN\tservice=smtp\n"])
def test_a_broken_protocol_ends_them_all(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, host: Host, nonsense: bytes
) -> None:
    """And is logged, once."""
    with desk(host, tmp_path) as (one, _, come):
        client = come()
        client.ask(1, 2)
        one.wait_for(("Auth", 1), ("Auth", 2))
        client.socket.sendall(nonsense)
        assert isinstance(client.hear(), da.ConnectionClosed)
        one.wait_for(("end", 1), ("end", 2))
    assert len(said(caplog)) == 1


@any_loop
@pytest.mark.parametrize("temp_fail", [False, True])
def test_a_request_that_fails(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, host: Host, temp_fail: bool
) -> None:
    """It harms no other, unless there is nothing to be said of it but to close."""
    with desk(host, tmp_path, temp_fail=temp_fail) as (one, _, come):
        client = come()
        client.ask(1, 2)
        one.wait_for(("Auth", 1), ("Auth", 2))
        one.raises.add(1)
        one.gate(1).set()
        if temp_fail:
            assert client.hear() == da.Fail(1, code=da.TEMP_FAIL)
            one.gate(2).set()
            assert client.hear() == da.Ok(2, b"u2")
        else:
            assert isinstance(client.hear(), da.ConnectionClosed)
            assert one.closed.wait(PATIENCE)
            assert one.log[-2:] == [("end", 2), ("closed", 0)]
    assert said(caplog) == ["the handler has failed at Auth"]


@any_loop
def test_a_stop_lets_requests_end(tmp_path: Path, host: Host) -> None:
    """All of those that are under way."""
    with desk(host, tmp_path) as (one, bench, come):
        idle, client = come(), come()
        client.ask(1, 2)
        one.wait_for(("Auth", 1), ("Auth", 2))
        bench.stop()
        assert isinstance(idle.hear(), da.ConnectionClosed)
        for number in (2, 1):
            one.gate(number).set()
            assert client.hear() == da.Ok(number, b"u%d" % number)
        assert isinstance(client.hear(), da.ConnectionClosed)


@any_loop
def test_a_stop_cuts_requests_at_the_end_of_the_grace_time(tmp_path: Path, host: Host) -> None:
    """However long they would have taken."""
    with desk(host, tmp_path, Limits(grace=0.05)) as (one, bench, come):
        client = come()
        client.ask(1, 2)
        one.wait_for(("Auth", 1), ("Auth", 2))
        bench.stop()
        assert isinstance(client.hear(), da.ConnectionClosed)
        one.wait_for(("end", 1), ("end", 2))


@any_loop
def test_a_connection_with_work_is_not_idle(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, host: Host
) -> None:
    """It is afterwards."""
    caplog.set_level(logging.INFO)
    with desk(host, tmp_path, Limits(idle_timeout=0.05)) as (one, _, come):
        client = come()
        client.ask(1)
        assert not select.select([client.socket], [], [], 0.2)[0]
        one.gate(1).set()
        assert client.hear() == da.Ok(1, b"u1")
        assert isinstance(client.hear(), da.ConnectionClosed)
    assert "nothing came for 0.05 s" in caplog.text


@any_loop
def test_a_client_that_reads_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, host: Host
) -> None:
    """Its replies fill no memory of ours, and it is dropped in the end, with all it asked for."""

    async def handle(event: Any) -> Any:
        if isinstance(event, da.ConnectionClosed):
            return None
        await host.sleep(0)  # type: ignore[misc]
        return da.Ok(event.id, b"u" * 1000)

    class Fed(da.ServerConnection):
        fed = 0

        def receive_data(self, data: bytes | bytearray | memoryview) -> None:
            Fed.fed += len(data)
            super().receive_data(data)

    service = attrs.evolve(dovecot_auth(lambda _: handle, lambda: HELLO), connect=Fed)
    with serving(host, service, tmp_path, Limits(idle_timeout=3)):
        client = Client(tmp_path / "filter")
        flood = b"".join(b"AUTH\t%d\tPLAIN\tservice=smtp\n" % one for one in range(1, 200_000))
        sent = 0
        while sent < len(flood) and select.select([], [client.socket], [], 0.2)[1]:
            sent += client.socket.send(flood[sent : sent + 4096])
        # The limit, one read beyond it (asyncio's is 256 KiB), and what is answered.
        assert Fed.fed < 65536 + 262144 + 65536
        poll = select.poll()
        poll.register(client.socket, select.POLLHUP)
        assert poll.poll(PATIENCE * 1000)
        client.socket.close()
    assert "cut at the end" not in caplog.text  # the stop has found nothing
