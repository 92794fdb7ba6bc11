"""Thousands of sessions, good and malformed, on a real Dovecot and on our server.

    python -m tests.benchmarks.long_dovecot [SEED [SESSIONS]]

Each request must get the same kind of answer, or both must give the connection up. Other sessions
in each run; the seed, which is printed first, brings them back.
"""

from __future__ import annotations

import random
import shutil
import sys
import time
from pathlib import Path

from tests.interop._dovecot import Dovecot
from tests.interop.test_dovecot_same import DISCONNECT, a_script, compared

SESSIONS = 5000
STEP = 500
SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin"


def main() -> int:
    """How many sessions have differed."""
    program = shutil.which("dovecot") or shutil.which("dovecot", path=SYSTEM_PATH)
    if program is None:
        print("long_dovecot: no Dovecot here; `make servers` installs it")
        return 1
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else random.randrange(10**6)
    count = int(sys.argv[2]) if len(sys.argv) > 2 else SESSIONS
    print(f"seed {seed}")
    rng, start, ends, bad = random.Random(seed), time.monotonic(), 0, 0
    with Dovecot(Path(program)) as dovecot:
        for done in range(0, count, STEP):
            cases = [a_script(rng) for _ in range(min(STEP, count - done))]
            for script, real, our in compared(dovecot, cases):
                ends += real == DISCONNECT
                if real != our:
                    bad += 1
                    print(f"{script!r}\n  Dovecot: {real}\n  we:      {our}")
        print(
            f"{count} sessions on Dovecot {dovecot.version} in {time.monotonic() - start:.0f} s, "
            f"{ends} of them given up; {bad} differ"
        )
    return bad


if __name__ == "__main__":
    sys.exit(main())
