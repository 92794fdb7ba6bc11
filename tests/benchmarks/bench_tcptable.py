"""tcp_table look-ups a second: ours beside Twisted's PostfixTCPMapServer, in one run.

    python -m tests.benchmarks.bench_tcptable [--docs]

Both serve the same table. A round asks for all keys in small parts, ours and theirs in turn, so
that what else the machine has to do hits both; the median of the rounds is shown. Nothing is
asserted: the machine decides the figures, the ratio is what counts. The clock on the wall counts
the client's time, too; the rows for a second of CPU are the server's own time alone.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import attrs
from rich.console import Console
from rich.table import Table
from twisted.internet.testing import StringTransport
from twisted.protocols.postfix import PostfixTCPMapDictServerFactory

import tcptable as tt
from tests.benchmarks import _page
from tests.interop._postfix import write_config

EXAMPLES = Path(__file__).parents[2] / "examples"
ROUNDS = 7
KEYS = [b"user%d@example.test" % number for number in range(20_000)]
REQUESTS = [b"get %b\n" % key for key in KEYS]
CODEC_REPLY = b"200 mailbox\n"
CLIENTS = 200

OURS = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
import tcptable as tt
from adapters.on_asyncio import Server
from adapters.services import tcp_table
from adapters._listen import listen, address_of
table = {b"user%d@example.test" % n: b"mailbox/%d" % n for n in range(20_000)}
def lookup(get):
    value = table.get(get.key)
    return tt.NotFound() if value is None else tt.Found(value)
async def main():
    listener = listen("inet:127.0.0.1:0")
    print(listener.getsockname()[1], flush=True)
    await Server(tcp_table(lookup)).run(listener)
asyncio.run(main())
"""
THEIRS = """
from twisted.internet import endpoints, reactor
from twisted.protocols.postfix import PostfixTCPMapDictServerFactory
table = {b"user%d@example.test" % n: b"mailbox/%d" % n for n in range(20_000)}
factory = PostfixTCPMapDictServerFactory(table)
port = reactor.listenTCP(0, factory, interface="127.0.0.1", backlog=500)
print(port.getHost().port, flush=True)
reactor.run()
"""


def codec_ours() -> float:
    """Look-ups for a second of CPU, without a socket: each request in a read of its own."""
    table = dict.fromkeys(KEYS, b"mailbox")
    conn = tt.ServerConnection()
    written = b""
    start = time.process_time()
    for request in REQUESTS:
        conn.receive_data(request)
        event = conn.next_event()
        assert isinstance(event, tt.Get)
        written = conn.send(tt.Found(table[event.key]))
    seconds = time.process_time() - start
    assert written == CODEC_REPLY
    return len(REQUESTS) / seconds


def codec_theirs() -> float:
    """The same with theirs, on Twisted's own transport for tests."""
    server = PostfixTCPMapDictServerFactory(dict.fromkeys(KEYS, b"mailbox")).buildProtocol(None)
    transport = StringTransport()
    server.makeConnection(transport)
    written = b""
    start = time.process_time()
    for request in REQUESTS:
        server.dataReceived(request)
        written = transport.value()
        transport.clear()
    seconds = time.process_time() - start
    server.setTimeout(None)
    assert written == CODEC_REPLY
    return len(REQUESTS) / seconds


