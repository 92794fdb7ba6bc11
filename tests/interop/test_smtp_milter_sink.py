"""What a gateway makes of a message arrives, to the byte; behind a real Postfix.

Two kinds of gateway: one that passes each command on as it comes, like spampd, and one that takes
a message, and then hands it on, like amavisd.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import pytest

from ._postfix import PATIENCE, free_port
from ._postfix_bed import Bed
from ._postfix_client import Client
from ._sink import Delivery
from ._smtp_gateway import Script, ScriptedGateway
from ._smtp_milter import configuration, smtp_milter

HEADER = (
    b"From: a@example.org\r\nDate: Tue, 24 Nov 2026 04:00:00 +0000\r\n"
    b"Message-Id: <1@example.org>\r\nX-A: one\r\nSubject: hi there\r\nX-A: two\r\n"
)
CONTENT = HEADER + b"\r\nbody\r\n.dot\r\n"
BOB, CAT = b"<b@example.test>", b"<c@example.test>"


@pytest.fixture(params=["passes on", "stores"])
def script(request: pytest.FixtureRequest) -> Script:
    """16: both kinds."""
    return Script(sink=free_port(), is_proxy=request.param == "passes on")


@attrs.define
class Run:
    """What came of a message: the client's replies, what was delivered, and the daemon's log."""

    replies: list[bytes]
    deliveries: list[Delivery]
    log: str


def run(
    bed: Bed,
    folder: Path,
    script: Script,
    contents: list[bytes],
    recipients: tuple[bytes, ...] = (BOB,),
    **settings: Any,
) -> Run:
    with ScriptedGateway(script) as gateway:
        made = configuration(bed, gateway.port, sink=script.sink, **settings)
        with smtp_milter(folder, made) as program:
            with bed.client("other") as client:
                replies = [client.message(one, recipients=recipients) for one in contents]
                client.quit()
            deliveries = [bed.delivery() for one in replies if one.startswith(b"250 ")]
    return Run(replies, deliveries, "\n".join(program.log))


def line(content: bytes, old: bytes, new: bytes) -> bytes:
    assert old in content
    return content.replace(old, new)


# As the gateway gets it, which has a mark and a Received field on top.
CHANGES: dict[str, tuple[Callable[[bytes], bytes], bytes]] = {
    "nothing": (lambda content: content, CONTENT),
    # 6
    "tag, field on top, twin": (
        lambda content: (
            b"X-Spam: Yes,\r\n\tscore=9\r\n"
            + line(line(content, b"hi there", b"[SPAM] hi there"), b"two", b"2")
        ),
        b"X-Spam: Yes,\r\n\tscore=9\r\n"
        + HEADER.replace(b"hi there", b"[SPAM] hi there").replace(b"two", b"2")
        + b"\r\nbody\r\n.dot\r\n",
    ),
    "removed twin, field in the midst": (
        lambda content: line(
            line(content, b"X-A: one\r\n", b""), b"Subject", b"X-M: mid\r\nSubject"
        ),
        CONTENT.replace(b"X-A: one\r\n", b"").replace(b"Subject", b"X-M: mid\r\nSubject"),
    ),
    # 7
    "refold": (lambda content: line(content, b"hi there", b"hi\r\n\tthere"), CONTENT),
    "trace": (
        lambda content: b"Received: from us by gateway;\r\n\tnow\r\nReturn-Path: <x>\r\n" + content,
        CONTENT,
    ),
    # 8
    "footer": (
        lambda content: content + b"-- \r\n" + b"footer\r\n" * 20_000,
        CONTENT + b"-- \r\n" + b"footer\r\n" * 20_000,
    ),
    "empty body": (
        lambda content: content.partition(b"\r\n\r\n")[0] + b"\r\n\r\n",
        HEADER + b"\r\n",
    ),
    "no mark": (
        lambda content: b"".join(
            part for part in content.splitlines(keepends=True) if b"Mark: " not in part
        ),
        CONTENT,
    ),
}


def test_changes(bed: Bed, tmp_path: Path, script: Script) -> None:
    """What arrives is what the gateway has made, but for trace fields and folding."""
    with ScriptedGateway(script) as gateway:
        made = configuration(bed, gateway.port, sink=script.sink)
        with smtp_milter(tmp_path, made) as program, bed.client("other") as client:
            for what, (script.change, expected) in CHANGES.items():
                for _ in range(2):
                    assert client.message(CONTENT).startswith(b"250 "), what
                    assert bed.delivery().without_received == expected, what
            client.quit()
    unchanged = sum(expected == CONTENT for _, expected in CHANGES.values())
    assert "\n".join(program.log).count("no edits") == 2 * unchanged


# Each under HEADER, unless it says otherwise; what is odd in them is not the gateway's doing.
ODD: dict[str, bytes] = {
    # 5
    "dots, bare line ends, no last line end": (
        HEADER + b"\r\n.\r\n..\r\n.x\r\na\rb\r\nc\nd\n.\ne\r.\rf\r\r\n.\r\r\nMAIL\r\n\xe4\r\nend"
    ),
    "bare line ends in the header": HEADER + b"X-B: a\rb\r\nX-C: a\n b\r\n\r\nbody\r\n",
    "NUL": HEADER + b"X-N: a\0b\r\n\r\na\0b\r\n\0.\r\n.\0\r\n.\0.\r\n",
    "no body": HEADER,
    "blanks": (
        HEADER
        + b"X-B : a\r\nX-C:a\r\nX-D:\ta\r\nX-E:\r\nX-F: \r\nX-G:\r\n \r\nX-H:\r\n a\r\n"
        + b"X-I: a\r\n \r\n b\r\n\r\nbody\r\n"
    ),
    "a line that is none of a header": HEADER + b"no field\r\nX-B: 1\r\n\r\nbody\r\n",
    "a line from a mailbox file": b"From a@example.org Tue\r\n" + CONTENT,
    "8-bit, an odd name, a field of ours": (
        HEADER + b"X-\xe4: \xff\r\nX(%)=: 1\r\nX-SMTP-Milter-Mark: 1\r\n\r\nbody\r\n"
    ),
    "long": HEADER + b"X-L: " + b"x" * 70_000 + b"\r\n\r\n" + b"y" * 5000 + b"\r\n",
    "twins": HEADER + b"X-T: 1\r\n" * 3000 + b"x-t: 1\r\n\r\nbody\r\n",
}


def test_odd_messages(bed: Bed, tmp_path: Path, script: Script) -> None:
    """What arrives is what arrives without us, and the gateway has seen no bare line end."""
    with ScriptedGateway(script) as gateway:
        made = configuration(bed, gateway.port, sink=script.sink)
        with (
            smtp_milter(tmp_path, made) as program,
            bed.client("other") as client,
            bed.client("xclient-bare") as bare,
        ):
            for what, content in ODD.items():
                arrived = []
                for one in (bare, client):
                    assert one.message(content).startswith(b"250 "), what
                    arrived.append(bed.delivery().without_received)
                assert arrived[0] == arrived[1], what
            client.quit()
            bare.quit()
    assert len(gateway.contents) == len(ODD)
    for seen in gateway.contents:
        assert not re.search(rb"\r(?!\n)|(?<!\r)\n", seen)
    assert "\n".join(program.log).count("accepted, no edits") == len(ODD)


def test_recipients_and_sender(bed: Bed, tmp_path: Path) -> None:
    """9: one is added, one removed where that is allowed; and another sender."""
    script = Script(sink=free_port(), recipients=lambda _: [b"<d@example.test>", CAT])
    script.sender = lambda _: b"<other@example.org>"
    refused = run(bed, tmp_path, script, [CONTENT], (BOB, CAT))
    assert refused.replies == [b"451 4.3.5 What the mail filter made can't be told"]
    assert "it has left out a recipient" in refused.log
    done = run(
        bed, tmp_path, script, [CONTENT], (BOB, CAT), sink_settings={"remove_recipients": True}
    )
    (delivery,) = done.deliveries
    assert sorted(delivery.addresses) == [CAT, b"<d@example.test>"]
    assert delivery.sender == b"<other@example.org>"
    assert delivery.without_received == CONTENT


@pytest.mark.parametrize("way", ["header", "xforward", "echo"])
def test_each_way_alone(bed: Bed, tmp_path: Path, way: str) -> None:
    """By which a message is known again; a gateway that stores does not pass XFORWARD on here."""
    script = Script(sink=free_port(), is_proxy=True, change=lambda one: b"X-G: 1\r\n" + one)
    done = run(bed, tmp_path, script, [CONTENT], sink_settings={"known_by": [way]})
    assert [one.without_received for one in done.deliveries] == [b"X-G: 1\r\n" + CONTENT]


@pytest.mark.parametrize("ways", [["header"], ["echo"], ["header", "xforward", "echo"]])
def test_the_same_mail_twice_at_once(bed: Bed, tmp_path: Path, ways: list[str]) -> None:
    """From one sender, the same to the letter: each gets what was made of it."""
    script = Script(sink=free_port())
    both = threading.Barrier(2, timeout=PATIENCE)
    forward = ScriptedGateway._forward

    def tagging(
        self: ScriptedGateway, hop: Any, sender: bytes, recipients: list[bytes], content: bytes
    ) -> bytes:
        both.wait()
        told = forward(
            self, hop, sender, recipients, b"X-For: " + recipients[0] + b"\r\n" + content
        )
        both.wait()
        return told

    with pytest.MonkeyPatch.context() as patch, ScriptedGateway(script) as gateway:
        patch.setattr(ScriptedGateway, "_forward", tagging)
        made = configuration(bed, gateway.port, sink=script.sink, sink_settings={"known_by": ways})
        with (
            smtp_milter(tmp_path, made),
            bed.client("other") as one,
            bed.client("other") as other,
            ThreadPoolExecutor() as pool,
        ):
            waiting = [
                pool.submit(client.message, CONTENT, recipients=[recipient])
                for client, recipient in ((one, BOB), (other, CAT))
            ]
            assert [each.result()[:4] for each in waiting] == [b"250 ", b"250 "]
            one.quit()
            other.quit()
    deliveries = [bed.delivery(), bed.delivery()]
    assert sorted(one.addresses[0] for one in deliveries) == [BOB, CAT]
    for delivery in deliveries:
        assert delivery.values(b"X-For") == [b" " + delivery.addresses[0]]


def test_what_the_gateway_refuses_after_all(bed: Bed, tmp_path: Path) -> None:
    """Its reply counts, and not what it has handed on."""
    script = Script(sink=free_port(), is_proxy=False)
    forwarded: list[bytes] = []
    forward = ScriptedGateway._forward

    def refusing(self: ScriptedGateway, *given: Any) -> bytes:
        forwarded.append(forward(self, *given))
        return b"554 5.7.1 After all, no"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScriptedGateway, "_forward", refusing)
        done = run(bed, tmp_path, script, [CONTENT])
    assert done.replies == [b"554 5.7.1 After all, no"]
    assert forwarded[0].startswith(b"250 ")


@pytest.mark.parametrize(
    ("missing", "reply", "arrives"),
    [
        ("tempfail", b"451 4.3.0 The mail filter has lost the message", False),
        ("accept", b"250 ", True),
        ("discard", b"250 ", False),
    ],
)
def test_what_is_not_handed_on(
    bed: Bed, tmp_path: Path, missing: str, reply: bytes, arrives: bool
) -> None:
    """Though the gateway has taken it: what the policy says."""
    with ScriptedGateway() as gateway:
        made = configuration(
            bed, gateway.port, sink=free_port(), sink_settings={"missing": missing}
        )
        with smtp_milter(tmp_path, made), bed.client("other") as client:
            assert client.message(CONTENT).startswith(reply)
            client.quit()
        if arrives:
            assert bed.delivery().without_received == CONTENT


def test_several_copies(bed: Bed, tmp_path: Path) -> None:
    """The same twice is one message; two different ones can't be told."""
    same = Script(sink=free_port(), copies=2, change=lambda one: b"X-G: 1\r\n" + one)
    done = run(bed, tmp_path, same, [CONTENT])
    assert [one.without_received for one in done.deliveries] == [b"X-G: 1\r\n" + CONTENT]
    numbers = iter(b"12")
    same.change = lambda one: b"X-G: %d\r\n" % next(numbers) + one
    assert run(bed, tmp_path, same, [CONTENT]).replies == [
        b"451 4.3.5 What the mail filter made can't be told"
    ]


