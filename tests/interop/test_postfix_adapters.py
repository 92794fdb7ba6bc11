"""Each adapter behind a real Postfix: every edit, to the byte, and what clients really do."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from adapters._listen import listen
from adapters.services import milter

import milterproto as mp
from tests.examples.adapter_hosts import ASYNCIO, THREADS, TRIO, Host

from ._opendkim import OpenDKIM
from ._postfix import PATIENCE
from ._postfix_bed import ALL_ACTIONS, Bed

WANTS = mp.Wants(actions=ALL_ACTIONS)
Handler = Callable[[Any], Any]
any_host = pytest.mark.parametrize(
    ("host", "options"),
    [
        (ASYNCIO, {}),
        (ASYNCIO, {"in_thread": True}),
        (TRIO, {}),
        (TRIO, {"in_thread": True}),
        (THREADS, {}),
    ],
    ids=["asyncio", "asyncio-in-thread", "trio", "trio-in-thread", "threads"],
)

REST = (
    b"From: a@example.org\r\nTo: b@example.test\r\nDate: Tue, 24 Nov 2026 04:00:00 +0000\r\n"
    b"Message-Id: <1@example.org>\r\n"
)


@contextlib.contextmanager
def serving(
    path: Path,
    host: Host,
    options: dict[str, Any],
    handle: Handler,
    wants: mp.Wants = WANTS,
) -> Iterator[list[Any]]:
    """A filter on that socket; the events that it got."""
    seen: list[Any] = []

    def session(_conn: object) -> Handler:
        def noted(event: Any) -> Any:
            seen.append(event)
            return handle(event)

        return noted

    listener = listen(f"unix:{path}", mode=0o666)
    with host.serve(milter(session, wants), None, listener, **options):
        yield seen


def kinds(seen: list[Any]) -> list[str]:
    return [type(event).__name__ for event in seen if not isinstance(event, mp.Macros)]


def at_end(*replies: mp.Response) -> Handler:
    return lambda event: replies if isinstance(event, mp.EndOfMessage) else None


@any_host
def test_every_edit_arrives_to_the_byte(bed: Bed, host: Host, options: dict[str, Any]) -> None:
    """The message as it is delivered is the one that the edits ask for."""
    body = bytes(range(1, 256)).replace(b"\n", b"").replace(b"\r", b"") + b"\r\n.\r\nend\r\n"
    edits = at_end(
        mp.ChangeHeader(2, b"X-A", b"changed\n\tfolded"),
        mp.ChangeHeader(3, b"X-A", b""),
        mp.AddHeader(b"X-Last", b"last"),
        mp.InsertHeader(0, b"X-First", b"first"),
        mp.ReplaceBody(body),
        mp.AddRecipient(b"<new@example.test>", (b"NOTIFY=NEVER",)),
        mp.DeleteRecipient(b"<c@example.test>"),
        mp.ChangeSender(b"<other@example.org>"),
        mp.Accept(),
    )
    headers = b"X-A: one\r\nx-a: two\r\nSubject: hello\r\nX-A: three\r\n" + REST
    with serving(bed.other, host, options, edits), bed.client("other") as client:
        recipients = (b"<b@example.test>", b"<c@example.test>")
        reply = client.message(headers + b"\r\nold body\r\n", recipients=recipients)
        assert reply.startswith(b"250 ")
        client.quit()
        delivery = bed.delivery()
    assert delivery.without_received == (
        b"X-First: first\r\n"
        b"X-A: one\r\nX-A: changed\r\n\tfolded\r\nSubject: hello\r\n"
        + REST
        + b"X-Last: last\r\n\r\n"
        + body
    )
    assert delivery.sender == b"<other@example.org>"
    assert delivery.recipients == (
        (b"<b@example.test>", (b"ORCPT=rfc822;b@example.test",)),
        (b"<new@example.test>", (b"ORCPT=rfc822;new@example.test", b"NOTIFY=NEVER")),
    )


@any_host
def test_pipelined_recipients(bed: Bed, host: Host, options: dict[str, Any]) -> None:
    """A hundred in one write, each with its own reply, some refused."""
    refusal = mp.ReplyCode.text(550, "5.1.1", "No such user")

    def handle(event: Any) -> Any:
        odd = isinstance(event, mp.RcptTo) and int(event.recipient[2:].split(b"@")[0]) % 2
        return refusal if odd else None

    with serving(bed.other, host, options, handle), bed.client("other") as client:
        recipients = [b"<b%d@example.test>" % number for number in range(100)]
        commands = [b"MAIL FROM:<a@example.org>", *[b"RCPT TO:" + one for one in recipients]]
        client.send(b"\r\n".join([*commands, b"DATA", b""]))
        replies = [client.reply() for _ in range(102)]
        assert client.content(REST + b"\r\nx\r\n").startswith(b"250 ")
        client.quit()
        arrived: list[bytes] = []
        while len(arrived) < 50:  # Postfix delivers to some at a time
            arrived += bed.delivery().addresses
    assert replies[1:-1] == [b"250 2.1.5 Ok", b"550 5.1.1 No such user"] * 50
    assert sorted(arrived) == sorted(recipients[::2])


@any_host
def test_starttls_and_a_second_ehlo(bed: Bed, host: Host, options: dict[str, Any]) -> None:
    """The filter hears both, on one connection; what is encrypted arrives as it was."""
    with serving(bed.other, host, options, lambda _: None) as seen:
        with bed.client("other-tls") as client:
            client.start_tls()
            client.must(b"250", b"EHLO again.test")
            assert client.message(REST + b"\r\nx\r\n").startswith(b"250 ")
            client.quit()
        delivery = bed.delivery()
    assert delivery.without_received == REST + b"\r\nx\r\n"
    heard = [event.name for event in seen if isinstance(event, mp.Helo)]
    assert heard == [b"client.test", b"again.test"]
    assert kinds(seen).count("Connect") == 1


@any_host
def test_a_client_that_vanishes_in_data(bed: Bed, host: Host, options: dict[str, Any]) -> None:
    """The filter sees none of that message's content; the next client is served."""
    gone = threading.Event()

    def handle(event: Any) -> None:
        if isinstance(event, mp.ConnectionClosed):
            gone.set()

    with serving(bed.other, host, options, handle) as seen:
        with bed.client("other") as client:
            client.envelope()
            client.must(b"354", b"DATA")
            client.send(REST + b"\r\nhalf of a me")
        assert gone.wait(PATIENCE)
        assert kinds(seen)[-3:] == ["Abort", "Quit", "ConnectionClosed"]
        assert not {"Header", "Body", "EndOfMessage"} & set(kinds(seen))
        with bed.client("other") as client:
            assert client.message(REST + b"\r\nx\r\n").startswith(b"250 ")
            client.quit()
        bed.delivery()


