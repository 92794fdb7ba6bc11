"""The mail front of `make stack` at free ports, and clients that send all kinds of mail to it."""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import smtplib
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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
    "paid to trial": Kind("smtp", ANN[0], BOB[0], ANN, way=(("paid", "trial"),)),
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
            code = self.attempt(mail)
            mail.codes.append(code)
            self.told.put(code)
            if code == 250 or code >= 500:
                return
            time.sleep(0.2)  # as a client's queue does; nothing waits for this
        raise AssertionError(f"{mail.subject}: {mail.codes}")

    def attempt(self, mail: Mail) -> int:
        """One try; the last reply's code; 0 if the connection was closed without one."""
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
        except smtplib.SMTPDataError as error:
            mail.unanswered -= 1  # there was no content yet
            return error.smtp_code
        except smtplib.SMTPResponseException as error:
            return error.smtp_code
        except (smtplib.SMTPServerDisconnected, ConnectionError):
            return 0
        else:
            return code
        finally:
            if smtp is not None:
                smtp.close()


@contextlib.contextmanager
def running_front(require_program: Callable[[str, str], Path]) -> Iterator[MailFront]:
    """All of it, running."""
    require_program("postfix", "postfix")
    require_program("nginx", "nginx")
    require_program("/usr/lib/nginx/modules/ngx_mail_module.so", "libnginx-mod-mail")
    if os.geteuid() != 0:
        pytest.skip("Postfix can be started by root only")
    root = Path(tempfile.mkdtemp(prefix="mailwire-"))
    root.chmod(0o755)
    ports = Ports(*(free_port() for _ in attrs.fields(Ports)))
    try:
        with MailFront(root, ports) as front:
            yield front
    finally:
        shutil.rmtree(root, ignore_errors=True)
