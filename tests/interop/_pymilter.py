"""pymilter's own sample filter, on libmilter by way of its C module."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Final, Self

from ._postfix import PATIENCE

# No newer one, nor one from elsewhere: what runs here is what was looked at.
VERSION: Final = "1.0.5"


class NotInstalledError(Exception):
    """pip could not; the text says why."""


class Sample:
    """The running filter; ``path`` is its socket."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.path = root / "pythonsock"
        self._process: subprocess.Popen[str] | None = None

    def install(self) -> None:
        """Build pymilter from its source, which has the sample in it, for this test alone."""
        self._pip("download", "--no-binary", "pymilter", "--no-deps", f"pymilter=={VERSION}")
        (source,) = self._root.glob("pymilter-*.tar.gz")
        self._pip("install", "--no-deps", "--target", str(self._root / "packages"), str(source))
        with tarfile.open(source) as archive:
            sample = archive.extractfile(f"pymilter-{VERSION}/sample.py")
            assert sample is not None
            (self._root / "sample.py").write_bytes(sample.read())

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, self._root / "sample.py"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # It listens in its home folder.
            env={
                **os.environ,
                "HOME": str(self._root),
                "TMPDIR": str(self._root),
                "PYTHONPATH": str(self._root / "packages"),
                "PYTHONUNBUFFERED": "1",
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

    def _pip(self, *arguments: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", *arguments],
            cwd=self._root,
            capture_output=True,
            text=True,
            check=False,
            timeout=70,
        )
        if done.returncode:
            raise NotInstalledError(done.stderr[-500:])
