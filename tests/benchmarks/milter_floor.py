"""The floor: packets framed with struct, and answered with constants. Nothing is checked."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from tests.benchmarks import _milter_session as session
from tests.benchmarks._milter_tasks import filter_tasks, mta_tasks
from tests.benchmarks._side import serve

HEAD = struct.Struct("!LB")
ANSWERS = {code[0]: answer for code, answer in session.ANSWERS.items()}
MACROS = ord("D")


class Floor:
    """Both roles: what a connection keeps between two reads is the rest of the last one."""

    def __init__(self) -> None:
        self.rest = b""
        self.macros = b""

    def feed(self, data: bytes, write: Callable[[bytes], object]) -> None:
        """Answer all whole packets."""
        if self.rest:
            data = self.rest + data
        at, size = 0, len(data)
        unpack = HEAD.unpack_from
        while at + 5 <= size:
            length, code = unpack(data, at)
            end = at + 4 + length
            if end > size:
                break
            payload = data[at + 5 : end]
            if code == MACROS:
                self.macros = payload  # for whoever wants to see them
            else:
                write(ANSWERS[code])
            at = end
        self.rest = data[at:]


def answer(chunks: Sequence[bytes]) -> list[bytes]:
    """The filter's side."""
    written: list[bytes] = []
    floor = Floor()
    for chunk in chunks:
        floor.feed(chunk, written.append)
    return written


def ask(script: Sequence[tuple[session.Step, bytes]]) -> list[bytes]:
    """The MTA's side."""
    written: list[bytes] = []
    pack, unpack = HEAD.pack, HEAD.unpack_from
    for (code, fields), reply in script:
        if code == b"B":
            payload = fields[0]
        elif code in (b"O", b"C", b"D"):
            payload = session.payload(code, fields)
        else:
            payload = b"\0".join((*fields, b"")) if fields else b""
        written.append(pack(len(payload) + 1, code[0]) + payload)
        at = 0
        while at < len(reply):
            length, _ = unpack(reply, at)
            payload = reply[at + 5 : at + 4 + length]
            at += 4 + length
    return written


if __name__ == "__main__":
    serve(filter_tasks(answer) | mta_tasks(ask))
