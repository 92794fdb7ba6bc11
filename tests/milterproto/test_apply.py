"""What MTAs make of edits: rules that a test against the real Postfix holds, too."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import milterproto as mp
from milterproto._apply import POSTFIX_HEADER_LIMIT
from milterproto.message import Dialect, Message, Recipient, apply

from . import strategies

POSTFIX, SENDMAIL = Dialect
CONTENT = b"Subject: hi\nX-A: one\nx-a: two\nX-A: three\nDate: today\n\nbody\n"


def header(*edits: mp.Edit, dialect: Dialect = POSTFIX, content: bytes = CONTENT) -> list[bytes]:
    """The header's lines after these edits."""
    message = Message.parse(content)
    before = message.copy()
    lines = apply(message, edits, dialect).content.partition(b"\r\n\r\n")[0].split(b"\r\n")
    assert message == before
    return lines


BEFORE = header()


@pytest.mark.parametrize("dialect", Dialect)
def test_what_all_mtas_do(dialect: Dialect) -> None:
    """Changes from the last to the first, a header on top, one at the end."""
    assert header(
        mp.ChangeHeader(3, b"X-A", b""),
        mp.ChangeHeader(2, b"X-A", b"new\n two"),
        mp.ChangeHeader(1, b"Nothing", b""),
        mp.InsertHeader(0, b"X-Top", b"t"),
        mp.AddHeader(b"X-End", b"e"),
        mp.InsertHeader(2**31 - 1, b"X-A", b"last"),
        dialect=dialect,
    ) == [
        b"X-Top: t",
        b"Subject: hi",
        b"X-A: one",
        (b"X-A" if dialect is POSTFIX else b"x-a") + b": new",
        b" two",
        b"Date: today",
        b"X-End: e",
        b"X-A: last",
    ]


def test_deletions_count_at_once_in_postfix_only() -> None:
    """The classic trap: going upwards, Postfix's second deletion is of the third header."""
    upwards = [mp.ChangeHeader(index, b"X-A", b"") for index in (1, 2)]
    assert header(*upwards) == [b"Subject: hi", b"x-a: two", b"Date: today"]
    assert header(*upwards, dialect=SENDMAIL) == [b"Subject: hi", b"X-A: three", b"Date: today"]


@pytest.mark.parametrize(
    ("index", "place"), [(0, 0), (1, 0), (2, 1), (3, 2), (6, 5), (7, 5), (99, 5)]
)
def test_where_postfix_inserts(index: int, place: int) -> None:
    """Its own Received counts, and stands on top."""
    lines = header(mp.InsertHeader(index, b"X-F", b"f"))
    assert lines.index(b"X-F: f") == place
    assert len(lines) == 6


@pytest.mark.parametrize(
    ("index", "place"), [(0, 0), (1, 0), (8, 0), (9, 1), (10, 2), (13, 5), (14, 5), (99, 5)]
)
def test_where_sendmail_inserts(index: int, place: int) -> None:
    """After the field of that number, of which the first nine are its own."""
    lines = header(mp.InsertHeader(index, b"X-F", b"f"), dialect=SENDMAIL)
    assert lines.index(b"X-F: f") == place


