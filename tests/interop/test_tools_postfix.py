"""The recorder between Postfix and OpenDKIM: nothing changes in the mail."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ._opendkim import OpenDKIM
from ._postfix_bed import Bed
from ._sink import Delivery
from ._tools import recorder, tool

pytestmark = pytest.mark.interop

HEAD = (
    b"From: a@example.org\r\nTo: b@example.test\r\nDate: Tue, 24 Nov 2026 04:00:00 +0000\r\n"
    b"Message-Id: <1@example.org>\r\nX-Tight:x\r\nX-Folded: a\r\n\tb\r\nX-Eight: \xff\xe4\r\n"
)
CONTENTS = {
    "small": HEAD + b"\r\nbody\r\n",
    "no-body": HEAD,
    "dots-and-bytes": HEAD + b"\r\n.\r\n..\r\n\xff\xfe\t\r\n \r\n\r\n",
    # Several packets, none of which ends where a line does.
    "large": HEAD
    + b"\r\n"
    + b"\r\n".join(
        bytes(random.Random(line).choices(range(0x20, 0x100), k=700)) for line in range(400)
    )
    + b"\r\n",
}


@pytest.fixture(scope="module")
def opendkim(
    require_program: Callable[[str, str], Path],
    tmp_path_factory: pytest.TempPathFactory,
    _bed: Bed,
) -> Iterator[OpenDKIM]:
    """One that signs what comes from this machine, where the bed expects it."""
    program = require_program("opendkim", "opendkim")
    with OpenDKIM(program, tmp_path_factory.mktemp("opendkim"), _bed.dkim_port) as running:
        yield running


def sent(bed: Bed, service: str, content: bytes) -> Delivery:
    with bed.client(service) as client:
        assert client.message(content).startswith(b"250 ")
        client.quit()
    return bed.delivery()


def signed_at(delivery: Delivery) -> bytes:
    (signature,) = delivery.values(b"DKIM-Signature")
    match = re.search(rb"t=(\d+)", signature)
    assert match
    return match[1]


@pytest.mark.parametrize("name", CONTENTS)
def test_the_mail_is_the_same(bed: Bed, opendkim: OpenDKIM, name: str, tmp_path: Path) -> None:
    """To the byte, signature and all, with the recorder and without it."""
    content, file = CONTENTS[name], tmp_path / "session.jsonl"
    with recorder(f"unix:{bed.other}", f"inet:127.0.0.1:{bed.dkim_port}", file) as said:
        direct, recorded = sent(bed, "dkim", content), sent(bed, "other", content)
        # A signature has the second of its making in it.
        while signed_at(direct) != signed_at(recorded):
            direct, recorded = sent(bed, "dkim", content), sent(bed, "other", content)
    assert said == []
    assert recorded.without_received == direct.without_received
    assert recorded.without_received.endswith(content)
    assert "succeeded" in opendkim.verify(recorded.content)
    assert tool("show", file, "--svg").stdout.startswith("<svg ")
    # What Postfix said, OpenDKIM answers again as it did.
    line = ("replay", str(file), f"127.0.0.1:{bed.dkim_port}", "--ignore", "DKIM-Signature")
    done = tool(*line)
    assert (done.returncode, done.stdout) == (0, "the same\n")


def test_a_filter_that_is_not_there(bed: Bed, tmp_path: Path) -> None:
    """Postfix does what it does without a recorder: milter_default_action."""
    none, file = str(tmp_path / "none"), tmp_path / "session.jsonl"
    with recorder(f"unix:{bed.other}", none, file) as said, bed.client("other") as client:
        assert client.command(b"MAIL FROM:<a@example.org>").startswith(b"451 4.7.1 ")
        client.quit()
    assert said
    assert all("Is the filter running?" in line for line in said)
