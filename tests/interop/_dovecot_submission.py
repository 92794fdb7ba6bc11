"""Dovecot's submission server, which takes XCLIENT, and sends it to the server behind."""

from __future__ import annotations

import shutil
import socket
import time
from pathlib import Path
from typing import Final

from ._dovecot import PASSWORD, Dovecot
from ._postfix import PATIENCE, free_port

PROGRAM: Final = "/usr/lib/dovecot/submission-login"
"""Where Debian's dovecot-submissiond puts it."""

_CONFIG: Final = """\
protocols = submission
hostname = dovecot.test
mail_location = maildir:~/mail
login_trusted_networks = 127.0.0.1/32
submission_relay_host = 127.0.0.1
submission_relay_port = {relay_port}
submission_relay_trusted = yes
service submission-login {{
  chroot =
  inet_listener submission {{
    port = {port}
  }}
}}
service submission {{
  chroot =
}}
"""


class Submission(Dovecot):
    """A running server on ``port``, for the user alice; it passes mail on to ``relay_port``."""

    def __init__(self, program: Path, relay_port: int) -> None:
        super().__init__(program)
        self.port = 0
        self._relay_port = relay_port

    def _configure(self) -> None:
        super()._configure()
        home = self.root / "home"
        home.mkdir(exist_ok=True)
        shutil.chown(home, "nobody", "nogroup")
        account = f"alice:{{PLAIN}}{PASSWORD.decode()}:65534:65534::{home}::\n"
        (self.root / "users").write_text(account)
        self.port = free_port()
        with (self.root / "conf").open("a") as file:
            file.write(_CONFIG.format(relay_port=self._relay_port, port=self.port))

    def _wait_until_it_listens(self) -> None:
        super()._wait_until_it_listens()
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), PATIENCE).close()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return
