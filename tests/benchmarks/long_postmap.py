"""Thousands of replies, good and broken, to a real postmap, and what our client says of them.

    python -m tests.benchmarks.long_postmap [SEED [REPLIES]]

Found with the same value, not found, or trouble: the two must agree. postmap gives up at its first
trouble, so that each reply is one run of it. A reply without its end is left out: postmap asks ten
times then, and waits between.
"""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import tcptable as tt
from tcptable import socketmap
from tcptable._netstring import encode_netstring
from tests.interop._postfix import PATIENCE, write_config

REPLIES: Final = 2000
SYSTEM_PATH: Final = "/usr/local/sbin:/usr/sbin:/sbin"
TROUBLE: Final = "trouble"

CODES: Final = (b"200", b"200", b"200", b"500", b"400", b"299", b"600", b"2000", b"20", b"abc", b"")
BLANKS: Final = (b" ", b" ", b" ", b" ", b"\t", b"\r", b"", b"  ", b"\v")
KEYWORDS: Final = (b"OK", b"OK", b"OK", b"NOTFOUND", b"TEMP", b"TIMEOUT", b"PERM", b"ok", b"", b"X")
TEXTS: Final = (
    b"v", b"v w", b"a%20b", b"%", b"%4", b"%zz", b"%41%42", b"50%25", b"", b" ", b"\xff\xe4",
    b"%ff", b"+", b"\r", b"%0A", b"%0d", b"x" * 3000, b"%41" * 1363, b"x" * 4091, b"\t",
)  # fmt: skip


def a_line(rng: random.Random) -> bytes:
    """A reply of tcp_table."""
    texts = b"".join(rng.choice(TEXTS) for _ in range(rng.choice((1, 1, 2))))
    line = bytearray(rng.choice(CODES) + rng.choice(BLANKS) + texts)
    if rng.random() < 0.1:
        line.insert(rng.randrange(len(line) + 1), rng.randrange(1, 256))
    return bytes(line).replace(b"\n", b"")[:4095] + b"\n"


def a_netstring(rng: random.Random) -> bytes:
    """A reply of socketmap."""
    return encode_netstring(
        rng.choice(KEYWORDS) + rng.choice((b" ", b" ", b"")) + rng.choice(TEXTS)
    )


def judged(conn: Any, reply: bytes) -> bytes | str | None:
    """What our client says: the value, None if there is none, or trouble."""
    conn.send(tt.Get(b"key", b"m" if isinstance(conn, socketmap.ClientConnection) else b""))
    conn.receive_data(reply)
    try:
        event = conn.next_event()
    except tt.RemoteProtocolError:
        return TROUBLE
    match event:
        case tt.Found(value):
            return value or TROUBLE  # Postfix takes the table for broken
        case tt.NotFound():
            return None
        case _:
            return TROUBLE


class Table:
    """Says one thing, to whoever asks."""

    def __init__(self, reply: bytes) -> None:
        self._reply = reply
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        try:
            while True:
                connection, _ = self._listener.accept()
                with connection:
                    while connection.recv(100):
                        connection.sendall(self._reply)
        except OSError:
            return

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(PATIENCE)


def asked(program: str, folder: Path, protocol: str, reply: bytes) -> bytes | str | None:
    """What postmap says."""
    table = Table(reply)
    where = (
        f"inet:127.0.0.1:{table.port}:m" if protocol == "socketmap" else f"127.0.0.1:{table.port}"
    )
    try:
        done = subprocess.run(
            [program, "-c", folder, "-q", "key", f"{protocol}:{where}"],
            check=False,
            capture_output=True,
            timeout=PATIENCE * 6,
        )
    finally:
        table.close()
    if done.stderr:
        return TROUBLE
    return None if done.returncode else done.stdout.removesuffix(b"\n")


def main() -> int:
    """How many replies were taken in another way."""
    program = shutil.which("postmap") or shutil.which("postmap", path=SYSTEM_PATH)
    if program is None:
        print("long_postmap: no Postfix here; `make servers` installs it")
        return 1
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else random.randrange(10**6)
    count = int(sys.argv[2]) if len(sys.argv) > 2 else REPLIES
    print(f"seed {seed}")
    rng, start = random.Random(seed), time.monotonic()
    cases = [
        ("socketmap", a_netstring(rng)) if number % 4 == 0 else ("tcp", a_line(rng))
        for number in range(count)
    ]
    bad, seen = 0, {"found": 0, "not found": 0, TROUBLE: 0}
    with tempfile.TemporaryDirectory() as directory, ThreadPoolExecutor(4) as pool:
        folder = Path(directory)
        write_config(folder / "main.cf", "compatibility_level = 3.6\nsmtputf8_enable = no\n")
        real = pool.map(lambda case: asked(program, folder, *case), cases)
        for (protocol, reply), theirs in zip(cases, real, strict=True):
            make = socketmap.ClientConnection if protocol == "socketmap" else tt.ClientConnection
            our = judged(make(), reply)
            seen["not found" if theirs is None else TROUBLE if theirs == TROUBLE else "found"] += 1
            if our != theirs:
                bad += 1
                print(f"{protocol} {reply!r}\n  postmap: {theirs!r}\n  we:      {our!r}")
    print(f"{count} replies in {time.monotonic() - start:.0f} s, {seen}; {bad} differ")
    return bad


if __name__ == "__main__":
    sys.exit(main())
