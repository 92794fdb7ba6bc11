"""The mail front as it is shown, and with one program stopped: what its clients are told."""

from __future__ import annotations

import re
import smtplib
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest
from mailfront._demonstration import MAILS, follow
from mailfront._front import MailFront

import nginxauth as na

from ._postfix import PATIENCE
from ._stack import ANN, BOB, KINDS, WORLD, Load, Mail, running_front

ROOT = Path(__file__).parents[2]
UNCOUNTED = 1_000_000  # a number for mails whose ways nobody looks at
# Those of the table in docs/mail_front_down.md.
COLUMNS = (
    *("paid", "paid, logged in by nginx", "straight"),
    *("for paid", "for trial", "for nobody"),
)


@pytest.fixture(scope="module")
def front(require_program: Callable[[str, str], Path]) -> Iterator[MailFront]:
    with running_front(require_program) as running:
        yield running


def test_the_five_mails_of_make_stack(front: MailFront) -> None:
    """Each goes the way that its line says."""
    outcomes = [follow(front, mail) for mail in MAILS]
    assert [outcome.answer[:3] for outcome in outcomes] == ["250", "250", "550", "535", "250"]
    assert [outcome.way for outcome in outcomes[:2]] == [
        f"nginx -> postfix {plan} -> the world" for plan in ("paid", "trial")
    ]
    for outcome, (login, _) in zip(outcomes, (ANN, BOB), strict=False):
        assert f"login={login}" in outcome.changes
    assert outcomes[4].way == "nginx -> postfix trial"
    assert "held by check_body" in outcomes[4].changes


def rows_of_the_page() -> list[list[str]]:
    """What docs/mail_front_down.md says: the program, and what each kind of mail is told."""
    lines = (ROOT / "docs" / "mail_front_down.md").read_text().splitlines()
    rows = [re.findall(r"[^|]+", line) for line in lines if line.startswith("| `")]
    return [[cell.strip().strip("`") for cell in row] for row in rows]


@pytest.mark.parametrize(("name", "cells"), [(name, cells) for name, *cells in rows_of_the_page()])
def test_what_a_client_is_told_while_a_program_is_stopped(
    front: MailFront, name: str, cells: list[str]
) -> None:
    """Seen anew in each run; the page that says so is read here."""
    load = Load(front)
    process = front.processes[name]
    process.stop()
    try:
        for kind, cell in zip(COLUMNS, cells, strict=True):
            wanted = [0 if word == "closed" else int(word) for word in cell.split(", ")]
            for client in range(2):
                assert load.attempt(Mail(UNCOUNTED, kind, client)) in wanted, kind
    finally:
        process.start()
    wait_until_healthy(load)


def wait_until_healthy(load: Load) -> None:
    """An smtpd that has failed is started anew after some time, an answer kept for 30 s."""
    deadline = time.monotonic() + 2 * PATIENCE
    for kind in COLUMNS:
        while (code := load.attempt(Mail(UNCOUNTED, kind, 0))) != KINDS[kind].code:
            assert time.monotonic() < deadline, (kind, code)
            time.sleep(0.2)


class Client:
    """One that says what no mail program would; from nginx's own IPv4 address unless told."""

    def __init__(self, port: int, source: str = "127.0.0.1") -> None:
        self.smtp = smtplib.SMTP("127.0.0.1", port, timeout=PATIENCE, source_address=(source, 0))
        self.smtp.ehlo("client.example")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.smtp.close()

    def told(self, *commands: str) -> list[int]:
        """The code of each reply; 0 where the connection was closed."""
        codes = []
        for command in commands:
            try:
                codes.append(self.smtp.docmd(command)[0])
            except smtplib.SMTPServerDisconnected:
                codes.append(0)
        return codes


AS_ANN = "XCLIENT LOGIN=ann@example.test"


