"""What a hostile peer of `long_soak` does; it asks nothing but that the daemon gets rid of it."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Mapping, Sequence
from typing import Final

import milterproto as mp
from tests.fuzz import mutate
from tests.fuzz.source import SEGMENT
from tests.fuzz.targets import TARGETS

from ._soak_answers import IDLE_TIMEOUT
from ._soak_wire import DisturbedError, Wire

# Seconds until the daemon must have closed: it waits twice if it is not read from, first for its
# handler's events and then for its last words to be taken.
PATIENCE: Final = 2 * IDLE_TIMEOUT + 40

_STRANGE: Final = (
    b"GET / HTTP/1.0\r\n\r\n",
    b"EHLO x\r\n",
    bytes.fromhex("160301020001000001fc0303"),  # TLS
    b"\xff\xff\xff\xff",
    bytes(100),
)

_GREETING: Final = b"VERSION\t1\t2\nCPID\t1\n"

# A message without an end; longer than the limit, or as long as we have patience for.
_ENDLESS: Final[Mapping[str, bytes]] = {
    "milter": mp.MTAConnection().send(mp.offer()) + b"\0\x01\0\0B" + b"x" * 60000,
    "tcp_table": b"get " + b"x" * 270000,
    "dovecot_auth": _GREETING + b"AUTH\t1\tPLAIN\tservice=" + b"x" * 20000,
    "auth_http": b"GET / HTTP/1.0\r\nX: " + b"x" * 70000,
}

# More than the daemon gets rid of while nobody reads, or than it takes on.
_MUCH: Final[Mapping[str, bytes]] = {
    "milter": mp.MTAConnection().send(mp.offer()) + b"\0\0\0\x03Hx\0" * 300,
    "tcp_table": b"get %b\n" % (b"x" * 3000) * 700,
    "dovecot_auth": _GREETING
    + b"".join(b"AUTH\t%d\tPLAIN\tservice=x\n" % number for number in range(1, 1100)),
    "auth_http": b"GET / HTTP/1.0\r\nContent-Length: 70000\r\n\r\n" + b"x" * 60000,
}

_TARGETS: Final[Mapping[str, str]] = {
    "milter": "milter_filter",
    "tcp_table": "table_server",
    "dovecot_auth": "dovecot_server",
    "auth_http": "nginx_server",
}


@functools.cache
def _sessions(protocol: str) -> tuple[mutate.Format, Sequence[bytes]]:
    """What the fuzzer begins with."""
    target = TARGETS[_TARGETS[protocol]]
    return target.format(), [one.replace(SEGMENT, b"") for one in target.streams()]


def _spoilt(protocol: str, rng: random.Random) -> bytes:
    """A session that was sound, or nearly."""
    format_, streams = _sessions(protocol)

    def bytewise(data: bytes) -> bytes:
        at = rng.randrange(len(data) + 1)
        return data[:at] + rng.randbytes(1) + data[at + rng.randrange(2) :]

    data = b"\0" + rng.choice(streams)  # no script
    for _ in range(4):
        data = mutate.mutated(format_, data, bytewise, rng)
    return data[1 + data[0] :].replace(SEGMENT, b"")


async def play(wire: Wire, rng: random.Random, protocol: str) -> None:
    """One connection's life. DisturbedError if the daemon keeps it."""
    reads = rng.random() < 0.7
    match rng.randrange(6):
        case 0:
            data = rng.choice(_STRANGE)
        case 1:
            data = _ENDLESS[protocol]
        case 2:
            data, reads = _MUCH[protocol], False
        case 3:
            data = b""  # not a word
        case _:
            data = _spoilt(protocol, rng)
    try:
        async with asyncio.timeout(PATIENCE):
            await wire.rest()
            for at in range(0, len(data), 65536):
                wire.writer.write(data[at : at + 65536])
                await wire.writer.drain()
                await wire.rest(0.2)
            if rng.random() < 0.3:
                return  # with no good-bye
            if rng.random() < 0.3:
                wire.writer.write_eof()
            if not reads:
                # To see the end one has to read; until then it is full.
                await asyncio.sleep(IDLE_TIMEOUT * 1.5)
            while await wire.reader.read(65536):
                pass
    except TimeoutError:
        raise DisturbedError(f"still open after {PATIENCE:g} s: {data[:60]!r}...") from None
    except OSError:
        pass  # so it was closed
