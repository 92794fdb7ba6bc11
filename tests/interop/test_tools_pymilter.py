"""send, check, record and replay, with pymilter's sample filter."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ._pymilter import MODULE, NoSampleError, Sample
from ._tools import recorder, tool

pytestmark = pytest.mark.interop

# The sample takes programs out of messages.
MAIL = (
    b"From: a@example.org\r\nSubject: hi\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n"
    b'Content-Type: application/octet-stream; name="virus.exe"\r\n\r\nMZ\r\n--x--\r\n'
)


@pytest.fixture(scope="module")
def sample(
    require_program: Callable[[str, str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sample]:
    """The running filter."""
    require_program(MODULE, "python3-milter")
    found = Sample(tmp_path_factory.mktemp("pymilter"))
    try:
        found.fetch()
    except NoSampleError as error:
        reason = f"pymilter's source can't be got from a package index: {error}"
        if os.environ.get("MAILWIRE_REQUIRE_SERVERS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with found:
        yield found


def test_send(sample: Sample) -> None:
    """The new body is in the diff; one that looks like spam is refused."""
    done = tool("send", "--to", f"unix:{sample.path}", "-", stdin=MAIL)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert '-Content-Type: application/octet-stream; name="virus.exe"' in lines
    assert "+This message appeared to contain a virus." in lines
    done = tool("send", "--to", f"unix:{sample.path}", "-", stdin=b"Subject: FREE\n\n\n")
    assert done.returncode == 1
    assert done.stdout.endswith("refused at Header: Reject\n")


def test_check(sample: Sample) -> None:
    """What libmilter does wrong, and what the sample does: see the manual's page."""
    done = tool("check", str(sample.path), "--timeout", "1", "--json")
    found = {one["check"]: one["findings"] for one in json.loads(done.stdout) if one["findings"]}
    assert found == {"data-again": ["no answer to RcptTo"]}


def test_record_and_replay(sample: Sample, tmp_path: Path) -> None:
    """It says the same again of a message that it leaves alone."""
    front, file = tmp_path / "front", tmp_path / "session.jsonl"
    plain = b"From: a@example.org\nSubject: hi\n\nbody\n"
    with recorder(f"unix:{front}", f"unix:{sample.path}", file):
        assert tool("send", "--to", str(front), "-", stdin=plain).returncode == 0
    done = tool("replay", file, sample.path)
    assert (done.returncode, done.stdout) == (0, "the same\n")
