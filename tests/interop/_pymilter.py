"""pymilter's own sample filter, on libmilter by way of its C module."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Final, Self

from ._postfix import PATIENCE

# Debian's package, for Debian's Python. It has no sample: that is in the source.
PYTHON: Final = "/usr/bin/python3"
MODULE: Final = "/usr/lib/python3/dist-packages/Milter/__init__.py"
# No newer one, nor one from elsewhere: what runs here is what was looked at.
_VERSION: Final = "1.0.5"


class NoSampleError(Exception):
    """pip could not get it; the text says why."""


class Sample:
    """The running filter; ``path`` is its socket."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.path = root / "pythonsock"
        self._process: subprocess.Popen[str] | None = None

    def fetch(self) -> None:
        """Get the sample from a package index; nothing is compiled."""
        line = ["download", "--no-binary", "pymilter", "--no-deps", f"pymilter=={_VERSION}"]
        done = subprocess.run(
            [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", *line],
            cwd=self._root,
            capture_output=True,
            text=True,
            check=False,
            timeout=70,
        )
        if done.returncode:
            raise NoSampleError(done.stderr[-500:])
        (source,) = self._root.glob("pymilter-*.tar.gz")
        with tarfile.open(source) as archive:
            sample = archive.extractfile(f"pymilter-{_VERSION}/sample.py")
            assert sample is not None
            (self._root / "sample.py").write_bytes(sample.read())

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [PYTHON, "-Eu", self._root / "sample.py"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # It listens in its home folder.
            env={
                **os.environ,
                "HOME": str(self._root),
                "TMPDIR": str(self._root),
            },
        )
        assert self._process.stdout is not None
        lines = []
        for line in self._process.stdout:
            lines.append(line)
            if "milter startup" in line:
                return self
        self.__exit__()
        raise AssertionError("".join(lines))

    def __exit__(self, *exc_info: object) -> None:
        assert self._process is not None
        # Not by SIGTERM, which libmilter looks for every five seconds only.
        self._process.kill()
        self._process.communicate(timeout=PATIENCE)
