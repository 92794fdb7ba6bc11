"""Filters that are functions of whole messages, on each adapter, behind a real Postfix."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from adapters._listen import listen
from adapters.services import messages

import milterproto as mp
from milterproto.message import Field, Message, MessageFilter, Recipient
from tests.examples.adapter_hosts import ASYNCIO, THREADS, TRIO, Host

from . import _edits
from ._postfix_bed import Bed

pytestmark = pytest.mark.interop

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
    path: Path, judge: Any, host: Host = ASYNCIO, options: dict[str, Any] | None = None
) -> Iterator[None]:
    """That filter on that socket."""
    listener = listen(f"unix:{path}", mode=0o666)
    with host.serve(messages(judge), None, listener, **(options or {})):
        yield


def change(message: Message) -> mp.Verdict | None:
    """Something of everything."""
    headers = message.headers
    if "X-Refuse" in headers:
        return mp.ReplyCode.text(550, "5.7.1", "Not this one")
    headers.set("Subject", f"Größe: {headers.text('Subject')}")
    headers.delete("X-Gone")
    headers.insert(0, "X-Top", message.client.helo)
    headers.insert(2, "X-Second", message.queue_id and b"has a queue id")
    headers.append("X-End", b"folded\n here")
    message.replace_body(message.body.upper() + b"\xe4\n.\n")
    message.add_recipient(b"<d@example.test>", b"NOTIFY=NEVER")
    message.remove_recipient(b"c@example.test")
    message.change_sender(b"<new@example.org>")
    return None


async def on_asyncio(message: Message) -> mp.Verdict | None:
    await asyncio.sleep(0)
    return change(message)


async def on_trio(message: Message) -> mp.Verdict | None:
    await trio.lowlevel.checkpoint()
    return change(message)


def sent(bed: Bed) -> None:
    """Two messages through the filter, of which it refuses the second, and what arrives."""
    with bed.client("other") as client:
        head = b"Subject:hi\r\nX-Gone: 1\r\n" + REST + b"x-gone: 2\r\n"
        recipients = (b"<b@example.test>", b"<c@example.test>")
        for _ in range(2):
            content = head + b"\r\nbody\r\n"
            reply = client.message(content, b"<a@example.org>", recipients)
            assert reply.startswith(b"250 "), reply
            reply = client.message(b"X-Refuse: 1\r\n" + content)
            assert reply == b"550 5.7.1 Not this one"
        client.quit()
    for _ in range(2):
        delivery = bed.delivery()
        assert delivery.sender == b"<new@example.org>"
        assert delivery.addresses == [b"<b@example.test>", b"<d@example.test>"]
        first = delivery.content.partition(b"\r\n")[0]
        assert first == b"X-Top: client.test"
        assert delivery.without_received == (
            b"X-Top: client.test\r\n"
            b"Subject:" + Field.of("Subject", "Größe: hi").raw + b"\r\n"
            b"X-Second: has a queue id\r\n" + REST + b"X-End: folded\r\n here\r\n"
            b"\r\nBODY\r\n\xe4\r\n.\r\n"
        )


@any_host
def test_a_function(bed: Bed, host: Host, options: dict[str, Any]) -> None:
    """The same function on each adapter."""
    with serving(bed.other, change, host, options):
        sent(bed)


@pytest.mark.parametrize(("host", "judge"), [(ASYNCIO, on_asyncio), (TRIO, on_trio)])
def test_a_coroutine_function(bed: Bed, host: Host, judge: Callable[[Message], Any]) -> None:
    """It waits where it wants to."""
    with serving(bed.other, judge, host):
        sent(bed)


@any_host
def test_early_decisions(bed: Bed, host: Host, options: dict[str, Any]) -> None:
    """Refused when they are asked for; and the function sees who is left."""
    seen: list[Message] = []

    def on_recipient(message: Message, recipient: Recipient) -> mp.Verdict | None:
        assert message.sender == b"<a@example.org>"
        if recipient.mailbox.startswith(b"no"):
            return mp.ReplyCode.text(550, "5.1.1", "No such user here")
        return None

    def on_sender(message: Message) -> mp.Verdict | None:
        return mp.Reject() if message.sender == b"<bad@example.org>" else None

    judge = MessageFilter(seen.append, on_recipient=on_recipient, on_sender=on_sender)
    with serving(bed.other, judge, host, options), bed.client("other") as client:
        assert client.command(b"MAIL FROM:<bad@example.org>").startswith(b"550 5.7.1 ")
        client.must(b"250", b"MAIL FROM:<a@example.org> SIZE=1000")
        assert client.command(b"RCPT TO:<nobody@example.test>") == b"550 5.1.1 No such user here"
        client.must(b"250", b"RCPT TO:<b@example.test> NOTIFY=NEVER")
        # Postfix's own refusal, which the filter need not know.
        client.must(b"550", b"RCPT TO:<unwanted@example.test>")
        client.must(b"354", b"DATA")
        assert client.content(REST + b"\r\nHello\r\n").startswith(b"250 ")
        client.quit()
    assert bed.delivery().without_received == REST + b"\r\nHello\r\n"
    (message,) = seen
    assert message.sender_parameters == (b"SIZE=1000",)
    assert message.recipients == [Recipient(b"<b@example.test>", (b"NOTIFY=NEVER",))]
    assert message.client.helo == b"client.test"
    assert (message.client.address, message.client.tls) == (b"127.0.0.1", b"")
    assert message.content == REST + b"\r\nHello\r\n"


@any_host
def test_failures(
    bed: Bed, host: Host, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """What the function raises, and changes that can't be made: deferred, and logged."""

    def judge(message: Message) -> None:
        message.headers.append("X-F", b"f")
        if "X-Fail" in message.headers:
            raise ZeroDivisionError
        if "X-Odd" in message.headers:
            message.headers.append("X-F", b"a\rb")

    with serving(bed.other, judge, host, options), bed.client("other") as client:
        for name in (b"X-Fail", b"X-Odd"):
            reply = client.message(name + b": 1\r\n" + REST + b"\r\nHello\r\n")
            assert reply == b"451 4.7.1 Service unavailable - try again later"
        assert client.message(REST + b"\r\nHello\r\n").startswith(b"250 ")
        client.quit()
    assert bed.delivery().without_received == REST + b"X-F: f\r\n\r\nHello\r\n"
    assert "ZeroDivisionError" in caplog.text
    assert "headers: the value of b'X-F' has a NUL, a CR" in caplog.text


