"""pymilter on libmilter, as it is by default: every event a callback, and a reply to each.

    python -m tests.benchmarks.end_pymilter SOCKET

In an environment with nothing but pymilter in it. It does what `end_ours` does.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from tests.benchmarks import _milter_session as session

HEADERS = len(session.HEADERS)
SIZE = session.SIZES["10 kB"]
ADDED = [text.decode() for text in session.ADDED]
AT, NAME, VALUE = session.CHANGED

Milter: Any = importlib.import_module("Milter")


class Counting(Milter.Base):  # type: ignore[misc]
    """One connection's callbacks."""

    def connect(self, *_: Any) -> Any:
        return Milter.CONTINUE

    def hello(self, _name: str) -> Any:
        return Milter.CONTINUE

    def envfrom(self, *_: Any) -> Any:
        self.headers = self.size = 0
        return Milter.CONTINUE

    def envrcpt(self, *_: Any) -> Any:
        return Milter.CONTINUE

    def data(self) -> Any:
        return Milter.CONTINUE

    def header(self, _name: str, _value: str) -> Any:
        self.headers += 1
        return Milter.CONTINUE

    def eoh(self) -> Any:
        return Milter.CONTINUE

    def body(self, data: bytes) -> Any:
        self.size += len(data)
        return Milter.CONTINUE

    def eom(self) -> Any:
        if (self.headers, self.size) != (HEADERS, SIZE):
            return Milter.REJECT
        self.addheader(*ADDED)
        self.chgheader(NAME.decode(), AT, VALUE.decode())
        return Milter.CONTINUE


def main(path: str) -> None:
    """Serve until the process is ended."""
    core: Any = importlib.import_module("milter")
    run = core.main

    def announced() -> None:
        print("listening", flush=True)
        run()

    core.main = announced  # which is called as soon as the socket is there
    Milter.factory = Counting
    Milter.set_flags(Milter.ADDHDRS | Milter.CHGHDRS)
    Milter.runmilter("end_pymilter", f"unix:{path}", 600)


if __name__ == "__main__":
    main(*sys.argv[1:])
