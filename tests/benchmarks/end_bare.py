"""Bare loops, for what an adapter's style of I/O costs by itself.

    python -m tests.benchmarks.end_bare STYLE echo|floor|codec SOCKET

They read and they write, by the same calls as the adapter, and that is all: no limit, no time, no
stop, no error is looked after, and what is written is taken to go out whole.
With `echo` each read is answered with one CONTINUE, whatever was read: nothing is framed, since
in lock-step each read is one write of the MTA's. With `floor` the read is cut into frames, which
are answered with constants: the least that can be called a filter. With `codec` the loop feeds our
codec, and asks the benchmark's filter: what an adapter takes beyond that is its own.
"""

from __future__ import annotations

import asyncio
import importlib
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

import trio
from adapters._listen import listen

import milterproto as mp
from tests.benchmarks._milter_session import frame
from tests.benchmarks.end_ours import WANTS, counting
from tests.benchmarks.milter_floor import Floor

Answer = Callable[[bytes], bytes]
"""What is to be written for what was read."""

GO_ON = frame(b"c", b"")
CONTINUE = mp.Continue()


def echo() -> Answer:
    """Looks at nothing."""
    return lambda _data: GO_ON


def floor() -> Answer:
    """Looks at lengths and codes; for one connection."""
    frames = Floor()

    def answer(data: bytes) -> bytes:
        written: list[bytes] = []
        frames.feed(data, written.append)
        return b"".join(written)

    return answer


def codec() -> Answer:
    """For one connection."""
    conn = mp.FilterConnection()
    handle: Any = counting(conn)

    def answer(data: bytes) -> bytes:
        conn.receive_data(data)
        output = b""
        while (event := conn.next_event()) is not None:
            if type(event) is mp.Negotiate:
                output += conn.send(mp.negotiate(event, WANTS))
                continue
            replies = handle(event)
            if replies is not None:
                output += b"".join([conn.send(reply) for reply in replies])
            elif conn.our_turn:
                output += conn.send(CONTINUE)
        return output

    return answer


BUFFER = memoryview(bytearray(65536))


class Protocol(asyncio.BufferedProtocol):
    """asyncio's and uvloop's."""

    transport: asyncio.Transport

    def __init__(self, make: Callable[[], Answer]) -> None:
        self.answer = make()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def get_buffer(self, _hint: int) -> memoryview:
        return BUFFER

    def buffer_updated(self, count: int) -> None:
        if reply := self.answer(bytes(BUFFER[:count])):
            self.transport.write(reply)


async def on_asyncio(make: Callable[[], Answer], listener: socket.socket) -> None:
    """One that calls back."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Protocol(make), sock=listener, backlog=1024)
    await server.serve_forever()


def on_threads(make: Callable[[], Answer], listener: socket.socket) -> None:
    """A thread for each connection."""

    def serve(connection: socket.socket) -> None:
        answer = make()
        while data := connection.recv(65536):
            if reply := answer(data):
                connection.sendall(reply)
        connection.close()

    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


async def on_trio(make: Callable[[], Answer], listener: socket.socket) -> None:
    """A task for each connection."""

    async def serve(stream: trio.SocketStream) -> None:
        answer = make()
        # As the adapter does it: a stream's own methods take nearly twice as long.
        with socket.socket(fileno=stream.socket.detach()) as connection:
            connection.setblocking(False)
            while True:
                await trio.lowlevel.wait_readable(connection)
                data = connection.recv(65536)
                if not data:
                    return
                if reply := answer(data):
                    connection.send(reply)

    sockets = trio.socket.from_stdlib_socket(listener)
    await trio.serve_listeners(serve, [trio.SocketListener(sockets)])


def main(style: str, what: str, path: str) -> None:
    """Serve until the process is ended."""
    make = {"echo": echo, "floor": floor, "codec": codec}[what]
    listener = listen(f"unix:{path}")
    print("listening", flush=True)
    match style:
        case "threads":
            on_threads(make, listener)
        case "trio":
            trio.run(on_trio, make, listener)
        case "uvloop":
            importlib.import_module("uvloop").run(on_asyncio(make, listener))
        case _:
            asyncio.run(on_asyncio(make, listener))


if __name__ == "__main__":
    main(*sys.argv[1:])
