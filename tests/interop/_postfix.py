"""A private Postfix on loopback: its own configuration, queue, ports and log.

Nothing of the machine's own mail system is read or touched. The log goes through a pipe, so
that a test can wait for a line of it instead of waiting for some time.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Self

# How long to wait for anything that a healthy machine does at once.
PATIENCE = 20.0

_MAIN_CF = """\
compatibility_level = 3.6
queue_directory = {root}/queue
data_directory = {root}/data
command_directory = {command_directory}
daemon_directory = {daemon_directory}
mail_owner = postfix
setgid_group = postdrop
maillog_file = /dev/stdout

myhostname = mta.test
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.1/32
relayhost = [127.0.0.1]:{sink_port}
disable_dns_lookups = yes
alias_maps =
alias_database =
local_recipient_maps =
local_transport = error:no mail is delivered here

# No look-ups: the client's name is the same on every machine.
smtpd_peername_lookup = no
# Postfix slows down clients that make errors, and these tests make little else.
smtpd_error_sleep_time = 0
smtpd_soft_error_limit = 1000
smtpd_hard_error_limit = 1000
smtpd_client_connection_count_limit = 0
# Postfix waits a second a message when more come in than go out.
in_flow_delay = 0
# There is no scache here.
smtp_connection_cache_on_demand = no
# A recipient refused by Postfix itself.
smtpd_recipient_restrictions = check_recipient_access inline:{{
    {{ unwanted@example.test = 550 5.7.1 Not wanted }} }}

milter_default_action = tempfail
milter_connect_timeout = 10s
milter_command_timeout = 10s
milter_content_timeout = 10s
"""

_MASTER_CF = """\
postlog unix-dgram n - n - 1 postlogd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
smtp unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
showq unix n - n - - showq
tlsmgr unix - - n 1000? 1 tlsmgr
anvil unix - - n - 1 anvil
pickup unix n - n 60 1 pickup
    -o cleanup_service_name=cleanup-local
cleanup-local unix n - n - 0 cleanup
    -o { non_smtpd_milters = LOCAL_MILTERS }
