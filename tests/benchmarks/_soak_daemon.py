"""The daemon that `long_soak` loads: one process, one adapter, all four protocols.

    python -m tests.benchmarks._soak_daemon asyncio|trio|threads DIRECTORY

It prints its addresses as a line of JSON, and for each line that it reads what there is in it: its
tasks, threads and so on. At the end of its input it stops, and prints what it should not have
had to log.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import json
import logging
import os
import socket
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import trio
from adapters import on_asyncio, on_threads, on_trio
from adapters._contract import IDLE, Dialogue, Limits, Service
from adapters._listen import listen
from adapters.services import auth_http, dovecot_auth, milter, tcp_table

import dovecotauth as da
import milterproto as mp

from ._soak_answers import IDLE_TIMEOUT, AskedForError, Filter, let_in, log_in, look_up

LIMITS: Final = Limits(idle_timeout=IDLE_TIMEOUT)
# What a handler takes at the end of a message, and for a login in two steps: so that peers can go
# away meanwhile.
WORK: Final = 0.02
# Its handler runs in worker threads on the loops, too.
IN_THREAD: Final = "auth_http"
MECHANISMS: Final = (da.Mechanism(b"PLAIN", da.Flags.PLAINTEXT),)

logger = logging.getLogger(__name__)

Sleep = Callable[[float], Awaitable[object]] | None


def _slow(handle: Callable[[Any], Any], kinds: tuple[type, ...], sleep: Sleep) -> Any:
    """The same handler, which takes its time over some events; a coroutine function on a loop."""

    def blocking(event: Any) -> Any:
        if isinstance(event, kinds):
            time.sleep(WORK)
        return handle(event)

    async def coroutine(event: Any) -> Any:
        if sleep is not None and isinstance(event, kinds):
            await sleep(WORK)
        return handle(event)

    return blocking if sleep is None else coroutine


def services(sleep: Sleep) -> dict[str, Service[Any, Any]]:
    """All that is served, by name."""
    wants = mp.Wants(actions=mp.Actions.ADDHDRS)
    return {
        "milter": milter(lambda _: _slow(Filter(), (mp.EndOfMessage,), sleep), wants),
        "tcp_table": tcp_table(look_up),
        "dovecot_auth": dovecot_auth(
            lambda _: _slow(log_in, (da.Cont,), sleep),
            lambda: da.ServerHello(MECHANISMS, os.getpid(), 1, os.urandom(16).hex().encode()),
            temp_fail=True,
        ),
        "auth_http": auth_http(let_in),
    }


# --- what there is in this process -----------------------------------------------------------


class Faults(logging.Handler):
    """Counts what is logged, and keeps what should not have been."""

    def __init__(self) -> None:
        super().__init__()
        self.expected: Counter[str] = Counter()
        self.unexpected: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if record.msg in (IDLE, "connection dropped: %s") or isinstance(error, AskedForError):
            self.expected[str(record.msg)] += 1
        else:
            trace = "".join(traceback.format_exception(error)) if error else ""
            self.unexpected[f"{record.levelname} {record.getMessage()}\n{trace}".strip()] += 1


def _is_idle(thread: threading.Thread) -> bool:
    """Whether trio only keeps it for whoever needs a thread next, for ten seconds."""
    return thread.name.startswith("Trio thread ")


def count(faults: Faults, servers: Mapping[str, Any], tasks: int) -> str:
    """A line for the peers' process."""
    gc.collect()
    found = {
        "tasks": tasks,
        "threads": sum(not _is_idle(one) for one in threading.enumerate()),
        "descriptors": sum(1 for _ in Path("/proc/self/fd").iterdir()),
        "connections": sum(len(one.sessions) for one in servers.values()),
        "dialogues": sum(type(one) is Dialogue for one in gc.get_objects()),
    }
    blocks = sys.getallocatedblocks()
    return json.dumps([found, blocks, faults.expected, faults.unexpected])


# --- the adapters ----------------------------------------------------------------------------


async def _asyncio(listeners: Mapping[str, socket.socket], faults: Faults) -> None:
    servers = {
        name: on_asyncio.Server(service, LIMITS, in_thread=name == IN_THREAD)
        for name, service in services(asyncio.sleep).items()
    }
    for name, server in servers.items():
        await server.listen(listeners[name])
    # Not to_thread(), which now and then starts another thread although one is about to be free.
    reader = ThreadPoolExecutor(1)
    while await asyncio.get_running_loop().run_in_executor(reader, sys.stdin.readline):
        print(count(faults, servers, len(asyncio.all_tasks())), flush=True)
    for server in servers.values():
        await server.stop()


async def _trio(listeners: Mapping[str, socket.socket], faults: Faults) -> None:
    servers = {
        name: on_trio.Server(service, LIMITS, in_thread=name == IN_THREAD)
        for name, service in services(trio.sleep).items()
    }
    async with trio.open_nursery() as nursery:
        for name, server in servers.items():
            nursery.start_soon(server.serve, listeners[name])
        while await trio.to_thread.run_sync(sys.stdin.readline):
            tasks = trio.lowlevel.current_statistics().tasks_living
            print(count(faults, servers, tasks), flush=True)
        for server in servers.values():
            server.stop()


def _threads(listeners: Mapping[str, socket.socket], faults: Faults) -> None:
    servers = {name: on_threads.Server(service, LIMITS) for name, service in services(None).items()}
    for name, server in servers.items():
        server.listen(listeners[name])
    while sys.stdin.readline():
        print(count(faults, servers, 0), flush=True)
    for server in servers.values():
        server.stop()


def main(adapter: str, directory: str) -> None:
    """Serve until the input ends."""
    faults = Faults()
    logging.basicConfig(level=logging.INFO, handlers=[faults])
    logging.captureWarnings(capture=True)
    # What Python would only print.
    sys.unraisablehook = lambda found: logger.error("unraisable", exc_info=found.exc_value)
    threading.excepthook = lambda found: logger.error("in a thread", exc_info=found.exc_value)
    # As Postfix, Dovecot and nginx have it: two on unix sockets, two over TCP.
    listeners = {
        name: listen(f"unix:{Path(directory) / name}" if on_unix else "inet:127.0.0.1:0")
        for name, on_unix in (
            ("milter", True),
            ("tcp_table", False),
            ("dovecot_auth", True),
            ("auth_http", False),
        )
    }
    print(json.dumps({name: one.getsockname() for name, one in listeners.items()}), flush=True)
    match adapter:
        case "asyncio":
            asyncio.run(_asyncio(listeners, faults))
        case "trio":
            trio.run(functools.partial(_trio, listeners, faults))
        case _:
            _threads(listeners, faults)
    print(json.dumps(faults.unexpected), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
