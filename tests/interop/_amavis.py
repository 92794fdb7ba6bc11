"""amavisd-new with SpamAssassin's own rules, without network: it stores, checks and hands on."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

from ._postfix import PATIENCE, free_port

# It loads SpamAssassin's rules, and on a busy machine that takes some time.
START = 3 * PATIENCE

_CONFIG = """\
use strict;
$MYHOME = '{home}';
$TEMPBASE = "$MYHOME/tmp";
$QUARANTINEDIR = undef;
$pid_file = "$MYHOME/pid";
$lock_file = "$MYHOME/lock";
$daemon_user = $daemon_group = 'amavis';
$max_servers = 2;
$enable_db = $enable_zmq = 0;
$do_syslog = 0;
$logfile = undef;
$myhostname = 'amavis.test';
$mydomain = 'amavis.test';
@local_domains_maps = (1);
$inet_socket_port = {port};
$unix_socketname = undef;
$forward_method = $notify_method = 'smtp:[127.0.0.1]:{sink_port}';
@bypass_virus_checks_maps = (1);
$sa_local_tests_only = 1;
$sa_tag_level_deflt = -999;
$sa_tag2_level_deflt = 5;
$sa_kill_level_deflt = {kill_level};
$sa_spam_subject_tag = '[SPAM] ';
$final_spam_destiny = D_REJECT;
$enable_dkim_verification = 0;
1;
"""


class Amavis:
    """A running amavisd; ``root`` is an empty folder that every user can enter.

    Spam is tagged, and from ``kill_level`` points on refused.
    """

    def __init__(self, program: Path, root: Path, sink_port: int, *, kill_level: int) -> None:
        self.port = free_port()
        self.log = root / "amavis.log"
        home = root / "home"
        (home / "tmp").mkdir(parents=True)
        for folder in (home, home / "tmp"):
            shutil.chown(folder, "amavis", "amavis")
        config = root / "amavisd.conf"
        config.write_text(
            _CONFIG.format(home=home, port=self.port, sink_port=sink_port, kill_level=kill_level)
        )
        self._command: list[str | Path] = [program, "-c", config, "foreground"]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
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
        while not self._is_open():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise AssertionError(self.log.read_text())
            time.sleep(0.02)
        return self

    def __exit__(self, *exc_info: object) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _is_open(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0
