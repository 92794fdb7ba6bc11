"""Where the daemons listen, and how many connections there is room for."""

from __future__ import annotations

import resource
import socket
from collections.abc import Sequence
from typing import Final

from adapters._listen import inherited, listen

# Open files for what is no client: the database, the listening sockets, the metrics, Python's own.
RESERVE: Final = 100


def listen_at(address: str, *, mode: int) -> socket.socket:
    """As `listen`; an OSError says where it could not."""
    try:
        return listen(address, mode=mode)
    except (OSError, UnicodeError) as error:
        raise OSError(f"{address}: {getattr(error, 'strerror', None) or error}") from None


def listeners(addresses: Sequence[str], *, mode: int) -> list[socket.socket]:
    """One for each address; for none, those that systemd has opened."""
    opened = [listen_at(one, mode=mode) for one in addresses] or inherited()
    if not opened:
        raise ValueError("nowhere to listen: give --listen, or let systemd open a socket")
    return opened


def room_for(connections: int) -> int:
    """How many of so many connections there is room for, with more open files if they may be had.

    Most systems start a program with 1024 files, and let it have many more. One connection too
    many is closed at once and does no harm; a file too many, and nobody is answered.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + RESERVE
    if soft == resource.RLIM_INFINITY:
        return connections
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return min(connections, max(1, soft - RESERVE))
