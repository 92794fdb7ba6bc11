"""A message as a plain object."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import milterproto as mp
from milterproto import message as face
from milterproto.message import Client, Field, Headers, Message, Recipient

CONTENT = b"Subject: hi\nX-A:one\n\ttwo\nx-a: \xe4\n\nbody\n.\n"


def parsed(content: bytes = CONTENT) -> Message:
    return Message.parse(content, sender=b"<a@x.test>", recipients=[b"<b@y.test>", b"c@y.test"])


@pytest.mark.parametrize("content", [CONTENT, CONTENT.replace(b"\n", b"\r\n")], ids=["LF", "CRLF"])
def test_parse(content: bytes) -> None:
    """From a file or from the wire."""
    message = parsed(content)
    assert list(message.headers) == [
        Field(b"Subject", b" hi"),
        Field(b"X-A", b"one\n\ttwo"),
        Field(b"x-a", b" \xe4"),
    ]
    assert message.body == b"body\r\n.\r\n"
    assert message.content == CONTENT.replace(b"\n", b"\r\n")
    assert message.sender == b"<a@x.test>"
    assert message.recipients == [Recipient(b"<b@y.test>"), Recipient(b"c@y.test")]
    assert [one.mailbox for one in message.recipients] == [b"b@y.test", b"c@y.test"]
    assert message.client == Client()


@pytest.mark.parametrize(
    ("content", "names", "body"),
    [
        (b"", [], b""),
        (b"\n", [], b""),
        (b"\n\n", [], b"\r\n"),
        (b"no header", [], b"no header\r\n"),
        (b"Subject : hi", [b"Subject"], b""),
        (b"Subject: hi\n\nno end", [b"Subject"], b"no end\r\n"),
        (b"Subject: hi\nno header\n", [b"Subject"], b"no header\r\n"),
        (b" folded: what?\n", [], b" folded: what?\r\n"),
        (b"A: 1\r\r\n\r\nb", [b"A"], b"b\r\n"),
    ],
)
def test_parse_what_is_odd(content: bytes, names: list[bytes], body: bytes) -> None:
    """The header ends where no more fields are."""
    message = Message.parse(content)
    assert [field.name for field in message.headers] == names
    assert message.body == body


@given(st.binary(max_size=80))
def test_parse_keeps_what_it_is_given(content: bytes) -> None:
    """Any bytes are a message, and parsed once more the same one."""
    message = Message.parse(content)
    assert Message.parse(message.content) == message


def test_parsed() -> None:
    """The view of the `email` package; changes there are its own."""
    message = parsed(b"Subject: =?utf-8?q?x?=\nContent-Type: text/plain; charset=latin-1\n\n\xe4\n")
    view = message.parsed()
    assert view["subject"] == "x"
    assert view.get_content() == "ä\n"
    view["X-New"] = "1"
    assert "X-New" not in message.headers


def test_a_copy_is_another_one() -> None:
    """And is equal, until it is changed."""
    message = parsed()
    message.macros = {b"i": b"4F2Q1"}
    copy = message.copy()
    assert copy == message
    assert copy.queue_id == b"4F2Q1"
    copy.headers.append("X", b"")
    copy.recipients.clear()
    assert message == parsed()
    assert copy != message


def test_recipients() -> None:
    """Added once, removed whatever the brackets and the case of the domain."""
    message = parsed()
    message.add_recipient(b"<d@y.test>", b"NOTIFY=NEVER")
    message.add_recipient(b"d@Y.test")
    assert message.recipients[2:] == [Recipient(b"<d@y.test>", (b"NOTIFY=NEVER",))]
    assert message.remove_recipient(b"<c@Y.TEST>")
    assert not message.remove_recipient(b"B@y.test")
    assert message.remove_recipient(b"b@y.test")
    assert [one.address for one in message.recipients] == [b"<d@y.test>"]
    assert Recipient(b"<a@b").mailbox == b"<a@b"


@pytest.mark.parametrize(
    ("address", "mailbox"),
    [
        (b"<@r.test:b@y.test>", b"b@y.test"),
        (b"@r.test,@[IPv6:::1]:b@y.test", b"b@y.test"),
        (b'<@r.test:"@q:b"@y.test>', b'"@q:b"@y.test'),
        (b"<@r.test>", b"@r.test"),
        (b'<"@r.test:b"@y.test>', b'"@r.test:b"@y.test'),
    ],
)
def test_source_routes(address: bytes, mailbox: bytes) -> None:
    """Who sends to a mailbox may write a way there before it; it is the same mailbox."""
    recipient = Recipient(address)
    assert recipient.mailbox == mailbox
    message = Message(recipients=[recipient])
    message.add_recipient(b"<" + mailbox + b">")
    assert message.recipients == [recipient]
    assert message.remove_recipient(mailbox)


def test_what_can_be_iterated_over_is_a_list() -> None:
    """An iterator can be read once only, and would seem empty to all who look after that."""
    message = parsed()
    message.recipients = (one for one in message.recipients)  # type: ignore[assignment]
    message.headers = (one for one in message.headers if one.name != b"x-a")  # type: ignore[assignment]
    message.sender_parameters = iter([b"SIZE=1"])  # type: ignore[assignment]
    for _ in range(2):
        assert len(message.recipients) == 2
        assert [one.name for one in message.headers] == [b"Subject", b"X-A"]
        assert message.sender_parameters == (b"SIZE=1",)
    assert Recipient(b"<a@b>", [b"A=B"]).parameters == (b"A=B",)
    mine = [Recipient(b"<b@y.test>")]
    message.recipients = mine
    message.add_recipient(b"<c@y.test>")
    assert len(mine) == 1


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("sender", "<a@b>"),
        ("sender", None),
        ("recipients", None),
        ("recipients", [b"<a@b>"]),
        ("recipients", b"<a@b>"),
        ("headers", None),
        ("headers", b"Subject: hi"),
        ("body", "text"),
        ("body", bytearray(b"text")),
        ("sender_parameters", None),
        ("sender_parameters", b"SIZE=1"),
        ("sender_parameters", "SIZE=1"),
        ("sender_parameters", ["SIZE=1"]),
        ("client", None),
        ("quarantined", "odd"),
    ],
    ids=repr,
)
def test_what_an_attribute_can_not_be(attribute: str, value: Any) -> None:
    """Is said where it is written, and nothing has changed."""
    message = parsed()
    with pytest.raises(mp.LocalProtocolError, match=f"^{attribute}: .* is no "):
        setattr(message, attribute, value)
    with pytest.raises(mp.LocalProtocolError, match=f"^{attribute}: .* is no "):
        Message(**{attribute: value})
    assert message == parsed()


@pytest.mark.parametrize("parameters", [None, 1, b"A", "A", [1], "AB"], ids=repr)
def test_what_a_recipient_can_not_be(parameters: Any) -> None:
    """An address of bytes, and parameters of bytes."""
    with pytest.raises(mp.LocalProtocolError, match=r"^recipients: .* is no "):
        Recipient(b"<a@b>", parameters)
    with pytest.raises(mp.LocalProtocolError, match=r"^recipients: 'a' is no bytes"):
        Recipient("a")  # type: ignore[arg-type]


def test_the_rest_of_the_envelope() -> None:
    """Sender, body and quarantine."""
    message = parsed()
    message.change_sender(b"<>")
    message.quarantine(b"odd")
    assert (message.sender, message.quarantined) == (b"<>", b"odd")
    message.replace_body(b"one\ntwo\r\n\rthree")
    assert message.body == b"one\r\ntwo\r\n\rthree\r\n"
    message.replace_body(b"")
    assert message.body == b""
    assert message.queue_id == b""


def test_client() -> None:
    """The address as an object, if it is one."""
    assert str(Client(b"x", mp.Family.INET6, 25, b"IPv6:::1").ip) == "::1"
    assert Client().ip is None


def test_the_public_names() -> None:
    """All there, and sorted."""
    assert sorted(face.__all__) == face.__all__
    assert all(hasattr(face, name) for name in face.__all__)


def test_the_email_package_is_imported_only_when_needed() -> None:
    """It takes longer than all of ours."""
    code = "import sys, milterproto.message as m; m.Message.parse(b'A: b').content"
    check = f"{code}; assert not [n for n in sys.modules if n.split('.')[0] == 'email']"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_headers_are_a_part_of_it() -> None:
    """A message without anything is a message."""
    assert Message().headers == Headers()
    assert Message().content == b"\r\n"
