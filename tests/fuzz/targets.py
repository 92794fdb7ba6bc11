"""The targets by name, with their formats and what they begin with."""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

import milterproto as mp
from milterproto._wire import encode_command, encode_response

from . import dovecot, growth, milter, mutate, nginx, tables
from .source import SEGMENT, put_together

VECTORS: Final = Path(__file__).parent.parent / "vectors"
CORPUS: Final = Path(__file__).parent / "corpus"
# To repeat a part of it takes far longer than to play an input: that is done with one of so many.
RARE: Final = 100


@attrs.frozen
class Target:
    """What is run with an input; it raises if something is wrong."""

    run: Callable[[bytes], None]
    split: Callable[[bytes], list[bytes]]
    inside: Callable[..., bytes]
    streams: Callable[[], Iterable[bytes]]

    def check(self, data: bytes) -> None:
        """All oracles; which inputs are stretched, too, is decided by their bytes."""
        self.run(data)
        if zlib.crc32(data) % RARE == 0:
            growth.check(self.run, self.format(), data)

    def format(self) -> mutate.Format:
        """For the mutator: each message of the vectors is a word."""
        words = {unit for stream in self.streams() for unit in self.split(stream)}
        return mutate.Format(self.split, self.inside, sorted(words))


def seeds(name: str) -> list[bytes]:
    """What fuzzing begins with: the vectors, and what has been found to reach further."""
    # The first byte of a script has the options, of which the first makes the limits small.
    scripts = (b"", b"\1")
    streams = [*TARGETS[name].streams(), *_ENDLESS[TARGETS[name].split]]
    found = [put_together(one, stream) for stream in streams for one in scripts]
    found += [put_together(*one) for one in _MORE.get(name, ())]
    file = CORPUS / f"{name}.txt"
    if file.exists():
        found += [bytes.fromhex(line) for line in file.read_text().split()]
    return list(dict.fromkeys(found))