def test_what_sendmail_adds_goes_before_others_of_that_name() -> None:
    """Deleted ones too; and in the place of its own, which may be replaced as well."""
    more = mp.AddHeader(b"X-A", b"more")
    assert header(more, dialect=SENDMAIL)[1:3] == [b"X-A: more", b"X-A: one"]
    gone = mp.ChangeHeader(1, b"X-A", b"")
    assert header(gone, more, dialect=SENDMAIL)[1:3] == [b"X-A: more", b"x-a: two"]
    assert header(mp.ChangeHeader(9, b"x-a", b"9"), dialect=SENDMAIL)[1] == b"x-a: 9"
    # Sendmail's own Message-Id becomes this one; then it is like any other.
    own = mp.AddHeader(b"message-id", b"<1@f>")
    assert header(own, dialect=SENDMAIL)[0] == b"Message-Id: <1@f>"
    changed = mp.ChangeHeader(1, b"Message-ID", b"<2@f>")
    assert header(own, changed, dialect=SENDMAIL)[0] == b"Message-Id: <2@f>"
    assert header(changed, dialect=SENDMAIL)[0] == b"Message-Id: <2@f>"
    deleted = mp.ChangeHeader(1, b"Message-ID", b"")
    assert header(deleted, dialect=SENDMAIL) == BEFORE
    # No such replacement for Received: a new one stands above Sendmail's own.
    assert header(mp.AddHeader(b"Received", b"r"), dialect=SENDMAIL)[0] == b"Received: r"
    changed = mp.ChangeHeader(1, b"Received", b"r")
    assert header(changed, dialect=SENDMAIL)[0] == b"Received: r"


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("dialect", Dialect)
def test_index_0_is_1(index: int, dialect: Dialect) -> None:
    """In changes only."""
    assert header(mp.ChangeHeader(index, b"X-A", b""), dialect=dialect)[1] == b"x-a: two"


def test_a_change_beyond_the_last_is_an_addition_in_postfix() -> None:
    """At the end; and a deletion is nothing."""
    assert header(mp.ChangeHeader(4, b"X-A", b"four"))[-1] == b"X-A: four"
    assert header(mp.ChangeHeader(4, b"X-A", b"")) == BEFORE


@pytest.mark.parametrize("dialect", Dialect)
def test_leading_space(dialect: Dialect) -> None:
    """When it was negotiated, no blank is written."""
    edits: list[mp.Edit] = [
        mp.AddHeader(b"X-H", b"h"),
        mp.InsertHeader(0, b"X-I", b" i"),
        mp.ChangeHeader(1, b"Subject", b"\ts"),
    ]
    after = apply(Message.parse(CONTENT), edits, dialect, leading_space=True)
    raw = {field.name: field.raw for field in after.headers}
    assert (raw[b"X-H"], raw[b"X-I"], raw[b"Subject"]) == (b"h", b" i", b"\ts")


def test_postfix_writes_what_can_be_read() -> None:
    """A line that is no continuation becomes one: a filter may well send such a thing."""
    assert header(mp.AddHeader(b"X-F", b"one\ntwo\n three"))[-3:] == [
        b"X-F: one",
        b"\ttwo",
        b" three",
    ]