@attrs.frozen
class Server:
    """One that is running."""

    port: int
    pid: int

    def cpu(self) -> float:
        """Seconds of CPU that it has used: utime and stime of proc(5)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def serving(program: str) -> Iterator[Server]:
    """A server in a process of its own."""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(EXAMPLES)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield Server(int(process.stdout.readline()), process.pid)
        finally:
            process.terminate()


def postmap(port: int, keys: list[bytes]) -> float:
    """Seconds that the real client takes, one after the other."""
    program = shutil.which("postmap", path="/usr/sbin:/usr/bin")
    assert program, "postmap is missing: make servers"
    with tempfile.TemporaryDirectory() as config:
        write_config(Path(config, "main.cf"), "compatibility_level = 3.6\n")
        start = time.perf_counter()
        done = subprocess.run(
            [program, "-c", config, "-q", "-", f"tcp:127.0.0.1:{port}"],
            input=b"\n".join(keys) + b"\n",
            capture_output=True,
            check=True,
        )
        seconds = time.perf_counter() - start
    assert done.stdout.count(b"\n") == len(keys)
    return seconds


def many(port: int, keys: list[bytes]) -> float:
    """Seconds for many connections at once, each with one request in flight."""
    asked = [b"get %b\n" % key for key in keys]
    shares = [asked[first::CLIENTS] for first in range(CLIENTS)]
    with contextlib.ExitStack() as stack:
        poll = stack.enter_context(select.epoll())
        clients: dict[int, tuple[socket.socket, Iterator[bytes]]] = {}
        for share in shares:
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            clients[client.fileno()] = client, iter(share)
            poll.register(client, select.EPOLLIN)
        start = time.perf_counter()
        for client, requests in clients.values():
            client.sendall(next(requests))
        answered = 0
        while answered < len(keys):
            for number, _ in poll.poll():
                client, requests = clients[number]
                reply = client.recv(4096)  # they are short, and come in one piece
                assert reply.startswith(b"200 ")
                assert reply.endswith(b"\n")
                answered += 1
                request = next(requests, None)
                if request is not None:
                    client.sendall(request)
        return time.perf_counter() - start


Client: TypeAlias = Callable[[int, list[bytes]], float]


def one_round(
    servers: tuple[Server, Server], client: Client, part: int
) -> list[tuple[float, float]]:
    """Look-ups a second of both: by the clock on the wall, and by their own CPU."""
    before = [server.cpu() for server in servers]
    seconds = dict.fromkeys(servers, 0.0)
    for first in range(0, len(KEYS), part):
        # Who is first in one part is second in the next.
        for server in servers if first // part % 2 else servers[::-1]:
            seconds[server] += client(server.port, KEYS[first : first + part])
    cpu = [server.cpu() - then for server, then in zip(servers, before, strict=True)]
    wall = [seconds[server] for server in servers]
    return [(len(KEYS) / ours, len(KEYS) / theirs) for ours, theirs in (wall, cpu)]


HEADS = ("look-ups a second", "mailwire", "Twisted", "ratio", "of each round")


def row(name: str, rounds: list[tuple[float, float]]) -> tuple[str, ...]:
    """Medians, under the heads."""
    ratios = [our / their for our, their in rounds]
    return (
        name,
        f"{statistics.median(our for our, _ in rounds):,.0f}",
        f"{statistics.median(their for _, their in rounds):,.0f}",
        f"{statistics.median(ratios):.2f}",
        f"{min(ratios):.2f} to {max(ratios):.2f}",
    )


def main() -> None:
    """Measure, and print."""
    rows = [row("codec alone, CPU", [(codec_ours(), codec_theirs()) for _ in range(ROUNDS)])]
    with serving(OURS) as ours, serving(THEIRS) as theirs:
        # Parts of a tenth of a second or so; longer where connecting would take a share of it.
        clients = (("postmap -q -", postmap, 2000), (f"{CLIENTS} connections", many, 10_000))
        for name, client, part in clients:
            rounds = [one_round((ours, theirs), client, part) for _ in range(ROUNDS)]
            rows.append(row(name, [wall for wall, _ in rounds]))
            rows.append(row(f"{name}, for a second of CPU", [cpu for _, cpu in rounds]))
    table = Table(*HEADS)
    for cells in rows:
        table.add_row(*cells)
    Console().print(table)
    if "--docs" in sys.argv[1:]:
        _page.put("tcptable", _page.table([HEADS, *rows]))


if __name__ == "__main__":
    main()
