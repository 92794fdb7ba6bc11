"""Listening sockets, by the addresses that MTAs are configured with."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

BACKLOG = 1024  # a client too many waits for a second; the kernel has a limit of its own


def listen(address: str, *, mode: int = 0o660) -> socket.socket:
    """A listening socket for ``unix:/path``, ``inet:host:port`` or ``inet6:[host]:port``.

    A unix socket gets the permissions `mode`; one that a dead program left behind is replaced.
    Raises OSError if another program listens there, ValueError for any other address.
    """
    family, _, rest = address.partition(":")
    if family == "unix" and rest:
        return _listen_unix(Path(rest), mode)
    host, _, port = rest.rpartition(":")
    if family not in ("inet", "inet6") or not host or not port.isdecimal():
        raise ValueError(f"{address!r} is not unix:/path, inet:host:port or inet6:[host]:port")
    if int(port) > 65535:
        raise ValueError(f"{port} is no port: they go from 0 to 65535")
    where = socket.AF_INET if family == "inet" else socket.AF_INET6
    listener = socket.socket(where, socket.SOCK_STREAM)
    with _closed_on_error(listener):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _send_at_once(listener)
        if where == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host.strip("[]"), int(port)))
        listener.listen(BACKLOG)
    return listener


def inherited() -> list[socket.socket]:
    """The listening sockets that systemd opened for this process, see sd_listen_fds(3)."""
    meant_for = os.environ.pop("LISTEN_PID", None)
    count = os.environ.pop("LISTEN_FDS", "0")
    if meant_for != str(os.getpid()):
        return []
    listeners = [socket.socket(fileno=number) for number in range(3, 3 + int(count))]
    for listener in listeners:
        listener.set_inheritable(False)
        _send_at_once(listener)
    return listeners


def address_of(listener: socket.socket) -> str:
    """Where it listens, as an MTA's configuration has it."""
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return f"unix:{name}"
    host, port = name[:2]
    is_v6 = listener.family == socket.AF_INET6
    return f"inet6:[{host}]:{port}" if is_v6 else f"inet:{host}:{port}"


def _send_at_once(listener: socket.socket) -> None:
    """For its connections: else the second of two replies waits 40 ms for a sign of the first."""
    if listener.family != socket.AF_UNIX:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _listen_unix(path: Path, mode: int) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with _closed_on_error(listener), _alone_in(path.parent):
        _remove_stale(path)
        # Nobody may connect between bind and chmod who could not afterwards.
        before = os.umask(0o777)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        path.chmod(mode)
        listener.listen(BACKLOG)
    return listener


def _remove_stale(path: Path) -> None:
    """Remove a socket that nobody listens on; anything else is left for bind() to refuse."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)  # a program that is too busy to accept is alive
        try:
            probe.connect(str(path))
        except (TimeoutError, BlockingIOError, FileNotFoundError):
            pass
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Of two programs that start at once, one must not take the other's socket for a stale one."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _closed_on_error(listener: socket.socket) -> Iterator[None]:
    try:
        yield
    except BaseException:
        listener.close()
        raise
