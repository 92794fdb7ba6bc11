"""One of the examples, run as the program that it is."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from ._postfix import PATIENCE

EXAMPLES = Path(__file__).parents[2] / "examples"


def on_socket(path: Path) -> tuple[str, ...]:
    """The options to listen there; Postfix connects as a user of its own."""
    return "--listen", f"unix:{path}", "--mode", "666"


class Program:
    """A running example; ``log`` has its lines once it has ended.

    At the end it is told to stop by SIGTERM, unless it was killed, and must do so in order.
    """

    def __init__(self, script: str, *arguments: str | Path, ready: str = "listening on") -> None:
        self.log: list[str] = []
        self._ready = ready
        self._listening = threading.Event()
        self._killed = False
        self._process = subprocess.Popen(
            [sys.executable, EXAMPLES / script, *arguments],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONWARNINGS": "error"},
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        if not self._listening.wait(PATIENCE) or self._process.poll() is not None:
            self.kill()
            raise AssertionError(self.log)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _exc: object, _traceback: TracebackType | None
    ) -> None:
        if not self._killed:
            self.terminate()
            status = self.wait()
            if kind is None:
                assert status == 0, self.log

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def terminate(self) -> None:
        """SIGTERM, as systemd sends it."""
        self._process.terminate()

    def kill(self) -> None:
        """SIGKILL: no farewell."""
        self._killed = True
        self._process.kill()
        self.wait()

    def wait(self) -> int:
        """The exit status, once it has ended."""
        try:
            status = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        self._reader.join(PATIENCE)
        return status

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stderr:
            for line in stderr:
                self.log.append(line.rstrip("\n"))
                if self._ready in line:
                    self._listening.set()
        self._listening.set()
