"""Thousands of odd answers to a real nginx, and what we say that it makes of them.

    python -m tests.benchmarks.long_nginx [SEED [ROUNDS]]

Other answers in each run; the seed, which is printed first, brings them back.
"""

from __future__ import annotations

import random
import shutil
import sys
import time
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.interop._nginx import MODULE
from tests.interop.test_nginx_answers import LOGINS, few_waits, odd_answers, running

ROUNDS = 60
SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin"
METHODS = [key for key in LOGINS if key[1] in ("plain", "apop")]


def main() -> int:
    """How many answers were taken in another way."""
    program = shutil.which("nginx") or shutil.which("nginx", path=SYSTEM_PATH)
    if program is None or not Path(MODULE).exists():
        print("long_nginx: no nginx with its mail module here; `make servers` installs it")
        return 1
    number = int(sys.argv[1]) if len(sys.argv) > 1 else random.randrange(10**6)
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else ROUNDS
    print(f"seed {number}")
    start, counts, bad = time.monotonic(), [0], []
    with running(Path(program)) as peers:

        @seed(number)
        @settings(
            max_examples=rounds,
            phases=[Phase.generate],
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(
            st.sampled_from(METHODS),
            st.lists(odd_answers.filter(few_waits), min_size=60, max_size=90),
            st.sampled_from([2000, 2000, 7, 1]),
        )
        def play(login: tuple[str, str], answers: list[bytes], size: int) -> None:
            counts[0] += len(answers)
            bad.extend(peers.differences(*login, answers, size))

        play()
    print(f"{counts[0]} answers in {time.monotonic() - start:.0f} s; {len(bad)} differ")
    return len(bad)


if __name__ == "__main__":
    sys.exit(main())
