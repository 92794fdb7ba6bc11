"""The manual's adapter for Twisted, driven by our MTA's side."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import milterproto as mp

from .adapter_hosts import MTA, PATIENCE

EXAMPLE = Path(__file__).parents[2] / "examples" / "twisted_filter.py"


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """Where it listens, until SIGTERM."""
    path = tmp_path / "filter"
    with subprocess.Popen(
        [sys.executable, "-W", "error", EXAMPLE, f"unix:{path}"], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert "listening on" in process.stderr.readline()
        yield path
        process.terminate()
        rest = process.stderr.read()
        assert process.wait(PATIENCE) == 0
    assert "Traceback" not in rest


def negotiated(path: Path) -> MTA:
    mta = MTA(path, begin=False)
    mta.say(mp.offer())
    return mta


def test_two_messages_and_the_end(path: Path) -> None:
    """Verdicts at once and later, and a close after QUIT."""
    mta = negotiated(path)
    for _ in range(2):
        (refusal,) = mta.say(mp.RcptTo(b"<nobody@example.test>"))
        assert isinstance(refusal, mp.ReplyCode)
        assert mta.say(mp.RcptTo(b"<b@y.test>")) == [mp.Continue()]
        told = mta.say(mp.EndOfMessage())
        assert told == [mp.AddHeader(b"X-Checked", b"with Twisted"), mp.Accept()]
    mta.say(mp.Quit())
    assert mta.is_closed()
    mta.socket.close()


def test_one_broken_connection_never_disturbs_another(path: Path) -> None:
    """It is told what can be told, and closed."""
    good, bad, gone = negotiated(path), negotiated(path), negotiated(path)
    bad.socket.sendall(b"\0\0\0\x01R")
    assert bad.socket.recv(100) == b"\0\0\0\x01t"
    assert bad.is_closed()
    gone.say(mp.RcptTo(b"<b@y.test>"))
    gone.send(mp.EndOfMessage())
    gone.socket.close()
    assert len(good.say(mp.RcptTo(b"<b@y.test>"), mp.EndOfMessage())) == 2
    for mta in (good, bad):
        mta.socket.close()
