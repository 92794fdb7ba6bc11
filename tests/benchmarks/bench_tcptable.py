"""tcp_table look-ups a second: ours beside Twisted's PostfixTCPMapServer, in one run.

    python -m tests.benchmarks.bench_tcptable

Both serve the same table. Each measurement is taken in turns, ours and theirs, and the median of
the rounds is shown. Nothing is asserted: the machine decides the figures, the ratio is what
counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table
from twisted.internet.testing import StringTransport
from twisted.protocols.postfix import PostfixTCPMapDictServerFactory

import tcptable as tt
from tests.interop._postfix import write_config

EXAMPLES = Path(__file__).parents[2] / "examples"
ROUNDS = 5
KEYS = [b"user%d@example.test" % number for number in range(20_000)]
REQUESTS = [b"get %b\n" % key for key in KEYS]
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
    """Look-ups a second without a socket: each request in a read of its own."""
    table = dict.fromkeys(KEYS, b"mailbox")
    conn = tt.ServerConnection()
    start = time.perf_counter()
    for request in REQUESTS:
        conn.receive_data(request)
        event = conn.next_event()
        assert isinstance(event, tt.Get)
        conn.send(tt.Found(table[event.key]))
    return len(REQUESTS) / (time.perf_counter() - start)


def codec_theirs() -> float:
    """The same with theirs, on its own transport for tests."""
    server = PostfixTCPMapDictServerFactory(dict.fromkeys(KEYS, b"mailbox")).buildProtocol(None)
    transport = StringTransport()
    server.makeConnection(transport)
    start = time.perf_counter()
    for request in REQUESTS:
        server.dataReceived(request)
        transport.clear()
    seconds = time.perf_counter() - start
    server.setTimeout(None)
    return len(REQUESTS) / seconds


@contextlib.contextmanager
def serving(program: str) -> Iterator[int]:
    """A server in a process of its own; its port."""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(EXAMPLES)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


def postmap(port: int) -> float:
    """Look-ups a second of the real client, one after the other."""
    program = shutil.which("postmap", path="/usr/sbin:/usr/bin")
    assert program, "postmap is missing: make servers"
    with tempfile.TemporaryDirectory() as config:
        write_config(Path(config, "main.cf"), "compatibility_level = 3.6\n")
        start = time.perf_counter()
        done = subprocess.run(
            [program, "-c", config, "-q", "-", f"tcp:127.0.0.1:{port}"],
            input=b"\n".join(KEYS) + b"\n",
            capture_output=True,
            check=True,
        )
        seconds = time.perf_counter() - start
    assert done.stdout.count(b"\n") == len(KEYS)
    return len(KEYS) / seconds


def many(port: int) -> float:
    """Look-ups a second of many connections at once, each with one request in flight."""

    async def client(requests: list[bytes]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for request in requests:
            writer.write(request)
            assert (await reader.readline()).startswith(b"200 ")
        writer.close()

    async def load() -> float:
        start = time.perf_counter()
        shares = [REQUESTS[first::CLIENTS] for first in range(CLIENTS)]
        await asyncio.gather(*(client(share) for share in shares))
        return len(REQUESTS) / (time.perf_counter() - start)

    return asyncio.run(load())


def main() -> None:
    """Measure, and print."""
    measurements: list[tuple[str, Callable[[], float], Callable[[], float]]] = [
        ("codec alone", codec_ours, codec_theirs)
    ]
    with serving(OURS) as ours, serving(THEIRS) as theirs:
        measurements += [
            ("postmap -q -", lambda: postmap(ours), lambda: postmap(theirs)),
            (f"{CLIENTS} connections", lambda: many(ours), lambda: many(theirs)),
        ]
        table = Table("look-ups a second", "mailwire", "Twisted", "ratio", "of each round")
        for name, our, their in measurements:
            rounds = [(our(), their()) for _ in range(ROUNDS)]
            ratios = [one / other for one, other in rounds]
            table.add_row(
                name,
                f"{statistics.median(one for one, _ in rounds):,.0f}",
                f"{statistics.median(other for _, other in rounds):,.0f}",
                f"{statistics.median(ratios):.2f}",
                f"{min(ratios):.2f} to {max(ratios):.2f}",
            )
    Console().print(table)


if __name__ == "__main__":
    main()
