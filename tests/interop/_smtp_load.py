"""Many mails from many clients, while spampd is killed and started again."""

from __future__ import annotations

import re
import shutil
import tempfile
import threading
from collections import Counter
from pathlib import Path

import attrs

from ._postfix import PATIENCE, free_port
from ._postfix_bed import Bed
from ._smtp_milter import configuration, smtp_milter
from ._spampd import Spampd

NUMBER = b"X-Number"
# Seconds after which a client comes again, as every MTA does, if later.
AGAIN = 0.1
# For how often one message may be refused for a time.
PATIENT = 600


@attrs.define
class Outcome:
    """What came of it: how often each message was delivered, and the faults."""

    delivered: Counter[int] = attrs.field(factory=Counter)
    unscanned: int = 0
    tempfailed: int = 0
    refused: list[bytes] = attrs.field(factory=list)


def load(
    bed: Bed, program: Path, *, mails: int, clients: int = 20, kills: int = 2, show: bool = True
) -> Outcome:
    """Send them all, each until it is accepted; spampd is killed ``kills`` times meanwhile."""
    outcome = Outcome()
    root = Path(tempfile.mkdtemp(prefix="mailwire-"))
    root.chmod(0o755)
    numbers = iter(range(mails))
    lock = threading.Lock()
    accepted = threading.Semaphore(0)

    def client() -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            for _ in range(PATIENT):
                if (reply := send(bed, number)).startswith(b"250 "):
                    break
                with lock:
                    if reply and not reply.startswith(b"4"):
                        outcome.refused.append(reply)
                    outcome.tempfailed += 1
                threading.Event().wait(AGAIN)
            accepted.release()

    sink = free_port()
    settings = configuration(
        bed,
        0,
        sink=sink,
        gateway={"connections": 3, "wait_for_connection": 5.0, "failures": 3, "rest": 1.0},
    )
    try:
        spampd = Spampd(program, root, sink)
        settings["gateway"][0]["address"] = f"inet:127.0.0.1:{spampd.port}"
        with spampd, smtp_milter(root, settings, show=show):
            threads = [threading.Thread(target=client) for _ in range(clients)]
            for thread in threads:
                thread.start()
            for done in range(mails):
                assert accepted.acquire(timeout=6 * PATIENCE), outcome
                if kills and done and done % (mails // (kills + 1)) == 0 and done < mails - 10:
                    spampd.kill()
                    spampd.start()
            for thread in threads:
                thread.join()
            for _ in range(mails):
                content = bed.delivery().content
                found = re.search(rb"(?m)^%b: ([0-9]+)\r$" % NUMBER, content)
                outcome.delivered[int(found[1]) if found else -1] += 1
                outcome.unscanned += b"X-Spam-Checker-Version:" not in content
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return outcome


def send(bed: Bed, number: int) -> bytes:
    """One session with one message; the last reply."""
    content = (
        b"From: a@example.org\r\nDate: Tue, 24 Nov 2026 04:00:00 +0000\r\nSubject: %d\r\n"
        b"Message-Id: <%d@example.org>\r\n%b: %d\r\n\r\n" % (number, number, NUMBER, number)
    )
    content += b"Hello %d\r\n" % number * (number % 50 + 1)
    try:
        with bed.client("other") as client:
            replies = list(client.walk(content).values())
            client.command(b"QUIT")
    except OSError:
        return b""
    return replies[-1]
