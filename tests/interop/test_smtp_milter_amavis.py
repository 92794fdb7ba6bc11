"""Another real gateway: amavisd, which takes a message, checks it, and hands it on itself."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ._amavis import Amavis
from ._postfix import free_port
from ._postfix_bed import Bed
from ._smtp_milter import configuration, smtp_milter
from ._spampd import GTUBE, Recorder

HEADER = (
    b"From: a@example.org\r\nTo: b@example.test\r\nDate: Tue, 24 Nov 2026 04:00:00 +0000\r\n"
    b"Message-Id: <1@example.org>\r\nSubject: Lunch at noon?\r\nX-A: 1\r\nX-A: 2\r\n\r\n"
)
HAM = HEADER + b"Hello Bob,\r\n.shall we have lunch at noon?\r\n\r\nAnn\r\n"
SPAM = HEADER + GTUBE + b"\r\n"
BOTH = (b"<b@example.test>", b"<c@example.test>")


@pytest.fixture(scope="module")
def program(postfix_program: Path, require_program: Callable[[str, str], Path]) -> Path:
    return require_program("amavisd", "amavisd-new")


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="mailwire-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


def without_ours(content: bytes) -> bytes:
    """What came back, but for the mark, and the Received fields of ours and of amavisd."""
    return re.sub(
        rb"(?m)^(?:X-SMTP-Milter-Mark|Received): [^\r]*\r\n(?:[ \t][^\r]*\r\n)*", b"", content
    )


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    with Recorder(free_port()) as running:
        yield running


@pytest.fixture(scope="module")
def tagging(program: Path, root: Path, recorder: Recorder) -> Iterator[Amavis]:
    (root / "tagging").mkdir()
    with Amavis(program, root / "tagging", recorder.port, kill_level=9999) as running:
        yield running
        print(running.log.read_text())


@pytest.mark.parametrize("way", [["header", "xforward", "echo"], ["xforward"], ["echo"]])
def test_what_it_tags(
    bed: Bed, tmp_path: Path, tagging: Amavis, recorder: Recorder, way: list[str]
) -> None:
    """It arrives as amavisd has made it; and each way to know it again works alone."""
    settings = configuration(
        bed,
        tagging.port,
        sink=recorder.sink_port,
        gateway={"connections": 2},
        sink_settings={"known_by": way},
    )
    recorder.clear()
    with smtp_milter(tmp_path, settings), bed.client("other") as client:
        for content in (HAM, SPAM):
            reply = client.message(content, recipients=BOTH)
            # Each of its two processes keeps a connection to the sink, and finds out only when it
            # uses it that we have been started again.
            for _ in range(2):
                if reply.startswith(b"451 4.5.0 ") and b"on relaying" in reply:
                    reply = client.message(content, recipients=BOTH)
            assert reply.startswith(b"250 ")
        client.quit()
    ham, spam = bed.delivery(), bed.delivery()
    if ham.values(b"X-Spam-Flag") == [b" YES"]:
        ham, spam = spam, ham
    came_back = list(map(without_ours, recorder.contents))
    assert [one.without_received for one in (ham, spam)] == came_back
    assert spam.values(b"Subject") == [b" [SPAM] Lunch at noon?"]
    assert spam.values(b"X-Spam-Flag") == [b" YES"]
    assert ham.values(b"X-Spam-Flag") == [b" NO"]
    assert ham.addresses == spam.addresses == list(BOTH)


def test_what_it_refuses(bed: Bed, tmp_path: Path, program: Path, root: Path) -> None:
    """The client hears amavisd's own words, and nothing is delivered."""
    folder = root / "refused"
    folder.mkdir()
    sink = free_port()
    with Amavis(program, folder, sink, kill_level=100) as amavis:
        settings = configuration(bed, amavis.port, sink=sink, gateway={"connections": 2})
        with smtp_milter(tmp_path, settings), bed.client("other") as client:
            reply = client.message(SPAM)
            assert client.message(HAM).startswith(b"250 ")
            client.quit()
        assert bed.delivery().values(b"X-Spam-Flag") == [b" NO"]
    assert reply.startswith(b"554 5.7.0 Reject, id="), reply
    assert b"spam" in reply
