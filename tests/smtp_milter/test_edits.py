"""The edits for what has come back: those of a gateway, and none for what happens by the way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from smtp_milter._edits import NoEditsError, Rules, find_edits

import milterproto as mp
from milterproto.message import Dialect, Field, Message, Recipient, apply

from .helpers import outgoing, returned

CONTENT = b"From: a\r\nSubject: hi\r\nX-A: 1\r\nX-A: 2\r\n\r\nbody\r\n"
TOKEN = Field(b"X-Mark", b" abc")
RECEIVED = Field(b"Received", b" from helo (x [192.0.2.1])\n\tby mta.test; now")
RULES = Rules(dialect=Dialect.POSTFIX, leading_space=True)
BOB = b"<b@example.test>"


def edits(
    after: bytes,
    before: bytes = CONTENT,
    *,
    rules: Rules = RULES,
    sender: bytes = b"<a@example.org>",
    recipients: tuple[bytes, ...] = (BOB,),
) -> list[mp.Edit]:
    envelope = Message(b"<a@example.org>", [Recipient(BOB)])
    back = returned(after, sender=sender, recipients=recipients)
    return find_edits(envelope, outgoing(before), [TOKEN, RECEIVED], [back], rules)


@pytest.mark.parametrize(
    "after",
    [
        CONTENT,
        b"X-Mark: abc\r\n" + CONTENT,
        b"x-mark:  abc\r\nReceived: from helo (x [192.0.2.1]) by mta.test; now\r\n" + CONTENT,
        # Of the gateway and of who is behind it.
        b"Return-Path: <a@example.org>\r\nDelivered-To: b\r\nReceived: by gateway\r\n" + CONTENT,
        CONTENT.replace(b"Subject: hi", b"subject:  hi "),
        CONTENT.replace(b": hi", b":\r\n hi"),
    ],
)
def test_what_is_no_change(after: bytes) -> None:
    """Our own marks, traces, folding and blanks."""
    assert edits(after) == []


def test_a_client_who_sends_our_mark() -> None:
    """Only one is ours; his own stays."""
    assert edits(b"X-Mark: abc\r\nX-Mark: abc\r\n" + CONTENT, b"X-Mark: abc\r\n" + CONTENT) == []


def test_trace_fields_that_were_there() -> None:
    """They are the message's; and others are kept only if that is wanted."""
    before = b"Received: from one\r\n" + CONTENT
    after = b"Received: by gateway\r\n" + before
    assert edits(after, before) == []
    keeping = Rules(dialect=Dialect.POSTFIX, leading_space=True, keep_trace=True)
    assert len(edits(after, before, rules=keeping)) == 1
    assert edits(CONTENT, before) == [mp.ChangeHeader(1, b"Received", b"")]


def test_header_edits() -> None:
    """A tag, a field on top, and the second of two twins changed."""
    after = CONTENT.replace(b": hi", b": [spam] hi").replace(b": 2", b": 3")
    made = edits(b"X-Spam: yes\r\n" + after)
    message = apply(Message.parse(CONTENT), made, Dialect.POSTFIX, leading_space=True)
    assert message.content == b"X-Spam: yes\r\n" + after
    assert len(made) == 3


def test_normalized_is_not_changed() -> None:
    """What was cleaned on the way out comes back clean, and is not the gateway's doing."""
    before = b"A: 1\r2\r\nSubject: hi\r\n\r\na\rb\nc"
    assert edits(b"A: 1 2\r\nSubject: hi\r\n\r\na b\r\nc\r\n", before) == []


def test_bodies() -> None:
    """A footer, an empty body, a long one: one run of pieces."""
    assert edits(CONTENT + b"-- \r\nfooter\r\n") == [mp.ReplaceBody(b"body\r\n-- \r\nfooter\r\n")]
    assert edits(CONTENT.replace(b"body\r\n", b"")) == [mp.ReplaceBody(b"")]
    made = edits(CONTENT + b"x" * 200_000 + b"\r\n")
    assert all(isinstance(one, mp.ReplaceBody) for one in made)
    assert b"".join(one.data for one in made if isinstance(one, mp.ReplaceBody)) == (
        b"body\r\n" + b"x" * 200_000 + b"\r\n"
    )


def test_envelopes() -> None:
    """Brackets and the case of a domain are no change; a recipient goes only if he may."""
    assert edits(CONTENT, sender=b"a@EXAMPLE.org", recipients=(b"b@Example.test",)) == []
    for same in (b"<B@example.test>", b'<"b"@example.test>', b"<@x.test,@y.test:b@example.test>"):
        assert edits(CONTENT, recipients=(same,)) == []
    assert edits(CONTENT, sender=b"<>") == [mp.ChangeSender(b"<>")]
    both = edits(CONTENT, recipients=(b"<c@x>", BOB))
    assert both == [mp.AddRecipient(b"<c@x>")]
    with pytest.raises(NoEditsError, match="recipient"):
        edits(CONTENT, recipients=(b"<c@x>",))
    may = Rules(dialect=Dialect.POSTFIX, leading_space=True, remove_recipients=True)
    assert edits(CONTENT, recipients=(b"<c@x>",), rules=may) == [
        mp.DeleteRecipient(BOB),
        mp.AddRecipient(b"<c@x>"),
    ]


def test_several_messages() -> None:
    """For other recipients each: the same, or not to be told."""
    envelope = Message(b"<a@example.org>", [Recipient(BOB), Recipient(b"<c@x>")])
    one = returned(b"T: 1\r\n" + CONTENT)
    other = returned(b"Received: y\r\nT: 1\r\n" + CONTENT, recipients=(b"<c@x>",))
    made = find_edits(envelope, outgoing(CONTENT), [], [one, other], RULES)
    assert made == [mp.InsertHeader(0, b"T", b" 1")]
    for content, sender in (
        (b"T: 2\r\n" + CONTENT, b"<a@example.org>"),
        (b"T: 1\r\n" + CONTENT + b"x", b"<a@example.org>"),
        (b"T: 1\r\n" + CONTENT, b"<b@example.org>"),
    ):
        third = returned(content, sender=sender, recipients=(b"<c@x>",))
        with pytest.raises(NoEditsError, match="different"):
            find_edits(envelope, outgoing(CONTENT), [], [one, third], RULES)


names = st.sampled_from([b"A", b"a", b"B", b"Subject", b"Received"])
values = st.sampled_from([b" 1", b" 2", b"3", b" 4\n\t5", b" x  y"])
fields = st.lists(st.builds(Field, names, values), min_size=1, max_size=6)
bodies = st.sampled_from([b"", b"x\r\n", b".\r\ny\r\n"])


@given(fields, bodies, fields, bodies)
def test_what_the_edits_make_is_what_came_back(
    old: list[Field], body: bytes, new: list[Field], new_body: bytes
) -> None:
    """To the byte, where no two fields differ in blanks only."""
    before, after = (
        b"".join(f.name + b":" + f.raw.replace(b"\n", b"\r\n") + b"\r\n" for f in some) + b"\r\n"
        for some in (old, new)
    )
    rules = Rules(dialect=Dialect.POSTFIX, leading_space=True, keep_trace=True)
    made = edits(after + new_body, before + body, rules=rules)
    message = apply(Message.parse(before + body), made, Dialect.POSTFIX, leading_space=True)
    told = [(f.name.lower(), f.value.split()) for f in message.headers]
    assert told == [(f.name.lower(), f.value.split()) for f in new]
    assert message.body == new_body
