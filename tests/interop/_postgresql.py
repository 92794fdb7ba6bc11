"""A private PostgreSQL on loopback, thrown away at the end."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Self

from ._postfix import PATIENCE, free_port


def programs(require_program: Callable[[str, str], Path]) -> Path:
    """Where Debian puts initdb and postgres: in no directory of PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return require_program(str(found[-1] / "initdb") if found else "initdb", "postgresql").parent


class PostgreSQL:
    """A running server; ``url`` is its database for SQLAlchemy."""

    def __init__(self, bin_directory: Path) -> None:
        self._bin = bin_directory
        self._root = Path(tempfile.mkdtemp(prefix="mailwire-pg-"))
        self._data = self._root / "data"
        self.port = free_port()
        self.url = f"postgresql+asyncpg://mailwire@127.0.0.1:{self.port}/postgres"
        # It refuses to run as root.
        self._as_user = []
        if os.geteuid() == 0:
            shutil.chown(self._root, "postgres", "postgres")
            self._as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]

    def __enter__(self) -> Self:
        try:
            self._run("initdb", "-D", self._data, "-U", "mailwire", "-A", "trust", "--no-sync")
            self.start()
        except BaseException:
            shutil.rmtree(self._root, ignore_errors=True)
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        if (self._data / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self._root, ignore_errors=True)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-p {self.port} -k {self._root} -c listen_addresses=127.0.0.1 -c fsync=off"
        log = self._root / "log"
        self._run("pg_ctl", "-D", self._data, "-l", log, "-o", options, "-w", "start")

    def stop(self) -> None:
        """Cut every connection, and end."""
        self._run("pg_ctl", "-D", self._data, "-m", "fast", "-w", "stop")

    def cut_connections(self) -> None:
        """End all sessions but our own, whatever they are doing."""
        self.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = "
            "'mailwire' AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )

    def freeze(self) -> None:
        """Let it answer nobody until `thaw`: its processes stand still, connections stay open."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on."""
        self._signal(signal.SIGCONT)

    def query(self, statement: str) -> None:
        """As its superuser."""
        self._run("psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", "mailwire",
                  "-d", "postgres", "-qc", statement)  # fmt: skip

    def _signal(self, number: int) -> None:
        """To the postmaster, which has a session and so a group of its own, and its children."""
        pid = int((self._data / "postmaster.pid").read_text().splitlines()[0])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for one in (pid, *map(int, children)):
            with contextlib.suppress(ProcessLookupError):  # a child may have ended meanwhile
                os.kill(one, number)

    def _run(self, program: str, *arguments: str | Path) -> None:
        done = subprocess.run(
            [*self._as_user, self._bin / program, *arguments],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # the server would hold a pipe open
            stderr=subprocess.DEVNULL if program == "pg_ctl" else subprocess.PIPE,
            text=True,
            timeout=3 * PATIENCE,
            cwd=self._root,
        )
        assert done.returncode == 0, (program, done.stderr)
