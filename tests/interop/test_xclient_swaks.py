"""swaks sends XCLIENT to our receiver, as somebody who tries out a server would do."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ._postfix import PATIENCE
from ._program import Program


@pytest.fixture
def swaks(require_program: Callable[[str, str], Path]) -> Path:
    return require_program("swaks", "swaks")


def send(swaks: Path, program: Program, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What swaks says of a mail, and of all that leads to it."""
    return subprocess.run(
        [
            *(swaks, "--server", program.log[0].rpartition(" ")[2], "--helo", "client.test"),
            *("--from", "a@example.org", "--to", "b@example.test", *arguments),
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def said(program: Program) -> list[str]:
    return [line for line in program.log if line.startswith("mail: ")]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            [
                "--xclient-addr",
                "192.0.2.1",
                "--xclient-name",
                "a.example",
                "--xclient-login",
                "ann",
            ],
            "addr=192.0.2.1 name=a.example login=ann",
        ),
        (
            # Two commands: what the last one does not have of the login is gone.
            ["--xclient", "NAME=[TEMPUNAVAIL] LOGIN=ann", "--xclient", "addr=ipv6:2001:DB8::1"],
            "addr=2001:db8::1 name=[TEMPUNAVAIL]",
        ),
        (
            ["--xclient", "ADDR=192.0.2.1 LOGIN=ann+20lee+2B PORT=7"],
            "addr=192.0.2.1 login=ann+20lee+2B",
        ),
    ],
    ids=["options", "two commands", "xtext"],
)
def test_our_receiver_knows_the_client(swaks: Path, arguments: Sequence[str], told: str) -> None:
    """Who it is that swaks plays."""
    options = ("--port", "0", "--trust", "127.0.0.1", "--login")
    with Program("xclient_receiver.py", *options) as program:
        done = send(swaks, program, *arguments)
    assert done.returncode == 0, done.stdout
    (line,) = said(program)
    assert line == f"mail: {told} helo=client.test from=a@example.org to=b@example.test"


def test_who_is_not_trusted_is_not_offered_it(swaks: Path) -> None:
    """And swaks ends there."""
    with Program("xclient_receiver.py", "--port", "0") as program:
        done = send(swaks, program, "--xclient-addr", "192.0.2.1")
        assert "did not advertise XCLIENT" in done.stdout + done.stderr
    assert said(program) == []
