"""Where the daemons listen, and how many connections there is room for."""

from __future__ import annotations

import resource
import socket
from typing import Final

from adapters._listen import listen

# Open files for what is no client: the database, the listening sockets, the metrics, Python's own.
RESERVE: Final = 100


def listen_at(address: str, *, mode: int) -> socket.socket:
    """As `listen`; an OSError says where it could not."""
    try:
        return listen(address, mode=mode)
    except (OSError, UnicodeError) as error:
        raise OSError(f"{address}: {getattr(error, 'strerror', None) or error}") from None


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
