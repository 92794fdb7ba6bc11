"""The edits between two messages: they do what they should, and there are few of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

import milterproto as mp
from milterproto.message import (
    Client,
    Dialect,
    Field,
    Headers,
    Message,
    Recipient,
    apply,
    diff,
    expressible,
)
from tests.steepness import assert_linear

from . import strategies

POSTFIX, SENDMAIL = Dialect
CONTENT = b"Subject: hi\nX-A: one\nX-B: b\nX-A: two\nX-A: three\n\nbody\n"


NAMED = r"^(headers|body|recipients|sender|sender_parameters|quarantined): "


def comparable(message: Message) -> Message:
    """With recipients in an order of their own, and each once."""
    recipients = {(one.mailbox, one.parameters) for one in message.recipients}
    return attrs.evolve(message, recipients=[Recipient(*one) for one in sorted(recipients)])


@given(
    strategies.edited_messages(), st.sampled_from([None, *Dialect]), st.booleans(), st.booleans()
)
def test_what_is_expressible_comes_out(
    pair: tuple[Message, Message], dialect: Dialect | None, leading_space: bool, strict: bool
) -> None:
    """`apply` of `diff` is the message that was wanted; and without a dialect, in all of them."""
    before, after = pair
    said = expressible(before, after, dialect, leading_space=leading_space, strict=strict)
    event(f"expressible: {said}")
    if not said:
        with pytest.raises(mp.LocalProtocolError, match=NAMED):
            diff(before, after, dialect, leading_space=leading_space, strict=strict)
        return
    edits = diff(before, after, dialect, leading_space=leading_space, strict=strict)
    for one in [dialect] if dialect else Dialect:
        result = apply(before, edits, one, leading_space=leading_space)
        wanted = after.copy()
        if not strict:
            result.headers, wanted.headers = unfolded(result.headers), unfolded(wanted.headers)
        assert comparable(result) == comparable(wanted)


def unfolded(headers: Headers) -> Headers:
    """On one line each."""
    return Headers(Field(one.name, one.raw.replace(b"\n", b"")) for one in headers)


@given(strategies.messages, st.sampled_from([None, *Dialect]))
def test_nothing_is_no_edit(message: Message, dialect: Dialect | None) -> None:
    """However odd the message is."""
    assert diff(message, message.copy(), dialect) == []


def edits(
    change: Callable[[Message], object],
    dialect: Dialect | None = None,
    *,
    leading_space: bool = False,
    strict: bool = False,
) -> list[mp.Edit]:
    """Of a message that is changed so."""
    before = Message.parse(CONTENT, sender=b"<a@x>", recipients=[b"<b@y>", b"c@y"])
    after = before.copy()
    change(after)
    return diff(before, after, dialect, leading_space=leading_space, strict=strict)


def test_changes_go_from_the_last_to_the_first() -> None:
    """So that each index is right, whoever counts."""

    def change(message: Message) -> None:
        message.headers[0] = Field.of("Subject", b"new")
        message.headers[3] = Field.of("X-A", b"2")
        del message.headers[4]

    assert edits(change) == [
        mp.ChangeHeader(3, b"X-A", b""),
        mp.ChangeHeader(2, b"X-A", b"2"),
        mp.ChangeHeader(1, b"Subject", b"new"),
    ]


def test_all_of_a_name_are_deleted() -> None:
    """The usual thing to do with a forged header."""
    assert edits(lambda message: message.headers.delete("x-a")) == [
        mp.ChangeHeader(3, b"X-A", b""),
        mp.ChangeHeader(2, b"X-A", b""),
        mp.ChangeHeader(1, b"X-A", b""),
    ]


def test_new_fields_follow() -> None:
    """On top, at the end, and, where the dialect says how, in the midst of others."""

    def change(message: Message) -> None:
        message.headers.insert(0, "X-T2", b"2")
        message.headers.insert(0, "X-T1", b"1")
        message.headers.append("X-E", b"1")
        message.headers.append("X-A", b"four")
        message.headers.append("X-E", b"2")
        message.headers.append("Date", b"now")
        message.headers.delete("X-B")

    rest = [
        mp.InsertHeader(0, b"X-T2", b"2"),
        mp.InsertHeader(0, b"X-T1", b"1"),
        mp.AddHeader(b"X-E", b"1"),
        mp.InsertHeader(2**31 - 2, b"X-A", b"four"),
        mp.InsertHeader(2**31 - 2, b"X-E", b"2"),
        mp.InsertHeader(2**31 - 2, b"Date", b"now"),
    ]
    gone = mp.ChangeHeader(1, b"X-B", b"")
    for dialect in (None, *Dialect):
        assert edits(change, dialect) == [gone, *rest]

    def change_more(message: Message) -> None:
        change(message)
        message.headers.insert(5, "X-M2", b"2")
        message.headers.insert(5, "X-M1", b"1")

    for dialect, index in ((POSTFIX, 4), (SENDMAIL, 12)):
        assert edits(change_more, dialect) == [
            gone,
            mp.InsertHeader(index, b"X-M2", b"2"),
            mp.InsertHeader(index, b"X-M1", b"1"),
            *rest,
        ]


def test_a_name_is_the_same_in_any_case() -> None:
    """Sendmail would put the second before the first."""

    def change(message: Message) -> None:
        message.headers.insert(0, "x-e", b"1")
        message.headers.append("X-E", b"2")
        message.headers.append("x-E", b"3")

    assert edits(change) == [
        mp.InsertHeader(0, b"x-e", b"1"),
        mp.InsertHeader(2**31 - 2, b"X-E", b"2"),
        mp.InsertHeader(2**31 - 2, b"x-E", b"3"),
    ]


def test_what_is_usual() -> None:
    """No leading space, and folding is no difference: in `expressible`, too."""
    before = Message.parse(b"A: 1\n 2\nB: 3\n")
    after = Message.parse(b"A: 1 2\nB: 3\nC: 4\n")
    assert diff(before, after) == [mp.AddHeader(b"C", b"4")]
    after.headers[0] = Field(b"A", b"1")
    assert not expressible(before, after)
    before.headers[0] = Field(b"A", b"\n 1")
    after.headers[0] = Field(b"A", b" 1")
    assert expressible(before, after)
    before.headers[0], after.headers[0] = after.headers[0], before.headers[0]
    assert expressible(before, after)
    assert not expressible(before, after, strict=True)
    # A line end where none may be is none.
    before.headers[0], after.headers[0] = Field(b"A", b" ab"), Field(b"A", b" a\nb")
    assert not expressible(before, after)


def test_a_whole_new_header() -> None:
    """Below the MTA's own Received."""

    def change(message: Message) -> None:
        message.headers = Headers([Field.of("To", b"you")])

    assert edits(change)[-1] == mp.AddHeader(b"To", b"you")


