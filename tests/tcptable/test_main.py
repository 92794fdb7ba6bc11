import io
import runpy
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tcptable.__main__ import main

PATIENCE = 20


@contextmanager
def server(answer: Callable[[bytes], bytes]) -> Iterator[tuple[str, list[list[bytes]]]]:
    """Raw replies to raw lines, so that they may be wrong; an empty one closes.

    Its address, and the lines of each connection.
    """
    connections: list[list[bytes]] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            connections.append([])
            with sock, sock.makefile("rb") as lines:
                for line in lines:
                    connections[-1].append(line)
                    reply = answer(line)
                    if not reply:
                        break
                    sock.sendall(reply)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}", connections
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(PATIENCE)


@pytest.mark.parametrize(
    ("reply", "status", "text"),
    [
        (b"200 ann%20lee\n", 0, "k: found: ann lee\n"),
        (b"200 gr%C3%BCn%0A\n", 0, "k: found: grün\\n\n"),
        (b"500 no such user\n", 1, "k: not found (no such user)\n"),
        (b"400 busy\n", 2, "k: temporary error (busy)\n"),
        (b"200 \n", 2, "k: found, but empty: Postfix takes the table for broken\n"),
        (b"200 %FF\n", 2, "not UTF-8"),
        (b"500\n", 2, "no answer that Postfix would take: a reply not of the form"),
        (b"", 2, "closed without an answer"),
    ],
)
def test_what_postfix_would_make_of_an_answer(
    reply: bytes, status: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In words, and as an exit status."""
    with server(lambda _: reply) as (address, connections):
        assert main(["get", address, "k"]) == status
    assert text in capsys.readouterr().out
    assert connections == [[b"get k\n"]]


def test_several_keys(capsys: pytest.CaptureFixture[str]) -> None:
    """One connection for all, but a new one after a temporary error; the worst status counts."""
    replies = {b"get a\n": b"200 A\n", b"get b\n": b"400 \n"}
    with server(lambda line: replies.get(line, b"500 \n")) as (address, connections):
        assert main(["get", address, "a", "ä", "b", "a"]) == 2
    assert connections == [[b"get a\n", b"get %C3%A4\n", b"get b\n"], [b"get a\n"]]
    assert capsys.readouterr().out == (
        "a: found: A\nä: not found ()\nb: temporary error ()\na: found: A\n"
    )


def test_nobody_listens(capsys: pytest.CaptureFixture[str]) -> None:
    """No traceback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    assert main(["get", address, "a"]) == 2
    assert "refused" in capsys.readouterr().out


def test_an_answer_that_does_not_come(capsys: pytest.CaptureFixture[str]) -> None:
    """The timeout is the caller's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        assert main(["get", "--timeout", "0.01", address, "a"]) == 2
    assert "timed out" in capsys.readouterr().out


@pytest.mark.parametrize(
    "address", ["localhost", ":25", "[]:25", "a:b", "a:99999", "a..b:1", f"{'x' * 64}:1"]
)
def test_a_wrong_address(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Said, with the status of a wrong command line."""
    with pytest.raises(SystemExit) as caught:
        main(["get", address, "a"])
    assert caught.value.code == 2
    assert f"'{address}' is not HOST:PORT" in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["-1", "0", "nan", "inf", "1e300", "soon"])
def test_a_wrong_timeout(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Likewise."""
    with pytest.raises(SystemExit) as caught:
        main(["get", f"--timeout={seconds}", "127.0.0.1:1", "a"])
    assert caught.value.code == 2
    assert f"'{seconds}' is no number of seconds" in capsys.readouterr().err


def test_as_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """python -m tcptable."""
    monkeypatch.delitem(sys.modules, "tcptable.__main__")
    with server(lambda _: b"500 \n") as (address, _):
        monkeypatch.setattr(sys, "argv", ["tcptable", "get", address, "a"])
        with pytest.raises(SystemExit) as caught:
            runpy.run_module("tcptable", run_name="__main__")
    assert caught.value.code == 1


def test_a_standard_output_of_another_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has no sign for is escaped, and the status is that of the answer."""
    said = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(said, "ascii"))
    with server(lambda _: b"200 gr%C3%BCn\n") as (address, _):
        assert main(["get", address, "k"]) == 0
    assert said.getvalue() == b"k: found: gr\\xfcn\n"
