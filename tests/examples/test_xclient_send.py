"""The example that asks as another client, with its own server's double."""

from __future__ import annotations

import smtplib
import sys
from typing import Any, Self

import pytest
import xclient_send as example

OFFER = b"mta.test\nXCLIENT NAME ADDR PORT"


class Double:
    """What smtplib would have talked to: replies by the first word of a command."""

    def __init__(self, replies: dict[str, tuple[int, bytes]], offer: bytes = OFFER) -> None:
        self.replies = replies
        self.ehlo_resp = offer
        self.said: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass

    def ehlo_or_helo_if_needed(self) -> None:
        pass

    def docmd(self, line: str) -> tuple[int, bytes]:
        self.said.append(line)
        return self.replies.get(line.split(maxsplit=1)[0], (250, b"ok"))


def run(monkeypatch: pytest.MonkeyPatch, double: Double, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["xclient_send.py", "mta.test:25", *arguments])
    monkeypatch.setattr(smtplib, "SMTP", lambda *_arguments, **_options: double)
    return example.main()


ACCEPTED = {"XCLIENT": (220, b"mta.test ESMTP")}
ASK = ("--addr", "192.0.2.1", "--to", "b@example.test")


def test_it_asks_as_the_client(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What can't be told is said."""
    double = Double(ACCEPTED)
    assert run(monkeypatch, double, *ASK, "--login", "ann", "--name", "a.example") == 0
    assert double.said == [
        "XCLIENT NAME=a.example ADDR=192.0.2.1",
        "EHLO client.example",
        "MAIL FROM:<>",
        "RCPT TO:<b@example.test>",
    ]
    assert "not told: LOGIN, for the server does not offer LOGIN" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("replies", "said"),
    [
        ({"XCLIENT": (550, b"not you")}, 1),
        ({"XCLIENT": (554, b"not him")}, 1),
        ({**ACCEPTED, "MAIL": (450, b"later")}, 3),
    ],
)
def test_it_ends_at_a_refusal(
    monkeypatch: pytest.MonkeyPatch, replies: dict[str, Any], said: int
) -> None:
    """Above all it does not go on as itself."""
    double = Double(replies)
    assert run(monkeypatch, double, *ASK) == 1
    assert len(double.said) == said


def test_what_can_not_be_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Is one line, and nothing is said to the server."""
    double = Double(ACCEPTED, offer=b"mta.test\nSIZE")
    assert run(monkeypatch, double, *ASK) == 2
    assert "LocalProtocolError: the server offers no XCLIENT" in capsys.readouterr().err
    assert double.said == []


@pytest.mark.parametrize(
    ("replies", "status", "text"),
    [
        ({"XCLIENT": (354, b"go on")}, 2, "neither 220, 250 nor a refusal"),
        ({"XCLIENT": (-1, b"garbage")}, 2, "neither 220, 250 nor a refusal"),
        ({**ACCEPTED, "MAIL": (250, b"")}, 0, "MAIL FROM:<>\n    250 \n"),
        ({**ACCEPTED, "MAIL": (-1, b"garbage")}, 1, "-1 garbage"),
        ({**ACCEPTED, "MAIL": (354, b"")}, 1, "354"),
        ({**ACCEPTED, "RCPT": (550, b"n\xc3\xa9\x1b[31m\nno")}, 1, r"550 n\xc3\xa9\x1b[31m / no"),
    ],
)
def test_odd_replies(
    replies: dict[str, Any],
    status: int,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No traceback, nothing that moves the cursor, and nothing odd is taken for a yes."""
    assert run(monkeypatch, Double(replies), *ASK) == status
    output = capsys.readouterr()
    assert text in output.out + output.err


@pytest.mark.parametrize("option", ["--to", "--from", "--helo"])
@pytest.mark.parametrize("value", ["a\r\nRCPT TO:<evil>", "\u00e9@x.test", "a\x00"])
def test_what_can_not_stand_in_a_command(
    option: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is refused before anybody is connected to."""
    double = Double(ACCEPTED)
    with pytest.raises(SystemExit) as caught:
        run(monkeypatch, double, *ASK, option, value)
    assert caught.value.code == 2
    assert "is not printable ASCII" in capsys.readouterr().err
    assert double.said == []


@pytest.mark.parametrize("server", ["a..test:25", "127.0.0.1:99999999", "127.0.0.1:x"])
def test_a_server_that_can_not_be(
    server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line."""
    monkeypatch.setattr(sys, "argv", ["xclient_send.py", server, *ASK])
    assert example.main() == 2
    assert capsys.readouterr().err.count("\n") == 1
