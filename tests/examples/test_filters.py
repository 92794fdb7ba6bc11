"""What the example filters do with a message, without a socket."""

from __future__ import annotations

import functools
import logging
import re

import attrs
import check_body
import first_filter
import pytest
import refuse_recipients
import tag_mail
from adapters.services import messages

import milterproto as mp
from milterproto.message import Client, Field, Headers, Message, MessageFilter, Recipient
from milterproto.testing import Habits, Result, deliver

CLIENT = Client(b"mail.example.org", mp.Family.INET, 1, b"192.0.2.17", b"mail.example.org")
MACROS = {b"j": b"mx.example.test", b"{client_connections}": b"3"}


def message(content: bytes = b"Subject: Lunch?\n", client: Client = CLIENT) -> Message:
    made = Message.parse(content, sender=b"<ann@example.org>", client=client)
    made.macros = MACROS
    return made


# --- first_filter --------------------------------------------------------------------------


def test_the_filter_of_the_readme() -> None:
    """It notes the client, and refuses one recipient."""
    tested = MessageFilter(first_filter.judge, on_recipient=first_filter.on_recipient)
    mail = message()
    mail.recipients = [Recipient(b"<nobody@example.test>"), Recipient(b"<bob@example.test>")]
    result = deliver(tested, mail)
    assert [one.mailbox for one, _ in result.refused] == [b"nobody@example.test"]
    assert result.message is not None
    assert result.message.headers.all("X-Client-Address") == [b"192.0.2.17"]


def test_services_are_made_of_functions_and_filters() -> None:
    """The one is the other, with nothing else."""
    for judge in (first_filter.judge, MessageFilter(first_filter.judge)):
        handle = messages(judge).handler(mp.FilterConnection())
        answer = handle(mp.offer())
        assert answer == mp.negotiate(mp.offer(), MessageFilter(first_filter.judge).wants)


# --- tag_mail ------------------------------------------------------------------------------


def tagged(mail: Message, habits: Habits = Habits.POSTFIX) -> Result:
    judge = functools.partial(tag_mail.judge, tag=b"[out]")
    tested = MessageFilter(judge, body=False, macros=tag_mail.MACROS)
    return deliver(tested, mail, habits=habits)


def lines(result: Result) -> list[bytes]:
    """The header that is delivered."""
    assert result.message is not None
    return result.message.content.split(b"\r\n")[:-2]


NOTED = [
    b"X-Client: mx.example.test; client=mail.example.org [192.0.2.17]; helo=mail.example.org;",
    b"\tconnections=3",
]


@pytest.mark.parametrize("habits", Habits)
def test_the_client_is_noted_and_the_subject_tagged(habits: Habits) -> None:
    """Behind any MTA."""
    assert lines(tagged(message(), habits)) == [*NOTED, b"Subject: [out] Lunch?"]


def test_a_client_without_a_name_is_named_once() -> None:
    """Postfix gives the address in brackets for a name; and HELO may be missing."""
    mail = message(client=Client(b"[192.0.2.9]", mp.Family.INET, 1, b"192.0.2.9"))
    assert b"client=[192.0.2.9]; helo=unknown;" in lines(tagged(mail))[0]


def test_a_subject_that_no_mta_takes_back_is_let_alone() -> None:
    """The message must not be refused for it, for ever."""
    mail = message(b"")
    for subject in (b" a\rb", b" " + b"a" * 60_000):
        mail.headers = Headers([Field(b"Subject", subject)])
        assert tag_mail_alone(mail) == subject


def tag_mail_alone(mail: Message) -> bytes:
    """Without the wire, that could not carry all of these."""
    mail = mail.copy()
    tag_mail.judge(mail, b"[out]")
    (subject,) = mail.headers.fields("Subject")
    return subject.raw


def test_forged_headers_are_removed() -> None:
    """All of them, in any spelling."""
    assert lines(tagged(message(b"X-Client: me\nSubject: hi\nx-cLIENT: me, too\n"))) == [
        *NOTED,
        b"Subject: [out] hi",
    ]


def test_what_brings_along_a_flood_of_them_is_refused() -> None:
    """Postfix would not survive that many edits."""
    refusal = mp.ReplyCode.text(550, "5.6.0", "Too many X-Client header fields")
    for count, verdict in ((100, mp.Continue()), (101, refusal), (2000, refusal)):
        result = tagged(message(b"x-client: me\n" * count + b"Subject: hi\n"))
        assert result.verdict == verdict


def test_the_first_subject_is_tagged_and_only_once() -> None:
    """A reply to a tagged message is tagged already; folding and encoding stay as they are."""
    assert lines(tagged(message(b"subject: one\nSubject: two\n")))[2:] == [
        b"subject: [out] one",
        b"Subject: two",
    ]
    assert len(tagged(message(b"Subject: [out] Lunch?\n")).edits) == 1
    folded = lines(tagged(message(b"Subject:=?utf-8?q?=C3=BC?=\n two\n")))
    assert folded[2:] == [b"Subject: [out] =?utf-8?q?=C3=BC?=", b" two"]


