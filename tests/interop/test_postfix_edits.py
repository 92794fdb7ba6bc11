"""What a real Postfix makes of each edit, seen where the message arrives."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

import milterproto as mp

from ._filters import Answers
from ._postfix_bed import ALL_ACTIONS, Bed
from ._sink import Delivery

pytestmark = pytest.mark.interop

CONTENT = (
    b"Subject: hello\r\nX-A: one\r\nX-A: two\r\nX-A: three\r\n"
    b"From: a@example.org\r\nDate: Tue, 24 Nov 2026 04:00:00 +0000\r\n"
    b"Message-Id: <1@example.org>\r\n\r\nbody\r\n"
)
RECIPIENTS = (b"<b@example.test>", b"<c@example.test>")


def edited(
    bed: Bed,
    *edits: mp.Edit | mp.Progress,
    actions: mp.Actions,
    verdict: mp.Verdict | None = None,
    content: bytes = CONTENT,
    leading_space: bool = False,
) -> Delivery:
    """What arrives of a message to two recipients after these edits."""
    answers: Answers = {mp.EndOfMessage: [*edits, verdict or mp.Continue()]}
    wants = mp.Wants(actions=actions, leading_space=leading_space)
    with bed.filter(answers, wants), bed.client() as client:
        reply = client.message(content, recipients=RECIPIENTS)
        assert reply.startswith(b"250 2.0.0 Ok: queued as"), reply
        client.quit()
    return bed.delivery()


def names(delivery: Delivery) -> list[bytes]:
    """The names of the headers, in order."""
    return [name for name, _ in delivery.header]


def test_without_edits_the_message_arrives_as_it_was(bed: Bed) -> None:
    """A filter that only watches changes nothing but lets Postfix add its Received."""
    delivery = edited(bed, actions=mp.Actions(0))
    assert delivery.sender == b"<a@example.org>"
    assert delivery.addresses == list(RECIPIENTS)
    head, received, rest = delivery.content.partition(CONTENT)
    assert head.startswith(b"Received: from client.test")
    assert (received, rest) == (CONTENT, b"")


@pytest.mark.parametrize("verdict", [mp.Continue(), mp.Accept()])
def test_both_good_verdicts_keep_the_edits(bed: Bed, verdict: mp.Verdict) -> None:
    """Accept and Continue mean the same at end of message."""
    delivery = edited(
        bed, mp.AddHeader(b"X-F", b"yes"), actions=mp.Actions.ADDHDRS, verdict=verdict
    )
    assert delivery.values(b"X-F") == [b" yes"]


def test_add_header(bed: Bed) -> None:
    """A header is added at the end, with the space that Postfix puts before the value."""
    delivery = edited(bed, mp.AddHeader(b"Subject", b"again"), actions=mp.Actions.ADDHDRS)
    assert delivery.header[-1] == (b"Subject", b" again")
    assert delivery.values(b"Subject") == [b" hello", b" again"]


def test_add_folded_header(bed: Bed) -> None:
    """A value that is folded with LF arrives folded with CRLF."""
    delivery = edited(bed, mp.AddHeader(b"X-F", b"one\n\ttwo\n three"), actions=mp.Actions.ADDHDRS)
    assert delivery.values(b"X-F") == [b" one\r\n\ttwo\r\n three"]


def test_add_empty_header(bed: Bed) -> None:
    """A header may be added without a value."""
    delivery = edited(bed, mp.AddHeader(b"X-F", b""), actions=mp.Actions.ADDHDRS)
    assert delivery.header[-1] == (b"X-F", b" ")


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (0, [b"X-F", b"Received", b"Subject"]),
        (1, [b"Received", b"X-F", b"Subject"]),
        (2, [b"Received", b"Subject", b"X-F"]),
    ],
)
def test_insert_header(bed: Bed, index: int, expected: list[bytes]) -> None:
    """The index counts from 0 and includes Postfix's own Received."""
    delivery = edited(bed, mp.InsertHeader(index, b"X-F", b"v"), actions=mp.Actions.ADDHDRS)
    assert names(delivery)[:3] == expected
    assert delivery.values(b"X-F") == [b" v"]


def test_insert_header_beyond_the_end(bed: Bed) -> None:
    """An index beyond the end appends."""
    delivery = edited(bed, mp.InsertHeader(2**31 - 1, b"X-F", b"v"), actions=mp.Actions.ADDHDRS)
    assert delivery.header[-1] == (b"X-F", b" v")


