"""A private Dovecot that authenticates and does nothing else, on unix sockets of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

from ._postfix import PATIENCE

PASSWORD = b"correct horse"
USERS = ("alice", "bob", "carol")

_CONFIG = """\
base_dir = {root}/run
state_dir = {root}/state
log_path = {root}/log
auth_verbose = yes
protocols =
listen = 127.0.0.1
ssl = no
# As root it would ask the kernel for more than a container may have.
default_vsz_limit = 0
default_login_user = dovecot
default_internal_user = dovecot
default_internal_group = dovecot
auth_mechanisms = plain login cram-md5 scram-sha-256
# Failures come at once, but when a test asks for a delay.
auth_failure_delay = {failure_delay}
disable_plaintext_auth = no
passdb {{
  driver = passwd-file
  args = username_format=%u {root}/users
}}
userdb {{
  driver = passwd-file
  args = username_format=%u {root}/users
}}
service auth {{
  user = dovecot
  chroot =
  unix_listener client {{
    mode = 0600
    user = dovecot
  }}
  unix_listener login/login {{
    mode = 0600
    user = dovecot
  }}
  unix_listener auth-userdb {{
    mode = 0600
    user = dovecot
  }}
  unix_listener auth-master {{
    mode = 0600
    user = dovecot
  }}
}}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
"""


class Dovecot:
    """A running server. ``client`` is its socket for Postfix, ``master`` that for a delivery agent.

    ``program`` is the dovecot command.
    """

    def __init__(self, program: Path, *, failure_delay: str = "0") -> None:
        self._program = program
        self.root = Path(tempfile.mkdtemp(prefix="mailwire-dovecot-"))
        self.client = str(self.root / "run" / "client")
        self.login = str(self.root / "run" / "login" / "login")
        self.master = str(self.root / "run" / "auth-userdb")
        self.auth_master = str(self.root / "run" / "auth-master")
        self._failure_delay = failure_delay
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self._configure()
            self._process = subprocess.Popen(
                [self._program, "-F", "-c", self.root / "conf"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
            self._wait_until_it_listens()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.communicate(timeout=PATIENCE)
            finally:
                # A test that left a connection open must not leave Dovecot behind.
                if self._process.poll() is None:
                    os.killpg(self._process.pid, signal.SIGKILL)
                    self._process.communicate()
        shutil.rmtree(self.root, ignore_errors=True)

    @property
    def version(self) -> str:
        """Such as ``2.3.19.1``."""
        done = subprocess.run(
            [self._program, "--version"], check=True, capture_output=True, text=True
        )
        return done.stdout.split()[0]

    def log(self) -> str:
        """What it has logged."""
        return (self.root / "log").read_text(errors="replace")

    def connect(self, path: str) -> socket.socket:
        """A connection to one of its sockets."""
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(PATIENCE)
        try:
            sock.connect(path)
        except OSError:
            sock.close()
            raise
        return sock

    def _configure(self) -> None:
        self.root.chmod(0o755)
        lines = [f"{name}:{{PLAIN}}{PASSWORD.decode()}:1000:1000::/home/{name}::" for name in USERS]
        lines[2] += " nologin=y reason=Closed"
        lines.append(f"odd:{{PLAIN}}{PASSWORD.decode()}:1000:1000::/home/odd:: user=a\x01b")
        (self.root / "users").write_text("\n".join(lines) + "\n")
        (self.root / "users").chmod(0o644)
        config = _CONFIG.format(
            root=self.root,
            failure_delay=self._failure_delay,
        )
        (self.root / "conf").write_text(config)

    def _wait_until_it_listens(self) -> None:
        """Its sockets are there at once, and one that answers is ready."""
        assert self._process is not None
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with self.connect(self.client) as sock:
                    if sock.recv(1):
                        return
            except OSError:
                time.sleep(0.02)
        self._process.terminate()
        raise AssertionError((self._process.communicate()[1], self.log()))
