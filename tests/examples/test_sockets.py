"""Where the daemons listen, and how many connections there is room for."""

from __future__ import annotations

import resource
import socket

import pytest
from mailfront._sockets import RESERVE, listen_at, room_for

INFINITE = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("soft", "hard", "room", "raised"),
    [
        (1024, 4096, 1000, 1100),
        (1024, 500_000, 1000, 1100),
        (512, 600, 500, 600),
        (50, 50, 1, 50),
        (5000, 5000, 1000, None),
        (1024, INFINITE, 1000, 1100),
        (INFINITE, INFINITE, 1000, None),
    ],
)
def test_there_are_as_many_files_as_connections(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, room: int, raised: int | None
) -> None:
    """And some more. No more than are allowed, no more than are needed."""
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _which, limit: limits.append(limit))
    assert room_for(1000) == room
    expected = [] if raised is None or raised == soft else [(raised, hard)]
    assert [limit for limit in limits if limit != (soft, hard)] == expected
    assert RESERVE == 100


@pytest.mark.parametrize("host", ["a..b", "x" * 70, "192.0.2.1"])
def test_where_it_can_not_listen_is_said(host: str) -> None:
    """A daemon may have been told of many places."""
    with pytest.raises(OSError, match=f"^inet:{host}:0: "):
        listen_at(f"inet:{host}:0", mode=0o660)


def test_where_somebody_listens_already() -> None:
    """Likewise."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=f"^inet:127.0.0.1:{port}: Address already in use$"):
            listen_at(f"inet:127.0.0.1:{port}", mode=0o660)


def test_what_is_no_address() -> None:
    """Is said as before."""
    with pytest.raises(ValueError, match="'nonsense' is not unix:/path"):
        listen_at("nonsense", mode=0o660)
    with listen_at("inet:127.0.0.1:0", mode=0o660) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"
