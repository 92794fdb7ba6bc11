"""What the example filters do with a message, without a socket."""

from __future__ import annotations

import logging
import re
from typing import Any

import check_body
import pytest
import refuse_recipients
import tag_mail
from adapters._contract import Dialogue, Service
from adapters.services import milter

import milterproto as mp

CLIENT = mp.Connect(b"mail.example.org", mp.Family.INET, 1, b"192.0.2.17")
MAIL = mp.MailFrom(b"<ann@example.org>")


class Session:
    """A filter, and the MTA that talks to it."""

    def __init__(self, service: Service[Any, Any]) -> None:
        self.filter = Dialogue(service)
        self.mta = mp.MTAConnection()
        self.say(mp.offer())

    def say(self, *commands: mp.Command) -> list[Any]:
        """Send what the filter wants of these; the responses to the last."""
        told: list[Any] = []
        for command in commands:
            if not isinstance(command, mp.Macros) and not self.mta.wants(type(command)):
                continue
            self.filter.receive(self.mta.send(command))
            while (event := self.filter.next_event()) is not None:
                self.filter.answer(event, self.filter.call_plain(event))
            if answer := self.filter.data_to_send():
                self.mta.receive_data(answer)
            told = list(self.mta.events())
        return told

    def message(self, *content: mp.Command) -> list[Any]:
        """A whole one; the responses at its end."""
        rcpt = mp.RcptTo(b"<bob@example.test>")
        whole = (MAIL, rcpt, mp.Data(), *content)
        return self.say(*whole, mp.EndOfMessage())


# --- tag_mail ------------------------------------------------------------------------------


def tagging(client: mp.Connect = CLIENT, helo: bytes = b"mail.example.org") -> Session:
    session = Session(milter(lambda conn: tag_mail.Session(conn, b"[out]").handle, tag_mail.WANTS))
    macros = {b"j": b"mx.example.test", b"{client_connections}": b"3"}
    session.say(mp.Macros.of(mp.Connect, macros), client, mp.Helo(helo))
    return session


def test_the_client_is_noted_and_the_subject_tagged() -> None:
    """And the same again with the next message on the connection."""
    session = tagging()
    for _ in range(2):
        told = session.message(mp.Header(b"Subject", b"Lunch?"), mp.EndOfHeaders())
        assert told == [
            mp.InsertHeader(
                0,
                b"X-Client",
                b"mx.example.test; client=mail.example.org [192.0.2.17]; "
                b"helo=mail.example.org;\n\tconnections=3",
            ),
            mp.ChangeHeader(1, b"Subject", b"[out] Lunch?"),
            mp.Accept(),
        ]


def test_a_client_without_a_name_is_named_once() -> None:
    """Postfix gives the address in brackets for a name."""
    session = tagging(mp.Connect(b"[192.0.2.9]", mp.Family.INET, 1, b"192.0.2.9"))
    header = session.message(mp.EndOfHeaders())[0]
    assert b"client=[192.0.2.9]" in header.value


def test_the_next_client_on_the_connection_is_another() -> None:
    """Even if it says no HELO."""
    session = tag_mail.Session(mp.FilterConnection(), b"[out]")
    second = mp.Connect(b"second.test", mp.Family.INET, 1, b"192.0.2.99")
    for event in (CLIENT, mp.Helo(b"first.test"), second, MAIL):
        session.handle(event)
    assert session.results() == b"unknown; client=second.test [192.0.2.99]; helo=unknown"


@pytest.mark.parametrize("subject", [b"a\rb", b"a" * 65520], ids=["CR", "length"])
def test_a_subject_that_no_mta_takes_back_is_let_alone(subject: bytes) -> None:
    """The message must not be refused for it, for ever."""
    conn = mp.FilterConnection()
    session = tag_mail.Session(conn, b"[out]")
    session.handle(MAIL)
    session.handle(mp.Header(b"Subject", subject))
    told = session.handle(mp.EndOfMessage())
    assert isinstance(told, list)
    assert [type(edit) for edit in told] == [mp.InsertHeader, mp.Accept]


def test_forged_headers_are_removed() -> None:
    """All of them, from the last to the first, in any spelling."""
    forged = (mp.Header(b"X-Client", b"me"), mp.Header(b"x-cLIENT", b"me, too"))
    told = tagging().message(*forged, mp.EndOfHeaders())
    assert told[:2] == [
        mp.ChangeHeader(2, b"X-Client", b""),
        mp.ChangeHeader(1, b"X-Client", b""),
    ]


def test_the_first_subject_is_tagged_and_only_once() -> None:
    """A reply to a tagged message is tagged already."""
    two = (mp.Header(b"subject", b"one"), mp.Header(b"Subject", b"two"))
    told = tagging().message(*two, mp.EndOfHeaders())
    assert told[1:] == [mp.ChangeHeader(1, b"Subject", b"[out] one"), mp.Accept()]
    told = tagging().message(mp.Header(b"Subject", b"[out] Lunch?"), mp.EndOfHeaders())
    assert len(told) == 2


def test_a_missing_subject_is_added() -> None:
    """So that the tag is seen."""
    assert mp.AddHeader(b"Subject", b"[out]") in tagging().message(mp.EndOfHeaders())


def test_who_has_logged_in_is_not_from_outside() -> None:
    """The header says who it was; the next message may be somebody else's."""
    session = tagging()
    macros = {b"{auth_authen}": b"ann", b"{tls_version}": b"TLSv1.3"}
    session.say(mp.Macros.of(mp.MailFrom, macros))
    told = session.message(mp.Header(b"Subject", b"Lunch?"), mp.EndOfHeaders())
    assert len(told) == 2
    assert told[0].value.endswith(b"connections=3;\n\ttls=TLSv1.3;\n\tlogin=ann")
    assert len(session.message(mp.Header(b"Subject", b"Lunch?"), mp.EndOfHeaders())) == 3