def test_foreign_mail(bed: Bed, tmp_path: Path) -> None:
    """15: it stays where it is, or goes to the MTA; somebody else may not even connect."""
    port = free_port()
    settings = configuration(bed, 1, sink=port)
    with smtp_milter(tmp_path, settings), Client(port, PATIENCE) as stranger:
        reply = stranger.message(CONTENT, recipients=(BOB,))
        assert reply == b"451 4.3.0 Nobody here has sent this to you"
    settings["sink"].update(foreign="relay", relay_to=f"inet:127.0.0.1:{bed.postfix.ports['v6']}")
    with smtp_milter(tmp_path, settings), Client(port, PATIENCE) as stranger, bed.filter():
        assert stranger.message(CONTENT, recipients=(BOB, CAT)).startswith(b"250 ")
        refused = stranger.message(CONTENT, recipients=(b"<unwanted@example.test>",))
        assert (
            refused == b"550 5.7.1 <unwanted@example.test>: Recipient address rejected: Not wanted"
        )
    delivery = bed.delivery()
    assert delivery.addresses == [BOB, CAT]
    assert delivery.without_received == CONTENT
    settings["sink"]["allow"] = ["192.0.2.1"]
    with smtp_milter(tmp_path, settings), Client(port, PATIENCE) as stranger:
        assert stranger.greeting == b"554 5.7.1 Not for you"