def test_change_header(bed: Bed) -> None:
    """The index counts the headers of that name from 1, whatever the case of the name."""
    delivery = edited(bed, mp.ChangeHeader(2, b"x-a", b"new"), actions=mp.Actions.CHGHDRS)
    assert delivery.values(b"X-A") == [b" one", b" new", b" three"]
    assert b"x-a" in names(delivery)


def test_change_header_that_is_not_there(bed: Bed) -> None:
    """Changing one header more than there are appends it."""
    delivery = edited(bed, mp.ChangeHeader(4, b"X-A", b"four"), actions=mp.Actions.CHGHDRS)
    assert delivery.values(b"X-A") == [b" one", b" two", b" three", b" four"]


def test_delete_header(bed: Bed) -> None:
    """An empty value deletes the header."""
    delivery = edited(bed, mp.ChangeHeader(1, b"Subject", b""), actions=mp.Actions.CHGHDRS)
    assert b"Subject" not in names(delivery)
    assert delivery.values(b"X-A") == [b" one", b" two", b" three"]


def test_delete_several_headers(bed: Bed) -> None:
    """From the highest index down, every deletion finds what it means."""
    edits = [mp.ChangeHeader(index, b"X-A", b"") for index in (3, 2, 1)]
    assert b"X-A" not in names(edited(bed, *edits, actions=mp.Actions.CHGHDRS))


def test_deleting_upwards_misses(bed: Bed) -> None:
    """Postfix moves later headers up at once, so that index 2 is then the third header."""
    edits = [mp.ChangeHeader(index, b"X-A", b"") for index in (1, 2)]
    delivery = edited(bed, *edits, actions=mp.Actions.CHGHDRS)
    assert delivery.values(b"X-A") == [b" two"]


def test_leading_space_is_the_filters_when_negotiated(bed: Bed) -> None:
    """With HDR_LEADSPC, values are written just as the filter gives them."""
    delivery = edited(
        bed,
        mp.AddHeader(b"X-H", b"tight"),
        mp.InsertHeader(1, b"X-I", b"  wide"),
        mp.ChangeHeader(1, b"X-A", b"\ttab"),
        actions=mp.Actions.ADDHDRS | mp.Actions.CHGHDRS,
        leading_space=True,
    )
    assert delivery.values(b"X-H") == [b"tight"]
    assert delivery.values(b"X-I") == [b"  wide"]
    assert delivery.values(b"X-A")[0] == b"\ttab"


def test_replace_body(bed: Bed) -> None:
    """The new body stands for the old one."""
    delivery = edited(bed, mp.ReplaceBody(b"new\r\n.\r\nbody\r\n"), actions=mp.Actions.CHGBODY)
    assert delivery.body == b"new\r\n.\r\nbody\r\n"
    assert delivery.values(b"X-A") == [b" one", b" two", b" three"]


def test_replace_body_by_nothing(bed: Bed) -> None:
    """An empty ReplaceBody leaves a header and no body."""
    assert edited(bed, mp.ReplaceBody(b""), actions=mp.Actions.CHGBODY).body == b""


def test_replace_body_in_pieces(bed: Bed) -> None:
    """Pieces that follow one another make one body, also when a CRLF is cut in two."""
    pieces = [mp.ReplaceBody(piece) for piece in (b"one\r", b"\ntwo", b"", b"\r\n")]
    assert edited(bed, *pieces, actions=mp.Actions.CHGBODY).body == b"one\r\ntwo\r\n"


def test_replace_body_by_a_long_one(bed: Bed) -> None:
    """A body of several packets arrives whole, with a CRLF cut by the first packet's end."""
    body = b"".join(b"%061d.\r\n" % number for number in range(4000))
    assert body[65534:65536] == b"\r\n"
    assert edited(bed, mp.ReplaceBody(body), actions=mp.Actions.CHGBODY).body == body


def test_add_recipient(bed: Bed) -> None:
    """A recipient without parameters comes after those that were there."""
    delivery = edited(bed, mp.AddRecipient(b"<d@example.test>"), actions=mp.Actions.ADDRCPT)
    assert delivery.addresses == [*RECIPIENTS, b"<d@example.test>"]


def test_add_recipient_with_parameters(bed: Bed) -> None:
    """NOTIFY and ORCPT of a new recipient reach the next mail server."""
    parameters = (b"NOTIFY=SUCCESS,DELAY", b"ORCPT=rfc822;old@example.test")
    delivery = edited(
        bed, mp.AddRecipient(b"<d@example.test>", parameters), actions=mp.Actions.ADDRCPT_PAR
    )
    address, arrived = delivery.recipients[-1]
    assert (address, set(arrived)) == (b"<d@example.test>", set(parameters))


