"""A mail sent with swaks, as somebody who tries out a filter would do."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import milterproto as mp

from ._filters import Event
from ._postfix import PATIENCE
from ._postfix_bed import Bed
from ._program import Program, on_socket

pytestmark = pytest.mark.interop

Swaks = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def swaks(bed: Bed, require_program: Callable[[str, str], Path]) -> Swaks:
    """Runs swaks against Postfix, with further arguments."""
    program = require_program("swaks", "swaks")
    server = f"127.0.0.1:{bed.postfix.ports['v6']}"

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                program,
                *("--server", server, "--helo", "client.test"),
                *("--from", "a@example.org", "--header", "Subject: offer"),
                *("--body", "buy this", *arguments),
            ],
            check=False,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    return run


def test_edits_arrive(bed: Bed, swaks: Swaks) -> None:
    """The mail arrives with the filter's edits."""
    seen: list[bytes] = []

    def handle(conn: mp.FilterConnection, event: Event) -> list[mp.Response] | None:
        match event:
            case mp.Header(b"Subject", value):
                seen.append(value)
            case mp.EndOfMessage():
                return [
                    mp.ChangeHeader(1, b"Subject", b"[judged] " + seen[0]),
                    mp.InsertHeader(1, b"X-Judge", b"mailwire; queue " + conn.macros[b"i"]),
                    mp.ReplaceBody(b"nothing to buy\r\n"),
                    mp.AddRecipient(b"<copy@example.test>"),
                    mp.Accept(),
                ]
            case _:
                pass
        return None

    with bed.filter(handle) as filter_:
        done = swaks("--to", "b@example.test")
    assert done.returncode == 0, done.stdout
    queue_id = filter_.session.of(mp.EndOfMessage)[0].macros[b"i"]
    assert f"250 2.0.0 Ok: queued as {queue_id.decode()}" in done.stdout
    delivery = bed.delivery()
    assert delivery.values(b"Subject") == [b" [judged] offer"]
    assert delivery.header[1] == (b"X-Judge", b" mailwire; queue " + queue_id)
    assert delivery.body == b"nothing to buy\r\n"
    assert delivery.addresses == [b"<b@example.test>", b"<copy@example.test>"]


def test_refusal_is_seen(bed: Bed, swaks: Swaks) -> None:
    """A recipient that the filter refuses is shown with the filter's words."""
    refusal = mp.ReplyCode.text(550, "5.1.1", "nobody of that name")
    with bed.filter({mp.RcptTo: [refusal]}):
        done = swaks("--to", "nobody@example.test")
    assert done.returncode == 24, done.stdout  # swaks's code for "no recipient was accepted"
    assert "550 5.1.1 nobody of that name" in done.stdout


def test_the_filter_of_the_readme(bed: Bed, swaks: Swaks) -> None:
    """What the README's first screen shows does what it says there."""
    server = ("--server", f"127.0.0.1:{bed.postfix.ports['other']}")
    with Program("first_filter.py", *on_socket(bed.other)):
        refused = swaks("--to", "nobody@example.test", *server)
        taken = swaks("--to", "b@example.test", *server)
        delivery = bed.delivery()
    assert refused.returncode == 24, refused.stdout
    assert "550 5.1.1 No such user here" in refused.stdout
    assert taken.returncode == 0, taken.stdout
    assert delivery.values(b"X-Client-Address") == [b" 127.0.0.1"]