def _vectors(name: str) -> list[dict[str, Any]]:
    loaded = json.loads((VECTORS / name).read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = loaded["vectors"]
    return found


def _milter(direction: str) -> Iterator[bytes]:
    for vector in _vectors("milter.json"):
        if vector["direction"] == direction:
            yield _led_up_to(bytes.fromhex(vector["hex"]), direction)
    for file in sorted((VECTORS / "postfix").glob("*.json")):
        frames = json.loads(file.read_text(encoding="utf-8"))["frames"]
        said = [bytes.fromhex(data) for way, data in frames if way == direction]
        yield (b"" if direction == ">" else SEGMENT).join(said)


def _led_up_to(frame: bytes, direction: str) -> bytes:
    """A session as far as to where that frame may come; alone, it would be out of turn."""
    offer = mp.MTAConnection().send(mp.offer())
    if frame[4:5] == b"O":
        return frame
    if direction == "<":
        agreed = encode_response(mp.Negotiate(6, mp.ALL_ACTIONS, mp.Steps.SKIP))
        # Nearly all may come at the end of a message.
        before = len(milter.ONWARD) - (2 if frame[4:5] == b"s" else 1)
        return SEGMENT.join([agreed, *[_CONTINUE] * before, frame + _CONTINUE])
    session = [encode_command(command) for command in milter.ONWARD]
    codes = [one[4:5] for one in session]
    behind = codes.index(frame[4:5]) if frame[4:5] in codes else 2
    return b"".join([offer, *session[:behind], frame])


def _table(protocol: str, direction: str) -> Iterator[bytes]:
    for vector in _vectors("tcptable.json"):
        if (vector["protocol"], vector["direction"]) == (protocol, direction):
            yield vector["bytes"].encode("latin-1")


def _dovecot(file: str, side: str, greeting: bytes) -> Iterator[bytes]:
    for vector in _vectors(file):
        said = [step["bytes"] for step in vector["steps"] if step["from"] == side]
        data = SEGMENT.join(text.encode("latin-1") for text in said)
        yield greeting + data if vector["greeted"] else data


def _nginx(kind: str) -> Iterator[bytes]:
    for vector in _vectors("nginxauth.json"):
        if vector["kind"] == kind:
            yield vector["bytes"].encode("latin-1")


def _xclient() -> Iterator[bytes]:
    for vector in _vectors("xclient.json"):
        lines = [vector.get("line") or vector.get("text") or ""]
        lines += [step["line"] for step in vector.get("steps", ())]
        lines += vector.get("commands") or ()
        yield "\n".join(lines).encode("latin-1")


def _nothing() -> Iterator[bytes]:
    """For the pairs, who say what they say by chance."""
    yield bytes(64)
    yield bytes(range(64))
    for seed in range(8):
        yield random.Random(seed).randbytes(250)


_GREET: Final = b"VERSION\t1\t4\nCPID\t1\n"
_GREETED: Final = (
    b"VERSION\t1\t4\nMECH\tPLAIN\nMECH\tSCRAM-SHA-256\nSPID\t1\nCUID\t1\nCOOKIE\t" + b"0" * 32
) + b"\nDONE\n<|>"

_CONTINUE: Final = b"\0\0\0\1c"

# A message that has not come to its end, and is longer than the small limits.
_ENDLESS: Final[dict[Callable[[bytes], list[bytes]], Sequence[bytes]]] = {
    mutate.split_frames: [b"\0\0\0\x4b" + code + b"x" * 69 for code in (b"B", b"b")],
    mutate.split_lines: [b"x" * size for size in (50, 130, 500)],
    mutate.split_netstrings: [b"80:" + b"x" * 70],
}

# What limits are about that one message, or a short one, does not reach: a script, and a stream.
_MORE: Final[dict[str, Sequence[tuple[bytes, bytes]]]] = {
    "table_client": [(b"", b"x" * 4200)],
    "nginx_client": [(b"", b"X: " + b"x" * 1100)],
    "nginx_server": [(b"\1", b"GET / HTTP/1.0\r\nContent-Length: 500\r\n\r\n" + b"x" * 500)],
    "dovecot_server": [
        (b"\2", _GREET + b"".join(b"AUTH\t%d\tPLAIN\tservice=x\n" % one for one in range(1, 10))),
    ],
    "master_server": [
        (b"\2", b"VERSION\t1\t1\n" + b"".join(b"USER\t%d\tu\n" % one for one in range(1, 10))),
    ],
}

_FRAMES: Final = (mutate.split_frames, mutate.in_frame)
_LINES: Final = (mutate.split_lines, mutate.in_line)
_NETSTRINGS: Final = (mutate.split_netstrings, mutate.in_netstring)

TARGETS: Final[dict[str, Target]] = {
    "milter_filter": Target(milter.filter_role, *_FRAMES, lambda: _milter(">")),
    "milter_mta": Target(milter.mta_role, *_FRAMES, lambda: _milter("<")),
    "milter_pair": Target(milter.pair, *_FRAMES, _nothing),
    "milter_message": Target(milter.messages, *_FRAMES, lambda: _milter(">")),
    "table_server": Target(tables.server, *_LINES, lambda: _table("tcp_table", ">")),
    "table_client": Target(tables.client, *_LINES, lambda: _table("tcp_table", "<")),
    "socketmap_server": Target(
        tables.socketmap_server, *_NETSTRINGS, lambda: _table("socketmap", ">")
    ),
    "socketmap_client": Target(
        tables.socketmap_client, *_NETSTRINGS, lambda: _table("socketmap", "<")
    ),
    "table_pair": Target(tables.pair, *_LINES, _nothing),
    "socketmap_pair": Target(tables.socketmap_pair, *_LINES, _nothing),
    "dovecot_server": Target(
        dovecot.server, *_LINES, lambda: _dovecot("dovecotauth.json", "client", _GREET)
    ),
    "dovecot_client": Target(
        dovecot.client, *_LINES, lambda: _dovecot("dovecotauth.json", "server", _GREETED)
    ),
    "dovecot_pair": Target(dovecot.pair, *_LINES, _nothing),
    "master_server": Target(
        dovecot.master_server,
        *_LINES,
        lambda: _dovecot("dovecotauth_master.json", "client", b"VERSION\t1\t1\n"),
    ),
    "master_client": Target(
        dovecot.master_client,
        *_LINES,
        lambda: _dovecot("dovecotauth_master.json", "server", b"VERSION\t1\t1\nSPID\t1\n<|>"),
    ),
    "master_pair": Target(dovecot.master_pair, *_LINES, _nothing),
    "nginx_server": Target(nginx.server, *_LINES, lambda: _nginx("request")),
    "nginx_client": Target(nginx.client, *_LINES, lambda: _nginx("reply")),
    "xclient": Target(nginx.xclient, *_LINES, _xclient),
}
