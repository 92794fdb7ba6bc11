"""Thousands of generated edit lists through a real Postfix, other ones in each run.

    python -m tests.benchmarks.long_edits [SEED]

What arrives must be what `milterproto.message` says, to the byte. A difference is printed with the
edits and the message that it came from; the seed, which is printed first, brings it back.
"""

from __future__ import annotations

import random
import shutil
import sys
import time
from pathlib import Path

from tests.interop import _edits
from tests.interop._postfix_bed import Bed

ROUNDS = 8
MESSAGES = 500
SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin"


def main() -> int:
    """How many rounds have failed."""
    program = shutil.which("postfix") or shutil.which("postfix", path=SYSTEM_PATH)
    if program is None:
        print("long_edits: no Postfix here; `make servers` installs it")
        return 1
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else random.randrange(10**6)
    print(f"seed {seed}")
    rng = random.Random(seed)
    start, failed = time.monotonic(), 0
    with Bed(Path(program)) as bed:
        for number in range(ROUNDS):
            space = number % 2 == 1
            make = _edits.by_diff if number % 4 > 1 else _edits.by_apply
            contents = [_edits.a_content(rng, at, leading_space=space) for at in range(MESSAGES)]
            faults = _edits.run(bed, make(rng, leading_space=space), contents, leading_space=space)
            print(
                f"{make.__name__}, leading_space={space}: {MESSAGES} messages, {len(faults)} differ"
            )
            for fault in faults[:3]:
                print(fault)
            failed += bool(faults)
    print(f"{ROUNDS * MESSAGES:,} messages in {time.monotonic() - start:.0f} s")
    return failed


if __name__ == "__main__":
    sys.exit(main())
