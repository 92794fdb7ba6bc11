"""Each adapter under 500 peers for ten minutes: good, slow, broken and hostile ones, mixed.

    python -m tests.benchmarks.long_soak [--seconds N] [--connections N] [ADAPTER...]

The daemon serves all four protocols in a process of its own. In it no task, thread or descriptor
may be left when the peers have gone, and no more memory may be in use at the end than at the
beginning; no good peer may be told anything wrong. How long each waits is shown.

The peers rest between what they say, for so long that both processes together use about one
processor. Before they begin there is a warm-up of a fifth of the time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from . import _soak_hostile
from ._soak_good import PROTOCOLS, Good, Tally
from ._soak_report import Counts, Report
from ._soak_wire import PATIENCE, BrokenOffError, DisturbedError, Pace, Wire

ROOT: Final = Path(__file__).parents[2]
ADAPTERS: Final = ("asyncio", "trio", "threads")
DAEMON: Final = ("-m", "tests.benchmarks._soak_daemon")
KINDS: Final = (
    *("good", "slow", "good", "broken", "good"),
    *("hostile", "good", "slow", "good", "broken"),
)
SETTLE: Final = 50  # times 0.2 s, for the last handlers and threads


class Daemon:
    """The daemon's process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.addresses: dict[str, Any] = {}
        self.blocks = 0  # of Python's memory, when they were counted last
        self.logged: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()

    @classmethod
    async def start(cls, program: Sequence[str], adapter: str, directory: str) -> Daemon:
        """Once it listens."""
        paths = (str(ROOT), str(ROOT / "examples"), os.environ.get("PYTHONPATH", ""))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *program, adapter, directory),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        )
        daemon = cls(process)
        daemon.addresses = json.loads(await daemon._line())
        return daemon

    async def _line(self) -> bytes:
        assert self.process.stdout is not None
        return await asyncio.wait_for(self.process.stdout.readline(), PATIENCE)

    async def count(self) -> Counts:
        """What there is in it."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        found, self.blocks, logged, faults = json.loads(await self._line())
        self.logged, self.faults = Counter(logged), Counter(faults)
        return dict(found)

    async def stop(self) -> None:
        """Raise TimeoutError if it does not."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.faults = Counter(json.loads(await self._line()))
        status = await asyncio.wait_for(self.process.wait(), PATIENCE)
        if status != 0:
            self.faults[f"exit status {status}"] += 1

    def resident(self) -> int:
        """KiB, as the kernel counts them."""
        text = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(text.partition("VmRSS:")[2].split()[0])

    def descriptors(self) -> int:
        """That it has open."""
        return sum(1 for _ in Path(f"/proc/{self.process.pid}/fd").iterdir())

    def cpu(self) -> float:
        """Seconds of a processor, so far."""
        text = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii")
        user, system = text.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


