"""The mail front where something is in its way; that it works is an interop test's."""

from __future__ import annotations

import contextlib
import os
import socket
import string
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from mailfront import _front, stack
from mailfront._front import MailFront, MissingError, Ports
from mailfront._processes import Process, StartError, is_open


@pytest.mark.parametrize(
    ("missing", "package"),
    [("postfix", "postfix"), ("nginx", "nginx"), ("openssl", "openssl")],
)
def test_a_server_that_is_missing_is_named_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str, package: str
) -> None:
    """Before anything is started."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in {"postfix", "nginx", "openssl"} - {missing}:
        (programs / name).touch(0o755)
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "ngx_mail_module.so").touch()
    monkeypatch.setattr(_front, "PATH", str(programs))
    monkeypatch.setattr(_front, "NGINX_MODULES", modules)
    with pytest.raises(MissingError, match=f"{missing} is missing: Debian package {package}"):
        MailFront(tmp_path, Ports())


def test_the_mail_module_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """nginx is there, and can't proxy mail."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("postfix", "nginx"):
        (programs / name).touch(0o755)
    monkeypatch.setattr(_front, "PATH", str(programs))
    monkeypatch.setattr(_front, "NGINX_MODULES", tmp_path)
    with pytest.raises(MissingError, match="libnginx-mod-mail"):
        MailFront(tmp_path, Ports())


def test_who_is_not_root_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that helps."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "argv", ["stack.py"])
    with pytest.raises(SystemExit, match="sudo make stack"):
        stack.main()


def test_every_place_in_the_settings_is_filled_in() -> None:
    """A name that nobody knows would end the start; one that nobody uses is a leftover."""
    names = {field for template in _front.CONFIG.iterdir() for field in fields_of(template)}
    ports = {field.name for field in Ports.__attrs_attrs__}
    others = {
        *("root", "plan", "secret", "nginx_modules", "command_directory", "daemon_directory"),
        *("milters", "transport", "submission"),
    }
    assert names == (ports | others) - {"paid", "trial"}


def fields_of(template: Path) -> list[str]:
    text = _front.Template(template.read_text())
    assert issubclass(_front.Template, string.Template)
    assert text.is_valid(), template
    return text.get_identifiers()


@pytest.mark.parametrize("as_path", [True, False])
def test_whether_somebody_listens(tmp_path: Path, as_path: bool) -> None:
    """On a port, or on a unix socket."""
    family = socket.AF_UNIX if as_path else socket.AF_INET
    with contextlib.closing(socket.socket(family)) as listener:
        listener.bind(str(tmp_path / "socket") if as_path else ("127.0.0.1", 0))
        where = tmp_path / "socket" if as_path else listener.getsockname()[1]
        assert not is_open(where)
        listener.listen()
        assert is_open(where)
    assert not is_open(where)


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], Process]:
    def make(code: str) -> Process:
        address = tmp_path / "socket"
        command = (sys.executable, "-c", code, address)
        return Process("the program", command, address, tmp_path / "log")

    return make


LISTENS = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen()\n"


def test_a_program_that_ends_at_once(program: Callable[[str], Process]) -> None:
    """What it said last is shown, for the folder with its log goes."""
    process = program("import sys; sys.exit('no way')")
    with pytest.raises(StartError, match=r"does not come up\. It says:\nno way"):
        process.start()
    assert process.log.read_text() == "no way\n"


@pytest.mark.parametrize("how", [Process.stop, Process.kill])
def test_a_program_comes_and_goes(
    program: Callable[[str], Process], how: Callable[[Process], None]
) -> None:
    """And may be started again; one that is not there can be stopped."""
    process = program(
        "import os, sys; os.path.exists(sys.argv[1]) and os.unlink(sys.argv[1])\n"
        + LISTENS
        + "while s.accept(): pass"
    )
    process.stop()
    for _ in range(2):
        process.start()
        assert is_open(process.address)
        how(process)
        assert not is_open(process.address)


def test_a_program_that_stays(
    program: Callable[[str], Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is killed in the end."""
    process = program(
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        + LISTENS
        + "while s.accept(): pass"
    )
    process.start()
    monkeypatch.setattr("mailfront._processes.PATIENCE", 0.2)
    process.stop()
    assert not is_open(process.address)