"""


# Below those that the kernel gives out, so that nobody is given one between our look and its use;
# and each of several pytest processes (pytest-xdist) has its own.
_FIRST_PORT: Final = 20000 + 2000 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
_ports = itertools.cycle(range(_FIRST_PORT, _FIRST_PORT + 2000))


def free_port() -> int:
    """A TCP port on loopback that nobody listens on just now; not given again for long."""
    for port in _ports:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("a cycle does not end")


def write_config(path: Path, text: str) -> None:
    """Write main.cf, dated back: Postfix waits until one that is new has stayed as it is."""
    path.write_text(text)
    os.utime(path, (0, 0))


class PostfixHasEndedError(Exception):
    """Postfix is not there any more; the text is its log."""


class Postfix:
    """A running Postfix; ``ports`` has the SMTP port of each service by name.

    ``program`` is the postfix command, whose siblings stand beside it. ``root`` is an empty
    directory that every user can reach. ``services`` gives the ``main.cf`` settings of each
    smtpd service by the service's name, ``settings`` those of all the rest,
    ``local_milters`` the filters of mail from this machine.
    """

    def __init__(
        self,
        program: Path,
        root: Path,
        sink_port: int,
        services: Mapping[str, Mapping[str, str]],
        *,
        settings: Mapping[str, str],
        local_milters: str = "",
    ) -> None:
        self.root = root
        self.config = root / "etc"
        self.ports: dict[str, int] = {}
        self._programs = program.parent
        self._sink_port = sink_port
        self._services = services
        self._settings = settings
        self._local_milters = local_milters
        self._lines: list[str] = []
        self._more = threading.Condition()
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    def __enter__(self) -> Self:
        for attempt in (1, 2, 3):
            try:
                self._configure()
                self._start()
                break
            except PostfixHasEndedError:
                self.stop()
                # Perhaps a port was free only when it was looked for. Postfix can't say so: what
                # writes its log is not up yet.
                if attempt == 3:
                    raise
            except BaseException:
                self.stop()
                raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def _configure(self) -> None:
        for directory in (self.config, self.root / "queue", self.root / "data"):
            directory.mkdir(exist_ok=True)
        shutil.chown(self.root / "data", "postfix", "postfix")
        main = _MAIN_CF.format(
            root=self.root,
            sink_port=self._sink_port,
            command_directory=self._run("postconf", "-dh", "command_directory").strip(),
            daemon_directory=self._run("postconf", "-dh", "daemon_directory").strip(),
        )
        main += "".join(f"{name} = {value}\n" for name, value in self._settings.items())
        self.ports = {name: free_port() for name in self._services}
        master = _MASTER_CF.replace("LOCAL_MILTERS", self._local_milters)
        for name, settings in self._services.items():
            master += f"127.0.0.1:{self.ports[name]} inet n - n - - smtpd\n"
            for key, value in settings.items():
                master += f"    -o {{ {key} = {value} }}\n"
        write_config(self.config / "main.cf", main)
        (self.config / "master.cf").write_text(master)

    def _start(self) -> None:
        self._lines.clear()
        self._process = subprocess.Popen(
            [self._programs / "postfix", "-c", self.config, "start-fg"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C"},
        )
        self._reader = threading.Thread(target=self._read_log)
        self._reader.start()
        self.wait_for_log("daemon started")

    def stop(self) -> None:
        """End Postfix and everything that it started."""
        if self._process is None or self._reader is None:
            return
        if self._process.poll() is None:
            try:
                # Not the process started above: that is a shell, which waits for the master.
                master = int((self.root / "queue/pid/master.pid").read_text())
            except (FileNotFoundError, ValueError):
                os.killpg(self._process.pid, signal.SIGTERM)
            else:
                os.kill(master, signal.SIGTERM)
        self._process.wait(PATIENCE)
        # The log's end is the end of the last process that could still write there.
        self._reader.join(PATIENCE)

    def _read_log(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        with self._process.stdout as stdout:
            for line in stdout:
                with self._more:
                    self._lines.append(line.rstrip("\n"))
                    self._more.notify_all()
        with self._more:
            self._lines.append("end of log")
            self._more.notify_all()

    @property
    def version(self) -> str:
        """Such as ``3.7.11``."""
        return self._run("postconf", "-dh", "mail_version").strip()

    @property
    def log_position(self) -> int:
        """Where the log ends now; a later `wait_for_log` may start there."""
        with self._more:
            return len(self._lines)

    def log(self, since: int = 0) -> str:
        """What Postfix has logged."""
        with self._more:
            return "\n".join(self._lines[since:])

    def wait_for_log(self, pattern: str, since: int = 0) -> re.Match[str]:
        """The first line after position ``since`` that has ``pattern`` in it, once it is there."""
        deadline = time.monotonic() + PATIENCE
        position = since
        with self._more:
            while True:
                for line in self._lines[position:]:
                    if match := re.search(pattern, line):
                        return match
                    if line == "end of log":
                        raise PostfixHasEndedError("\n".join(self._lines))
                position = len(self._lines)
                if not self._more.wait(deadline - time.monotonic()):
                    log = "\n".join(self._lines[since:])
                    raise AssertionError(f"no line {pattern!r} in Postfix's log:\n{log}")

    def queue(self) -> list[dict[str, str]]:
        """The messages in the queue, as ``postqueue -j`` describes them."""
        listing = self._run("postqueue", "-c", self.config, "-j")
        return [json.loads(line) for line in listing.splitlines()]

    def wait_for_queue(self, wanted: Callable[[list[dict[str, str]]], bool]) -> None:
        """Return once the queue is as ``wanted`` says; looks again at each new log line."""
        position = self.log_position
        while not wanted(self.queue()):
            self.wait_for_log("", since=position)
            position = self.log_position

    def sendmail(self, sender: str, recipient: str, content: bytes) -> None:
        """Mail from this machine: no SMTP, lines that end in LF."""
        subprocess.run(
            [self._programs / "sendmail", "-C", self.config, "-i", "-f", sender, recipient],
            input=content,
            check=True,
            capture_output=True,
            timeout=PATIENCE,
        )

    def delete(self, queue_id: str) -> None:
        """Remove one message from the queue, or ``ALL``."""
        self._run("postsuper", "-c", self.config, "-d", queue_id)

    def _run(self, program: str, *arguments: str | Path) -> str:
        done = subprocess.run(
            [self._programs / program, *arguments],
            check=True,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        return done.stdout
