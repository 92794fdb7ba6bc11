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


PAUSED = r"""
import twisted_filter as one
from twisted.internet import defer, protocol
from twisted.internet.testing import StringTransport
import milterproto as mp
from adapters.services import milter

later = defer.Deferred()

def handle(event):
    if isinstance(event, mp.RcptTo):
        return defer.succeed(None).addCallback(lambda _: later)  # called, and yet not there

factory = protocol.Factory.forProtocol(one.MilterProtocol)
factory.service = milter(lambda _: handle, mp.Wants())
peer, transport, mta = factory.buildProtocol(None), StringTransport(), mp.MTAConnection()
peer.makeConnection(transport)

def say(command):
    peer.dataReceived(mta.send(command))

def heard():
    mta.receive_data(transport.value())
    transport.clear()
    return list(mta.events())

say(mp.offer()), heard()
say(mp.MailFrom(b"<a@x.test>")), heard()
say(mp.RcptTo(b"<b@y.test>"))
assert transport.value() == b""
peer.dataReceived(b"\0\0\xff\xff" + b"DR" + bytes(65533))
assert transport.producerState == "paused", transport.producerState
later.callback(mp.Reject())
assert heard() == [mp.Reject()]
assert transport.producerState == "producing", transport.producerState
print("done")
"""


def test_a_deferred_that_is_called_and_not_there() -> None:
    """It is waited for like any other; and meanwhile no more is read than a little."""
    done = subprocess.run(
        [sys.executable, "-c", PAUSED],
        cwd=EXAMPLE.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "done\n", done.stderr
