"""spampd with SpamAssassin's own rules, without network: a gateway that passes commands on."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import socketserver
import subprocess
import threading
import time
from pathlib import Path
from typing import Self

from ._postfix import PATIENCE, free_port

# Loading the rules takes seconds, and on a busy machine longer.
START = 3 * PATIENCE

RULES = """\
rewrite_header Subject [SPAM]
report_safe 0
use_bayes 0
skip_rbl_checks 1
dns_available no
"""

# https://spamassassin.apache.org/gtube/: every SpamAssassin takes it for spam.
GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"


class Spampd:
    """A running spampd; ``root`` is an empty folder that every user can enter.

    Its cache stays in Debian's place: with --homedir, SpamAssassin 4.0.1 dies of a tainted name.
    """

    def __init__(
        self,
        program: Path,
        root: Path,
        relay_port: int,
        *,
        children: int = 3,
        port: int = 0,
        rules: str = RULES,
    ) -> None:
        self.port = port or free_port()
        self.log = root / "spampd.log"
        self._rules = root / "spampd.cf"
        self._rules.write_text(rules)
        self._command: list[str | Path] = [
            *(program, "--nodetach", f"--host=127.0.0.1:{self.port}", "--logsock=inet"),
            *(f"--relayhost=127.0.0.1:{relay_port}", f"--children={children}", "--tagall"),
            *("--local-only", "--dose", f"--pid={root}/spampd.pid", f"--saconfig={self._rules}"),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )
        deadline = time.monotonic() + START
        while not _is_open(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise AssertionError(self.log.read_text())
            time.sleep(0.02)

    def stop(self) -> None:
        """End it; its children go with it."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to it and to all its children, whatever they are at."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        os.killpg(process.pid, number)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Recorder:
    """Stands in front of a sink, and keeps what passes."""

    def __init__(self, sink_port: int) -> None:
        self.sink_port = sink_port
        self._said: list[bytearray] = []
        said = self._said

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                here: socket.socket = self.request
                told = bytearray()
                said.append(told)
                try:
                    with socket.create_connection(("127.0.0.1", sink_port), PATIENCE) as there:
                        while ready := select.select([here, there], [], [])[0]:
                            for one in ready:
                                if not (data := one.recv(65536)):
                                    return
                                (there if one is here else here).sendall(data)
                                told.extend(data if one is here else b"")
                except OSError:
                    return

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            request_queue_size = 128

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def contents(self) -> list[bytes]:
        """The messages that have passed, without their dots doubled."""
        found = (
            re.findall(rb"\r\nDATA\r\n(.*?\r\n)\.\r\n", bytes(one), re.DOTALL) for one in self._said
        )
        return [re.sub(rb"(?m)^\.", b"", content) for one in found for content in one]

    def clear(self) -> None:
        """Forget what has passed."""
        for one in self._said:
            one.clear()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