def test_a_stranger_stays_one_once_nginx_has_handed_him_over(front: MailFront) -> None:
    """Then he talks to Postfix himself, even from the address that nginx listens on."""
    with Client(front.ports.smtp) as client:
        begin = client.told("MAIL FROM:<x@example.org>", "RCPT TO:<bob@example.test>")
        assert begin == [250, 250]
        assert client.told(f"RCPT TO:<{ANN[0]}>", "RCPT TO:<friend@example.org>") == [250, 554]
        assert client.told("RSET", AS_ANN, "XFORWARD ADDR=192.0.2.1") == [250, 550, 550]
        assert client.told("MAIL FROM:<x@example.org>", "RCPT TO:<y@example.org>") == [250, 554]


@pytest.mark.parametrize("port", ["smtp", "smtp_auth"])
def test_a_user_stays_who_he_is(front: MailFront, port: str) -> None:
    """The one who has logged in can be nobody else, either."""
    with Client(getattr(front.ports, port)) as client:
        client.smtp.user, client.smtp.password = BOB
        assert client.smtp.auth("PLAIN", client.smtp.auth_plain)[0] == 235
        client.smtp.ehlo("client.example")
        assert client.told(AS_ANN, "XFORWARD ADDR=192.0.2.1") == [550, 550]
        told = client.told(f"MAIL FROM:<{ANN[0]}>", "RCPT TO:<friend@example.org>")
        assert told == [250, 553]


def test_a_second_mail_hidden_in_the_first(front: MailFront) -> None:
    """Behind a line end that is none: one mail, or none, but not two."""
    begin = f"MAIL FROM:<{WORLD}>", f"RCPT TO:<{BOB[0]}>", "DATA"
    hidden = f"x\r\n\n.\nMAIL FROM:<boss@example.test>\nRCPT TO:<{BOB[0]}>\nDATA\nSubject: hidden\n"
    with Client(front.ports.smtp) as client:
        assert client.told(*begin) == [250, 250, 354]
        client.smtp.send(f"Subject: smuggler\r\n\r\n{hidden}\r\n.\r\n")
        client.smtp.getreply()
    assert "boss@example.test" not in (front.root / "log/postfix-trial.log").read_text()


def test_who_may_not_come_at_all(front: MailFront) -> None:
    """A stranger where users log in; a password in clear where it could be read."""
    for port in (front.ports.smtp_auth, front.ports.submission):
        with Client(port, "127.0.0.9") as client:
            assert (
                250 not in client.told("MAIL FROM:<x@example.org>", "RCPT TO:<y@example.org>")[1:]
            )
    with Client(front.ports.submission) as client:
        assert not client.smtp.has_extn("auth")
        assert client.told("AUTH PLAIN AGFubgBhbm4=", AS_ANN)[0] >= 500
    with Client(front.ports.handed_on) as client:
        assert not client.smtp.has_extn("auth")
        told = client.told(AS_ANN, f"MAIL FROM:<{ANN[0]}>", "RCPT TO:<y@example.org>")
        assert told == [550, 250, 554]


def test_nobody_but_nginx_asks_for_passwords(front: MailFront) -> None:
    """Without the secret the right password is no better than a wrong one."""
    conn = na.ClientConnection(b"localhost", b"/auth")
    name, password = (text.encode() for text in ANN)
    question = na.AuthRequest(na.PLAIN, name, password, b"smtp", 1, b"192.0.2.1", b"[UNAVAILABLE]")
    with socket.create_connection(("127.0.0.1", front.ports.auth_http), PATIENCE) as connection:
        connection.sendall(conn.send(question))
        while (answer := conn.next_event()) is None:
            conn.receive_data(connection.recv(65536))
    assert isinstance(answer, na.Deny)
    assert answer.code == b"451 4.3.5"


def test_nobody_else_reads_what_is_secret(front: MailFront) -> None:
    """Passwords' hashes, and what nginx shows of itself."""
    for name in ("mail.db", "secret", "nginx.conf", "key.pem", "chain.pem"):
        assert (front.root / name).stat().st_mode & 0o077 == 0, name
