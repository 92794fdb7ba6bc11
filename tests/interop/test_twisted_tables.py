"""Our tcp_table client asks the one server in Python that is not ours: Twisted's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tcptable.__main__ import main

SERVER = """
from twisted.internet import reactor
from twisted.protocols.postfix import PostfixTCPMapDictServerFactory
factory = PostfixTCPMapDictServerFactory({b"ann": b"100% there", b"8%25": "grün".encode()})
port = reactor.listenTCP(0, factory, interface="127.0.0.1")
print(port.getHost().port, flush=True)
reactor.run()
"""


@pytest.fixture
def address() -> Iterator[str]:
    """Where it listens, until it is ended."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield f"127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.terminate()


def test_its_answers_are_understood(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Also those that show its faults: it decodes no key, and the empty one is an error to it."""
    assert main(["get", address, "ann", "bob", "8%", ""]) == 2
    assert capsys.readouterr().out == (
        "ann: found: 100% there\n"
        "bob: not found ()\n"
        "8%: found: grün\n"
        ": temporary error (unknown command)\n"
    )
