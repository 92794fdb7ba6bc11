"""Who guesses passwords waits, longer each time."""

from __future__ import annotations

import ipaddress
from typing import Final

import cachetools

# Seconds: Postfix gives up after ten, of which the database may take five.
FIRST_DELAY: Final = 0.5
LAST_DELAY: Final = 4.0
MEMORY: Final = 600.0
MOST: Final = 100_000


class Delays:
    """Counts failures for each client: an IPv4 address, or the /64 of an IPv6 one."""

    def __init__(self) -> None:
        self._failures: cachetools.TTLCache[object, int] = cachetools.TTLCache(MOST, ttl=MEMORY)

    def failures(self, client: bytes) -> int:
        """How often this client has failed within the last ten minutes."""
        return self._failures.get(household(client), 0)

    def after_failure(self, client: bytes) -> float:
        """Seconds to wait before that client is told."""
        key = household(client)
        count = self._failures[key] = self._failures.get(key, 0) + 1
        return min(FIRST_DELAY * 2.0 ** min(count - 1, 10), LAST_DELAY)


def household(client: bytes) -> object:
    """Who stands behind an address: a home has 2^64 of IPv6. What is no address, as it stands."""
    try:
        address = ipaddress.ip_address(client.decode("ascii"))
    except ValueError:
        return client
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        return mapped or ipaddress.IPv6Network((address, 64), strict=False)
    return address
