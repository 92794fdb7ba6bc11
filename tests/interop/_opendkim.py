"""An OpenDKIM on loopback that signs, and perhaps verifies, and one that is asked about both."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from pathlib import Path
from typing import Self

from ._postfix import PATIENCE

_CONFIG = """\
Background no
Syslog no
UserID root
# Signs what comes from this domain, and verifies what others send.
Mode {mode}
Domain example.org
Selector test
KeyFile {root}/key.pem
RequireSafeKeys no
InternalHosts 127.0.0.1
Canonicalization simple/simple
Socket inet:{port}@127.0.0.1
# In place of DNS.
TestPublicKeys {root}/keys
QueryCache no
"""

_VERIFIER = """\
Background no
Syslog no
UserID root
Mode v
# In place of DNS.
TestPublicKeys {root}/keys
QueryCache no
"""


class OpenDKIM:
    """A running filter of another make; ``mode``: ``s`` to sign, ``sv`` to verify, too."""

    def __init__(self, program: Path, root: Path, port: int, *, mode: str = "s") -> None:
        self._mode = mode
        self._program = program
        self._root = root
        self._port = port

    def __enter__(self) -> Self:
        key = self._root / "key.pem"
        self._openssl("genrsa", "-out", key, "2048")
        public = self._openssl("rsa", "-in", key, "-pubout", "-outform", "PEM")
        base64 = "".join(public.splitlines()[1:-1])
        record = f"test._domainkey.example.org v=DKIM1; k=rsa; p={base64}\n"
        (self._root / "keys").write_text(record)
        config = self._root / "opendkim.conf"
        config.write_text(_CONFIG.format(root=self._root, port=self._port, mode=self._mode))
        verifier = self._root / "verifier.conf"
        verifier.write_text(_VERIFIER.format(root=self._root))
        self._process = subprocess.Popen(
            [self._program, "-f", "-x", config],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            self._wait_until_it_listens()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.terminate()
        self._process.communicate(timeout=PATIENCE)

    def verify(self, content: bytes) -> str:
        """What OpenDKIM says of a message with its signature."""
        message = self._root / "message"
        message.write_bytes(content)
        done = subprocess.run(
            [self._program, "-x", self._root / "verifier.conf", "-t", message],
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
        )
        return done.stdout

    def _wait_until_it_listens(self) -> None:
        """It says nothing when it is ready, so it is asked; a refusal comes back at once."""
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", self._port), PATIENCE).close()
                return
            if self._process.poll() is not None:
                raise AssertionError(self._process.communicate()[0])

    def _openssl(self, *arguments: str | Path) -> str:
        return subprocess.run(
            ["openssl", *arguments],
            check=True,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        ).stdout
