"""The page about what nginx makes of an answer is held to the code."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest

import nginxauth as ng

PAGE = (Path(__file__).parents[2] / "docs" / "nginx_answers.md").read_text(encoding="utf-8")

REQUEST = ng.AuthRequest(ng.PLAIN, b"u", b"p", b"smtp", 1, b"192.0.2.1", b"client.test")
PROTOCOLS = (b"smtp", b"imap", b"pop3")


def rows(heading: str) -> list[list[str]]:
    """The cells of the table whose head begins like that."""
    lines = PAGE[PAGE.index(f"\n{heading}") :].splitlines()[3:]
    table = []
    for line in lines:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip().removeprefix("|").split("|")[:-1]])
    assert table
    return table


def wire(cell: str) -> bytes:
    """The answer that a cell shows."""
    lines = re.findall(r"`([^`]*)`", cell)
    text = "".join(f"{line}\r\n" for line in lines)
    text = text.replace("TO\r\n", "Auth-Server: 192.0.2.1\r\nAuth-Port: 25\r\n")
    first = "" if lines and lines[0].startswith("HTTP/") else "HTTP/1.0 200 OK\r\n"
    return f"{first}{text}\r\n".replace("<TAB>", "\t").encode()


def asked(answer: bytes, request: ng.AuthRequest = REQUEST) -> tuple[ng.Reply | None, set[str]]:
    """What is made of it, None for an error; and the warnings."""
    conn = ng.ClientConnection()
    conn.send(request)
    conn.receive_data(answer)
    try:
        event = conn.next_event()
    except ng.RemoteProtocolError:
        event = None
    assert not isinstance(event, ng.ConnectionClosed)
    return event, set(conn.warnings)


@pytest.mark.parametrize(("shown", "smtp", "others"), rows("| answer | SMTP |"))
def test_answers(shown: str, smtp: str, others: str) -> None:
    """In each protocol."""
    for protocol, outcome in zip(PROTOCOLS, (smtp, others, others), strict=True):
        event, _ = asked(wire(shown), attrs.evolve(REQUEST, protocol=protocol))
        assert (type(event).__name__ if event else "error") == outcome


@pytest.mark.parametrize(("shown", "seconds"), rows("| `Auth-Wait` | seconds |"))
def test_pauses(shown: str, seconds: str) -> None:
    """The last that is a number."""
    lines = [f"`Auth-Wait: {text}`" for text in re.findall(r"`([^`]*)`", shown)]
    event, _ = asked(wire(" ".join(["`Auth-Status: no`", *lines])))
    assert event == ng.Deny(b"no", wait=int(seconds))


@pytest.mark.parametrize(("shown", "outcome"), rows("| `Auth-Server` | to nginx |"))
def test_addresses(shown: str, outcome: str) -> None:
    """nginx's own reading."""
    server = shown.strip("`")
    event, _ = asked(wire(f"`Auth-Status: OK` `Auth-Server: {server}` `Auth-Port: 25`"))
    assert event == (ng.Allow(server.encode(), 25) if outcome == "an address" else None)


@pytest.mark.parametrize(("shown", "smtp", "pop3", "imap"), rows("| reply | SMTP | POP3 |"))
def test_what_the_client_gets(shown: str, smtp: str, pop3: str, imap: str) -> None:
    """To the byte."""
    reply = eval(shown.strip("`"), {"Deny": ng.Deny})
    for protocol, text in zip((b"smtp", b"pop3", b"imap"), (smtp, pop3, imap), strict=True):
        seen = ng.mail_reply(reply, protocol, tag=b"t1")
        assert seen.data == text.strip("`").encode() + b"\r\n"
        assert seen.closes


# What it takes to get those warnings that one answer to that login can't show.
OTHERS = {
    "no HTTP status line": (REQUEST, b"Auth-Status: no\r\n\r\n"),
    "fewer than 128 bytes left": (REQUEST, wire(f"`Auth-Status: {'n' * 900}`")),
    "WAIT after APOP": (
        attrs.evolve(REQUEST, method=ng.CRAM_MD5, salt=b"<1@mx>"),
        wire("`Auth-Status: WAIT` `Auth-Wait: 1`"),
    ),
    "Auth-Wait after APOP": (
        attrs.evolve(REQUEST, method=ng.APOP, salt=b"<1@mx>"),
        wire("`Auth-Status: no` `Auth-Wait: 1`"),
    ),
    "an Auth-Error-Code with": (
        attrs.evolve(REQUEST, protocol=b"pop3"),
        wire("`Auth-Status: no` `Auth-Error-Code: 451 4.3.0`"),
    ),
}


def test_all_warnings_are_there() -> None:
    """In their order."""
    assert [text for text, _ in rows("| warning | such an answer |")] == list(ng.WARNINGS)


@pytest.mark.parametrize(("text", "shown"), rows("| warning | such an answer |"))
def test_warnings(text: str, shown: str) -> None:
    """Each is had by such an answer."""
    if shown:
        _, warnings = asked(wire(shown))
    else:
        ((request, answer),) = (case for start, case in OTHERS.items() if text.startswith(start))
        _, warnings = asked(answer, request)
    assert text in warnings
