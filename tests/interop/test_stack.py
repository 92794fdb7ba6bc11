"""The whole mail front under load: nginx, two Postfix and every daemon, as in `make stack`."""

from __future__ import annotations

import collections
import contextlib
import mailbox
import os
import queue
import re
import shutil
import smtplib
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.message import Message
from pathlib import Path

import attrs
import pytest
from mailfront._front import MailFront, Ports

from ._postfix import PATIENCE, free_port

CLIENTS = 20
OUT = "friend@example.org"


@attrs.frozen
class Kind:
    """A way to send mail, and what has to become of it: its way, and its way's traces."""

    port: str
    sender: str
    recipient: str
    login: tuple[str, str] | None = None
    # The last reply; 250 is that of the message.
    code: int = 250
    # By which Postfix it leaves, for each recipient; empty if it is held.
    way: tuple[tuple[str, ...], ...] = ()
    text: str = "Hello."


ANN, BOB = ("ann@example.test", "ann"), ("bob@example.test", "bob")
WORLD = "stranger@example.net"
KINDS = {
    "paid": Kind("smtp", ANN[0], OUT, ANN, way=(("paid",),)),
    "trial": Kind("smtp", BOB[0], OUT, BOB, way=(("trial",),)),
    "paid, logged in by nginx": Kind("smtp_auth", ANN[0], OUT, ANN, way=(("paid",),)),
    "trial, logged in by nginx": Kind("smtp_auth", BOB[0], OUT, BOB, way=(("trial",),)),
    "straight": Kind("submission", ANN[0], OUT, ANN, way=(("trial",),)),
    "for paid": Kind("smtp", WORLD, ANN[0], way=(("paid",),)),
    "for trial": Kind("smtp", WORLD, BOB[0], way=(("trial",),)),
    "for both": Kind("smtp", WORLD, "team@example.test", way=(("paid",), ("paid", "trial"))),
    "spam for trial": Kind("smtp", WORLD, BOB[0], text="Cheap pills!"),
    "for nobody": Kind("smtp", WORLD, "nobody@example.test", code=550),
    "for elsewhere": Kind("smtp", WORLD, OUT, code=554),
    "wrong password": Kind("smtp", ANN[0], OUT, (ANN[0], "guessed"), code=535),
    "blocked": Kind("smtp", ANN[0], OUT, ("tim@trial.example.test", "tim"), code=525),
    "another's address": Kind("smtp", ANN[0], OUT, BOB, code=553),
}


@attrs.define
class Mail:
    """One mail, and what its client was told, time and again."""

    number: int
    kind: str
    client: int
    codes: list[int] = attrs.Factory(list)
    # Times that its content was sent, and no reply came.
    unanswered: int = 0

    @property
    def subject(self) -> str:
        return f"mail {self.number} {self.kind}"


