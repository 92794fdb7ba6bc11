"""The example programs as programs: their options, and how systemd starts them."""

from __future__ import annotations

import configparser
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import milterproto as mp

from .adapter_hosts import MTA, PATIENCE

EXAMPLES = Path(__file__).parents[2] / "examples"
UNITS = EXAMPLES / "systemd"
SERVICES = sorted(UNITS.glob("*.service"))
DAEMONS = sorted((EXAMPLES / "mailfront" / "systemd").glob("*.service"))


@contextmanager
def running(*command: str | Path, **environment: str) -> Iterator[tuple[list[str], list[str]]]:
    """A program until SIGTERM; its first line, and all of it in the end."""
    first: list[str] = []
    rest: list[str] = []
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
        cwd=EXAMPLES.parent,
    ) as process:
        assert process.stderr is not None
        first.append(process.stderr.readline())
        try:
            yield first, rest
        finally:
            process.terminate()
            rest += process.stderr.readlines()
        assert process.wait(PATIENCE) == 0, [*first, *rest]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """A program that ends by itself."""
    return subprocess.run(
        [sys.executable, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=EXAMPLES,
    )


@pytest.mark.parametrize("adapter", ["asyncio", "trio", "threads"])
@pytest.mark.parametrize("in_thread", [[], ["--in-thread"]], ids=["", "in-thread"])
def test_any_adapter_by_one_option(tmp_path: Path, adapter: str, in_thread: list[str]) -> None:
    """It says where it listens, serves there with the mode asked for, and stops when told."""
    path = tmp_path / "filter"
    options = ["--adapter", adapter, "--listen", f"unix:{path}", "--mode", "600", *in_thread]
    with running(sys.executable, EXAMPLES / "tag_mail.py", *options) as (first, rest):
        assert first == [f"INFO: listening on unix:{path}\n"]
        assert path.stat().st_mode & 0o777 == 0o600
        MTA(path).socket.close()
    assert rest == ["INFO: stopped\n"]


@pytest.mark.parametrize("host", ["inet:127.0.0.1:", "inet6:[::1]:"])
def test_the_kernel_may_choose_a_port(host: str) -> None:
    """Port 0, and the log says which."""
    with running(sys.executable, EXAMPLES / "tag_mail.py", "--listen", host + "0") as (first, _):
        address = first[0].removeprefix("INFO: listening on ").rstrip()
        assert address.startswith(host)
        port = int(address.rpartition(":")[2])
        with socket.create_connection(("::1" if "6" in host else "127.0.0.1", port), PATIENCE):
            pass


def test_what_can_not_be_listened_on(tmp_path: Path) -> None:
    """One line, and no traceback."""
    (tmp_path / "file").touch()
    done = run("tag_mail.py", "--listen", f"unix:{tmp_path}/file")
    assert done.returncode == 1
    assert done.stderr.startswith(f"can't listen on unix:{tmp_path}/file: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["tag_mail.py", "--tag", "größer"], "'größer' is not printable ASCII"),
        (["tag_mail.py", "--mode", "999"], "'999' is no octal number, such as 660"),
        (["tag_mail.py", "--listen", "inet:127.0.0.1:99999"], "99999 is no port"),
        (["tag_mail.py", "--listen", "unix"], "'unix' is not unix:/path"),
        (["check_body.py"], "nothing to look for"),
        (["check_body.py", "--hold", "("], "'(': missing )"),
        (["refuse_recipients.py", "no-such-file"], "no-such-file: [Errno 2] No such file"),
        (["refuse_recipients.py", "check_body.py"], "check_body.py: line 1 is not like this"),
    ],
)
def test_a_wrong_command_line_is_explained(arguments: list[str], complaint: str) -> None:
    """No traceback."""
    done = run(*arguments)
    assert done.returncode in (1, 2)
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["tag_mail.py", "refuse_recipients.py", "check_body.py"])
def test_help_shows_what_the_program_says_of_itself(name: str) -> None:
    """As it is laid out there."""
    done = run(name, "--help")
    assert done.returncode == 0
    assert "    " in done.stdout.partition("options:")[0]


def command_of(service: Path) -> list[str]:
    """A unit's ExecStart, as it is on this machine."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.read(service)
    python, script, *arguments = shlex.split(parser["Service"]["ExecStart"])
    assert python == "/opt/mailwire/.venv/bin/python"
    assert script.startswith("/opt/mailwire/examples/")
    return [sys.executable, str(EXAMPLES / Path(script).name), *arguments]


@pytest.mark.interop
@pytest.mark.parametrize("service", [*SERVICES, *DAEMONS], ids=lambda path: path.stem)
def test_systemd_finds_no_fault_with_the_units(
    service: Path, tmp_path: Path, require_program: Callable[[str, str], Path]
) -> None:
    """No unknown setting, no misspelt value."""
    analyze = require_program("systemd-analyze", "systemd")
    for unit in (service, service.with_suffix(".socket")):
        text = unit.read_text().replace("/opt/mailwire/.venv/bin/python", sys.executable)
        (tmp_path / unit.name).write_text(text)
    done = subprocess.run(
        [analyze, "verify", tmp_path / service.name, tmp_path / f"{service.stem}.socket"],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    about_ours = [line for line in done.stderr.splitlines() if str(tmp_path) in line]
    assert about_ours == []
    assert done.returncode == 0, done.stderr


@pytest.mark.interop
@pytest.mark.parametrize("adapter", ["asyncio", "trio", "threads"])
@pytest.mark.parametrize("service", SERVICES, ids=lambda path: path.stem)
def test_a_socket_from_systemd(
    service: Path, adapter: str, tmp_path: Path, require_program: Callable[[str, str], Path]
) -> None:
    """The unit's command serves on the socket that it is given, by systemd's own program."""
    activate = require_program("systemd-socket-activate", "systemd")
    recipients = tmp_path / "recipients"
    recipients.write_text("nobody@example.test 550 5.1.1 No such user here\n")
    path = tmp_path / "filter"
    command = command_of(service)
    command = [recipients.as_posix() if "/etc/" in word else word for word in command]
    with running(activate, "--listen", str(path), *command, "--adapter", adapter) as (first, rest):
        assert "Listening on" in first[0]
        mta = MTA(path, begin=False)
        mta.say(mp.offer())  # what was sent while nothing ran is not lost
        mta.socket.close()
    log = "".join(rest)
    assert f"listening on unix:{path}" in log
    assert log.endswith("INFO: stopped\n")
