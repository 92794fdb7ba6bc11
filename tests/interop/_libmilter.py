"""A filter on the real libmilter (`libmilter_filter.c`), and an MTA's side to drive it.

`Program` is the filter's process: what its callbacks should do goes in as a script, what they
were told comes out as `Called`. `MTA` is our codec on a blocking socket.
"""

from __future__ import annotations

import os
import queue
import socket
import subprocess
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import attrs

import milterproto as mp

SOURCE: Final = Path(__file__).with_name("libmilter_filter.c")
# How long to wait for anything that a healthy machine does at once.
PATIENCE: Final = 5.0


def build(directory: Path) -> Path:
    """Compile the filter; any warning is an error."""
    program = directory / "libmilter_filter"
    command = ["gcc", "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-O1"]
    done = subprocess.run(
        [*command, "-o", str(program), str(SOURCE), "-lmilter", "-lpthread"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return program


@attrs.frozen
class Called:
    """One callback: its name, its arguments, and those of the chosen macros that it saw."""

    callback: str
    arguments: tuple[bytes, ...] = ()
    macros: dict[bytes, bytes] = attrs.field(factory=dict)

    @classmethod
    def parse(cls, line: str) -> Self:
        """Read a line of the filter's output."""
        head, _, tail = line.partition("|")
        callback, *words = head.split()
        if callback == "failed":
            raise AssertionError(f"libmilter refused to {' '.join(words)}")
        values = [_from_word(word) for word in tail.split()]
        return cls(
            callback,
            tuple(_from_word(word) for word in words),
            dict(zip(values[::2], values[1::2], strict=True)),
        )


def _from_word(word: str) -> bytes:
    return b"" if word == "-" else bytes.fromhex(word)


def _to_word(argument: bytes | int | None) -> str:
    if argument is None:
        return "~"
    data = b"%d" % argument if isinstance(argument, int) else argument
    return data.hex() or "-"


def on(callback: str, action: str, *arguments: bytes | int | None) -> str:
    """A rule: what the filter does in a callback. The last verdict of several counts."""
    return " ".join(["on", callback, action, *map(_to_word, arguments)])


def on_replace_body(size: int) -> str:
    """A rule: replace the body by `counting(size)`."""
    return f"on eom replacebody *{size}"


def counting(size: int) -> bytes:
    """Bytes that count up, as the filter makes them for a long body."""
    return bytes(i % 251 for i in range(size))


class Program:
    """A running filter.

    libmilter keeps state for the whole process: what one connection does not want, others may
    leave out. So each set of steps gets a process of its own.
    """

    def __init__(self, program: Path, path: Path) -> None:
        self.path = path
        self._process = subprocess.Popen(
            [str(program), "-p", f"unix:{path}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        # A thread, for a filter that can't write its log would not answer either.
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        try:
            assert self.next() == Called("ready")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the process. Not by SIGTERM: libmilter looks for that every five seconds only."""
        self._process.kill()
        self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.decode("ascii"))
        self._lines.put(None)

    def script(self, *rules: str) -> None:
        """Do this from the next callback on, and nothing else."""
        self._write("reset", *rules)

    def log_macros(self, names: Iterable[bytes]) -> None:
        """Look up these macros in each callback from now on."""
        self._write("macros " + " ".join(map(_to_word, names)))

    def _write(self, *lines: str) -> None:
        assert self._process.stdin is not None
        # In the pipe before the next frame is in the socket: so the filter reads it in time.
        os.write(self._process.stdin.fileno(), "".join(f"{line}\n" for line in lines).encode())

    def next(self) -> Called:
        """The next callback."""
        line = self._lines.get(timeout=PATIENCE)
        if line is None:
            assert self._process.stderr is not None
            raise AssertionError(f"the filter has ended: {self._process.stderr.read()!r}")
        return Called.parse(line)

    def session(self) -> list[Called]:
        """All callbacks up to the end of the connection, without that."""
        calls = []
        while (call := self.next()).callback != "close":
            calls.append(call)
        return calls

    def everything(self) -> list[Called]:
        """All callbacks so far, if the filter has closed all connections; ends the script.

        Their last one came before the socket was closed, and so before those of a connection
        that is made only now.
        """
        self.script()
        calls = []
        with MTA(self.path) as mark:
            mark.negotiate()
            mark.ask(mp.Helo(b"mark"), mp.Quit())
            while (call := self.next()) != Called("helo", (b"mark",)):
                calls.append(call)
        return calls


class MTA:
    """Our MTA's side on a unix socket. Any wait for the filter ends with an error in the end."""

    def __init__(self, path: Path) -> None:
        self.conn = mp.MTAConnection()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE)
        self._socket.connect(str(path))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._socket.close()

    def ask(self, *commands: mp.Command) -> list[mp.Response | mp.ConnectionClosed]:
        """Send commands; what the filter answers to all of them."""
        return [event for command in commands for event in self._ask(command)]

    def _ask(self, command: mp.Command) -> list[mp.Response | mp.ConnectionClosed]:
        self._socket.sendall(self.conn.send(command))
        events: list[mp.Response | mp.ConnectionClosed] = []
        while not self.conn.our_turn:
            event = self.conn.next_event()
            if event is not None:
                events.append(event)
                if isinstance(event, mp.ConnectionClosed):
                    break
            elif self.conn.state is mp.State.CLOSED:
                break
            else:
                self.conn.receive_data(self._socket.recv(1 << 16))
        return events

    def negotiate(self, offer: mp.Negotiate | None = None) -> mp.Negotiate:
        """Make the offer (the usual one of version 6), and give the filter's answer."""
        (answer,) = self.ask(offer or mp.offer(6))
        assert isinstance(answer, mp.Negotiate)
        return answer

    def at_end(self) -> bool:
        """Wait for the filter to close; whether it did that without another word."""
        return self._socket.recv(1) == b""

    def write(self, data: bytes) -> None:
        """Write past the codec."""
        self._socket.sendall(data)
