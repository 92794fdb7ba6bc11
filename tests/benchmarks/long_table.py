"""The daemon's memory over a million look-ups, most of keys that were never asked before.

    python -m tests.benchmarks.long_table

Prints the resident size after each hundred thousand. The cache is small, so that it is full early,
and whatever grew after that would be a leak.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples" / "mailfront"
LOOKUPS = 1_000_000
STEP = 100_000
CLIENTS = 50


def resident(pid: int) -> int:
    """KiB, as the kernel counts them."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError(pid)


async def ask(port: int, first: int, count: int) -> None:
    """One connection, one request at a time."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number in range(first, first + count):
        name = "ann" if number % 10 == 0 else f"user{number}"
        writer.write(b"get %b@example.test\n" % name.encode())
        reply = await reader.readline()
        assert reply[:3] == (b"200" if name == "ann" else b"500"), reply
    writer.close()
    await writer.wait_closed()


async def load(port: int, first: int) -> None:
    """STEP look-ups, on as many connections."""
    share = STEP // CLIENTS
    await asyncio.gather(*(ask(port, first + at * share, share) for at in range(CLIENTS)))


def main() -> None:
    """Measure, and print."""
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(
            [sys.executable, EXAMPLES / "userdb.py", "--demo"], cwd=directory, check=True
        )
        daemon = str(EXAMPLES / "table_daemon.py")
        command = [sys.executable, daemon, "--cache", "10000"]
        command += ["--map", "recipients=inet:127.0.0.1:0"]
        with subprocess.Popen(command, cwd=directory, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            port = int(process.stderr.readline().rpartition(":")[2])
            try:
                start = time.monotonic()
                print(f"{0:>9,} look-ups: {resident(process.pid):,} KiB")
                for done in range(0, LOOKUPS, STEP):
                    asyncio.run(load(port, done))
                    size = resident(process.pid)
                    print(f"{done + STEP:>9,} look-ups: {size:,} KiB", flush=True)
                print(f"{LOOKUPS / (time.monotonic() - start):,.0f} look-ups a second")
            finally:
                process.terminate()
                # What it has to say if not all of this went well.
                sys.stderr.write(process.stderr.read())


if __name__ == "__main__":
    main()
