"""A real gateway: spampd with SpamAssassin, without network."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ._postfix import free_port
from ._postfix_bed import Bed
from ._smtp_milter import configuration, smtp_milter
from ._spampd import GTUBE, Recorder, Spampd

HEADER = (
    b"From: a@example.org\r\nTo: b@example.test\r\nDate: Tue, 24 Nov 2026 04:00:00 +0000\r\n"
    b"Message-Id: <1@example.org>\r\nSubject: Lunch\r\n  at noon?\r\nX-A: 1\r\nX-A: 2\r\n\r\n"
)
HAM = HEADER + b"Hello Bob,\r\n.shall we have lunch at noon?\r\n\r\nAnn\r\n"
SPAM = HEADER + GTUBE + b"\r\n"


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    with Recorder(free_port()) as running:
        yield running


@pytest.fixture(scope="module")
def spampd(
    postfix_program: Path, require_program: Callable[[str, str], Path], recorder: Recorder
) -> Iterator[Spampd]:
    program = require_program("spampd", "spampd")
    require_program("spamassassin", "spamassassin")
    root = Path(tempfile.mkdtemp(prefix="mailwire-"))
    try:
        root.chmod(0o755)
        with Spampd(program, root, recorder.port) as running:
            yield running
            print(running.log.read_text())
    finally:
        shutil.rmtree(root, ignore_errors=True)


def without_ours(content: bytes) -> bytes:
    """The message that came back to the sink, but for the mark and the Received field on top."""
    return re.sub(
        rb"(?m)^(?:X-SMTP-Milter-Mark|Received): [^\r]*\r\n(?:[ \t][^\r]*\r\n)*", b"", content
    )


@pytest.mark.parametrize(
    "way", [["header", "xforward", "echo"], ["header"], ["xforward"], ["echo"]]
)
def test_spam_and_ham(
    bed: Bed, tmp_path: Path, spampd: Spampd, recorder: Recorder, way: list[str]
) -> None:
    """Tagged, or only marked; what arrives is what spampd has handed on, to the byte."""
    settings = configuration(
        bed,
        spampd.port,
        sink=recorder.sink_port,
        gateway={"received_line": True, "connections": 3},
        sink_settings={"known_by": way},
    )
    recorder.clear()
    with smtp_milter(tmp_path, settings) as program, bed.client("other") as client:
        for content in (HAM, SPAM, HAM):
            assert client.message(content).startswith(b"250 "), program.log
        client.quit()
        deliveries = [bed.delivery() for _ in range(3)]
    by_hand = [without_ours(one) for one in recorder.contents]
    # A field that is only folded otherwise is left as it was.
    folded = [one.replace(b"Lunch at", b"Lunch\r\n  at") for one in by_hand]
    assert sorted(one.without_received for one in deliveries) == sorted(folded)
    (spam,) = [one for one in deliveries if one.values(b"X-Spam-Flag")]
    assert b"GTUBE" in spam.values(b"X-Spam-Status")[0]
    assert spam.values(b"Subject")[0].lstrip().startswith(b"[SPAM] Lunch")
    for one in deliveries:
        assert one.values(b"X-Spam-Checker-Version")
        assert one.values(b"X-A") == [b" 1", b" 2"]
        assert not one.values(b"X-SMTP-Milter-Mark")