def test_what_was_taken_and_is_nobodys(bed: Bed, tmp_path: Path) -> None:
    """Known by the reply only, a message may be taken that nobody asks for: it is kept."""
    script = Script(sink=free_port(), is_proxy=False)
    folder = tmp_path / "unclaimed"
    # What the sink says does not come through.
    sink_settings = {"known_by": ["echo"], "unclaimed": str(folder), "missing": "accept"}

    def silent(self: ScriptedGateway, *given: Any) -> bytes:
        forward(self, *given)
        return b"250 2.0.0 Ok"

    forward = ScriptedGateway._forward
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScriptedGateway, "_forward", silent)
        done = run(bed, tmp_path, script, [CONTENT], sink_settings=sink_settings)
    assert len(done.deliveries) == 1
    (kept,) = folder.iterdir()
    text = kept.read_bytes()
    assert text.startswith(b"X-Envelope-From: <a@example.org>\r\nX-Envelope-To: " + BOB + b"\r\n")
    assert text.endswith(CONTENT)


def test_a_loop(bed: Bed, tmp_path: Path) -> None:
    """What comes back by way of the MTA is not sent again."""
    script = Script(sink=free_port(), is_proxy=True)
    with ScriptedGateway(script) as gateway:
        made = configuration(bed, gateway.port, sink=script.sink)
        with smtp_milter(tmp_path, made), bed.client("other") as client:
            assert client.message(CONTENT).startswith(b"250 ")
            bed.delivery()
            (seen,) = gateway.contents
            looping = seen.split(b"\r\n", 1)[0] + b"\r\n" + CONTENT
            assert client.message(looping).startswith(b"250 ")
            bed.delivery()
            assert len(gateway.contents) == 1
            # Somebody who makes one up is not spared.
            forged = b"X-SMTP-Milter-Mark: " + b"0" * 76 + b"\r\n" + CONTENT
            assert client.message(forged).startswith(b"250 ")
            assert bed.delivery().without_received == forged
            assert len(gateway.contents) == 2
            client.quit()
            # Nor is who has come by a real one, in a report that quotes a message.
            with bed.client("other-xclient") as stranger:
                stranger.must(b"220", b"XCLIENT NAME=[UNAVAILABLE] ADDR=192.0.2.7")
                stranger.must(b"250", b"EHLO stranger.test")
                assert stranger.message(looping).startswith(b"250 ")
            assert bed.delivery().without_received == looping
            assert len(gateway.contents) == 3


