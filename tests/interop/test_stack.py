"""The whole mail front under load: nginx, two Postfix and every daemon, as in `make stack`."""

from __future__ import annotations

import collections
import mailbox
import re
import time
from collections.abc import Callable, Iterator
from email.message import Message
from pathlib import Path

import pytest
from mailfront._front import MailFront

from ._postfix import PATIENCE
from ._stack import CLIENTS, KINDS, Load, Mail, running_front


@pytest.fixture(scope="module")
def front(require_program: Callable[[str, str], Path]) -> Iterator[MailFront]:
    with running_front(require_program) as running:
        yield running


def mails(count: int, first: int) -> list[Mail]:
    """Of all kinds, from all clients."""
    kinds = list(KINDS)
    return [
        Mail(number, kinds[number % len(kinds)], number % CLIENTS)
        for number in range(first, first + count)
    ]


def held(front: MailFront) -> set[str]:
    """The queue ids of what the filter has held."""
    queue = front.queue("trial")
    return {entry["queue_id"] for entry in queue if entry["queue_name"] == "hold"}


def check(front: MailFront, sent: list[Mail], held_before: set[str]) -> int:
    """Each mail has got what it should, and has left by its way; the number of duplicates."""
    for mail in sent:
        assert mail.codes[-1] == KINDS[mail.kind].code, mail
        # A temporary failure, or nothing: no good mail was refused, and no bad one taken.
        assert all(code == 0 or 400 <= code < 500 for code in mail.codes[:-1]), mail
    wanted = {mail.subject: mail for mail in sent}
    found = wait_for_deliveries(front, wanted)
    duplicates = 0
    for subject, mail in wanted.items():
        kind = KINDS[mail.kind]
        copies = found.pop(subject, [])
        if kind.code != 250 or not kind.way:
            assert not copies, mail
            continue
        ways = collections.Counter(way_of(one) for one in copies)
        assert set(ways) == set(kind.way), (mail, ways)
        extra = max(ways.values()) - 1
        assert extra <= mail.unanswered, (mail, ways)
        duplicates += extra
        for one in copies:
            check_traces(one, mail)
    assert held_before <= held(front)
    spam = [mail for mail in sent if mail.kind == "spam for trial"]
    extra = len(held(front) - held_before) - len(spam)
    assert 0 <= extra <= sum(mail.unanswered for mail in spam)
    return duplicates + extra


def check_traces(message: Message, mail: Mail) -> None:
    """What tag_mail saw: the client itself, through nginx, and who it is."""
    kind = KINDS[mail.kind]
    (about,) = message.get_all("X-Client", [])
    assert f"client=[127.0.1.{mail.client + 1}]" in about
    assert f"helo=client-{mail.client}.example" in about
    login = re.search(r"login=(\S+)", about)
    assert (login and login[1]) == (kind.login and kind.login[0])
    assert message["Subject"].startswith("[external] ") == (kind.login is None)


def wait_for_deliveries(front: MailFront, wanted: dict[str, Mail]) -> dict[str, list[Message]]:
    """What has left the front, by subject, once nothing is on its way any more."""
    deadline = time.monotonic() + 2 * PATIENCE
    while any(
        entry["queue_name"] != "hold" for plan in ("paid", "trial") for entry in front.queue(plan)
    ):
        assert time.monotonic() < deadline, [front.queue(plan) for plan in ("paid", "trial")]
        time.sleep(0.1)
    found: dict[str, list[Message]] = {}
    for message in mailbox.Maildir(front.delivered, create=False):
        subject = message["Subject"].removeprefix("[external] ")
        if subject in wanted:
            found.setdefault(subject, []).append(message)
    return found


def way_of(message: Message) -> tuple[str, ...]:
    """The Postfix instances that it went through, in order."""
    received = reversed(message.get_all("Received", []))
    return tuple(name for one in received for name in re.findall(r"by (\w+)\.mail\.test", one))


def test_two_hundred_mails_over_twenty_clients(
    front: MailFront, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each goes its way, is tagged, held or refused as it should be; none twice.

    On a machine with much else to do, passwords may take so long that mail is put off.
    """
    sent = mails(200, 0)
    before = held(front)
    with Load(front).sending(sent):
        pass
    assert check(front, sent, before) == 0
    with capsys.disabled():
        print(f"\n200 mails: {sum(len(mail.codes) - 1 for mail in sent)} times put off")


DAEMONS = (
    *("table_daemon", "auth_daemon", "auth_daemon for nginx", "nginx_daemon"),
    *("tag_mail", "check_body"),
)


@pytest.mark.parametrize("name", DAEMONS)
def test_a_daemon_is_killed_under_load(
    front: MailFront, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is lost, and nothing let through; good mail is put off, never refused."""
    load = Load(front)
    sent = mails(60, 1000 * (1 + DAEMONS.index(name)))
    before = held(front)
    with load.sending(sent):
        for _ in range(10):
            load.told.get(timeout=PATIENCE)
        front.processes[name].kill()
        try:
            put_off = 0
            while put_off < 5:
                code = load.told.get(timeout=PATIENCE)
                put_off += code == 0 or 400 <= code < 500
        finally:
            front.processes[name].start()
    duplicates = check(front, sent, before)
    put_off = sum(len(mail.codes) - 1 for mail in sent)
    with capsys.disabled():
        print(f"\n{name} killed: {put_off} times put off, {duplicates} mails came twice")
