"""The example filters as programs, with each adapter, behind a real Postfix."""

from __future__ import annotations

from pathlib import Path

import pytest

from ._postfix_bed import Bed
from ._program import Program, on_socket

any_adapter = pytest.mark.parametrize(
    "adapter",
    [
        ["--adapter", "asyncio"],
        ["--adapter", "asyncio", "--in-thread"],
        ["--adapter", "trio"],
        ["--adapter", "trio", "--in-thread"],
        ["--adapter", "threads"],
    ],
    ids=lambda options: "-".join(word.lstrip("-") for word in options[1:]),
)

REST = (
    b"From: a@example.org\r\nTo: b@example.test\r\nDate: Tue, 24 Nov 2026 04:00:00 +0000\r\n"
    b"Message-Id: <1@example.org>\r\n"
)


@any_adapter
def test_tag_mail(bed: Bed, adapter: list[str]) -> None:
    """Two messages; every byte of them is there, the tag, and the header on top."""
    client_header = (
        b"X-Client: mta.test; client=[127.0.0.1]; helo=client.test;\r\n\tconnections=%d\r\n"
    )
    with Program("tag_mail.py", *on_socket(bed.other), *adapter):
        with bed.client("other-counted") as first, bed.client("other-counted") as second:
            for client in (first, second):
                content = b"Subject: Lunch?\r\nX-Client: forged\r\n" + REST + b"\r\n.At noon.\r\n"
                assert client.message(content).startswith(b"250 ")
                content = REST + b"\r\nNo subject.\r\n"
                assert client.message(content).startswith(b"250 ")
                client.quit()
        deliveries = [bed.delivery() for _ in range(4)]
    expected = set()
    for count in (1, 2):
        top = client_header % count
        expected |= {
            top + b"Subject: [external] Lunch?\r\n" + REST + b"\r\n.At noon.\r\n",
            top + REST + b"Subject: [external]\r\n\r\nNo subject.\r\n",
        }
    assert {one.without_received for one in deliveries} == expected


@any_adapter
def test_refuse_recipients(bed: Bed, adapter: list[str], tmp_path: Path) -> None:
    """The client sees each reply as it stands in the list; the others get their mail."""
    listed = tmp_path / "recipients"
    listed.write_text(
        "full@example.test 452 4.2.2 Mailbox full, 100%\n"
        "@gone.example.test 550 5.1.6 Moved to www.example.test\n"
    )
    with Program("refuse_recipients.py", *on_socket(bed.other), *adapter, listed):
        with bed.client("other") as client:
            client.must(b"250", b"MAIL FROM:<a@example.org>")
            full = client.command(b"RCPT TO:<Full@Example.test>")
            assert full == b"452 4.2.2 Mailbox full, 100%"
            gone = client.command(b"RCPT TO:<x@gone.example.test>")
            assert gone == b"550 5.1.6 Moved to www.example.test"
            client.must(b"250", b"RCPT TO:<b@example.test>")
            client.must(b"354", b"DATA")
            assert client.content(REST + b"\r\nHello\r\n").startswith(b"250 ")
            client.quit()
        delivery = bed.delivery()
    assert delivery.addresses == [b"<b@example.test>"]
    assert delivery.without_received == REST + b"\r\nHello\r\n"


SPELLINGS = (
    *(b"<nobody@example.test>", b"<Nobody@Example.test>", b'<"nobody"@example.test>'),
    *(b"<@route.test:nobody@example.test>", b"<nobody@example.test.>", b"nobody@example.test"),
)


def test_first_filter(bed: Bed) -> None:
    """However the client writes the address, it is refused; the others get their mail."""
    with Program("first_filter.py", *on_socket(bed.other)):
        with bed.client("other") as client:
            client.must(b"250", b"MAIL FROM:<a@example.org>")
            for spelling in SPELLINGS:
                refusal = client.command(b"RCPT TO:" + spelling)
                assert refusal == b"550 5.1.1 No such user here"
            client.must(b"250", b"RCPT TO:<b@example.test>")
            client.must(b"354", b"DATA")
            assert client.content(REST + b"\r\nHello\r\n").startswith(b"250 ")
            client.quit()
        delivery = bed.delivery()
    assert delivery.addresses == [b"<b@example.test>"]
    assert delivery.values(b"X-Client-Address") == [b" 127.0.0.1"]


@any_adapter
def test_check_body(bed: Bed, adapter: list[str]) -> None:
    """One message is blackened, one is held, one passes as it is."""
    number = rb"\b\d{4} \d{4} \d{4} \d{4}\b".decode()
    options = ["--blacken", number, "--hold", "strictly confidential"]
    with Program("check_body.py", *on_socket(bed.other), *adapter, *options) as program:
        with bed.client("other") as client:
            body = b"My card is 1234 5678 9012 3456.\r\n.\xe4\r\n"
            assert client.message(REST + b"\r\n" + body).startswith(b"250 ")
            blackened = bed.delivery()
            held = client.message(REST + b"\r\nThis is Strictly Confidential.\r\n")
            assert held.startswith(b"250 ")
            assert client.message(REST + b"\r\nHello\r\n").startswith(b"250 ")
            untouched = bed.delivery()
            client.quit()
        (message,) = bed.postfix.queue()
        assert message["queue_name"] == "hold"
        bed.postfix.delete(message["queue_id"])
    assert blackened.without_received == (REST + b"\r\nMy card is " + b"X" * 19 + b".\r\n.\xe4\r\n")
    assert untouched.without_received == REST + b"\r\nHello\r\n"
    assert held.split()[-1].decode() == message["queue_id"]
    assert f"INFO: {message['queue_id']}: held" in program.log


@any_adapter
def test_local_mail(bed: Bed, adapter: list[str]) -> None:
    """What is sent on the machine itself goes through non_smtpd_milters."""
    with Program("tag_mail.py", *on_socket(bed.other), *adapter):
        content = b"Subject: cron\n" + REST.replace(b"\r\n", b"\n") + b"\ndone\n"
        bed.postfix.sendmail("root@example.org", "b@example.test", content)
        delivery = bed.delivery()
    assert delivery.sender == b"<root@example.org>"
    assert delivery.values(b"Subject") == [b" [external] cron"]
    assert delivery.values(b"X-Client") == [
        b" mta.test; client=localhost [127.0.0.1]; helo=localhost"
    ]
    assert delivery.body == b"done\r\n"


@any_adapter
def test_the_filter_of_the_tutorial(bed: Bed, adapter: list[str]) -> None:
    """It does what the page says of it."""
    with Program("tutorial.py", *on_socket(bed.other), *adapter):
        with bed.client("other") as client:
            refusal = client.command(b"MAIL FROM:<joe@Spam.example>")
            assert refusal == b"550 5.7.1 We take no mail from spam.example"
            assert client.message(REST + b"\r\nHello\r\n").startswith(b"250 ")
            client.quit()
        delivery = bed.delivery()
    assert delivery.without_received == REST + b"X-Body-Size: 7\r\n\r\nHello\r\n"
