import contextlib
import hashlib
import hmac
import io
import runpy
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nginxauth.__main__ import main

PATIENCE = 20
SECRET = "hunter2 secret"
OK = b"HTTP/1.0 200 OK\r\n"
TO = b"Auth-Server: 192.0.2.7\r\nAuth-Port: 25\r\n"
GOOD = OK + b"Auth-Status: OK\r\n" + TO + b"\r\n"
NO = OK + b"Auth-Status: no\r\n"
BROKEN = "the mail client gets: 451 4.3.2 Internal server error (then nginx closes)\n"


@contextmanager
def service(
    answer: bytes, path: Path | None = None, hold: threading.Event | None = None
) -> Iterator[tuple[str, list[bytes]]]:
    """Answers one request, however wrong; what stands before the URI, and the request."""
    requests: list[bytes] = []
    if path is None:
        listener = socket.create_server(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    else:
        listener = socket.create_server(str(path), family=socket.AF_UNIX)
        address = f"unix:{path}:"

    def serve() -> None:
        sock, _ = listener.accept()
        with sock:
            data = b""
            while not data.endswith(b"\r\n\r\n"):
                data += sock.recv(65536)
            requests.append(data)
            # The client closes when it has seen enough.
            with contextlib.suppress(ConnectionError):
                for at in range(len(answer)):
                    sock.sendall(answer[at : at + 1])
            if hold is not None:
                hold.wait(PATIENCE)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield address, requests
    finally:
        if hold is not None:
            hold.set()
        thread.join(PATIENCE)
        listener.close()


@pytest.fixture(autouse=True)
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let standard input hold a line."""

    def put(text: str) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    put(SECRET + "\r\nmore\n")
    return put


@pytest.mark.parametrize(
    ("answer", "status", "text"),
    [
        (GOOD, 0, "let in: nginx goes on at 192.0.2.7 port 25\n"),
        (
            GOOD[:-2] + b"Auth-User: a\xc3\xa9\x1b\r\nAuth-Pass: hunter2\r\n\r\n",
            0,
            (
                "let in: nginx goes on at 192.0.2.7 port 25, as a\u00e9\\x1b, "
                "with the password of the answer\n"
            ),
        ),
        (
            NO + b"\r\n",
            1,
            "refused\nthe mail client gets: 535 5.7.0 no (then nginx closes)\n",
        ),
        (
            NO + b"Auth-Wait: 3\r\n\r\n",
            1,
            "refused\nthe mail client gets after 3 s: 535 5.7.0 no (then it may try again)\n",
        ),
        (
            NO + b"Auth-Error-Code: 451 4.3.0\r\n\r\n",
            2,
            "refused\nthe mail client gets: 451 4.3.0 no (then nginx closes)\n",
        ),
        (
            OK + b"Auth-Status: WAIT\r\nAuth-Wait: 3\r\n\r\n",
            2,
            "wait: nginx asks again after 3 s\n",
        ),
        (
            OK + b"Auth-Status: WAIT\r\n\r\n",
            2,
            (
                "wait: nginx asks again at once\n"
                "warning: WAIT without an Auth-Wait: nginx asks again at once, and then takes OK "
                "for WAIT\n"
            ),
        ),
        (
            b"HTTP/1.1 500 Oops\r\n\r\n",
            2,
            "no answer that nginx could use: no Auth-Server or no Auth-Port, and no refusal\n"
            + BROKEN,
        ),
        (
            b"",
            2,
            "no answer that nginx could use: end of file before the answer's empty line\n" + BROKEN,
        ),
        (
            b"HTTP/1.1 500 Oops\r\n" + TO + b"\r\n",
            0,
            (
                "let in: nginx goes on at 192.0.2.7 port 25\n"
                "warning: an HTTP status other than 2xx with a login, which nginx lets in\n"
                "warning: no Auth-Status, which is OK to nginx\n"
            ),
        ),
    ],
)
def test_what_nginx_would_make_of_it(
    answer: bytes, status: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In words, and as an exit status; the password in none of them."""
    with service(answer) as (url, requests):
        assert main(["ask", f"{url}/auth?a=b", "--user", "ann"]) == status
    output = capsys.readouterr()
    assert output.out == text
    assert "hunter2" not in output.out + output.err
    assert requests == [
        (
            b"GET /auth?a=b HTTP/1.0\r\nHost: 127.0.0.1\r\nAuth-Method: plain\r\nAuth-User: ann\r\n"
            b"Auth-Pass: hunter2%20secret\r\nAuth-Protocol: smtp\r\nAuth-Login-Attempt: 1\r\n"
            b"Client-IP: 127.0.0.1\r\nClient-Host: [UNAVAILABLE]\r\n\r\n"
        )
    ]


@pytest.mark.parametrize(
    ("protocol", "message", "status"),
    [
        ("imap", b"[UNAVAILABLE] later", 2),
        ("imap", b"[AUTHENTICATIONFAILED] no", 1),
        ("imap", b"450 no", 1),
        ("pop3", b"[SYS/TEMP] later", 2),
        ("pop3", b"[AUTH] no", 1),
        ("smtp", b"[UNAVAILABLE] no", 1),
    ],
)
def test_a_temporary_refusal(protocol: str, message: bytes, status: int) -> None:
    """Says so in the protocol's own words."""
    with service(OK + b"Auth-Status: " + message + b"\r\n\r\n") as (url, _):
        assert main(["ask", url, "--protocol", protocol]) == status


def test_at_a_unix_socket(tmp_path: Path) -> None:
    """The host is localhost there; and all that can be told."""
    # As some editors on Windows write it.
    (tmp_path / "headers").write_bytes(b"\xef\xbb\xbfX-Auth-Key: s3cret\r\nX-Empty:\n \t\n\n")
    with service(GOOD, tmp_path / "s") as (url, requests):
        status = main(
            [
                *("ask", f"{url}/a", "--protocol", "imap", "--method", "external"),
                *("--user", "ann", "--client-ip", "::1", "--client-host", "x", "--attempt", "3"),
                *("--subject", "CN=ann", "--header", f"@{tmp_path}/headers", "--header", "X-B: c"),
            ]
        )
    assert status == 2
    assert requests == [
        (
            b"GET /a HTTP/1.0\r\nHost: localhost\r\nAuth-Method: external\r\nAuth-User: ann\r\n"
            b"Auth-Pass: \r\nAuth-Protocol: imap\r\nAuth-Login-Attempt: 3\r\nClient-IP: ::1\r\n"
            b"Client-Host: x\r\nAuth-SSL: on\r\nAuth-SSL-Verify: SUCCESS\r\n"
            b"Auth-SSL-Subject: CN=ann\r\nX-Auth-Key: s3cret\r\nX-Empty: \r\nX-B: c\r\n\r\n"
        )
    ]


def test_without_a_uri(tmp_path: Path) -> None:
    """It is a slash."""
    with service(GOOD, tmp_path / "s") as (url, requests):
        assert main(["ask", url.removesuffix(":")]) == 0
    assert requests[0].startswith(b"GET / HTTP/1.0\r\n")


def test_without_a_login() -> None:
    """The envelope is asked for, and no password is read."""
    with service(GOOD) as (url, requests):
        arguments = ["--helo", "h", "--sender", "a@b", "--recipient", "c@d"]
        assert main(["ask", url, "--method", "none", *arguments]) == 0
    assert sys.stdin.readline() == SECRET + "\n"
    assert requests[0].endswith(
        b"Auth-SMTP-Helo: h\r\nAuth-SMTP-From: MAIL FROM:<a@b>\r\nAuth-SMTP-To: RCPT TO:<c@d>"
        b"\r\n\r\n"
    )


@pytest.mark.parametrize(("method", "protocol"), [("apop", "pop3"), ("cram-md5", "imap")])
def test_a_digest(method: str, protocol: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Is made of the password, with a salt; and the answer has to bring a password."""
    with service(GOOD) as (url, requests):
        assert main(["ask", url, "--method", method, "--protocol", protocol]) == 2
    assert "no Auth-Pass" in capsys.readouterr().out
    fields = dict(line.split(b": ") for line in requests[0].strip().split(b"\r\n")[1:])
    salt, digest = fields[b"Auth-Salt"], fields[b"Auth-Pass"].decode()
    password = SECRET.encode()
    if method == "apop":
        assert digest == hashlib.md5(salt + password).hexdigest()
    else:
        assert digest == hmac.new(password, salt, "md5").hexdigest()
    assert salt[:1] + salt[-1:] == b"<>"


def test_the_password_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a terminal, where it is not shown."""
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr("getpass.getpass", lambda: SECRET)
    with service(GOOD) as (url, requests):
        assert main(["ask", url]) == 0
    assert b"Auth-Pass: hunter2%20secret\r\n" in requests[0]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--attempt", "0"], "attempt has to be a number"),
        (["--header", "X y: z"], "a header has to be"),
        (["--header", "Auth-User: z"], "a name that is nginx's own"),
        (["--header", "@/nowhere/at/all"], "No such file"),
        (["--header", "s3cret"], "--header is not of the form NAME: VALUE"),
        (["--header", "@headers"], "line 3 of 'headers' is not of the form NAME: VALUE"),
    ],
)
def test_what_can_not_be_asked(
    arguments: list[str],
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No traceback, and nobody is asked; what may be a secret is not shown."""
    monkeypatch.chdir(tmp_path)
    Path("headers").write_text("X-Key: a\n\ns3cret\n")
    assert main(["ask", "unix:/nowhere", *arguments]) == 2
    output = capsys.readouterr()
    assert output.out.startswith("that can't be asked: ")
    assert text in output.out
    assert "s3cret" not in output.out
    assert output.err == ""


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
    assert main(["ask", "unix:/nowhere"]) == 2
    assert capsys.readouterr().out == (
        "that can't be asked: there is no password to be read, not even an empty line\n"
    )


def test_an_empty_line_is_an_empty_password(typed: Callable[[str], None]) -> None:
    """It is asked for."""
    typed("\n")
    with service(GOOD) as (url, requests):
        assert main(["ask", url]) == 0
    assert b"Auth-Pass: \r\n" in requests[0]


def test_a_password_that_the_terminal_can_not_give(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In another encoding than the terminal's; no byte of it is shown."""
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr("getpass.getpass", lambda: b"p\xe9x".decode("utf-8"))
    assert main(["ask", "unix:/nowhere"]) == 2
    assert capsys.readouterr().out == (
        "that can't be asked: this terminal gives no such password\n"
    )


def test_a_standard_output_of_another_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has no sign for is escaped."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "ascii"))
    with service(OK + b"Auth-Status: n\xc3\xa9\xff\r\n\r\n") as (url, _):
        assert main(["ask", url]) == 1
    assert b"535 5.7.0 n\\xe9\\xff (then" in written.getvalue()


def test_a_standard_output_that_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The status is still to be had."""
    monkeypatch.setattr(sys, "stdout", None)
    with service(NO + b"\r\n") as (url, _):
        assert main(["ask", url]) == 1


class Full(io.StringIO):
    """A pipe that nobody reads, or a full disk."""

    def write(self, _text: str) -> int:
        raise BrokenPipeError


def test_whatever_goes_wrong_is_no_refusal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python's own status for an error is that of one."""
    monkeypatch.setattr(sys, "stdout", Full())
    with service(GOOD) as (url, _):
        assert main(["ask", url]) == 2
    assert "BrokenPipeError" in capsys.readouterr().err


def test_nobody_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Is an internal error to nginx."""
    assert main(["ask", f"unix:{tmp_path}/s"]) == 2
    output = capsys.readouterr().out
    assert "No such file" in output
    assert output.endswith(BROKEN)


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/auth",
        "http://127.0.0.1:65536/",
        "http://127.0.0.1:x/",
        "http://",
        "unix:",
        "unix:/s:auth",
        "http://[::1/",
        "127.0.0.1?x",
        "http://a..b/",
        f"http://{'a' * 64}.test/",
        "http://\udcff.test/",
        "http://[]/",
    ],
)
def test_what_is_no_url_to_nginx(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It speaks no TLS to the service."""
    with pytest.raises(SystemExit) as caught:
        main(["ask", url])
    assert caught.value.code == 2
    assert "is not http://HOST:PORT/URI, nor unix:PATH:/URI" in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["-1", "0", "nan", "inf", "1e9", "x"])
