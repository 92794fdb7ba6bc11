"""The sockets that adapters listen on."""

import contextlib
import fcntl
import os
import socket
import stat
import threading
from pathlib import Path

import pytest
from adapters._listen import address_of, inherited, listen


def test_a_unix_socket_has_the_mode_asked_for(tmp_path: Path) -> None:
    """Postfix connects as a user of its own, so the mode decides who may."""
    path = tmp_path / "filter"
    with listen(f"unix:{path}", mode=0o666), socket.socket(socket.AF_UNIX) as client:
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
        client.connect(str(path))


def test_a_stale_unix_socket_is_replaced(tmp_path: Path) -> None:
    """A program that was killed leaves its socket behind."""
    path = tmp_path / "filter"
    listen(f"unix:{path}").close()
    assert path.exists()
    with listen(f"unix:{path}"), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_live_unix_socket_is_refused(tmp_path: Path) -> None:
    """A second start must not steal the first one's connections."""
    address = f"unix:{tmp_path / 'filter'}"
    with listen(address) as first:
        with pytest.raises(OSError, match="in use"):
            listen(address)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(first.getsockname())


def test_a_plain_file_is_not_removed(tmp_path: Path) -> None:
    """Whoever mistypes the path keeps the file."""
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(OSError, match="in use"):
        listen(f"unix:{path}")
    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    ("address", "family"),
    [("inet:127.0.0.1:0", socket.AF_INET), ("inet6:[::1]:0", socket.AF_INET6)],
)
def test_tcp(address: str, family: socket.AddressFamily) -> None:
    """Both families, each by its own word, as in Postfix's main.cf."""
    with listen(address) as listener, socket.socket(family) as client:
        client.connect(listener.getsockname()[:2])


@pytest.mark.parametrize(
    "address", ["", "unix:", "/run/filter", "inet:8890", "inet::8890", "inet:host:", "tcp:a:1"]
)
def test_other_addresses_are_refused(address: str) -> None:
    """With a message that says what is wanted."""
    with pytest.raises(ValueError, match="is not unix:/path"):
        listen(address)


def test_sockets_meant_for_another_process_are_let_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child of a unit inherits the variables, but not the sockets; nor do its own children."""
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", "1")
    assert inherited() == []
    assert "LISTEN_FDS" not in os.environ
    assert inherited() == []


@pytest.mark.parametrize("address", ["inet:127.0.0.1:", "inet6:[::1]:"])
def test_an_address_is_said_as_it_was_given(address: str) -> None:
    """But for the port that the kernel chose."""
    with listen(address + "0") as listener:
        assert address_of(listener) == f"{address}{listener.getsockname()[1]}"


def test_nobody_may_connect_before_the_mode_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between bind() and chmod() the socket is there already."""
    before: list[int] = []
    chmod = Path.chmod

    def note(path: Path, mode: int) -> None:
        before.append(stat.S_IMODE(path.stat().st_mode))
        chmod(path, mode)

    monkeypatch.setattr(Path, "chmod", note)
    listen(f"unix:{tmp_path / 'filter'}", mode=0o600).close()
    assert before == [0]


def test_two_that_start_at_once_wait_for_each_other(tmp_path: Path) -> None:
    """Or the second could remove the first one's socket, having seen a stale one before."""
    path = tmp_path / "filter"
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    thread = threading.Thread(target=lambda: listen(f"unix:{path}").close())
    thread.start()
    thread.join(0.1)
    assert thread.is_alive()
    assert not path.exists()
    os.close(descriptor)
    thread.join(20)
    assert path.exists()


def test_many_may_come_at_once(tmp_path: Path) -> None:
    """Before the first is accepted: a client too many waits for a second, or longer."""
    with listen(f"unix:{tmp_path}/socket"), contextlib.ExitStack() as stack:
        for _ in range(300):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            client.connect(f"{tmp_path}/socket")
