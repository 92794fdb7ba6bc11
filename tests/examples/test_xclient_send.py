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
    assert capsys.readouterr().err.startswith("the server offers no XCLIENT")
    assert double.said == []