def test_a_gateway_that_hands_on_to_the_mta(bed: Bed, tmp_path: Path, script: Script) -> None:
    """And not to the sink, by mistake: nothing is delivered that the client is to send again.

    Where each command is passed on, MAIL goes round until no connection is free.
    """
    script.sink = bed.postfix.ports["other"]
    settings = {"connections": 3, "wait_for_connection": 0.5}
    with ScriptedGateway(script) as gateway:
        made = configuration(bed, gateway.port, sink=free_port(), gateway=settings)
        with smtp_milter(tmp_path, made) as program, bed.client("other") as client:
            assert list(client.walk(CONTENT).values())[-1].startswith(b"451 ")
            client.quit()
    log = "\n".join(program.log)
    assert script.is_proxy or "hands on to the MTA, and not to the sink" in log
    assert bed.settle() == []


def test_a_large_message(bed: Bed, tmp_path: Path, script: Script) -> None:
    """Over what is kept in memory, there and back."""
    body = b"0123456789abcdef" * 60 + b"\r\n"
    large = HEADER + b"\r\n" + body * 3000
    script.change = lambda content: b"X-G: 1\r\n" + content
    started = time.monotonic()
    done = run(bed, tmp_path, script, [large])
    assert [one.without_received for one in done.deliveries] == [b"X-G: 1\r\n" + large]
    assert "accepted" not in done.log
    assert time.monotonic() - started < PATIENCE
