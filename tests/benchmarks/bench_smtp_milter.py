"""Mails a second through spampd: by the SMTP-Milter, beside Postfix's own smtpd_proxy_filter.

    python -m tests.benchmarks.bench_smtp_milter

Both ways have the same Postfix in front and a spampd of their own behind, with the same rules, and
both hand the mail on to the same queue. They take turns; the median of the rounds is shown.
Nothing is asserted: the machine decides the figures, the ratio is what counts.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.interop._postfix import free_port
from tests.interop._postfix_bed import Bed
from tests.interop._smtp_milter import configuration, smtp_milter
from tests.interop._spampd import Spampd

PROGRAMS = ("postfix", "spampd")
ROUNDS = 5
CLIENTS = 4
MAILS = 10  # of each client in each round, in one session
SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin"
CONTENT = (
    b"From: a@example.org\r\nTo: b@example.test\r\nDate: Tue, 24 Nov 2026 04:00:00 +0000\r\n"
    b"Message-Id: <1@example.org>\r\nSubject: hello\r\n\r\n" + b"Shall we meet at noon?\r\n" * 100
)


def mails_a_second(bed: Bed, service: str) -> float:
    """One round."""

    def session() -> None:
        with bed.client(service) as client:
            for _ in range(MAILS):
                reply = client.message(CONTENT)
                if not reply.startswith(b"250 "):
                    raise AssertionError(reply)
            client.quit()

    threads = [threading.Thread(target=session) for _ in range(CLIENTS)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - start
    delivered = bed.settle()
    tagged = sum(b"X-Spam-Checker-Version:" in one.content for one in delivered)
    if tagged != CLIENTS * MAILS:
        raise AssertionError(f"{tagged} of {CLIENTS * MAILS} mails have come through spampd")
    return CLIENTS * MAILS / seconds


def main() -> int:
    """Whether it could not be run."""
    found = [shutil.which(one) or shutil.which(one, path=SYSTEM_PATH) for one in PROGRAMS]
    if None in found:
        print("bench_smtp_milter: postfix or spampd is not there; `make servers` installs them")
        return 1
    postfix, program = (Path(str(one)) for one in found)
    ours: list[float] = []
    theirs: list[float] = []
    root = Path(tempfile.mkdtemp(prefix="mailwire-"))
    try:
        root.chmod(0o755)
        for name in ("ours", "theirs"):
            (root / name).mkdir()
        with Bed(postfix) as bed:
            sink = free_port()
            behind = bed.postfix.ports["xclient-bare"]
            with (
                Spampd(program, root / "ours", sink, children=CLIENTS) as one,
                Spampd(program, root / "theirs", behind, children=CLIENTS, port=bed.proxy_port),
                smtp_milter(
                    root,
                    configuration(bed, one.port, sink=sink, gateway={"connections": CLIENTS}),
                    show=False,
                ),
            ):
                for number in range(ROUNDS + 1):
                    figures = mails_a_second(bed, "other"), mails_a_second(bed, "xclient-proxy")
                    if number:  # the first is for warming up
                        ours.append(figures[0])
                        theirs.append(figures[1])
    finally:
        shutil.rmtree(root, ignore_errors=True)
    table = Table(title=f"mails a second through spampd, {CLIENTS} clients, median of {ROUNDS}")
    for column in ("", "SMTP-Milter", "smtpd_proxy_filter", "ratio"):
        table.add_column(column, justify="right")
    for what, of in (("median", statistics.median), ("lowest", min), ("highest", max)):
        table.add_row(what, f"{of(ours):.1f}", f"{of(theirs):.1f}", f"{of(ours) / of(theirs):.2f}")
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