@attrs.frozen
class Load:
    """Twenty clients; what they were told goes to ``told`` at once."""

    front: MailFront
    told: queue.SimpleQueue[int] = attrs.Factory(queue.SimpleQueue)

    @contextlib.contextmanager
    def sending(self, mails: list[Mail]) -> Iterator[None]:
        """Send them all, each until it has its last word; at the end, wait for that."""

        def work(client: int) -> None:
            for mail in mails:
                if mail.client == client:
                    self._until_answered(mail)

        with ThreadPoolExecutor(CLIENTS) as pool:
            clients = [pool.submit(work, client) for client in range(CLIENTS)]
            yield
        for client in clients:
            client.result()

    def _until_answered(self, mail: Mail) -> None:
        deadline = time.monotonic() + 3 * PATIENCE
        while time.monotonic() < deadline:
            code = self._attempt(mail)
            mail.codes.append(code)
            self.told.put(code)
            if code == 250 or code >= 500:
                return
            time.sleep(0.2)  # as a client's queue does; nothing waits for this
        raise AssertionError(f"{mail.subject}: {mail.codes}")

    def _attempt(self, mail: Mail) -> int:
        """The last reply's code; 0 if the connection was closed without one."""
        kind = KINDS[mail.kind]
        port = getattr(self.front.ports, kind.port)
        source = (f"127.0.1.{mail.client + 1}", 0)
        content = f"Subject: {mail.subject}\r\n\r\n{kind.text}\r\n"
        smtp = None
        try:
            smtp = smtplib.SMTP("127.0.0.1", port, timeout=2 * PATIENCE, source_address=source)
            smtp.ehlo(f"client-{mail.client}.example")
            if kind.port == "submission":
                smtp.starttls(context=ssl._create_unverified_context())
                smtp.ehlo(f"client-{mail.client}.example")
            if kind.login:
                smtp.user, smtp.password = kind.login
                smtp.auth("PLAIN", smtp.auth_plain)  # login() would try LOGIN as well
            for code, _ in (smtp.mail(kind.sender), smtp.rcpt(kind.recipient)):
                if code != 250:
                    return code
            mail.unanswered += 1
            code, _ = smtp.data(content)
            mail.unanswered -= 1
        except smtplib.SMTPResponseException as error:
            return error.smtp_code
        except (smtplib.SMTPServerDisconnected, ConnectionError):
            return 0
        else:
            return code
        finally:
            if smtp is not None:
                smtp.close()


@pytest.fixture(scope="module")
def front(require_program: Callable[[str, str], Path]) -> Iterator[MailFront]:
    require_program("postfix", "postfix")
    require_program("nginx", "nginx")
    require_program("/usr/lib/nginx/modules/ngx_mail_module.so", "libnginx-mod-mail")
    if os.geteuid() != 0:
        pytest.skip("Postfix can be started by root only")
    root = Path(tempfile.mkdtemp(prefix="mailwire-"))
    root.chmod(0o755)
    ports = Ports(*(free_port() for _ in attrs.fields(Ports)))
    try:
        with MailFront(root, ports) as running:
            yield running
    finally:
        shutil.rmtree(root, ignore_errors=True)


def mails(count: int, first: int) -> list[Mail]:
    """Of all kinds, and each client sends of all."""
    kinds = list(KINDS)
    return [
        Mail(number, kinds[number % len(kinds)], number // len(kinds) % CLIENTS)
        for number in range(first, first + count)
    ]


def check(front: MailFront, sent: list[Mail]) -> int:
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
            if len(way_of(one)) == 1:
                check_traces(one, mail)
    held = [entry for entry in front.queue("trial") if entry["queue_name"] == "hold"]
    spam = [mail for mail in sent if mail.kind == "spam for trial"]
    assert len(spam) <= len(held)
    return duplicates


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


def test_two_hundred_mails_over_twenty_clients(front: MailFront) -> None:
    """Each goes its way, is tagged, held or refused as it should be; none twice."""
    sent = mails(200, 0)
    with Load(front).sending(sent):
        pass
    assert check(front, sent) == 0
    assert all(len(mail.codes) == 1 for mail in sent)


@pytest.mark.parametrize(
    "name", ["table_daemon", "auth_daemon", "nginx_daemon", "tag_mail", "check_body"]
)
def test_a_daemon_is_killed_under_load(
    front: MailFront, name: str, record_property: Callable[[str, object], None]
) -> None:
    """Nothing is lost, and nothing let through; good mail is put off, never refused."""
    load = Load(front)
    first = 1000 * (1 + list(front.processes).index(name))
    sent = mails(84, first)
    with load.sending(sent):
        for _ in range(10):
            load.told.get(timeout=PATIENCE)
        front.processes[name].kill()
        try:
            failures = 0
            while failures < 5:
                failures += load.told.get(timeout=PATIENCE) < 500
        finally:
            front.processes[name].start()
    record_property("duplicates", check(front, sent))
    record_property("temporary failures", sum(len(mail.codes) - 1 for mail in sent))
