"""The tools with large filters of other makes: rspamd, and SpamAssassin's spamass-milter.

As root, where they are installed (they are not what `make servers` brings):

    apt-get install --no-install-recommends rspamd spamass-milter

Neither needs the network here: rspamd asks no DNS server, and spamass-milter finds no spamd, so
that it lets all mail pass. Run as `python -m tests.benchmarks.long_filters`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tests.interop._postfix import free_port
from tests.interop._tools import recorder, tool

PATIENCE: Final = 60.0
MAIL: Final = b"From: a@example.org\r\nTo: b@example.test\r\nSubject: hi\r\n\r\nbody\r\n"

_RSPAMD: Final = """\
options {{
  pidfile = "{root}/pid"; filters = ""; control_socket = "{root}/control"; tempdir = "{root}";
  hs_cache_dir = "{root}"; url_tld = "{root}/tld";
  dns {{ nameserver = ["127.0.0.1:1"]; timeout = 0.1s; retransmits = 1; }}
}}
logging {{ type = "console"; level = "error"; }}
worker "rspamd_proxy" {{
  bind_socket = "127.0.0.1:{port}"; count = 1; milter = yes; timeout = 20s;
  upstream "local" {{ default = yes; self_scan = yes; }}
}}
"""

# What was seen with rspamd 3.4: it takes no version but 6, and waits for what never comes.
_EXPECTED: Final = {
    "rspamd": {
        *("version-2", "version-3", "version-4"),
        *("broken-macros", "huge-length", "no-terminator"),
    },
    "spamass-milter": set[str](),
}


@contextlib.contextmanager
def _running(line: list[str], connect: Callable[[], None]) -> Iterator[None]:
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            deadline = time.monotonic() + PATIENCE
            while True:
                try:
                    connect()
                    break
                except OSError:
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise
                    time.sleep(0.1)  # it says nothing when it is ready
            yield
        finally:
            process.terminate()


@contextlib.contextmanager
def rspamd(program: str, root: Path) -> Iterator[str]:
    """rspamd as a milter that scans by itself; its address."""
    port = free_port()
    root.chmod(0o777)  # it gives root up
    (root / "tld").write_text("test\norg\n")
    (root / "conf").write_text(_RSPAMD.format(root=root, port=port))
    line = [program, "-f", "-u", "_rspamd", "-g", "_rspamd", "-c", str(root / "conf")]
    with _running(line, lambda: socket.create_connection(("127.0.0.1", port), 1).close()):
        yield f"127.0.0.1:{port}"


@contextlib.contextmanager
def spamass_milter(program: str, root: Path) -> Iterator[str]:
    """spamass-milter, whose spamc gives up soon; its address."""
    path = root / "socket"

    def connect() -> None:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(path))

    spamc = ["--", "--connect-retries=1", "--retry-sleep=1"]
    with _running([program, "-p", str(path), *spamc], connect):
        yield str(path)


def examine(name: str, address: str, root: Path) -> bool:
    """Send, check, record and replay; whether all is as expected."""
    sent = tool("send", "--to", address, "-", "--json", stdin=MAIL)
    print(f"{name}: send: {json.loads(sent.stdout)['summary']}")
    checked = json.loads(tool("check", address, "--json").stdout)
    found = {one["check"] for one in checked if one["findings"]}
    print(f"{name}: check: {len(checked)} checks, {sorted(found) or 'nothing'} found")
    front, file = root / "front", root / "session.jsonl"
    with recorder(f"unix:{front}", address, file):
        tool("send", "--to", str(front), "-", stdin=MAIL)
    replayed = tool("replay", file, address)
    print(f"{name}: replay: {replayed.stdout.splitlines()[-1]}", flush=True)
    return (sent.returncode, replayed.returncode, found) == (0, 0, _EXPECTED[name])


def main() -> int:
    """0 if all that is installed did as expected."""
    good = True
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin"))
    for name, start in (("rspamd", rspamd), ("spamass-milter", spamass_milter)):
        program = shutil.which(name, path=path)
        if program is None or os.geteuid() != 0:
            print(f"{name}: left out: not installed, or not root")
            continue
        with tempfile.TemporaryDirectory(prefix="mailwire-") as directory:
            root = Path(directory)
            with start(program, root) as address:
                good = examine(name, address, root) and good
    print("as expected" if good else "NOT as expected")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
