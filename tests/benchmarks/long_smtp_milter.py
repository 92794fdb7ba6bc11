"""500 mails from 20 clients through the SMTP-Milter, with spampd killed twice.

    python -m tests.benchmarks.long_smtp_milter

None may be lost, doubled, refused for good, or delivered unscanned.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

from tests.interop._postfix_bed import Bed
from tests.interop._smtp_load import load

MAILS = 500
NAMES = ("postfix", "spampd")
SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin"


def main() -> int:
    """Whether something is wrong."""
    programs = [shutil.which(one) or shutil.which(one, path=SYSTEM_PATH) for one in NAMES]
    if None in programs:
        print("long_smtp_milter: postfix or spampd is not there; `make servers` installs them")
        return 1
    postfix, spampd = (Path(str(one)) for one in programs)
    start = time.monotonic()
    with Bed(postfix) as bed:
        outcome = load(bed, spampd, mails=MAILS, show=False)
        bed.settle()
    lost = [number for number in range(MAILS) if outcome.delivered[number] == 0]
    doubled = [number for number, count in outcome.delivered.items() if count > 1]
    print(
        f"{MAILS} mails in {time.monotonic() - start:.0f} s, spampd killed twice: "
        f"{len(lost)} lost, {len(doubled)} twice, {outcome.unscanned} unscanned, "
        f"{len(outcome.refused)} refused for good, {outcome.tempfailed} times put off"
    )
    return int(bool(lost or doubled or outcome.unscanned or outcome.refused))


if __name__ == "__main__":
    sys.exit(main())
