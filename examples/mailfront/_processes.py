"""The programs of the mail front: started one after the other, and stopped again."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Final

import attrs

# Seconds for a program to listen, and to end. nginx and Postfix take less than one.
PATIENCE: Final = 20.0
LAST_LINES: Final = 10


class StartError(Exception):
    """A program has not come up; the text says which, and what it said last."""


@attrs.define
class Process:
    """One program. ``address`` is where it listens once it is up: a socket's path, or a port."""

    name: str
    command: Sequence[str | Path]
    address: Path | int
    log: Path
    # Where Postfix's master says who it is: what is started is a shell that waits for it.
    pid_file: Path | None = None
    _process: subprocess.Popen[bytes] | None = attrs.field(default=None, init=False)

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        with self.log.open("ab") as log:
            self._process = self._popen(log)
        deadline = time.monotonic() + PATIENCE
        while self._process.poll() is None and time.monotonic() < deadline:
            if is_open(self.address):
                return
            time.sleep(0.02)
        self.stop()
        said = "\n".join(self.log.read_text(errors="replace").splitlines()[-LAST_LINES:])
        raise StartError(f"{self.name} does not come up. It says:\n{said or 'nothing'}")

    def stop(self) -> None:
        """SIGTERM, and wait for its end."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: no farewell."""
        self._end(signal.SIGKILL)

    def _popen(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        # Of its own session: Ctrl-C is for us, and we stop them in order.
        return subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def _end(self, number: signal.Signals) -> None:
        process = self._process
        if process is None:
            return
        self._process = None
        if process.poll() is None:
            pid = process.pid
            with contextlib.suppress(FileNotFoundError, ValueError):
                if self.pid_file is not None:
                    pid = int(self.pid_file.read_text())
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def is_open(address: Path | int) -> bool:
    """Whether somebody takes connections there; at a port, on either loopback address."""
    places: list[tuple[int, Any]] = [(socket.AF_UNIX, str(address))]
    if isinstance(address, int):
        places = [(socket.AF_INET, ("127.0.0.1", address)), (socket.AF_INET6, ("::1", address))]
    for family, name in places:
        with socket.socket(family) as probe, contextlib.suppress(OSError):
            probe.settimeout(PATIENCE)
            probe.connect(name)
            return True
    return False
