import io
import runpy
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dovecotauth.__main__ import main

PATIENCE = 20
GREETING = (
    b"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tLOGIN\tplaintext\nSPID\t1\nCUID\t1\n"
    b"COOKIE\t00112233445566778899aabbccddeeff\nDONE\n"
)
SECRET = "hunter2 secret"
ORDER = "(SPID came before MECH: Postfix and Exim would take this for another kind of socket)\n"
PLAIN = b"AGFubgBodW50ZXIyIHNlY3JldA=="


@contextmanager
def server(
    answer: Callable[[list[bytes]], bytes],
    greeting: bytes = GREETING,
    path: Path | None = None,
    *,
    closes: bool = False,
) -> Iterator[tuple[str, list[list[bytes]]]]:
    """Raw answers to raw lines after the handshake, so that they may be wrong; b"" closes.

    Its address, and the lines that came.
    """
    lines: list[list[bytes]] = []
    if path is None:
        listener = socket.create_server(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    else:
        listener = socket.create_server(str(path), family=socket.AF_UNIX)
        address = str(path)

    def serve() -> None:
        sock, _ = listener.accept()
        with sock, sock.makefile("rb") as stream:
            sock.sendall(greeting)
            for line in stream:
                if closes and line.startswith(b"CPID"):
                    return
                lines.append(line.rstrip(b"\n").split(b"\t"))
                if lines[-1][0] in (b"AUTH", b"CONT"):
                    data = answer(lines[-1])
                    if not data:
                        return
                    sock.sendall(data)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield address, lines
    finally:
        thread.join(PATIENCE)
        listener.close()


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let standard input hold a line."""

    def put(text: str) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    return put


@pytest.mark.parametrize(
    ("reply", "status", "text"),
    [
        (b"OK\t1\tuser=ann\n", 0, "yes: it is ann\n"),
        (b"OK\t1\tuser=a\x01nb\tx=secret\n", 0, "yes: it is a\\nb, x\n"),
        (b"OK\t1\tuser=ann\tnologin\n", 1, "right, but ann must not log in, nologin\n"),
        (b"FAIL\t1\tuser=ann\n", 1, "no\n"),
        (b"FAIL\t1\tcode=user_disabled\treason=Gone\n", 1, "no (user_disabled: Gone)\n"),
        (b"FAIL\t1\ttemp\n", 2, "no answer for now (temp_fail)\n"),
        (b"CONT\t1\t\n", 2, "it asks for more than a name and a password\n"),
        (b"OK\t1\n", 2, "an OK that does not name one user\n"),
        (b"", 2, "it has closed the connection\n"),
    ],
)
def test_what_a_server_says(
    reply: bytes,
    status: int,
    text: str,
    typed: Callable[[str], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In words, and as an exit status; the password in none of them."""
    typed(SECRET + "\r\nmore\n")
    with server(lambda _: reply) as (address, lines):
        assert main(["auth", address, "ann"]) == status
    output = capsys.readouterr()
    assert output.out.endswith(text)
    assert "hunter2" not in output.out + output.err
    version, cpid, auth = lines
    assert version[:2] == [b"VERSION", b"1"]
    assert cpid[0] == b"CPID"
    assert auth == [b"AUTH", b"1", b"PLAIN", b"service=smtp", b"resp=" + PLAIN]


@pytest.mark.parametrize("early", [False, True])
def test_login_at_a_unix_socket(
    early: bool, typed: Callable[[str], None], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A name, then the password; or it has failed before that."""
    typed(SECRET)
    replies = iter([b"CONT\t1\tVXNlcm5hbWU6\n", b"CONT\t1\tUGFzc3dvcmQ6\n", b"OK\t1\tuser=ann\n"])
    arguments = ["--mechanism", "LOGIN", "--service", "imap", str(tmp_path / "s"), "ann"]
    with server(lambda _: b"FAIL\t1\n" if early else next(replies), path=tmp_path / "s") as (
        _,
        lines,
    ):
        assert main(["auth", *arguments]) == int(early)
    assert lines[2] == [b"AUTH", b"1", b"LOGIN", b"service=imap"]
    if not early:
        assert lines[3:] == [[b"CONT", b"1", b"YW5u"], [b"CONT", b"1", b"aHVudGVyMiBzZWNyZXQ="]]
    assert capsys.readouterr().out == ("no\n" if early else "yes: it is ann\n")


class Terminal(io.StringIO):
    """Where nothing is typed but what getpass reads."""

    def isatty(self) -> bool:
        return True


def control_d() -> str:
    raise EOFError


@pytest.mark.parametrize(
    "stdin",
    [None, io.TextIOWrapper(io.BytesIO()), Terminal()],
    ids=["closed", "at its end", "Ctrl-D"],
)
def test_there_is_no_password(
    stdin: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Standard input is closed, or at its end, or somebody has typed Ctrl-D: nobody is refused."""
    monkeypatch.setattr(sys, "stdin", stdin)
    monkeypatch.setattr("getpass.getpass", control_d)
    assert main(["auth", "/nowhere", "ann"]) == 2
    assert "there is no password to be read, not even an empty line\n" in capsys.readouterr().out


def test_a_password_that_the_terminal_can_not_give(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In another encoding than the terminal's; no byte of it is shown."""
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr("getpass.getpass", lambda: b"p\xe9x".decode("utf-8"))
    assert main(["auth", "/nowhere", "ann"]) == 2
    assert "this terminal gives no such password\n" in capsys.readouterr().out


def test_a_standard_output_of_another_encoding(
    typed: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has no sign for is escaped."""
    typed(SECRET)
    said = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(said, "ascii"))
    with server(lambda _: b"OK\t1\tuser=gr\xc3\xbcn\n") as (address, _):
        assert main(["auth", address, "ann"]) == 0
    assert said.getvalue() == b"yes: it is gr\\xfcn\n"


def test_what_nobody_has_thought_of_is_no_refusal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python would end with 1, which means just that."""
    monkeypatch.setattr("dovecotauth.__main__._password", lambda: 1 / 0)
    assert main(["auth", "/nowhere", "ann"]) == 2
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_the_password_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At a terminal, where it is not shown."""
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr("getpass.getpass", lambda: SECRET)
    with server(lambda _: b"OK\t1\tuser=ann\n") as (address, lines):
        assert main(["auth", address, "ann"]) == 0
    assert lines[2][-1] == b"resp=" + PLAIN
    assert capsys.readouterr().out == "yes: it is ann\n"


def test_a_password_with_nul(
    typed: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Would be read as something else."""
    typed("a\0b\n")
    assert main(["auth", "/nowhere", "ann"]) == 2
    assert "a password with NUL" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("greeting", "status", "output"),
    [
        (GREETING, 0, "PLAIN plaintext\nLOGIN plaintext\n"),
        (b"VERSION\t1\t1\nDONE\n", 1, "none at all: Postfix would not start a session\n"),
        (
            b"VERSION\t1\t1\nSPID\t1\nMECH\tX\tprivate\tmutual-auth\nDONE\n",
            0,
            "X private mutual-auth\n(all are private: Postfix would find none)\n" + ORDER,
        ),
    ],
)
def test_mechanisms(
    greeting: bytes, status: int, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With their flags, and with what Postfix would make of it."""
    with server(lambda _: b"", greeting) as (address, _):
        assert main(["mechanisms", address]) == status
    assert capsys.readouterr().out == output


def test_a_mechanism_that_is_not_offered(
    typed: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Is not asked for."""
    typed("x\n")
    with server(lambda _: b"", GREETING.replace(b"MECH\tPLAIN\tplaintext\n", b"")) as (address, _):
        assert main(["auth", address, "ann"]) == 2
    assert "the mechanism was not offered" in capsys.readouterr().out


@pytest.mark.parametrize("closes", [False, True])
def test_a_master_socket(closes: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Greets, and then nothing comes; or it closes."""
    with server(lambda _: b"", b"VERSION\t1\t1\nSPID\t1\n", closes=closes) as (address, _):
        assert main(["--timeout", "0.2", "mechanisms", address]) == 2
    assert "it greets as a master socket does" in capsys.readouterr().out


def test_a_server_that_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """The timeout is the caller's."""
    with server(lambda _: b"", b"VERSION\t1\t1\n") as (address, _):
        assert main(["--timeout", "0.2", "mechanisms", address]) == 2
    assert "timed out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("/nowhere/at/all", "No such file"),
        ("x:y", "neither a path nor HOST:PORT"),
        (":1", "neither a path nor HOST:PORT"),
        ("h:99999", "neither a path nor HOST:PORT"),
        ("a..b:1", "no such host"),
    ],
)
def test_nobody_is_there(address: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No traceback."""
    assert main(["mechanisms", address]) == 2
    assert text in capsys.readouterr().out


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "x"])
def test_a_timeout_that_is_none(seconds: str) -> None:
    """A usage error; its status is not that of a wrong password."""
    with pytest.raises(SystemExit) as caught:
        main(["--timeout", seconds, "mechanisms", "/nowhere"])
    assert caught.value.code == 2


def test_as_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """python -m dovecotauth."""
    monkeypatch.delitem(sys.modules, "dovecotauth.__main__")
    monkeypatch.setattr(sys, "argv", ["dovecotauth", "mechanisms", "/nowhere"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("dovecotauth", run_name="__main__")
    assert caught.value.code == 2
