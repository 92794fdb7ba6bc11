"""One session as Postfix 3.7 holds it, written with struct alone: the same bytes for every side.

Negotiation, connect, HELO, MAIL, two RCPT, DATA, 20 headers, EOH, body, EOM, ABORT, QUIT; macros
before every event from connect to EOM. The body is ASCII, for one of the peers decodes it.
"""

from __future__ import annotations

import struct
from typing import Final, TypeAlias

# A code byte and its fields, in wire order; the two that differ are told apart by `payload`.
Step: TypeAlias = tuple[bytes, tuple[bytes, ...]]

CHUNK: Final = 65535  # Postfix's and Sendmail's largest body piece
PIECE: Final = 65536  # what a read gives at most
SIZES: Final = {"10 kB": 10_000, "1 MB": 1_000_000}

VERSION: Final = 6
ACTIONS: Final = 0x1FF
STEPS: Final = 0x1FFFFF
# What each filter asks for: to add and to change headers, and every event.
WANTED: Final = 0x11

ADDED: Final = (b"X-Scanned", b"by the benchmark")
CHANGED: Final = (1, b"Subject", b"[checked] How cost grows")

_LINE: Final = b"The quick brown fox jumps over the lazy dog, and over all the others as well.\r\n"

_MACROS: Final[dict[bytes, tuple[bytes, ...]]] = {
    b"C": (b"j", b"mx.example.org", b"{daemon_name}", b"mx.example.org", b"v", b"Postfix 3.7.11"),
    b"H": (b"{tls_version}", b"TLSv1.3", b"{cipher}", b"TLS_AES_256_GCM_SHA384"),
    b"M": (b"i", b"4Qx3sB0zvLz9s", b"{mail_addr}", b"ann@example.org", b"{mail_mailer}", b"smtp"),
    b"R": (b"i", b"4Qx3sB0zvLz9s", b"{rcpt_addr}", b"bob@example.net", b"{rcpt_mailer}", b"local"),
    b"T": (b"i", b"4Qx3sB0zvLz9s"),
    b"L": (b"i", b"4Qx3sB0zvLz9s"),
    b"N": (b"i", b"4Qx3sB0zvLz9s"),
    b"B": (b"i", b"4Qx3sB0zvLz9s"),
    b"E": (b"i", b"4Qx3sB0zvLz9s"),
}
HEADERS: Final = (
    (b"Received", b"from mail.example.org (mail.example.org [192.0.2.1])\n\tby mx.example.org"),
    (b"DKIM-Signature", b"v=1; a=rsa-sha256; c=relaxed/simple; d=example.org;\n\ts=2026; bh=" * 3),
    (b"Subject", b"How cost grows"),
    (b"From", b"Ann <ann@example.org>"),
    (b"To", b"Bob <bob@example.net>"),
    (b"Date", b"Fri, 27 Nov 2026 03:30:00 +0000"),
    (b"Message-ID", b"<20261127033000.4Qx3sB0zvLz9s@mail.example.org>"),
    (b"MIME-Version", b"1.0"),
    (b"Content-Type", b'text/plain; charset="utf-8"'),
    *((b"X-Header-%d" % number, b"the value of one more header") for number in range(11)),
)


def _events(body: bytes) -> list[Step]:
    pieces = [body[at : at + CHUNK] for at in range(0, len(body), CHUNK)]
    return [
        (b"C", (b"mail.example.org", b"4", b"\xc3\x50", b"192.0.2.1")),
        (b"H", (b"mail.example.org",)),
        (b"M", (b"<ann@example.org>", b"SIZE=10240", b"BODY=8BITMIME")),
        (b"R", (b"<bob@example.net>",)),
        (b"R", (b"<carol@example.net>",)),
        (b"T", ()),
        *((b"L", header) for header in HEADERS),
        (b"N", ()),
        *((b"B", (piece,)) for piece in pieces),
        (b"E", ()),
    ]


def steps(size: int) -> list[Step]:
    """All that the MTA says, as fields."""
    body = (_LINE * (size // len(_LINE) + 1))[:size]
    said: list[Step] = [(b"O", ())]
    for code, fields in _events(body):
        said += [(b"D", (code, *_MACROS[code])), (code, fields)]
    return [*said, (b"A", ()), (b"Q", ())]


def frame(code: bytes, payload: bytes) -> bytes:
    """With its length."""
    return struct.pack("!Lc", len(payload) + 1, code) + payload


def payload(code: bytes, fields: tuple[bytes, ...]) -> bytes:
    """The fields as they stand on the wire."""
    if code == b"O":
        return struct.pack("!LLL", VERSION, ACTIONS, STEPS)
    if code == b"C":
        name, family, port, address = fields
        return name + b"\0" + family + port + address + b"\0"
    if code == b"D":
        return fields[0] + b"".join(field + b"\0" for field in fields[1:])
    if code == b"B":
        return fields[0]
    return b"".join(field + b"\0" for field in fields)


def packets(size: int) -> list[bytes]:
    """All that the MTA says, a frame at a time."""
    return [frame(code, payload(code, fields)) for code, fields in steps(size)]


def pieces(size: int) -> list[bytes]:
    """The same bytes, cut without regard to frames."""
    stream = b"".join(packets(size))
    return [stream[at : at + PIECE] for at in range(0, len(stream), PIECE)]


_VERDICT: Final = {
    b"O": frame(b"O", struct.pack("!LLL", VERSION, WANTED, 0)),
    b"E": frame(b"h", payload(b"h", ADDED))
    + frame(b"m", struct.pack("!L", CHANGED[0]) + payload(b"m", CHANGED[1:]))
    + frame(b"c", b""),
    b"D": b"",
    b"A": b"",
    b"Q": b"",
}
# What the filter answers to each code.
ANSWERS: Final = {
    bytes([code]): _VERDICT.get(bytes([code]), frame(b"c", b"")) for code in b"OCHMRTLNBEDAQ"
}
