"""python-libmilter: its protocol class, on a transport that keeps what is written."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from tests.benchmarks import _milter_session as session
from tests.benchmarks._milter_tasks import filter_tasks
from tests.benchmarks._side import serve

lm: Any = importlib.import_module("libmilter")


class Transport:
    """In place of a socket."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.sendall = self.written.append


def filter_class() -> Any:
    """A filter with all callbacks, each of which goes on."""

    def go_on(self: Any, *_: Any) -> Any:
        return lm.CONTINUE

    def eob(self: Any, macros: dict[bytes, bytes]) -> Any:
        assert macros[b"i"]
        self.addHeader(*session.ADDED)
        at, name, value = session.CHANGED
        self.chgHeader(name, value, at)
        return lm.CONTINUE

    names = ("connect", "helo", "mailFrom", "rcpt", "data", "header", "eoh", "body", "unknown")
    return type("Filter", (lm.MilterProtocol,), {**dict.fromkeys(names, go_on), "eob": eob})


Filter = filter_class()


def answer(chunks: Sequence[bytes]) -> list[bytes]:
    """The filter's side."""
    protocol = Filter(session.WANTED)
    transport = protocol.transport = Transport()
    for chunk in chunks:
        protocol.dataReceived(chunk)
    return transport.written


if __name__ == "__main__":
    serve(filter_tasks(answer))