def test_a_missing_subject_is_added() -> None:
    """So that the tag is seen."""
    assert lines(tagged(message(b"")))[2:] == [b"Subject: [out]"]


def test_who_has_logged_in_is_not_from_outside() -> None:
    """The header says who it was."""
    client = attrs.evolve(CLIENT, login=b"ann", tls=b"TLSv1.3")
    assert lines(tagged(message(client=client))) == [
        NOTED[0],
        b"\tconnections=3;",
        b"\ttls=TLSv1.3;",
        b"\tlogin=ann",
        b"Subject: Lunch?",
    ]


def test_a_client_can_not_write_the_header_with_its_helo() -> None:
    """No line end, no separator, and not without end."""
    mail = message(client=attrs.evolve(CLIENT, helo=b"a; login=root" + b"x" * 400))
    value = lines(tagged(mail))[0]
    assert b"helo=a??login?rootxxx" in value
    assert tag_mail.harmless("ä\r\n".encode()) == b"????"
    assert len(value) < 400


# --- refuse_recipients ---------------------------------------------------------------------

LIST = """
# a comment
Ann@example.test        452 4.2.2 Mailbox full
@sales.example.test  550 5.1.6 Sales has moved, 100% of it
"""


def asked(address: bytes, macros: dict[bytes, bytes] | None = None) -> mp.Verdict | None:
    """The verdict on one recipient, or None if it is let pass."""
    replies = refuse_recipients.parse_list(LIST)
    tested = MessageFilter(on_recipient=functools.partial(refuse_recipients.judge, replies=replies))
    mail = message()
    mail.recipients = [Recipient(address)]
    mail.macros = macros or {}
    result = deliver(tested, mail)
    return None if result.accepted else result.verdict


@pytest.mark.parametrize(
    ("address", "reply"),
    [
        (b"<ann@example.test>", mp.ReplyCode.text(452, "4.2.2", "Mailbox full")),
        (b"ANN@Example.test", mp.ReplyCode.text(452, "4.2.2", "Mailbox full")),
        (
            b"<x@sales.example.test>",
            mp.ReplyCode.text(550, "5.1.6", "Sales has moved, 100% of it"),
        ),
        (b"<bob@example.test>", None),
        (b"<x@more.sales.example.test>", None),
        (b"<postmaster>", None),
    ],
)
def test_recipients_are_refused_as_the_list_says(
    address: bytes, reply: mp.ReplyCode | None
) -> None:
    """Whatever the case, with brackets or without."""
    assert asked(address) == reply


def test_the_mtas_reading_of_the_address_counts() -> None:
    """The client may write it in many ways."""
    told = asked(b"<@relay.test:ann@example.test>", {b"{rcpt_addr}": b"ann@example.test"})
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


def checked(
    body: bytes, blacken: bytes | None = None, hold: bytes | None = None, max_size: int = 1000
) -> Result:
    patterns = [re.compile(one, re.IGNORECASE) if one else None for one in (blacken, hold)]
    judge = functools.partial(check_body.judge, blacken=patterns[0], hold=patterns[1])
    tested = MessageFilter(judge, max_size=max_size, on_too_large=check_body.let_pass)
    mail = message()
    mail.body = body
    # With the body in pieces of three bytes.
    return deliver(tested, mail, habits=Habits.HOSTILE)


def test_what_matches_is_blackened() -> None:
    """Where two pieces of the body meet, too; and the rest stays as it is."""
    result = checked(b"pay 1234-5678 and 99-99\r\n", rb"\d{4}-\d{4}")
    assert result.edits == (mp.ReplaceBody(b"pay XXXXXXXXX and 99-99\r\n"),)


def test_what_does_not_match_is_left_alone() -> None:
    """No edit without need: an edit makes the MTA write the message anew."""
    assert checked(b"nothing\r\n", rb"\d{4}", rb"secret").edits == ()
    assert checked(b"", rb"\d{4}", rb"secret").edits == ()


def test_a_message_is_held(caplog: pytest.LogCaptureFixture) -> None:
    """In any case of letters; and blackened as well."""
    with caplog.at_level(logging.INFO):
        result = checked(b"SECRET 1234\r\n", rb"\d{4}", rb"secret")
    assert [type(one) for one in result.edits] == [mp.ReplaceBody, mp.Quarantine]
    assert "4F2Q2: 1 blackened" in caplog.text
    assert "4F2Q2: held" in caplog.text


def test_a_message_too_large_passes_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing of it is kept."""
    result = checked(b"secret\r\n" * 100, None, rb"secret")
    assert result.accepted
    assert result.edits == ()
    assert "4F2Q2: too large, not looked at" in caplog.text