@pytest.mark.parametrize("service", ["v2", "v3", "v4", "v6"])
def test_generated_changes(bed: Bed, service: str) -> None:
    """Each message becomes another one, in every version of the protocol."""
    rng = random.Random(10)
    expected: dict[int, Message] = {}
    space = service == "v6"

    def judge(message: Message) -> None:
        number = int(message.headers.get(_edits.MARK))
        wanted = _edits.another(rng, message, leading_space=space)
        message.headers, message.body = wanted.headers, wanted.body
        message.recipients, message.sender = wanted.recipients, wanted.sender
        message.sender_parameters = wanted.sender_parameters
        expected[number] = message.copy()

    tested = MessageFilter(judge)
    handlers: dict[object, Any] = {}

    def handle(conn: mp.FilterConnection, event: Any) -> Any:
        if conn not in handlers:
            handlers[conn] = tested.session(conn)
        return handlers[conn](event)

    with bed.filter(handle, tested.wants), bed.client(service) as client:
        for number in range(60):
            content = _edits.a_content(rng, number, leading_space=space)
            recipients = (_edits.KEPT, b"<b@example.test>", b"<c@example.test>")
            reply = client.message(content, b"<a@example.org>", recipients)
            assert reply.startswith(b"250 "), reply
        client.quit()
    for _ in range(60):
        delivery = bed.delivery()
        (mark,) = delivery.values(_edits.MARK)
        for what, ours, theirs in _edits.compared(expected[int(mark)], delivery):
            assert (what, unfolded(ours)) == (what, unfolded(theirs))


def unfolded(content: Any) -> Any:
    """Folding is no reason for an edit."""
    return (
        content.replace(b"\r\n ", b" ").replace(b"\r\n\t", b"\t")
        if isinstance(content, bytes)
        else content
    )
