"""Marks by which a message is known again when the gateway hands it on."""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Final, final

_TOKEN: Final = re.compile(rb"([0-9a-f]{10})-([0-9a-f]{32})\.([0-9a-f]{32})")
# Seconds for which a mark is ours: what loops by way of a queue takes its time.
LIFETIME: Final = 24 * 3600


@final
class Tokens:
    """Makes marks, and knows its own; with a key of at least 16 random bytes."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def make(self, now: int, randomness: bytes) -> bytes:
        """A mark: of the time in seconds, 16 random bytes, and a signature."""
        text = b"%010x-%b" % (now, randomness.hex().encode())
        return text + b"." + self._signature(text)

    def is_ours(self, token: bytes, now: int) -> bool:
        """Whether it was made with this key, not long ago."""
        match = _TOKEN.fullmatch(token)
        if match is None:
            return False
        text = match[1] + b"-" + match[2]
        is_signed = hmac.compare_digest(match[3], self._signature(text))
        return is_signed and 0 <= now - int(match[1], 16) <= LIFETIME

    def _signature(self, text: bytes) -> bytes:
        return hmac.new(self._key, text, hashlib.sha256).hexdigest()[:32].encode()


# What the sink says to a message, and gateways repeat in their own replies.
_NONCE: Final = re.compile(rb"\bmw[0-9a-f]{32}\b")


def nonces_in(lines: tuple[bytes, ...]) -> frozenset[bytes]:
    """The sink's marks in a gateway's reply."""
    return frozenset(_NONCE.findall(b"\n".join(lines)))


def nonce(randomness: bytes) -> bytes:
    """A mark for the sink's reply, of 16 random bytes."""
    return b"mw" + randomness.hex().encode()
