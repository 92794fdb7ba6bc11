"""Postfix's own client, postmap, asks our tables: tcp_table and socketmap, on each adapter."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from adapters._contract import Service
from adapters._listen import listen
from adapters.services import Lookup, socketmap, tcp_table

import tcptable as tt
from tcptable._netstring import encode_netstring
from tests.examples.adapter_hosts import ASYNCIO, THREADS, TRIO, Host

from ._postfix import PATIENCE, write_config

any_host = pytest.mark.parametrize("host", [ASYNCIO, TRIO, THREADS], ids=lambda host: host.name)
any_protocol = pytest.mark.parametrize("protocol", ["tcp", "socketmap"])

Ask = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def postmap(require_program: Callable[[str, str], Path], tmp_path: Path) -> Ask:
    """Run postmap with a configuration of its own."""
    program = require_program("postmap", "postfix")
    write_config(tmp_path / "main.cf", "compatibility_level = 3.6\nsmtputf8_enable = no\n")

    def run(query: bytes, table: str, keys: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [program, "-c", tmp_path, "-q", query, table],
            input=keys,
            check=False,
            capture_output=True,
            timeout=PATIENCE * 3,
        )

    return run


@contextlib.contextmanager
def serving(host: Host, protocol: str, lookup: Lookup) -> Iterator[str]:
    """A table; its name as Postfix's configuration has it."""
    make: Callable[[Lookup], Service[Any, Any]] = tcp_table if protocol == "tcp" else socketmap
    listener = listen("inet:127.0.0.1:0")
    port = listener.getsockname()[1]
    with host.serve(make(lookup), None, listener):
        where = f"tcp:127.0.0.1:{port}"
        yield where if protocol == "tcp" else f"socketmap:inet:127.0.0.1:{port}:people"


def random_bytes(random: Random, longest: int) -> bytes:
    """Anything but LF and NUL: postmap reads and prints lines, and Postfix has C strings."""
    alphabet = bytes(byte for byte in range(1, 256) if byte != 10)
    return bytes(random.choices(alphabet, k=random.randint(1, longest)))


@any_host
@any_protocol
def test_thousands_of_random_keys(postmap: Ask, host: Host, protocol: str) -> None:
    """Every byte of keys and values comes through, and what is not there is not found."""
    random = Random(20261124)
    table = {random_bytes(random, 60): random_bytes(random, 60) for _ in range(3000)}
    keys = [*table, *(random_bytes(random, 60) for _ in range(1000))]
    random.shuffle(keys)

    def lookup(event: tt.Get) -> tt.Reply:
        assert event.table == (b"" if protocol == "tcp" else b"people")
        value = table.get(event.key)
        return tt.NotFound() if value is None else tt.Found(value)

    with serving(host, protocol, lookup) as name:
        done = postmap(b"-", name, b"\n".join(keys) + b"\n")
    assert done.stderr == b""
    expected = [key + b"\t" + table[key] for key in keys if key in table]
    assert done.stdout.split(b"\n")[:-1] == expected


@pytest.mark.parametrize(
    ("reply", "stdout", "trouble"),
    [
        pytest.param(tt.Found(b"50% of it"), b"50% of it\n", False, id="found"),
        pytest.param(tt.Found(b"x" * 4091), b"x" * 4091 + b"\n", False, id="longest"),
        pytest.param(tt.NotFound(b"50% of them"), b"", False, id="not found"),
        pytest.param(tt.TempError(b"50% busy\n"), b"", True, id="temporary error"),
        pytest.param(tt.Found(b""), b"", True, id="empty"),
        pytest.param(tt.Found(b"x" * 4092), b"", True, id="too long"),
        pytest.param(tt.PermError(b"no"), b"", True, id="socketmap's"),
        pytest.param(ZeroDivisionError(), b"", True, id="exception"),
    ],
)
def test_what_postfix_makes_of_a_reply(
    postmap: Ask, reply: tt.Reply | Exception, stdout: bytes, trouble: bool
) -> None:
    """What can't be sent, and what fails, is a temporary error, and never "no such user"."""

    def lookup(event: tt.Get) -> tt.Reply:
        if isinstance(reply, Exception):
            raise reply
        return reply

    with serving(ASYNCIO, "tcp", lookup) as name:
        done = postmap(b"key", name)
    assert (done.returncode, done.stdout) == (0 if stdout else 1, stdout)
    assert (b"query error" in done.stderr) is trouble, done.stderr


@pytest.mark.parametrize(
    ("payload", "stdout", "trouble"),
    [(b"OK v", b"v\n", False), (b"OK", b"", False), (b"OK ", b"\n", True), (b"ok v", b"", True)],
)
def test_what_postfix_makes_of_odd_replies_of_socketmap(
    postmap: Ask, payload: bytes, stdout: bytes, trouble: bool
) -> None:
    """Without the blank nothing is found, and that is no error."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        while connection.recv(100):
                            connection.sendall(encode_netstring(payload))

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            done = postmap(b"key", f"socketmap:inet:127.0.0.1:{listener.getsockname()[1]}:m")
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE)
    assert (done.returncode, done.stdout) == (0 if stdout else 1, stdout)
    assert bool(done.stderr) is trouble, done.stderr


@any_protocol
def test_odd_keys(postmap: Ask, protocol: str) -> None:
    """The empty one, a long one, those with blanks and quotes: as they were asked."""
    seen: list[bytes] = []

    def lookup(event: tt.Get) -> tt.Reply:
        seen.append(event.key)
        return tt.NotFound()

    keys = [b"", b'"a b"@x.test', b"a+b@x.test", b"FOO@Bar", b"x" * 5000, b"\xff", b"*", b"a  b"]
    with serving(ASYNCIO, protocol, lookup) as name:
        for key in keys:
            done = postmap(key, name)
            assert (done.returncode, done.stderr) == (1, b"")
    assert seen == keys


@pytest.mark.parametrize("host", [ASYNCIO, TRIO], ids=lambda host: host.name)
def test_a_look_up_that_waits(postmap: Ask, host: Host) -> None:
    """It may be a coroutine function."""

    async def lookup(event: tt.Get) -> tt.Reply:
        await host.sleep(0.01)  # type: ignore[misc]
        return tt.Found(event.key.upper())

    with serving(host, "tcp", lookup) as name:
        assert postmap(b"-", name, b"a\nb\n").stdout == b"a\tA\nb\tB\n"