@any_host
def test_ten_megabytes(bed: Bed, host: Host, options: dict[str, Any]) -> None:
    """Read whole by the filter, and written whole by it."""
    line = b"0123456789abcdef" * 4 + b"\r\n"
    body = line * (10_000_000 // len(line))
    got: list[bytes] = []

    def handle(event: Any) -> Any:
        if isinstance(event, mp.Body):
            got.append(event.data)
        if isinstance(event, mp.EndOfMessage):
            return [mp.ReplaceBody(b"".join(got).swapcase()), mp.Accept()]
        return None

    with serving(bed.other, host, options, handle), bed.client("other") as client:
        assert client.message(REST + b"\r\n" + body).startswith(b"250 ")
        client.quit()
        delivery = bed.delivery()
    assert b"".join(got) == body
    assert delivery.without_received == REST + b"\r\n" + body.swapcase()


@any_host
def test_8_bit_and_smtputf8(bed: Bed, host: Host, options: dict[str, Any]) -> None:
    """Addresses, headers and bodies in UTF-8 and in nothing that is a known encoding."""
    header = "Subject: Grüße\r\n".encode() + b"X-Latin: gr\xfc\xdfe\r\n" + REST
    body = "Größe\r\n".encode() + bytes(range(128, 256)) + b"\r\n"
    edits = at_end(mp.AddHeader(b"X-Added", "größer".encode()), mp.Accept())
    with serving(bed.other, host, options, edits) as seen, bed.client("other") as client:
        sender, recipient = "<jürgen@example.org>".encode(), "<bärbel@example.test>".encode()
        client.must(b"250", b"MAIL FROM:" + sender + b" SMTPUTF8 BODY=8BITMIME")
        client.must(b"250", b"RCPT TO:" + recipient)
        client.must(b"354", b"DATA")
        assert client.content(header + b"\r\n" + body).startswith(b"250 ")
        client.quit()
        delivery = bed.delivery()
    assert mp.MailFrom(sender, (b"SMTPUTF8", b"BODY=8BITMIME")) in seen
    assert mp.RcptTo(recipient) in seen
    assert mp.Header(b"X-Latin", b"gr\xfc\xdfe") in seen
    assert mp.Body(body) in seen
    assert (delivery.sender, delivery.addresses) == (sender, [recipient])
    added = "X-Added: größer\r\n".encode()
    assert delivery.without_received == header + added + b"\r\n" + body


@any_host
def test_one_filter_after_the_other(bed: Bed, host: Host, options: dict[str, Any]) -> None:
    """The second sees what the first has made of the message, and after it."""
    first = at_end(mp.ChangeHeader(1, b"Subject", b"one"), mp.ReplaceBody(b"one\r\n"), mp.Accept())
    order: list[str] = []

    def named(name: str, handle: Handler) -> Handler:
        def noted(event: Any) -> Any:
            if isinstance(event, mp.Header | mp.Body | mp.EndOfMessage):
                order.append(name)
            return handle(event)

        return noted

    second = at_end(mp.AddHeader(b"X-Second", b"two"), mp.Accept())
    with (
        serving(bed.other, host, options, named("first", first)),
        serving(bed.other_too, THREADS, {}, named("second", second)) as seen,
        bed.client("other-twice") as client,
    ):
        assert client.message(b"Subject: none\r\n" + REST + b"\r\nnone\r\n").startswith(b"250 ")
        client.quit()
        delivery = bed.delivery()
    assert mp.Header(b"Subject", b"one") in seen
    assert mp.Body(b"one\r\n") in seen
    assert order == sorted(order)
    assert delivery.without_received == (
        b"Subject: one\r\n" + REST + b"X-Second: two\r\n\r\none\r\n"
    )


@pytest.fixture(scope="module")
def opendkim(
    _bed: Bed, require_program: Callable[[str, str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OpenDKIM]:
    program = require_program("opendkim", "opendkim")
    with OpenDKIM(program, tmp_path_factory.mktemp("opendkim"), _bed.dkim_port) as running:
        yield running


@any_host
def test_ours_and_then_opendkim(
    bed: Bed, opendkim: OpenDKIM, host: Host, options: dict[str, Any]
) -> None:
    """What OpenDKIM signs is what ours has made of the message, and what is delivered."""
    edits = at_end(
        mp.ChangeHeader(1, b"Subject", b"[external] hello"),
        mp.AddHeader(b"X-Folded", b"one\n\ttwo"),
        mp.ReplaceBody(b"changed\r\n"),
        mp.Accept(),
    )
    with serving(bed.other, host, options, edits), bed.client("other-dkim") as client:
        content = b"Subject: hello\r\n" + REST + b"\r\nold\r\n"
        assert client.message(content).startswith(b"250 ")
        client.quit()
        delivery = bed.delivery()
    (signature,) = delivery.values(b"DKIM-Signature")
    assert b"d=example.org" in signature
    assert "succeeded" in opendkim.verify(delivery.content)
    broken = delivery.content.replace(b"changed", b"chanted")
    assert "succeeded" not in opendkim.verify(broken)
    assert delivery.without_received.endswith(
        b"Subject: [external] hello\r\n" + REST + b"X-Folded: one\r\n\ttwo\r\n\r\nchanged\r\n"
    )
