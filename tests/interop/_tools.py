"""`python -m milterproto`, run as a user runs it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ._postfix import PATIENCE

_COMMAND: Final = (sys.executable, "-m", "milterproto")


def tool(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    """Run one to its end."""
    done = subprocess.run(
        [*_COMMAND, *arguments], input=stdin, capture_output=True, check=False, timeout=60
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


@contextlib.contextmanager
def recorder(listen: str, target: str, file: Path, *options: str) -> Iterator[list[str]]:
    """The recorder, listening until the end; then the file is complete, and so is what it said."""
    # Postfix connects as a user of its own.
    before = os.umask(0)
    try:
        process = subprocess.Popen(
            [*_COMMAND, "record", listen, target, file, *options], stderr=subprocess.PIPE, text=True
        )
    finally:
        os.umask(before)
    said: list[str] = []
    assert process.stderr is not None
    with process, process.stderr as stderr:
        try:
            first = stderr.readline()
            assert first.endswith("Ctrl-C ends it\n"), first + stderr.read()
            yield said
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)
        said += stderr
        assert process.returncode == 0, said
