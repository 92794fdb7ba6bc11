"""Filters that die or are stopped while Postfix talks to them: no mail is lost or unfiltered."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable

import pytest

from ._postfix import PATIENCE
from ._postfix_bed import Bed
from ._postfix_client import Client
from ._program import Program, on_socket

any_adapter = pytest.mark.parametrize("adapter", ["asyncio", "trio", "threads"])

REST = (
    b"From: a@example.org\r\nTo: b@example.test\r\nDate: Tue, 24 Nov 2026 04:00:00 +0000\r\n"
    b"Message-Id: <1@example.org>\r\n"
)
TRY_AGAIN = b"451 4.7.1 Service unavailable - try again later"


def tagger(bed: Bed, adapter: str) -> Program:
    return Program("tag_mail.py", *on_socket(bed.other), "--adapter", adapter)


def until_killed(client: Client, moment: str, kill: Callable[[], None]) -> bytes:
    """A message, in the middle of which the filter is killed; the reply that ended it."""
    last = b""
    if moment == "before MAIL":
        kill()
    for line in (b"MAIL FROM:<a@example.org>", b"RCPT TO:<b@example.test>", b"DATA"):
        last = client.command(line)
        if last[:1] not in (b"2", b"3"):
            return last
        if moment == "after " + line[:4].decode():
            kill()
    client.send(REST + b"\r\nhalf of it\r\n")
    if moment == "in the content":
        kill()
    return client.content(b"the other half\r\n")


@pytest.mark.parametrize(
    "moment", ["before MAIL", "after MAIL", "after RCPT", "after DATA", "in the content"]
)
@any_adapter
def test_killed_and_restarted(bed: Bed, adapter: str, moment: str) -> None:
    """The client is told to try again, and when it does the message is filtered."""
    with bed.client("other") as client:
        with tagger(bed, adapter) as program, bed.client("other") as other:
            assert other.message(REST + b"\r\nx\r\n").startswith(b"250 ")
            assert bed.delivery().values(b"Subject") == [b" [external]"]
            assert until_killed(client, moment, program.kill) == TRY_AGAIN
        # The socket that was left behind is replaced. The session that lost its filter stays
        # without one, and takes no mail to its end.
        with tagger(bed, adapter):
            client.must(b"250", b"RSET")
            assert client.walk()[list(client.walk())[-1]] == TRY_AGAIN
            with bed.client("other") as another:
                assert another.message(REST + b"\r\nx\r\n").startswith(b"250 ")
            assert bed.delivery().values(b"Subject") == [b" [external]"]


@pytest.mark.parametrize(
    ("action", "reply"),
    [
        ("reject", b"550 5.5.0 Service unavailable"),
        ("accept", b"250 2.0.0 Ok: queued as"),
        ("quarantine", b"250 2.0.0 Ok: queued as"),
    ],
)
def test_the_default_action_decides(bed: Bed, action: str, reply: bytes) -> None:
    """What main.cf says of a filter that is lost, and not the filter."""
    with tagger(bed, "asyncio") as program, bed.client(f"other-{action}") as client:
        assert until_killed(client, "in the content", program.kill).startswith(reply)
    if action == "accept":
        assert bed.delivery().without_received.startswith(REST)
    if action == "quarantine":
        (message,) = bed.postfix.queue()
        assert message["queue_name"] == "hold"
        bed.postfix.delete(message["queue_id"])


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Do something so many times at once; what any of them raises is raised."""
    errors: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@any_adapter
def test_a_hundred_clients_at_once(bed: Bed, adapter: str) -> None:
    """All of them are connected before the first one goes on, and all are served."""
    together = threading.Barrier(100, timeout=3 * PATIENCE)

    def client(number: int) -> None:
        with bed.client("other-counted") as client:
            together.wait()
            assert client.message(REST + b"\r\n%d\r\n" % number).startswith(b"250 ")
            together.wait()
            client.quit()

    with tagger(bed, adapter):
        in_threads(100, client)
        deliveries = [bed.delivery() for _ in range(100)]
    assert sorted(int(one.body) for one in deliveries) == list(range(100))
    counts = [
        int(re.search(rb"connections=(\d+)", one.values(b"X-Client")[0])[1])  # type: ignore[index]
        for one in deliveries
    ]
    assert sorted(counts) == list(range(1, 101))


@any_adapter
def test_sigterm_under_load(bed: Bed, adapter: str) -> None:
    """What was accepted is delivered, and filtered; what was not, is refused for the moment."""
    accepted: set[int] = set()
    refused: list[bytes] = []
    changed = threading.Condition()
    enough = threading.Event()
    problems: list[BaseException] = []

    def send(number: int) -> None:
        while not enough.is_set():
            with bed.client("other") as client:
                for _ in range(5):
                    number += 100
                    content = REST + b"\r\n%d\r\n" % number
                    replies = client.walk(content)
                    last = list(replies.values())[-1]
                    with changed:
                        if "content" in replies and last.startswith(b"250 "):
                            accepted.add(number)
                        else:
                            refused.append(last)
                        changed.notify_all()
                    if last[:1] != b"2":
                        break

    def load() -> None:
        try:
            in_threads(20, send)
        except BaseException as error:  # noqa: BLE001 - raised again below
            problems.append(error)

    def wait_for(condition: Callable[[], bool]) -> None:
        with changed:
            assert changed.wait_for(condition, PATIENCE), (len(accepted), refused)

    senders = threading.Thread(target=load)
    with tagger(bed, adapter) as program:
        senders.start()
        try:
            wait_for(lambda: len(accepted) >= 100)
            program.terminate()
            assert program.wait() == 0
            before = len(accepted)
            wait_for(lambda: bool(refused))
            with tagger(bed, adapter):
                wait_for(lambda: len(accepted) >= before + 100)
                enough.set()
                senders.join()
        finally:
            enough.set()
            senders.join()
    assert not problems
    assert set(refused) == {TRY_AGAIN}
    delivered = {}
    for _ in accepted:
        delivery = bed.delivery()
        delivered[int(delivery.body)] = delivery
    assert set(delivered) == accepted
    for delivery in delivered.values():
        assert delivery.values(b"Subject") == [b" [external]"]
