"""The manual's adapter for Twisted, behind a real Postfix."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ._postfix_bed import Bed
from ._program import Program

REST = (
    b"Subject: hello\r\nFrom: a@example.org\r\nDate: Tue, 24 Nov 2026 04:00:00 +0000\r\n"
    b"Message-Id: <1@example.org>\r\n"
)


@pytest.fixture
def program(bed: Bed) -> Iterator[Program]:
    # Twisted replaces no stale socket but its own.
    bed.other.unlink(missing_ok=True)
    with Program("twisted_filter.py", f"unix:{bed.other}:mode=666") as running:
        yield running


@pytest.mark.usefixtures("program")
def test_messages_on_one_connection(bed: Bed) -> None:
    """One recipient refused, the others get every byte and the header."""
    with bed.client("other") as client:
        for _ in range(2):
            client.must(b"250", b"MAIL FROM:<a@example.org>")
            refusal = client.command(b"RCPT TO:<nobody@example.test>")
            assert refusal == b"550 5.1.1 No such user here"
            client.must(b"250", b"RCPT TO:<b@example.test>")
            client.must(b"354", b"DATA")
            assert client.content(REST + b"\r\nx\r\n").startswith(b"250 ")
            delivery = bed.delivery()
            assert delivery.without_received == REST + b"X-Checked: with Twisted\r\n\r\nx\r\n"
        client.quit()


@pytest.mark.usefixtures("program")
def test_many_at_once_and_one_that_vanishes(bed: Bed) -> None:
    """They wait for their Deferreds side by side."""
    clients = [bed.client("other") for _ in range(10)]
    for client in clients:
        client.envelope()
        client.must(b"354", b"DATA")
        client.send(REST + b"\r\nx\r\n.\r\n")
    clients[0].vanish()
    for client in clients[1:]:
        assert client.reply().startswith(b"250 ")
        client.quit()
        client.vanish()
    deliveries = [bed.delivery() for _ in range(10)]
    assert all(one.values(b"X-Checked") for one in deliveries)
