"""Five mails through the mail front, and what became of each."""

from __future__ import annotations

import mailbox
import re
import smtplib
import time
from collections.abc import Iterator
from email.message import EmailMessage, Message
from typing import Final, cast

import attrs

from mailfront._front import MailFront

PATIENCE: Final = 20.0
OUTSIDE: Final = "127.0.0.9"  # where mail from the world seems to come from


@attrs.frozen
class Mail:
    """One of the five. ``login`` is a name and a password, if its client has any."""

    title: str
    sender: str
    recipient: str
    login: tuple[str, str] | None = None
    text: str = "Nothing that anybody would mind."


MAILS: Final = (
    Mail(
        "a paid user writes",
        *("ann@example.test", "friend@example.org"),
        ("ann@example.test", "ann"),
    ),
    Mail(
        "a trial user writes",
        *("bob@example.test", "friend@example.org"),
        ("bob@example.test", "bob"),
    ),
    Mail("to somebody unknown", "friend@example.org", "nobody@example.test"),
    Mail(
        "a wrong password",
        *("ann@example.test", "friend@example.org"),
        ("ann@example.test", "guessed"),
    ),
    Mail(
        "spam for a trial user",
        *("spammer@example.net", "bob@example.test"),
        text="Cheap pills, and free money!",
    ),
)


@attrs.frozen
class Outcome:
    """What the client was told, which way the mail went, and what was done to it."""

    answer: str
    way: str
    changes: str


def send(front: MailFront, mail: Mail) -> tuple[int, str]:
    """Through nginx, as a mail program would; the last reply's code and text, 0 if none came."""
    message = EmailMessage()
    message["From"], message["To"] = mail.sender, mail.recipient
    message["Subject"] = mail.title
    message.set_content(mail.text)
    source = None if mail.login else (OUTSIDE, 0)
    smtp = None
    code, text = 0, b""
    try:
        smtp = smtplib.SMTP("127.0.0.1", front.ports.smtp, timeout=PATIENCE, source_address=source)
        smtp.ehlo("client.example")
        if mail.login:
            smtp.user, smtp.password = mail.login
            smtp.auth("PLAIN", smtp.auth_plain)  # login() would try another way as well
        code, text = smtp.mail(mail.sender)
        if code == 250:
            code, text = smtp.rcpt(mail.recipient)
        if code == 250:
            code, text = smtp.data(message.as_bytes())
    except smtplib.SMTPResponseException as error:
        code, text = error.smtp_code, cast("bytes", error.smtp_error)
    except (smtplib.SMTPServerDisconnected, OSError) as error:
        code, text = 0, str(error).encode()
    finally:
        if smtp is not None:
            smtp.close()
    return code, text.decode(errors="replace")


def follow(front: MailFront, mail: Mail) -> Outcome:
    """Send it, and look where it went."""
    log = front.processes["nginx"].log
    before = log.stat().st_size
    code, text = send(front, mail)
    answer = f"{code} {text}".splitlines()[0] if code else f"no reply: {text}"
    if code != 250:
        said = log.read_bytes()[before:].decode(errors="replace")
        # nginx notes what it was told to say; what it only passes on it does not.
        by = (
            "nginx_daemon, which nginx had asked" if "login failed" in said else "Postfix, or nginx"
        )
        return Outcome(answer, f"refused by {by}", "")
    queue_id = text.rpartition(" ")[2]
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for message in delivered(front):
            if queue_id in " ".join(message.get_all("Received", [])):
                return Outcome(answer, way_of(message), changes_of(message, mail))
        for plan in ("paid", "trial"):
            for entry in front.queue(plan):
                if entry["queue_id"] == queue_id and entry["queue_name"] == "hold":
                    way = f"nginx -> postfix {plan}"
                    return Outcome(answer, way, "held by check_body, for somebody to look at")
        time.sleep(0.1)
    return Outcome(answer, "still under way", "")


def delivered(front: MailFront) -> Iterator[Message]:
    """What has left the front, as it left."""
    if front.delivered.exists():
        yield from mailbox.Maildir(front.delivered, create=False)


def way_of(message: Message) -> str:
    """By the Received headers, the oldest last."""
    received = reversed(message.get_all("Received", []))
    hosts = [re.search(r"by (\w+)\.mail\.test", one) for one in received]
    return " -> ".join(["nginx", *(f"postfix {host[1]}" for host in hosts if host), "the world"])


def changes_of(message: Message, mail: Mail) -> str:
    """What tag_mail has added."""
    client = re.sub(r"\s+", " ", message.get("X-Client", "none").partition("; ")[2])
    subject = message.get("Subject", "")
    changed = f"Subject: {subject}\n" if subject != mail.title else ""
    return f"{changed}X-Client: {client}"