async def seat(number: int, daemon: Daemon, pace: Pace, tally: Tally) -> None:
    """One connection after the other, always of the same kind."""
    rng = random.Random(number)
    protocol = PROTOCOLS[number % len(PROTOCOLS)]
    kind = KINDS[number // len(PROTOCOLS) % len(KINDS)]
    await asyncio.sleep(rng.random())  # not all at once
    while True:
        wire = Wire(daemon.addresses[protocol], pace, rng, kind)
        try:
            await converse(wire, rng, tally, kind, protocol)
        except DisturbedError as error:
            tally.faults[f"{kind} {protocol}: {error}"[:300]] += 1
        except (OSError, TimeoutError) as error:
            tally.faults[f"{kind} {protocol}: {error!r}"] += 1
        finally:
            wire.close()
        tally.sessions[kind] += 1


async def converse(wire: Wire, rng: random.Random, tally: Tally, kind: str, protocol: str) -> None:
    """One connection's life."""
    # Not wait_for(): in Python 3.11 it may forget that it was cancelled.
    async with asyncio.timeout(PATIENCE):
        await wire.open()
    if kind == "hostile":
        await _soak_hostile.play(wire, rng, protocol)
        return
    try:
        await Good(wire, rng, tally, kind).play(protocol)
    except BrokenOffError:
        await break_off(wire, rng)


async def break_off(wire: Wire, rng: random.Random) -> None:
    """Go away, in one of several ways."""
    match rng.randrange(3):
        case 0:
            pass  # reset, if there is anything unread
        case 1:
            wire.writer.close()
            with contextlib.suppress(OSError):
                await wire.writer.wait_closed()
        case _:
            wire.writer.write_eof()
            try:
                async with asyncio.timeout(PATIENCE):
                    while await wire.reader.read(65536):
                        pass
            except TimeoutError:
                raise DisturbedError(f"still open {PATIENCE:g} s after an end of file") from None
            except OSError:
                pass
    await wire.rest()


async def play(
    daemon: Daemon, pace: Pace, report: Report, seconds: float, connections: int
) -> None:
    """All peers for so long; then they are gone at once, whatever they were at."""
    async with asyncio.TaskGroup() as group:
        peers = [
            group.create_task(seat(number, daemon, pace, report.tally))
            for number in range(connections)
        ]
        await watch(daemon, pace, report, seconds)
        for peer in peers:
            peer.cancel()


async def watch(daemon: Daemon, pace: Pace, report: Report, seconds: float) -> None:
    """Look at the daemon about once a second, and keep the peers' pace."""
    interval = min(1.0, seconds / 10)
    start = now = time.monotonic()
    first = last = daemon.cpu(), time.process_time()
    # Not by the clock: when the machine has stood still, peers are to have their time all the same.
    for _ in range(round(seconds / interval)):
        await asyncio.sleep(interval)
        before, now = now, time.monotonic()
        cpu = daemon.cpu(), time.process_time()
        pace.adapt((sum(cpu) - sum(last)) / (now - before), report.tally.recent())
        last = cpu
        report.resident.append(daemon.resident())
        report.open.append(daemon.descriptors() - report.before["descriptors"])
    report.seconds = now - start
    report.cpu = last[0] - first[0], last[1] - first[1]


async def settle(daemon: Daemon, before: Counts) -> Counts:
    """What is left when the peers have gone; it may take a moment."""
    found = await daemon.count()
    for _ in range(SETTLE):
        if found == before:
            break
        await asyncio.sleep(0.2)
        found = await daemon.count()
    return found


async def soak(
    adapter: str, seconds: float, connections: int, program: Sequence[str] = DAEMON
) -> Report:
    """One adapter's run."""
    with tempfile.TemporaryDirectory(prefix="mailwire-") as directory:
        daemon = await Daemon.start(program, adapter, directory)
        try:
            before, pace = await daemon.count(), Pace()
            warm_up, report = Report(adapter, Tally(), before), Report(adapter, Tally(), before)
            for part, length in ((warm_up, seconds / 5), (report, seconds)):
                await play(daemon, pace, part, length, connections)
                report.after = await settle(daemon, before)
                report.blocks.append(daemon.blocks)
            await daemon.stop()
        finally:
            if daemon.process.returncode is None:
                daemon.process.kill()
                await daemon.process.wait()
    report.tally.faults += warm_up.tally.faults
    report.logged = daemon.logged
    report.judge(daemon.faults)
    return report


def main() -> int:
    """How many adapters have failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.long_soak")
    parser.add_argument("--seconds", type=float, default=600, help="for each (600)")
    parser.add_argument("--connections", type=int, default=500, help="at once (500)")
    parser.add_argument("adapters", nargs="*", metavar="ADAPTER", help=", ".join(ADAPTERS))
    options = parser.parse_args()
    failed = 0
    for adapter in options.adapters or ADAPTERS:
        report = asyncio.run(soak(adapter, options.seconds, options.connections))
        print(report, flush=True)
        failed += bool(report.faults)
    return failed


if __name__ == "__main__":
    sys.exit(main())
