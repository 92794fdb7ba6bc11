"""What a run of `long_soak` has shown, and what is wrong with it."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter
from typing import Final

import attrs

from ._soak_good import Tally

# A run that is shorter is not asked about its memory, which takes that long to fill.
MINUTE: Final = 60.0
# What memory may grow by: its pages in the second half of the time (in the first the allocator's
# free lists fill), by a factor and KiB more; Python's blocks in all of it, by far less than one for
# each connection, or (the caches of ``re`` and the like) a few for all.
RESIDENT: Final = 1.05, 2048
BLOCKS: Final = 0.1, 2000

Counts = dict[str, int]


@attrs.define
class Report:
    """What a run has shown."""

    adapter: str
    tally: Tally
    before: Counts
    after: Counts = attrs.field(factory=dict)
    blocks: list[int] = attrs.field(factory=list)  # after the warm-up and at the end, with no peer
    resident: list[int] = attrs.field(factory=list)  # KiB, about once a second
    open: list[int] = attrs.field(factory=list)  # connections, at the same times
    seconds: float = 0.0
    cpu: tuple[float, float] = (0.0, 0.0)  # seconds: the daemon's, the peers'
    logged: Counter[str] = attrs.field(factory=Counter)
    faults: list[str] = attrs.field(factory=list)

    @property
    def memory(self) -> list[float]:
        """The daemon's resident size in each tenth of the time: the median, in KiB."""
        cuts = [len(self.resident) * tenth // 10 for tenth in range(11)]
        return [
            statistics.median(self.resident[start:end]) for start, end in itertools.pairwise(cuts)
        ]

    def judge(self, logged: Counter[str]) -> None:
        """Note what is wrong; `logged` is what should not have had to be."""
        self.faults += [f"{many} times: {what}" for what, many in self.tally.faults.items()]
        self.faults += [f"logged {many} times: {what}" for what, many in logged.items()]
        for name, count in self.before.items():
            if self.after[name] != count:
                self.faults.append(f"{name}: {count} before, {self.after[name]} after")
        if self.seconds < MINUTE:
            return
        half, last = self.memory[4], self.memory[-1]
        if last > half * RESIDENT[0] + RESIDENT[1]:
            self.faults.append(f"memory has grown from {half:,.0f} to {last:,.0f} KiB")
        before, after = self.blocks
        if after - before > max(sum(self.tally.sessions.values()) * BLOCKS[0], BLOCKS[1]):
            self.faults.append(f"memory has {before:,} blocks before, and {after:,} after")

    def __str__(self) -> str:
        daemon, peers = (share / self.seconds for share in self.cpu)
        sessions = sum(self.tally.sessions.values())
        kinds = ", ".join(f"{many:,} {kind}" for kind, many in sorted(self.tally.sessions.items()))
        counts = (f"{name} {count}/{self.after[name]}" for name, count in self.before.items())
        lines = [
            f"{self.adapter}: {self.seconds:.0f} s, {statistics.mean(self.open):.0f} connections",
            f"  {sessions:,} sessions: {kinds}; {self.tally.answers:,} answers checked",
            f"  processor: daemon {daemon:.0%}, peers {peers:.0%}",
            f"  before/after: {', '.join(counts)}",
            f"  memory, MiB: {' '.join(f'{one / 1024:.1f}' for one in self.memory)}",
            f"  blocks, with no peer: {self.blocks[0]:,}, later {self.blocks[1]:,}",
        ]
        for protocol, unsorted in self.tally.latencies.items():
            waits = sorted(unsorted) or [0.0]
            at = (len(waits) // 2, len(waits) * 99 // 100, -1)
            half, most, longest = (1000 * waits[one] for one in at)
            lines.append(
                f"  {protocol}: {len(unsorted):,} waits; half below {half:.1f} ms, 99 % below "
                f"{most:.0f} ms, the longest {longest:.0f} ms"
            )
        lines += [f"  logged {many:,} times: {what}" for what, many in self.logged.items()]
        lines += [f"  FAULT: {one}" for one in self.faults] or ["  no fault"]
        return "\n".join(lines)
