"""The tools, over real sockets, with real files."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import io
import json
import os
import runpy
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import milterproto as mp
from milterproto import __main__ as tools
from milterproto._shell.checks import CHECKS
from milterproto.message import Message

from .peers import PATIENCE, Answer, Polite, Scripted, filter_at, frame, negotiated

MAIL = b"From: a@example.org\nSubject: hi\n\nbody\n"
LOG = "; the filter's own log may say why"


def judge(message: Message) -> mp.Verdict | None:
    message.headers.set("Subject", b"new")
    return mp.Reject() if b"bad" in message.body else None


@pytest.fixture
def mail(tmp_path: Path) -> str:
    path = tmp_path / "mail.eml"
    path.write_bytes(MAIL)
    return str(path)


# --- send ------------------------------------------------------------------------------------


@pytest.mark.parametrize("unix", [False, True])
def test_send(unix: bool, mail: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was said, a diff and a verdict."""
    path = tmp_path / "filter" if unix else None
    with filter_at(path, lambda: Polite(judge)) as address:
        assert tools.main(["send", "--to", address, mail, "--habits", "sendmail"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("Negotiate version 6; actions all; steps all")
    assert "-Subject: hi" in out
    assert "+Subject: new" in out
    assert out[-1] == "accepted"


@pytest.mark.parametrize(
    ("answers", "status", "last"),
    [
        ({mp.RcptTo: frame(b"r")}, 1, "refused at RcptTo: Reject"),
        ({mp.EndOfMessage: frame(b"d")}, 1, "refused at EndOfMessage: Discard"),
        ({mp.MailFrom: frame(b"t")}, 3, "temporary at MailFrom: TempFail"),
    ],
)
def test_the_status_says_what_became_of_it(
    answers: dict[type, Answer],
    status: int,
    last: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the message from standard input, in words and in JSON."""
    for options in ([], ["--json"]):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(MAIL)))
        with filter_at(None, lambda: Scripted(answers)) as address:
            assert tools.main(["send", "--to", address, "-", *options]) == status
        out = capsys.readouterr().out
        found = json.loads(out)["summary"] if options else out.splitlines()[-1]
        assert found == last


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ({mp.Negotiate: b""}, "after Negotiate: no answer in 0.2 seconds; --timeout gives it more"),
        (
            {mp.Helo: None},
            f"after Helo: the filter has closed the connection, and owes a reply{LOG}",
        ),
        ({mp.Negotiate: frame(b"\x01")}, f"after Negotiate: unknown code byte 0x01{LOG}"),
    ],
)
def test_sessions_that_break(
    answers: dict[type, Answer], why: str, mail: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was said until then is shown all the same."""
    for options in ([], ["--json"]):
        with filter_at(None, lambda: Scripted(answers)) as address:
            waiting = ["--timeout", "0.2"] if b"" in answers.values() else []
            assert tools.main(["send", "--to", address, mail, *waiting, *options]) == 4
        out, err = capsys.readouterr()
        assert err == f"milterproto: {why}\n"
        if options:
            found = json.loads(out)
            assert found["status"] == "broken"
            assert found["summary"] == why.partition(": ")[2]
            assert found["session"][0]["event"] == "Negotiate"
        else:
            assert out.startswith("Negotiate")


def test_odd_ends(mail: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a session in which all went well: each of Postfix's two last ABORTs is answered."""
    answers: dict[type, Answer] = {mp.Abort: frame(b"c")}
    with filter_at(None, lambda: Scripted(answers)) as address:
        assert tools.main(["send", "--to", address, mail]) == 0
    assert "\n(the filter sends 10 bytes more than it was asked for" in capsys.readouterr().out


def test_a_reset_is_an_end(
    mail: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Like another."""

    class Resetting(Scripted):
        def shutdown(self, _how: int, /) -> None:
            self.resets = True

        def recv(self, size: int, /) -> bytes:
            if hasattr(self, "resets"):
                raise ConnectionResetError("reset")
            return super().recv(size)

    monkeypatch.setattr(tools, "_open", lambda *_: Resetting())
    assert tools.main(["send", "--to", "/x", mail]) == 0
    assert capsys.readouterr().out.endswith("accepted\n")


STAGES: list[type] = [
    *(mp.Connect, mp.Helo, mp.MailFrom, mp.RcptTo, mp.Data),
    *(mp.Header, mp.EndOfHeaders, mp.Body, mp.EndOfMessage),
]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(
    ("said", "name"),
    [
        (frame(b"c"), "accepted"),
        (frame(b"a"), "accepted"),
        (frame(b"p") + frame(b"c"), "accepted"),
        (frame(b"r"), "refused"),
        (frame(b"y", b"550 5.7.1 No\0"), "refused"),
        (frame(b"t"), "temporary"),
        (frame(b"y", b"450 4.7.1 Later\0"), "temporary"),
        (frame(b"y", b"421 4.7.0 Bye\0"), "temporary"),
        (frame(b"4"), "temporary"),
        (frame(b"f"), "broken"),
        (frame(b"y", b"250 2.0.0 Fine\0"), "broken"),
        (frame(b"y", b"550 no end"), "broken"),
        (frame(b"\x01"), "broken"),
        (None, "broken"),
    ],
)
def test_the_status_of_each_answer_at_each_stage(
    stage: type, said: Answer, name: str, mail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a number and in JSON."""
    monkeypatch.setattr(tools, "_open", lambda *_: Scripted({stage: said}))
    numbers = {"accepted": 0, "refused": 1, "temporary": 3, "broken": 4}
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert tools.main(["send", "--to", "/x", mail, "--json"]) == numbers[name]
    assert json.loads(out.getvalue())["status"] == name


def test_a_message_that_can_not_be_sent(capsys: pytest.CaptureFixture[str], mail: str) -> None:
    """An error of whoever typed it."""
    with filter_at(None, Scripted) as address:
        assert tools.main(["send", "--to", address, mail, "--from", "a\rb"]) == 4
    assert "control characters" in capsys.readouterr().err


@pytest.mark.parametrize("address", ["127.0.0.1:1", "/no/such", "inet:x" * 20 + ".test:1"])
def test_nobody_there(address: str, mail: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is said what to look at; to scripts, too."""
    text = "Is the filter running, and is that the socket it listens on?"
    for line in (["send", "--to", address, mail], ["check", address]):
        assert tools.main(line) == 4
        out, err = capsys.readouterr()
        assert text in err
        assert out == ""
    assert tools.main(["send", "--to", address, mail, "--json"]) == 4
    found = json.loads(capsys.readouterr().out)
    assert (found["status"], found["session"]) == ("broken", [])
    assert text in found["summary"]


def test_no_room_for_what_is_printed(
    mail: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is not about a file that was read."""
    with filter_at(None, Scripted) as address, Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert tools.main(["send", "--to", address, mail, "--json"]) == 4
        monkeypatch.undo()
        with contextlib.suppress(OSError):
            full.close()
    assert capsys.readouterr().err == "milterproto: [Errno 28] No space left on device\n"


def test_no_message(capsys: pytest.CaptureFixture[str]) -> None:
    """No such file."""
    assert tools.main(["send", "--to", "/x", "/no/such/file"]) == 4
    assert "/no/such/file" in capsys.readouterr().err


def without_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if it were not installed."""
    imported = builtins.__import__

    def missing(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("rich"):
            raise ModuleNotFoundError(name)
        return imported(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)


@pytest.fixture(params=["with rich", "without rich"])
def _installed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "without rich":
        without_rich(monkeypatch)


FOLDED = b"From: a@example.org\nSubject: hi\n\tfolded  \nX:  \n\n[bold]body\xe4 \n"


def folded(message: Message) -> None:
    message.headers.set("Subject", b"new\n\tand folded  \xe2\x80\xa6")


def texts(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    path.write_bytes(FOLDED)
    with filter_at(None, lambda: Polite(folded)) as address:
        assert tools.main(["send", "--to", address, str(path)]) == 0
    return capsys.readouterr().out


def test_plain_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With rich and without it the same, tabs, blanks and all."""
    with_rich = texts(tmp_path / "mail", capsys)
    without_rich(monkeypatch)
    assert texts(tmp_path / "mail", capsys) == with_rich
    assert "\n-\tfolded  \n" in with_rich
    assert "\n+\tand folded  …\n" in with_rich
    assert "\n X:  \n" in with_rich
    assert "\n [bold]body\\xe4 \n" in with_rich


@pytest.mark.usefixtures("_installed")
def test_a_terminal_without_those_letters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gets them escaped."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    texts(tmp_path / "mail", capsys)
    assert b"\n+\tand folded  \\u2026\n" in raw.getvalue()


def test_colours(
    mail: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal, or if they are asked for."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with filter_at(None, lambda: Polite(judge)) as address:
        assert tools.main(["send", "--to", address, mail]) == 0
    out = capsys.readouterr().out
    assert "\x1b[1;31m-Subject: hi\x1b[0m" in out
    assert "\x1b[32m+Subject: new\x1b[0m" in out


# --- record, replay, show --------------------------------------------------------------------


@contextlib.contextmanager
def recording(target: str, file: Path, *options: str) -> Iterator[str]:
    """The recorder as a process; where it listens. It ends by a signal, and with status 0."""
    front = file.with_suffix(".sock")
    line = [sys.executable, "-m", "milterproto", "record", f"unix:{front}", target, str(file)]
    with subprocess.Popen([*line, *options], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            assert process.stderr.readline().endswith("Ctrl-C ends it\n")
            yield f"unix:{front}"
        finally:
            process.send_signal(signal.SIGINT)
            rest = process.stderr.read()
            process.wait(PATIENCE)
    assert (process.returncode, rest) == (0, "")


def record(tmp_path: Path, mail: str, *options: str) -> Path:
    file = tmp_path / "session.jsonl"
    with (
        filter_at(None, lambda: Polite(judge)) as address,
        recording(address, file, *options) as to,
    ):
        assert tools.main(["send", "--to", to, mail]) == 0
    return file


def test_record_and_replay(tmp_path: Path, mail: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The same filter says the same; another does not."""
    file = record(tmp_path, mail)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    capsys.readouterr()
    with filter_at(None, lambda: Polite(judge)) as address:
        assert tools.main(["replay", str(file), address]) == 0
        assert capsys.readouterr().out == "the same\n"
        assert tools.main(["replay", str(file), address, "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == []
    with filter_at(None, lambda: Polite(lambda _message: None)) as address:
        assert tools.main(["replay", str(file), address, "--ignore", "X-Other"]) == 1
        assert "- ChangeHeader 1 Subject new" in capsys.readouterr().out.replace("  ", " ")
        assert tools.main(["replay", str(file), address, "--json"]) == 1
        assert json.loads(capsys.readouterr().out)[0]["why"] == ""
    assert tools.main(["replay", str(file), "/no/such"]) == 4
    assert "Is the filter running" in capsys.readouterr().err


def test_the_end_of_the_recorder_does_not_wait(tmp_path: Path) -> None:
    """For connections that are open: Postfix keeps some for minutes. They are cut."""
    file = tmp_path / "session.jsonl"
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(filter_at(None, Scripted))
        with recording(address, file) as to:
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            sock.settimeout(PATIENCE)
            sock.connect(to.removeprefix("unix:"))
            sock.sendall(mp.MTAConnection().send(mp.offer()))
            assert sock.recv(1 << 16)
        assert sock.recv(1 << 16) == b""
    assert len(file.read_text().splitlines()) == 3


def test_show(tmp_path: Path, mail: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As lines, as JSON, as a picture; with contents, or without."""
    file = str(record(tmp_path, mail))
    capsys.readouterr()
    for options, has in (([], "Continue"), (["--json"], '"event"'), (["--svg"], "<svg ")):
        assert tools.main(["show", file, *options]) == 0
        out = capsys.readouterr().out
        assert has in out
        assert "body" in out
        assert tools.main(["show", file, *options, "--mask"]) == 0
        out = capsys.readouterr().out
        assert has in out
        assert "body" not in out


def test_show_tells_connections_apart(
    tmp_path: Path, mail: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In JSON, too: what was said on which, and when."""
    file = record(tmp_path, mail)
    lines = [json.loads(line) for line in file.read_text().splitlines()[1:]]
    again = [{**line, "connection": 2} for line in lines]
    with file.open("a") as more:
        more.writelines(f"{json.dumps(line)}\n" for line in again)
    capsys.readouterr()
    assert tools.main(["show", str(file), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    for key in ("connection", "seconds", "way"):
        assert [one[key] for one in shown] == [line[key] for line in lines + again]


def test_mask_while_recording(tmp_path: Path, mail: str) -> None:
    """What is masked never gets to the disk."""
    text = record(tmp_path, mail, "--mask").read_text()
    assert "Subject" in text
    assert "body" not in text


def test_what_is_no_transcript(mail: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is said what makes one."""
    for line in (["show", mail], ["replay", mail, "/x"]):
        assert tools.main(line) == 4
        assert "milterproto record" in capsys.readouterr().err


def test_a_file_that_is_there(mail: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is not written over."""
    assert tools.main(["record", "/x", "/y", mail]) == 4
    assert "is there already: remove it, or name another" in capsys.readouterr().err
    assert Path(mail).read_bytes() == MAIL


@pytest.fixture
def _nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What would run until a signal comes."""

    def run(coroutine: Any) -> None:
        coroutine.close()
        raise AssertionError("it runs")

    monkeypatch.setattr(asyncio, "run", run)


@pytest.mark.usefixtures("_nothing_runs")
@pytest.mark.parametrize("address", ["/x", "127.0.0.1:1"])
def test_one_socket_for_both(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would record itself, and that again, and so on."""
    file = tmp_path / "session.jsonl"
    assert tools.main(["record", address, address, str(file)]) == 4
    assert f"{address} can't be the socket of both" in capsys.readouterr().err
    assert not file.exists()


@pytest.mark.usefixtures("_nothing_runs")
def test_a_filter_with_much_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its socket takes no more connections just now, and is not dead for that."""
    path = tmp_path / "filter"
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(path))
        listener.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
                waiting.setblocking(False)
                waiting.connect(str(path))
        assert tools.main(["record", f"unix:{path}", "/y", str(tmp_path / "file")]) == 4
        assert "somebody does so already" in capsys.readouterr().err
        assert path.is_socket()


@pytest.mark.parametrize("unix", [False, True])
def test_a_socket_that_is_taken(
    unix: bool, tmp_path: Path, mail: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is left alone, and no file is left behind, in the way of the next try."""
    file = tmp_path / "session.jsonl"
    with filter_at(tmp_path / "filter" if unix else None, Scripted) as address:
        assert tools.main(["record", address, "/y", str(file)]) == 4
        assert "can't listen at" in capsys.readouterr().err
        assert tools.main(["send", "--to", address, mail]) == 0
    assert not file.exists()


def test_what_a_dead_program_left_behind(tmp_path: Path, mail: str) -> None:
    """A socket that nobody listens on is replaced; a file of another kind is not."""
    front = tmp_path / "session.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(front))
    assert front.exists()
    assert record(tmp_path, mail).exists()
    assert tools.main(["record", f"unix:{mail}", "/y", str(tmp_path / "other")]) == 4
    assert Path(mail).read_bytes() == MAIL


@pytest.mark.parametrize("unix", [False, True])
@pytest.mark.parametrize("there", [False, True])
def test_the_recorder_in_this_process(
    there: bool, unix: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a filter and without: then it closes the MTA's connection, and says why."""
    file, path = tmp_path / "session.jsonl", str(tmp_path / "front")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    front = path if unix else f"127.0.0.1:{port}"
    got: list[bytes] = []

    def talk() -> None:
        with socket.socket(socket.AF_UNIX if unix else socket.AF_INET) as sock:
            sock.settimeout(PATIENCE)
            sock.connect(path if unix else ("127.0.0.1", port))
            with contextlib.suppress(OSError):
                sock.sendall(mp.MTAConnection().send(mp.offer()))
                got.append(sock.recv(1 << 16))

    def mta() -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with contextlib.suppress(ConnectionRefusedError, FileNotFoundError):
                talk()
                break
        if not ended.is_set():  # or pytest would get it
            os.kill(os.getpid(), signal.SIGTERM)

    ended = threading.Event()
    thread = threading.Thread(target=mta)
    with contextlib.ExitStack() as stack:
        target = stack.enter_context(filter_at(None, Scripted)) if there else str(tmp_path / "no")
        thread.start()
        status = tools.main(["record", front, target, str(file)])
        ended.set()
        thread.join(PATIENCE)
        assert status == 0
    err = capsys.readouterr().err
    assert ("Is the filter running?" in err) is not there
    assert bool(got and got[0]) is there
    assert (len(file.read_text().splitlines()) > 1) is there
    assert not Path(path).exists()


def test_a_full_disk(tmp_path: Path, mail: str) -> None:
    """Said once, at once; the mail goes on, and the status is another."""
    file, front = tmp_path / "session.jsonl", tmp_path / "front"
    # As for a disk with room for one and a half kilobytes.
    code = (
        "import resource, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500)); "
        "runpy.run_module('milterproto', run_name='__main__')"
    )
    with filter_at(None, lambda: Polite(judge)) as address:
        line = [sys.executable, "-c", code, "record", f"unix:{front}", address, str(file)]
        with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            assert process.stderr.readline().endswith("Ctrl-C ends it\n")
            for _ in range(2):
                assert tools.main(["send", "--to", str(front), mail]) == 0
            process.send_signal(signal.SIGINT)
            said = process.stderr.read()
    assert said.count("\n") == 1
    assert said.startswith("milterproto: the file can't be written: [Errno 27]")
    assert said.endswith(". From here on it is not complete\n")
    assert process.returncode == 4
    assert file.stat().st_size == 1500


def test_a_full_disk_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Not for each line."""

    class Full(io.StringIO):
        def flush(self) -> None:
            raise OSError(28, "No space left on device")

    writing = tools.Recording(Full(), mask=False)
    writing.line("one")
    writing.line("two")
    assert writing.status == 4
    assert capsys.readouterr().err.count("No space left on device") == 1


def test_nobody_reads_the_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is no reason to keep mail back."""

    class Closed(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError("gone")

    monkeypatch.setattr(sys, "stderr", Closed())
    writing = tools.Recording(Closed(), mask=False)
    writing.line("one")
    assert writing.status == 4


# --- check -----------------------------------------------------------------------------------


def test_check(mail: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A filter that is right; in JSON as well."""
    with filter_at(None, lambda: Polite(judge)) as address:
        assert tools.main(["check", address, "--skip", "hostile", "--message", mail]) == 0
        out = capsys.readouterr().out
        assert out.count("ok ") == len(CHECKS) - 1
        assert "hostile " not in out
        assert tools.main(["check", address, "--json", "--skip", "hostile"]) == 0
        found = json.loads(capsys.readouterr().out)
    names = [check.name for check in CHECKS if check.name != "hostile"]
    assert [one["check"] for one in found] == names
    assert not any(one["findings"] for one in found)


def test_check_finds(capsys: pytest.CaptureFixture[str]) -> None:
    """Warnings leave the status as it is; errors don't."""
    junk: dict[type, Answer] = {str: frame(b"c")}
    quick = ["--skip", "hostile", "--skip", "large"]
    with filter_at(None, lambda: Scripted(junk)) as address:
        assert tools.main(["check", address, *quick]) == 0
        assert "warning web-browser" in capsys.readouterr().out
    with filter_at(None, lambda: Scripted({mp.Unknown: frame(b"a")})) as address:
        assert tools.main(["check", address, *quick]) == 1
        assert "WRONG   unknown " in capsys.readouterr().out


def test_check_of_a_filter_that_dies(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends there, for nothing more can be found."""
    left = [Scripted(), Scripted({mp.Helo: None})]

    def dying(address: Any, timeout: float) -> Scripted:
        if not left:
            raise ConnectionRefusedError("refused")
        return left.pop(0)

    monkeypatch.setattr(tools, "_open", dying)
    assert tools.main(["check", "127.0.0.1:1"]) == 1
    out = capsys.readouterr().out
    assert out.count("takes no connections any more") == 1
    assert "WRONG" in out


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "no answer in 0.2 seconds; --timeout gives it more"),
        (None, f"the filter has closed the connection, and owes a reply{LOG}"),
        (b"220 mx.test ESMTP\r\n", f"it looks like an SMTP server's greeting{LOG}"),
    ],
)
def test_check_of_what_is_no_filter(
    answer: Answer, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said at once, and not by each check."""
    with filter_at(None, lambda: Scripted({mp.Negotiate: answer})) as address:
        waiting = ["--timeout", "0.2"] if answer == b"" else []
        assert tools.main(["check", address, *waiting]) == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{address} does not negotiate as a filter does: " in err
    assert err.endswith(f"{why}\n")


def test_check_of_a_filter_that_negotiates_wrongly(capsys: pytest.CaptureFixture[str]) -> None:
    """It is one, and wrong."""
    wrong = negotiated(steps=1 << 30)
    skipped = [word for one in CHECKS if one.name != "postfix" for word in ("--skip", one.name)]
    with filter_at(None, lambda: Scripted({mp.Negotiate: wrong})) as address:
        assert tools.main(["check", address, *skipped]) == 1
    assert "WRONG   postfix" in capsys.readouterr().out


# --- the rest ----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [[], ["--svg"], ["--json"]])
@pytest.mark.usefixtures("_installed")
def test_a_reader_that_has_seen_enough(
    options: list[str], tmp_path: Path, mail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `head` has."""
    file = str(record(tmp_path, mail))
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as gone:
        monkeypatch.setattr(sys, "stdout", gone)
        assert tools.main(["show", file, *options]) == 4


def test_called_by_a_program(tmp_path: Path, mail: str) -> None:
    """What it prints may go anywhere."""
    file = str(record(tmp_path, mail))
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert tools.main(["show", file]) == 0
    assert "EndOfMessage" in out.getvalue()


def test_ctrl_c(mail: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends a tool without more ado; the status is a shell's."""

    class Stopped(Scripted):
        def recv(self, _size: int, /) -> bytes:
            raise KeyboardInterrupt

    monkeypatch.setattr(tools, "_open", lambda *_: Stopped())
    assert tools.main(["send", "--to", "/x", mail]) == 130


def test_as_a_module(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m milterproto`."""
    monkeypatch.delitem(sys.modules, "milterproto.__main__")
    monkeypatch.setattr(sys, "argv", ["milterproto", "show", "/no/such"])
    with pytest.raises(SystemExit) as exit_:
        runpy.run_module("milterproto", run_name="__main__")
    assert exit_.value.code == 4