def test_another_spelling_of_a_name() -> None:
    """Postfix writes it so; for Sendmail, the field must go and come again."""

    def change(message: Message) -> None:
        message.headers[4] = Field(b"x-a", b" three")

    assert edits(change, POSTFIX) == [mp.ChangeHeader(3, b"x-a", b"three")]
    again = [mp.ChangeHeader(3, b"X-A", b""), mp.InsertHeader(2**31 - 2, b"x-a", b"three")]
    assert edits(change) == edits(change, SENDMAIL) == again


def test_more_edits_than_postfix_takes() -> None:
    """They would be its end."""
    before = Message(headers=Headers([Field(b"X", b" 1")] * 1001))
    after = Message(headers=Headers([Field(b"X", b" 1")]))
    assert len(diff(before, after)) == 1000
    for dialect in (None, POSTFIX):
        with pytest.raises(mp.LocalProtocolError, match=r"^headers: 1001 changes are more than"):
            diff(before, Message(), dialect)
    assert len(diff(before, Message(), SENDMAIL)) == 1001


def test_many_recipients_and_fields() -> None:
    """A client may send a thousand of each, and no other connection is to wait for it."""

    def edit(times: int) -> None:
        many = 125 * times
        before = Message(recipients=[Recipient(b"<%d@x>" % number) for number in range(many)])
        before.headers = Headers([Field(b"X-%d" % number, b" a") for number in range(2 * many)])
        after = before.copy()
        after.recipients = [Recipient(b"<%d@y>" % number) for number in range(many)]
        for number in range(many // 2):
            after.headers.insert(2 * number + 1, "X-New", b"a")
        for dialect in Dialect:
            edits = diff(before, after, dialect)
            assert len(edits) == 2 * many + many // 2
            assert comparable(apply(before, edits, dialect)) == comparable(after)

    assert_linear(edit)
    large = Message(headers=Headers([Field(b"X-%d" % number, b" a") for number in range(100_000)]))
    assert diff(large, large.copy()) == []


def test_folding() -> None:
    """Is no difference, unless somebody says so."""

    def change(message: Message) -> None:
        message.headers = Headers([Field(b"Subject", b"\n hi"), *list(message.headers)[1:]])

    assert edits(change) == []
    assert edits(change, strict=True, leading_space=True) == [
        mp.ChangeHeader(1, b"Subject", b"\n hi")
    ]


def test_leading_space() -> None:
    """With it every field can be written, and a value has its blank."""
    tight = Field(b"Subject", b"tight")
    change: Callable[[Message], object] = lambda message: message.headers.__setitem__(0, tight)  # noqa: E731
    assert edits(change, leading_space=True) == [mp.ChangeHeader(1, b"Subject", b"tight")]
    with pytest.raises(mp.LocalProtocolError, match="no blank after the colon of b'Subject'"):
        edits(change)
    assert edits(lambda message: message.headers.set("X-B", b"c"), leading_space=True) == [
        mp.ChangeHeader(1, b"X-B", b" c")
    ]


def test_the_body_comes_in_one_piece() -> None:
    """After the header, so that nothing comes between."""

    def change(message: Message) -> None:
        message.replace_body(b"x\n" * 50_000)
        message.headers.append("X-F", b"f")
        message.quarantine(b"odd")
        message.change_sender(b"<>")
        message.remove_recipient(b"c@y")
        message.add_recipient(b"<d@y>")

    assert edits(change) == [
        mp.AddHeader(b"X-F", b"f"),
        mp.ReplaceBody(b"x\r\n" * 50_000),
        mp.DeleteRecipient(b"c@y"),
        mp.AddRecipient(b"<d@y>"),
        mp.ChangeSender(b"<>"),
        mp.Quarantine(b"odd"),
    ]


def test_parameters() -> None:
    """Only what must be said; and other ones for a recipient mean that it goes and comes again."""

    def change(message: Message) -> None:
        message.sender_parameters = (b"RET=FULL",)
        message.recipients[0] = Recipient(b"<b@y>", (b"NOTIFY=NEVER",))

    with pytest.raises(mp.LocalProtocolError, match=r"^recipients: Sendmail"):
        edits(lambda message: message.recipients.append(Recipient(b"b@y", (b"NOTIFY=NEVER",))))
    assert (
        edits(change)
        == edits(change, POSTFIX)
        == [
            mp.DeleteRecipient(b"<b@y>"),
            mp.AddRecipient(b"<b@y>", (b"NOTIFY=NEVER",)),
            mp.ChangeSender(b"<a@x>", (b"RET=FULL",)),
        ]
    )


def test_a_recipient_with_a_source_route() -> None:
    """Postfix keeps it without the route, and ignores a deletion that names it."""
    before = Message(recipients=[Recipient(b"<@r.test,@[::1]:b@y>"), Recipient(b"<c@y>")])
    after = before.copy()
    assert after.remove_recipient(b"b@Y")
    assert diff(before, after) == [mp.DeleteRecipient(b"<b@y>")]
    after.add_recipient(b"<b@y>")
    assert diff(before, after) == []
    bare = Message(recipients=[Recipient(b"@r.test:b@y")])
    assert diff(bare, Message()) == [mp.DeleteRecipient(b"<b@y>")]


def test_two_that_differ_in_quotes_are_one_to_postfix() -> None:
    """So that neither goes alone."""
    before = Message(recipients=[Recipient(b"<b@y>"), Recipient(b'<"b"@y>')])
    after = Message(recipients=[Recipient(b"<b@y>")])
    with pytest.raises(mp.LocalProtocolError, match=r"^recipients: Postfix"):
        diff(before, after, POSTFIX)
    assert diff(before, after, SENDMAIL) == [mp.DeleteRecipient(b'<"b"@y>')]


def test_only_the_parameters_that_change() -> None:
    """Postfix knows two, and complains of the others."""
    before = Message(b"<a@x>", sender_parameters=(b"SIZE=9", b"RET=HDRS"))
    after = Message(b"<a@x>", sender_parameters=(b"SIZE=9", b"RET=FULL"))
    assert diff(before, after, POSTFIX) == [mp.ChangeSender(b"<a@x>", (b"RET=FULL",))]
    assert diff(before, after, SENDMAIL) == [mp.ChangeSender(b"<a@x>", after.sender_parameters)]
    # Whoever takes all of them takes the others as they were.
    assert diff(before, after) == diff(before, after, SENDMAIL)


WRONG: Any = "str"
INEXPRESSIBLE: dict[str, tuple[Callable[[Any], object], str]] = {
    "client": (lambda m: setattr(m, "client", Client(b"other")), "client: "),
    "emptied": (lambda m: m.headers.set("Subject", b""), "headers: an empty value for b'Subject'"),
    "CR": (lambda m: m.headers.set("Subject", b"a\rb"), "headers: the value of b'Subject' has"),
    "NUL": (lambda m: m.headers.append("X", b"\0"), "headers: the value of b'X' has"),
    "misfolded": (lambda m: m.headers.append("X", b"a\nb"), "headers: b'X' is longer than Postfix"),
    "name": (lambda m: m.headers.append("a b", b""), "headers: b'a b' is no header name"),
    "long": (lambda m: m.headers.append("X", b"x" * 60_000), "headers: b'X' is longer than"),
    "between": (lambda m: m.headers.insert(1, "X", b""), "headers: where a new field goes"),
    "bare LF": (lambda m: setattr(m, "body", b"a\n"), "body: each line must end in CRLF"),
    "no end": (lambda m: setattr(m, "body", b"a"), "body: each line must end in CRLF"),
    "two": (lambda m: m.add_recipient(b"a@b, c@d"), "recipients: b'a@b, c@d' is not one address"),
    "nobody": (lambda m: m.add_recipient(b""), "recipients: b'' is not one address"),
    "recipient NUL": (lambda m: m.add_recipient(b"<\0>"), "recipients: address has control"),
    "parameter": (lambda m: m.add_recipient(b"<d@y>", b"X=Y"), "recipients: Postfix does not"),
    "case": (lambda m: m.recipients.extend([Recipient(b"<q@y>"), Recipient(b"<Q@y>")]), "recip"),
    "no sender": (lambda m: m.change_sender(b""), "sender: b'' is not one address"),
    "sender NUL": (lambda m: m.change_sender(b"<\0>"), "sender: address has control"),
    "size": (lambda m: setattr(m, "sender_parameters", (b"SIZE=1",)), "sender_parameters: "),
    "no reason": (lambda m: m.quarantine(b""), "quarantined: a quarantine needs a reason"),
    "iterator": (lambda m: m.recipients.append(iter(m.recipients)), "recipients: <"),
    "str sender": (lambda m: m.change_sender("<a@b>"), "sender: '<a@b>' is no bytes"),
    "str body": (lambda m: setattr(m, "body", "text"), "body: 'text' is no bytes"),
    "str parameter": (lambda m: setattr(m, "sender_parameters", ("A",)), "sender_parameters: 'A'"),
    "no recipient": (lambda m: m.recipients.append(b"<a@b>"), "recipients: b'<a@b>' is no Recip"),
    "str recipient": (lambda m: m.recipients.append(Recipient(WRONG)), "recipients: "),
    "no field": (lambda m: m.headers.__setitem__(0, b"a: b"), "headers: b'a: b' is no Field"),
    "str raw": (lambda m: m.headers.__setitem__(0, Field(b"Subject", WRONG)), "headers: "),
    "str name": (lambda m: m.headers.__setitem__(0, Field(WRONG, b" a")), "headers: "),
    "str reason": (lambda m: m.quarantine("odd"), "quarantined: "),
    "reason": (lambda m: m.quarantine(b"a\nb"), "quarantined: reason has control"),
}


@pytest.mark.parametrize("case", INEXPRESSIBLE)
def test_what_edits_can_not_say(case: str) -> None:
    """The error names the attribute of the message."""
    change, text = INEXPRESSIBLE[case]
    with pytest.raises(mp.LocalProtocolError, match=f"^{re.escape(text)}"):
        edits(change)


def test_a_quarantine_is_not_taken_back() -> None:
    """There is no edit for that."""
    held = Message(quarantined=b"odd")
    assert not expressible(held, Message())
    assert expressible(held, Message(quarantined=b"odder"))


def test_sendmail_has_no_limit_of_postfix() -> None:
    """Only the packet's."""
    assert edits(lambda m: m.headers.append("X", b"x" * 65_000), SENDMAIL)
    with pytest.raises(mp.LocalProtocolError, match="headers: a payload of 65539 bytes"):
        edits(lambda m: m.headers.append("X", b"x" * 65_536), SENDMAIL)
    assert edits(lambda m: m.headers.append("X", b"x" * 59_997), POSTFIX)