def test_a_client_can_not_write_the_header_with_its_helo() -> None:
    """No line end, no separator, and not without end."""
    session = tagging(helo=b"a; login=root" + b"x" * 400)
    value = session.message(mp.EndOfHeaders())[0].value
    assert b"helo=a??login?rootxxx" in value
    assert tag_mail.harmless("ä\r\n".encode()) == b"????"
    assert len(value) < 400


# --- refuse_recipients ---------------------------------------------------------------------

LIST = """
# a comment
Ann@example.test        452 4.2.2 Mailbox full
@sales.example.test  550 5.1.6 Sales has moved, 100% of it
"""


def refusing() -> Session:
    replies = refuse_recipients.parse_list(LIST)
    service = milter(lambda conn: refuse_recipients.session(conn, replies), refuse_recipients.WANTS)
    session = Session(service)
    session.say(CLIENT, MAIL)
    return session


@pytest.mark.parametrize(
    ("address", "reply"),
    [
        (b"<ann@example.test>", mp.ReplyCode.text(452, "4.2.2", "Mailbox full")),
        (b"ANN@Example.test", mp.ReplyCode.text(452, "4.2.2", "Mailbox full")),
        (
            b"<x@sales.example.test>",
            mp.ReplyCode.text(550, "5.1.6", "Sales has moved, 100% of it"),
        ),
        (b"<bob@example.test>", mp.Continue()),
        (b"<x@more.sales.example.test>", mp.Continue()),
        (b"<postmaster>", mp.Continue()),
    ],
)
def test_recipients_are_refused_as_the_list_says(address: bytes, reply: mp.Response) -> None:
    """Whatever the case, with brackets or without."""
    assert refusing().say(mp.RcptTo(address)) == [reply]


def test_the_mtas_reading_of_the_address_counts() -> None:
    """The client may write it in many ways."""
    session = refusing()
    macros = mp.Macros.of(mp.RcptTo, {b"{rcpt_addr}": b"ann@example.test"})
    (told,) = session.say(macros, mp.RcptTo(b"<@relay.test:ann@example.test>"))
    assert told == mp.ReplyCode.text(452, "4.2.2", "Mailbox full")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("ann@example.test", "line 2 is not like this"),
        ("ann@example.test never 5.1.1 Gone", "line 2 is not like this"),
        ("ann@example.test 250 2.1.5 Fine", "line 2: b'250' is no reply code"),
        ("ann@example.test 550 4.1.1 Gone", "line 2: enhanced code b'4.1.1' is not of the class"),
        ("ann@example.test 550 5.1.1 Größer", "line 2: line 1 of the reply has bytes"),
    ],
)
def test_a_wrong_line_is_named(line: str, complaint: str) -> None:
    """At the start, and not when the first recipient is to be refused."""
    with pytest.raises(ValueError, match=re.escape(complaint)):
        refuse_recipients.parse_list(f"# list\n{line}\n")


# --- check_body ----------------------------------------------------------------------------


def checking(blacken: bytes | None = None, hold: bytes | None = None) -> Session:
    patterns = [re.compile(one, re.IGNORECASE) if one else None for one in (blacken, hold)]
    service = milter(lambda conn: check_body.Session(conn, *patterns).handle, check_body.WANTS)
    session = Session(service)
    session.say(CLIENT)
    return session


def test_what_matches_is_blackened() -> None:
    """Where two pieces of the body meet, too; and the rest stays as it is."""
    session = checking(rb"\d{4}-\d{4}")
    told = session.message(mp.Body(b"pay 1234-5"), mp.Body(b"678 and 99-99\r\n"))
    assert told == [mp.ReplaceBody(b"pay XXXXXXXXX and 99-99\r\n"), mp.Accept()]


def test_what_does_not_match_is_left_alone() -> None:
    """No edit without need: an edit makes the MTA write the message anew."""
    session = checking(rb"\d{4}", rb"secret")
    assert session.message(mp.Body(b"nothing\r\n")) == [mp.Accept()]
    assert session.message() == [mp.Accept()]


def test_a_message_is_held() -> None:
    """In any case of letters; and blackened as well."""
    told = checking(rb"\d{4}", rb"secret").message(mp.Body(b"SECRET 1234\r\n"))
    assert [type(one) for one in told] == [mp.ReplaceBody, mp.Quarantine, mp.Accept]


def test_one_message_is_not_looked_for_in_the_next() -> None:
    """Whether it came to its end or was aborted."""
    session = checking(None, rb"secret")
    assert len(session.message(mp.Body(b"sec"))) == 1
    assert len(session.message(mp.Body(b"ret"))) == 1
    session.say(MAIL, mp.RcptTo(b"<b@x.test>"), mp.Data(), mp.Body(b"sec"), mp.Abort())
    assert len(session.message(mp.Body(b"ret"))) == 1


def test_a_body_too_large_passes_and_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing of it is kept."""
    monkeypatch.setattr(check_body, "MAX_BODY", 10)
    session = checking(None, rb"secret")
    assert session.message(mp.Body(b"secret"), mp.Body(b"secret")) == [mp.Accept()]
    assert "not looked at, its body has 12 bytes" in caplog.text
    with caplog.at_level(logging.INFO):
        assert len(session.message(mp.Body(b"secret"))) == 2
