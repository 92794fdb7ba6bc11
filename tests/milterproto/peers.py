"""Filters for the tools, polite ones and wrong ones, at the end of a wire or behind a socket."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import milterproto as mp
from milterproto._memory import MemoryWire
from milterproto._mta import _wire_to
from milterproto._shell.transcript import FROM_MTA, Recorder, Seen
from milterproto._state import reply_due
from milterproto.message import Message

# What is written for an event; None: the filter closes.
Answer: TypeAlias = bytes | Callable[[Any], bytes | None] | None

PATIENCE = 20  # seconds, for what should take none

MESSAGE = Message.parse(
    b"From: a@example.org\nTo: b@example.test\nSubject: hi\n\nbody\n",
    sender=b"<a@example.org>",
    recipients=[b"<b@example.test>", b"<c@example.test>"],
)


def frame(code: bytes, payload: bytes = b"") -> bytes:
    return (1 + len(payload)).to_bytes(4, "big") + code + payload


def negotiated(actions: int = 0x1FF, steps: int = 0, version: int = 6, rest: bytes = b"") -> bytes:
    numbers = b"".join(number.to_bytes(4, "big") for number in (version, actions, steps))
    return frame(b"O", numbers + rest)


class Scripted:
    """Says Continue to all, except for what ``answers`` has: by class of event, raw bytes.

    What is waited for and does not come is a TimeoutError at once.
    """

    def __init__(self, answers: Mapping[type, Answer] | None = None, steps: int = 0) -> None:
        self._answers = dict(answers or {})
        self._answers.setdefault(mp.Negotiate, self._negotiate)
        self._steps = steps
        self._recorder = Recorder(1)
        self._unread = bytearray()
        self._gone = False
        self.closed = False
        self.seen: list[Seen] = []

    def sendall(self, data: bytes, /) -> None:
        if self._gone:
            raise BrokenPipeError("gone")
        for entry in self._recorder.take(FROM_MTA, data, 0):
            self.seen.append(entry.seen)
            self._gone = self._gone or not self._answered(entry.seen)

    def recv(self, size: int, /) -> bytes:
        data = bytes(self._unread[:size])
        del self._unread[:size]
        if not data and not self._gone:
            raise TimeoutError("timed out")
        return data

    def shutdown(self, _how: int, /) -> None:
        self._gone = True

    def close(self) -> None:
        self.closed = True

    def _answered(self, seen: Seen) -> bool:
        if isinstance(seen, str):
            kind: type = str
        else:
            kind = type(seen)
        if kind in self._answers:
            answer = self._answers[kind]
            data = answer(seen) if callable(answer) else answer
        elif isinstance(seen, mp.Quit | str):
            data = None
        else:
            due = reply_due(kind, mp.Steps(self._steps))
            data = frame(b"c") if due else b""
        self._unread += data or b""
        return data is not None

    def _negotiate(self, offer: mp.Negotiate) -> bytes:
        return negotiated(offer.actions, self._steps & offer.steps, offer.version)


class Polite:
    """A filter of ours: a function of a message, or whatever `milterproto.testing` takes."""

    def __init__(self, tested: Any) -> None:
        wire = _wire_to(tested, lambda coroutine: coroutine)
        assert isinstance(wire, MemoryWire)
        self._wire = wire

    def sendall(self, data: bytes, /) -> None:
        try:
            self._wire.sendall(data)
        except mp.RemoteProtocolError as error:
            if error.hint:
                self._wire._answers.append(self._wire._conn.send(error.hint))
        except mp.LocalProtocolError:
            # An edit that was not negotiated: as the adapters do.
            self._wire._answers.append(self._wire._conn.send(mp.TempFail()))

    def recv(self, size: int, /) -> bytes:
        data = self._wire.recv(size)
        ended = (mp.State.CLOSED, mp.State.FAILED)
        if not data and self._wire._conn.state not in ended:
            raise TimeoutError("timed out")
        return data

    def shutdown(self, how: int, /) -> None:
        self._wire.shutdown(how)

    def close(self) -> None:
        pass


@contextlib.contextmanager
def filter_at(path: Path | None, connect: Callable[[], Any]) -> Iterator[str]:
    """A filter that serves connections one after the other; the address it has."""
    if path is None:
        listener = socket.create_server(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    else:
        listener = socket.create_server(str(path), family=socket.AF_UNIX)
        address = f"unix:{path}"

    def talk(sock: socket.socket) -> None:
        peer = connect()
        with sock, contextlib.suppress(OSError):
            while data := sock.recv(1 << 16):
                with contextlib.suppress(BrokenPipeError):
                    peer.sendall(data)
                try:
                    while answer := peer.recv(1 << 16):
                        sock.sendall(answer)
                except TimeoutError:
                    continue
                return

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=talk, args=(listener.accept()[0],), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield address
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(PATIENCE)