def test_postfix_cuts_what_is_too_long() -> None:
    """Before the line that is too much, unless that would lose a tenth."""
    assert len(header(mp.AddHeader(b"X", b"v" * 65000))[-1]) == POSTFIX_HEADER_LIMIT
    folded = header(mp.AddHeader(b"X", b"\n ".join([b"v" * 6000] * 10)))
    assert sum(map(len, folded[5:])) == 6000 * 9 + 3 + 8
    few = header(mp.AddHeader(b"X", b"\n ".join([b"v" * 20000] * 4)))
    assert sum(len(line) + 1 for line in few[5:]) == POSTFIX_HEADER_LIMIT + 1
    exact = b"v" * 29997 + b"\n " + b"v" * 29998
    assert header(mp.AddHeader(b"X", exact))[-2:] == [b"X: " + b"v" * 29997, b" " + b"v" * 29998]
    over = b"v" * 29997 + b"\n " + b"v" * 29999
    assert header(mp.AddHeader(b"X", over))[-1] == b" " + b"v" * 29998
    # A tenth exactly is too much to lose.
    tenth = b"v" * (POSTFIX_HEADER_LIMIT * 9 // 10 - 4) + b"\n " + b"v" * 7000
    assert len(header(mp.AddHeader(b"X", tenth))[-1]) == POSTFIX_HEADER_LIMIT // 10
    longest = b"v" * (POSTFIX_HEADER_LIMIT - 3)
    assert header(mp.AddHeader(b"X", longest))[-1] == b"X: " + longest
    # Sendmail has no such limit.
    assert len(header(mp.AddHeader(b"X", b"v" * 65000), dialect=SENDMAIL)[-1]) == 65003


@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize(
    ("pieces", "body"),
    [
        ([b""], b""),
        ([b"one\r", b"\ntwo", b"", b"\r\n"], b"one\r\ntwo\r\n"),
        ([b"a\nb\r"], b"a\r\nb\r\r\n"),
        ([b"no end"], b"no end\r\n"),
    ],
)
def test_a_new_body(dialect: Dialect, pieces: list[bytes], body: bytes) -> None:
    """In one go or in pieces, its line ends become those of mail."""
    edits = [mp.ReplaceBody(piece) for piece in pieces]
    assert apply(Message.parse(CONTENT), edits, dialect).body == body


def test_a_new_body_with_something_between_its_pieces() -> None:
    """Is an error of the filter to Postfix, and the message is refused."""
    one = mp.ReplaceBody(b"1")
    edits: list[mp.Edit] = [one, mp.Quarantine(b"odd"), one]
    with pytest.raises(mp.LocalProtocolError, match="in one go"):
        apply(Message(), edits)
    after = apply(Message(), edits, SENDMAIL)
    assert (after.body, after.quarantined) == (b"11\r\n", b"odd")
    assert apply(Message(), [edits[1], one, one, edits[1]]) == after


@pytest.mark.parametrize("dialect", Dialect)
def test_what_is_no_edit(dialect: Dialect) -> None:
    """Is said, and nothing else leaves this function."""
    for name in (b"", b"a b", b"a:", b"\xe4"):
        edits: list[mp.Edit] = [
            mp.AddHeader(name, b"v"),
            mp.InsertHeader(1, name, b"v"),
            mp.ChangeHeader(1, name, b"v"),
        ]
        for edit in edits:
            with pytest.raises(mp.LocalProtocolError, match="no header name"):
                apply(Message(), [edit], dialect)
    with pytest.raises(mp.LocalProtocolError, match="is no edit"):
        apply(Message(), [mp.Progress()], dialect)  # type: ignore[list-item]


def recipients(
    *edits: mp.Edit, dialect: Dialect = POSTFIX
) -> list[tuple[bytes, tuple[bytes, ...]]]:
    """The recipients after these edits."""
    message = Message(recipients=[Recipient(b"<b@y>"), Recipient(b"c@y", (b"NOTIFY=NEVER",))])
    return [(one.address, one.parameters) for one in apply(message, edits, dialect).recipients]


@pytest.mark.parametrize(
    "edit",
    [
        mp.AddHeader("X", b""),  # type: ignore[arg-type]
        mp.AddHeader(b"X", ""),  # type: ignore[arg-type]
        mp.InsertHeader("1", b"X", b""),  # type: ignore[arg-type]
        mp.ReplaceBody(None),  # type: ignore[arg-type]
        mp.AddRecipient(b"<a@b>", (1,)),  # type: ignore[arg-type]
        mp.DeleteRecipient(None),  # type: ignore[arg-type]
    ],
    ids=lambda edit: f"{type(edit).__name__}-{list(attrs.astuple(edit))}",
)
def test_wrong_types(edit: mp.Edit) -> None:
    """The usual mistake is a str."""
    with pytest.raises(mp.LocalProtocolError, match="of the wrong type"):
        apply(Message(), [edit])


B, C, D = (b"<b@y>", ()), (b"c@y", (b"NOTIFY=NEVER",)), (b"<d@y>", ())


@pytest.mark.parametrize("dialect", Dialect)
def test_recipients(dialect: Dialect) -> None:
    """They are added at the end and removed by address."""
    assert recipients(mp.AddRecipient(b"<d@y>"), dialect=dialect) == [B, C, D]
    assert recipients(mp.DeleteRecipient(b"b@y"), dialect=dialect) == [C]
    assert recipients(mp.DeleteRecipient(b"<c@y>"), dialect=dialect) == [B]
    assert recipients(mp.DeleteRecipient(b"<d@y>"), dialect=dialect) == [B, C]


def test_how_postfix_keeps_addresses() -> None:
    """Without route and quotes; a deletion's route stays, so that it meets nobody."""
    written = [b"<@r.test:b@y>", b'<"b c"@y>', b'"\\b"@y']
    message = Message(recipients=[Recipient(one) for one in written])

    def left(address: bytes) -> list[bytes]:
        after = apply(message, [mp.DeleteRecipient(address)])
        return [one.address for one in after.recipients]

    assert left(b"<@r.test:b@y>") == written
    assert left(b"<b@y>") == written[1:2]
    assert left(b'<"b"@y>') == written[1:2]
    assert left(b'<"b\\ c"@y>') == [written[0], written[2]]
    added = [mp.AddRecipient(b"d@y"), mp.AddRecipient(b'<"D"@y>'), mp.AddRecipient(b"<@r:d@y>")]
    assert apply(Message(), added).recipients == [Recipient(b"d@y")]


def test_one_recipient_twice() -> None:
    """Postfix tells them apart by their parameters, and what came by SMTP has an ORCPT."""
    again = mp.AddRecipient(b"<b@y>")
    assert recipients(again, again, mp.AddRecipient(b"B@y")) == [B, C, B]
    assert recipients(mp.AddRecipient(b"<b@y>", (b"ORCPT=RFC822;+62@y",))) == [B, C]
    never = mp.AddRecipient(b"<b@y>", (b"NOTIFY=DELAY,success",))
    also_never = mp.AddRecipient(b"<b@y>", (b"NOTIFY=SUCCESS,DELAY",))
    assert recipients(never, also_never) == [B, C, (b"<b@y>", never.parameters)]
    # What is deleted may come back.
    assert recipients(again, mp.DeleteRecipient(b"<b@y>"), again) == [C, B]
    assert recipients(again, mp.DeleteRecipient(b"<B@y>"), again) == [B, C, B, B]
    upper = mp.AddRecipient(b"<Q@y>")
    twice = recipients(upper, mp.DeleteRecipient(b"<q@y>"), upper)
    assert twice == [B, C, (b"<Q@y>", ()), (b"<Q@y>", ())]
    assert recipients(again, dialect=SENDMAIL) == [B, C]


def test_parameters_of_recipients() -> None:
    """Postfix takes two, and of these what makes sense, the first of each."""
    given_ones = (b"NOTIFY=NEVER", b"X=Y", b"NOTIFY=DELAY", b"ORCPT=rfc822", b"ORCPT=rfc822;a+40b")
    edit = mp.AddRecipient(b"<d@y>", given_ones)
    assert recipients(edit)[-1] == (b"<d@y>", (b"NOTIFY=NEVER", b"ORCPT=rfc822;a+40b"))
    assert recipients(edit, dialect=SENDMAIL)[-1] == (b"<d@y>", given_ones)


def test_sender() -> None:
    """Postfix keeps the old parameters but for those that are given; Sendmail all or none."""
    message = Message(b"<a@x>", sender_parameters=(b"SIZE=9", b"ret=HDRS"))
    edit = mp.ChangeSender(b"<>")
    for dialect in Dialect:
        after = apply(message, [edit], dialect)
        assert (after.sender, after.sender_parameters) == (b"<>", (b"SIZE=9", b"ret=HDRS"))
    edit = mp.ChangeSender(b"<n@x>", (b"RET=no", b"ENVID=z", b"RET=FULL", b"X"))
    assert apply(message, [edit]).sender_parameters == (b"SIZE=9", b"RET=FULL", b"ENVID=z")
    assert apply(message, [edit], SENDMAIL).sender_parameters == edit.parameters


@given(strategies.messages, st.lists(strategies.edits, max_size=6), st.sampled_from(Dialect))
def test_any_edits(message: Message, edits: list[mp.Edit], dialect: Dialect) -> None:
    """Whatever may be sent can be applied, but for a body in pieces."""
    try:
        after = apply(message, edits, dialect)
    except mp.LocalProtocolError:
        assert dialect is POSTFIX
        assert sum(type(edit) is mp.ReplaceBody for edit in edits) > 1
    else:
        assert after.client == message.client