def test_what_is_no_time(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No socket takes it."""
    with pytest.raises(SystemExit) as caught:
        main(["ask", "unix:/nowhere", "--timeout", seconds])
    assert caught.value.code == 2
    assert f"'{seconds}' is no number of seconds" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "address", "host"),
    [
        ("http://[::1]:8025/auth", ("::1", 8025), b"Host: [::1]\r\n"),
        ("[::1]/auth", ("::1", 80), b"Host: [::1]\r\n"),
        ("localhost:25", ("localhost", 25), b"Host: localhost\r\n"),
    ],
)
def test_where_it_connects_to(
    url: str, address: tuple[str, int], host: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The port is 80 unless it is said; the host stays in its brackets."""
    ours, theirs = socket.socketpair()
    called = []

    def connect(to: tuple[str, int], _timeout: float) -> socket.socket:
        called.append(to)
        return ours

    monkeypatch.setattr(socket, "create_connection", connect)
    with theirs:
        theirs.sendall(GOOD)
        assert main(["ask", url]) == 0
        assert host in theirs.recv(65536)
    assert called == [address]


@pytest.mark.parametrize("answer", [b"", OK])
def test_the_time_is_for_all_of_it(answer: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    """As nginx's is."""
    with service(answer, hold=threading.Event()) as (url, _):
        assert main(["ask", url, "--timeout", "0.2"]) == 2
    assert "timed out" in capsys.readouterr().out


def test_a_trickle_is_no_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """However often something comes."""
    seconds = iter(range(1000))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(seconds)))
    with service(b"X: y\r\n" * 100, hold=threading.Event()) as (url, _):
        assert main(["ask", url, "--timeout", "3"]) == 2
    assert "timed out" in capsys.readouterr().out


def test_as_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """python -m nginxauth."""
    monkeypatch.delitem(sys.modules, "nginxauth.__main__")
    monkeypatch.setattr(sys, "argv", ["nginxauth", "ask", "unix:/nowhere"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("nginxauth", run_name="__main__")
    assert caught.value.code == 2
