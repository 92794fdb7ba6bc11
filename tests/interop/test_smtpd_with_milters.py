"""The example's SMTP server with filters of other makes: one on libmilter, and then OpenDKIM."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.examples.smtpd_host import smtpd

from ._libmilter import Program, build, on
from ._opendkim import OpenDKIM
from ._postfix import PATIENCE, free_port
from ._postfix_client import Client

pytestmark = pytest.mark.interop

CONTENT = (
    b"From: a@example.org\r\nTo: b@example.test\r\nSubject: hi\r\n"
    b"Date: Tue, 24 Nov 2026 04:00:00 +0000\r\nMessage-Id: <1@example.org>\r\n\r\nbody\r\n"
)


@pytest.fixture
def peer(tmp_path: Path, require_program: Callable[[str, str], Path]) -> Iterator[Program]:
    """A filter on libmilter."""
    require_program("gcc", "gcc")
    require_program("/usr/include/libmilter/mfapi.h", "libmilter-dev")
    with (
        tempfile.TemporaryDirectory(prefix="mailwire-") as directory,
        Program(build(tmp_path), Path(directory) / "filter") as running,
    ):
        yield running


@pytest.fixture
def dkim_port() -> int:
    return free_port()


@pytest.fixture
def opendkim(
    require_program: Callable[[str, str], Path], tmp_path: Path, dkim_port: int
) -> Iterator[OpenDKIM]:
    program = require_program("opendkim", "opendkim")
    with OpenDKIM(program, tmp_path, dkim_port) as running:
        yield running


def test_one_after_the_other(peer: Program, opendkim: OpenDKIM, dkim_port: int) -> None:
    """OpenDKIM signs what the first filter has made of the message; a refusal comes in between."""
    milters = (f"unix:{peer.path}", f"inet:127.0.0.1:{dkim_port}")
    with smtpd(*milters) as (port, taken), Client(port, PATIENCE) as client:
        client.must(b"250", b"EHLO client.test")
        peer.script(
            on("eom", "chgheader", 1, b"Subject", b"new"), on("eom", "replacebody", b"new body\r\n")
        )
        assert client.message(CONTENT).startswith(b"250 ")
        message = taken.get(timeout=PATIENCE)
        assert message.headers[0].name == b"DKIM-Signature"
        assert message.headers.get("Subject") == b"new"
        assert message.body == b"new body\r\n"
        assert "succeeded" in opendkim.verify(message.content)
        for stage, command in (("rcpt", "RCPT"), ("data", "DATA"), ("body", "content")):
            peer.script(on(stage, "setreply", b"550", b"5.7.1", b"No"), on(stage, "reject"))
            replies = client.walk(CONTENT)
            assert list(replies)[-1] == command
            assert replies[command] == b"550 5.7.1 No"
            client.must(b"250", b"RSET")
        peer.script()
        assert client.message(CONTENT).startswith(b"250 ")
        assert taken.get(timeout=PATIENCE).headers.get("Subject") == b"hi"
        client.quit()
