"""The loop that each side of a comparison runs, in a process and an environment of its own.

A line names a task and how often to do it; the answer is the CPU time of one go, in seconds, and a
digest of what was written, so that everybody is seen to have done the same work. CPU time and not
the clock's, for other programs run on the machine as well.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence

Task = Callable[[], Sequence[bytes]]


def serve(tasks: Mapping[str, Task]) -> None:
    """Answer until the input ends."""
    print(*tasks, sep="\t", flush=True)
    for line in sys.stdin:
        name, count = line.rstrip("\n").split("\t")
        task = tasks[name]
        # The caches are full of another side's data.
        for _ in range(int(count) // 4):
            task()
        written = task()
        start = time.process_time()
        for _ in range(int(count)):
            task()
        seconds = (time.process_time() - start) / int(count)
        digest = hashlib.sha256(b"".join(written)).hexdigest()
        print(seconds, digest, flush=True)