def test_delete_recipient(bed: Bed) -> None:
    """One recipient goes, the other stays."""
    delivery = edited(bed, mp.DeleteRecipient(b"<b@example.test>"), actions=mp.Actions.DELRCPT)
    assert delivery.addresses == [b"<c@example.test>"]


def test_replace_a_recipient(bed: Bed) -> None:
    """Recipients can be exchanged one for the other."""
    delivery = edited(
        bed,
        mp.DeleteRecipient(b"<c@example.test>"),
        mp.AddRecipient(b"<d@example.test>"),
        actions=mp.Actions.DELRCPT | mp.Actions.ADDRCPT,
    )
    assert delivery.addresses == [b"<b@example.test>", b"<d@example.test>"]


@pytest.mark.parametrize("sender", [b"<new@example.org>", b"<>"])
def test_change_sender(bed: Bed, sender: bytes) -> None:
    """The envelope sender is another one; the null sender is possible, too."""
    delivery = edited(bed, mp.ChangeSender(sender), actions=mp.Actions.CHGFROM)
    assert delivery.sender == sender
    assert delivery.addresses == list(RECIPIENTS)


def test_change_sender_with_parameters(bed: Bed) -> None:
    """RET and ENVID of a new sender reach the next mail server."""
    delivery = edited(
        bed,
        mp.ChangeSender(b"<new@example.org>", (b"RET=HDRS", b"ENVID=zz")),
        actions=mp.Actions.CHGFROM,
    )
    assert delivery.sender == b"<new@example.org>"
    assert {b"RET=HDRS", b"ENVID=zz"} <= set(delivery.sender_parameters)


def test_quarantine(bed: Bed) -> None:
    """A quarantined message is taken, and kept in the hold queue."""
    answers: Answers = {mp.EndOfMessage: [mp.Quarantine(b"looks odd"), mp.Continue()]}
    with bed.filter(answers, mp.Wants(actions=mp.Actions.QUARANTINE)), bed.client() as client:
        reply = client.message()
        client.quit()
    queue_id = reply.decode().rpartition(" ")[2]
    held = [
        message["queue_id"] for message in bed.postfix.queue() if message["queue_name"] == "hold"
    ]
    assert held == [queue_id]
    bed.postfix.delete(queue_id)


def test_all_edits_at_once(bed: Bed) -> None:
    """Edits of all kinds, with signs of life between them, make one message."""
    delivery = edited(
        bed,
        mp.Progress(),
        mp.AddHeader(b"X-H", b"h"),
        mp.InsertHeader(1, b"X-I", b"i"),
        mp.Progress(),
        mp.ChangeHeader(1, b"Subject", b"m"),
        mp.ReplaceBody(b"b"),
        mp.ReplaceBody(b"b\r\n"),
        mp.AddRecipient(b"<d@example.test>"),
        mp.AddRecipient(b"<e@example.test>", (b"NOTIFY=NEVER",)),
        mp.DeleteRecipient(b"<b@example.test>"),
        mp.Progress(),
        mp.ChangeSender(b"<new@example.org>"),
        actions=ALL_ACTIONS,
    )
    assert delivery.sender == b"<new@example.org>"
    assert delivery.addresses == [b"<c@example.test>", b"<d@example.test>", b"<e@example.test>"]
    assert delivery.body == b"bb\r\n"
    assert delivery.values(b"Subject") == [b" m"]
    assert delivery.values(b"X-I") == [b" i"]
    assert delivery.header[-1] == (b"X-H", b" h")


def test_edits_of_a_refused_message_are_lost(bed: Bed) -> None:
    """After edits a message may still be refused, and the next one has none of them."""

    def handle(conn: mp.FilterConnection, event: object) -> Sequence[mp.Response] | None:
        if isinstance(event, mp.EndOfMessage) and conn.transaction == 1:
            return [
                mp.AddHeader(b"X-F", b"yes"),
                mp.ReplaceBody(b"new\r\n"),
                mp.AddRecipient(b"<d@example.test>"),
                mp.Reject(),
            ]
        return None

    with bed.filter(handle), bed.client() as client:
        assert client.message() == b"550 5.7.1 Command rejected"
        assert client.message(CONTENT).startswith(b"250 ")
        client.quit()
    delivery = bed.delivery()
    assert delivery.addresses == [b"<b@example.test>"]
    assert delivery.content.endswith(CONTENT)
