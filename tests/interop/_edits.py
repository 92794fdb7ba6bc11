"""Generated messages and edits, through a real Postfix and through `apply` beside it.

The exceptions, in which Postfix's message is not ours to the byte:

- its own Received stands above what was there (`Delivery.without_received`);
- a Received of the message itself whose first line begins Postfix's own, as `Received:` alone
  does, is taken for that one when edits are counted: none is generated;
- white space before the colon of a name is not shown to filters, and so not in our message;
- SMTP has no message without a recipient: one is left alone;
- for a recipient that came by SMTP, Postfix adds an ORCPT if there was none.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from typing import TypeAlias

import attrs

import milterproto as mp
from milterproto.message import (
    Dialect,
    Field,
    Headers,
    Message,
    Recipient,
    apply,
    diff,
    expressible,
)

from ._filters import Event
from ._postfix_bed import Bed
from ._sink import Delivery

MARK = b"X-Test-Number"
KEPT = b"<kept@example.test>"
NAMES = (
    *(b"Subject", b"X-A", b"x-a", b"X-a", b"Received", b"received", b"Date", b"From", b"To"),
    *(b"Message-Id", b"Message-ID", b"Bcc", b"Return-Path", b"X-New", b"MIME-Version", b"-", b"B"),
)
VALUES = (
    *(b"v", b"two words", b"a  b ", b" lead", b"\ttab", b"one\n two", b"one\n\ttwo\n  three"),
    *(
        b"blank\n \n line",
        b"gr\xc3\xbc\xc3\x9fe",
        b"\xe4\xf6",
        b"=?utf-8?q?x?=",
        b"a:b",
        b"\x01\x7f",
    ),
    *(b"x" * 70, b"x" * 2047, b"x" * 2049, b"x" * 5000, b"\n ".join([b"y" * 900] * 6), b"<a@b>"),
    *(b"z" * 59990, b"z" * 60000, b"\n ".join([b"w" * 7000] * 9), b"\n ".join([b"q" * 15000] * 4)),
)
BODIES = (
    *(b"", b"\r\n", b"new\r\n", b"no line end", b"two\nlines\n", b".\r\n..\r\n.x\r\n", b"a\rb\r\n"),
    *(
        b"a\r\r\n",
        b"cr at the end\r",
        b"\r",
        b"\n\n",
        b"nul\0nul\r\n",
        b"\xff\xfe\r\n",
        b" x\r\n\tx",
    ),
    *(b"From me\r\n", b"Subject: none\r\n\r\nx\r\n", b"l" * 5000 + b"\r\n", b"m" * 2048 + b"\r\n"),
    *(b"m" * 2047 + b"\r\n", b"m" * 2047 + b"\rn\r\n", b"0123456789abcd\r\n" * 9000),
)
RECIPIENTS = (
    *(b"<b@example.test>", b"<c@example.test>", b"d@example.test", b"<B@example.test>"),
    *(b"<@route.test:b@example.test>", b"<@route.test:c@example.test>", b'<"b"@example.test>'),
)
# What the client writes.
SPELLINGS = (
    *(b"<b@example.test>", b"<@route.test:b@example.test>", b'<"b"@example.test>'),
    *(b"b@example.test", b"<@one.test,@two.test:b@example.test>", b'<"\\b"@example.test>'),
)
PARAMETERS: tuple[tuple[bytes, ...], ...] = (
    *((), (), (), (b"NOTIFY=NEVER",), (b"NOTIFY=SUCCESS,DELAY", b"ORCPT=rfc822;x@example.org")),
    *((b"NOTIFY=never",), (b"NOTIFY=SOMETIMES",), (b"NOTIFY=FAILURE", b"NOTIFY=NEVER", b"X=Y")),
)
SENDER_PARAMETERS: tuple[tuple[bytes, ...], ...] = (
    *(
        (),
        (),
        (b"RET=HDRS",),
        (b"ENVID=zz", b"RET=FULL"),
        (b"RET=NONE",),
        (b"SIZE=1", b"ENVID=a+2Bb"),
    ),
)


def an_edit(rng: random.Random) -> mp.Edit:
    """Any edit that may be sent, likely to meet something."""
    name = rng.choice(NAMES)
    value = rng.choice(VALUES[:-4] if rng.random() < 0.95 else VALUES)
    index = rng.choice((0, 1, 1, 1, 2, 2, 3, 4, 5, 7, 9, 2**31 - 2))
    kind = rng.randrange(10)
    if kind < 3:
        return mp.ChangeHeader(index, name, value if rng.random() < 0.5 else b"")
    if kind < 5:
        return mp.InsertHeader(index, name, value)
    if kind < 6:
        return mp.AddHeader(name, value)
    if kind < 7:
        return mp.ReplaceBody(rng.choice(BODIES))
    if kind < 8:
        return mp.AddRecipient(rng.choice(RECIPIENTS), rng.choice(PARAMETERS))
    if kind < 9:
        return mp.DeleteRecipient(rng.choice(RECIPIENTS))
    sender = rng.choice((b"<new@example.org>", b"<>", b"new@example.org"))
    return mp.ChangeSender(sender, rng.choice(SENDER_PARAMETERS))


def some_edits(rng: random.Random) -> list[mp.Edit]:
    """A list of edits that Postfix takes: with at most one run of ReplaceBody."""
    edits = [an_edit(rng) for _ in range(rng.choice((1, 2, 3, 5, 8, 12)))]
    at = next((i for i, one in enumerate(edits) if isinstance(one, mp.ReplaceBody)), len(edits))
    run = [one for one in edits[at:] if isinstance(one, mp.ReplaceBody)]
    others = [one for one in edits[at:] if not isinstance(one, mp.ReplaceBody)]
    return [*edits[:at], *run, *others]


def another(rng: random.Random, message: Message, *, leading_space: bool) -> Message:
    """What a filter's author may make of a message, as far as Postfix can follow."""
    after = message.copy()
    for _ in range(rng.choice((1, 2, 3, 6, 10))):
        before = after.copy()
        _change(rng, after)
        mark = after.headers.all(MARK) == message.headers.all(MARK)
        if not mark or not expressible(
            message, after, Dialect.POSTFIX, leading_space=leading_space
        ):
            after = before
    return after


def _change(rng: random.Random, message: Message) -> None:
    headers = message.headers
    place = rng.randrange(len(headers))
    name, value = rng.choice(NAMES), rng.choice(VALUES)
    kind = rng.randrange(12)
    if kind < 2:
        del headers[place]
    elif kind < 4:
        headers[place] = Field(rng.choice((name, headers[place].name)), b" " + value)
    elif kind < 6:
        headers.insert(rng.choice((0, place, len(headers))), name, value)
    elif kind < 7:
        headers.delete(name)
    elif kind < 8:
        headers.set(name, value)
    elif kind < 9:
        message.replace_body(rng.choice(BODIES))
    elif kind < 10:
        message.recipients.append(Recipient(rng.choice(RECIPIENTS), rng.choice(PARAMETERS)))
    elif kind < 11:
        message.remove_recipient(rng.choice(RECIPIENTS))
    else:
        message.change_sender(rng.choice((b"<new@example.org>", b"<>")))
        message.sender_parameters += rng.choice(SENDER_PARAMETERS)


def a_content(rng: random.Random, number: int, *, leading_space: bool) -> bytes:
    """A message to send, that Postfix neither refuses nor completes.

    Without ``leading_space``, a filter is not told whether a blank follows the colon: one does.
    """
    fields = [(b"From", b" a@example.org"), (b"Date", b" Tue, 24 Nov 2026 04:00:00 +0000")]
    fields += [(b"Message-Id", b" <1@example.org>"), (MARK, b" %d" % number)]
    for _ in range(rng.randrange(8)):
        value = rng.choice(VALUES[:9] if rng.random() < 0.9 else VALUES[:-4])
        blank = rng.choice((b" ", b" ", b"", b"\t")) if leading_space else b" "
        fields.append((rng.choice((b"Subject", b"X-A", b"x-a", b"Received", b"B")), blank + value))
    rng.shuffle(fields)
    head = b"".join(name + b":" + raw + b"\n" for name, raw in fields)
    body = rng.choice((b"", b"body\r\n", b".\r\nx\r\n", b"\xe4\r\n"))
    return head.replace(b"\n", b"\r\n") + b"\r\n" + body


Decide: TypeAlias = Callable[[Message], tuple[Sequence[mp.Edit], Message]]


def by_apply(rng: random.Random, *, leading_space: bool) -> Decide:
    """Any edits, and what `apply` makes of them."""

    def decide(message: Message) -> tuple[Sequence[mp.Edit], Message]:
        edits = some_edits(rng)
        return edits, apply(message, edits, Dialect.POSTFIX, leading_space=leading_space)

    return decide


def by_diff(rng: random.Random, *, leading_space: bool) -> Decide:
    """Any other message, and the edits that `diff` makes of it."""

    def decide(message: Message) -> tuple[Sequence[mp.Edit], Message]:
        after = another(rng, message, leading_space=leading_space)
        edits = diff(message, after, Dialect.POSTFIX, leading_space=leading_space, strict=True)
        return edits, after

    return decide


@attrs.define
class Collector:
    """A filter that puts each message together, asks for its edits, and remembers the outcome."""

    decide: Decide
    leading_space: bool
    expected: dict[int, Message] = attrs.field(factory=dict)
    made: dict[int, tuple[Message, Sequence[mp.Edit]]] = attrs.field(factory=dict)
    message: Message = attrs.field(factory=Message)

    @property
    def wants(self) -> mp.Wants:
        return mp.Wants(actions=mp.ALL_ACTIONS, replies=(), leading_space=self.leading_space)

    def handle(self, _conn: mp.FilterConnection, event: Event) -> Sequence[mp.Response] | None:
        """One event."""
        message = self.message
        match event:
            case mp.MailFrom(sender, parameters):
                self.message = Message(sender, sender_parameters=parameters)
            case mp.RcptTo(recipient, parameters):
                message.recipients.append(Recipient(recipient, parameters))
            case mp.Header(name, value):
                blank = b"" if self.leading_space else b" "
                message.headers = Headers([*message.headers, Field(name, blank + value)])
            case mp.Body(data):
                message.body += data
            case mp.EndOfMessage():
                number = int(message.headers.get(MARK))
                edits, self.expected[number] = self.decide(message)
                self.made[number] = (message, edits)
                return [*edits, mp.Continue()]
            case _:
                pass
        return None


def run(bed: Bed, decide: Decide, contents: Sequence[bytes], *, leading_space: bool) -> list[str]:
    """Send these messages through the filter; what arrives otherwise than expected."""
    collector = Collector(decide, leading_space)
    faults: list[str] = []
    with bed.filter(collector.handle, collector.wants), bed.client() as client:
        for at, content in enumerate(contents):
            recipients = (KEPT, SPELLINGS[at % len(SPELLINGS)], b"<c@example.test>")
            reply = client.message(content, b"<a@example.org>", recipients)
            if not reply.startswith(b"250 "):
                faults.append(f"{content!r}: {reply!r}")
        client.quit()
    for _ in range(len(contents) - len(faults)):
        delivery = bed.delivery()
        (number,) = delivery.values(MARK)
        before, edits = collector.made[int(number)]
        faults += [
            f"{what}: {theirs!r}\nnot {ours!r}\nafter {edits!r}\nof {before.content!r}"
            for what, ours, theirs in compared(collector.expected[int(number)], delivery)
            if ours != theirs
        ]
    return faults


def compared(expected: Message, delivery: Delivery) -> list[tuple[str, object, object]]:
    """What of a message can be seen where it arrives: its name, our value and Postfix's."""
    return [
        ("content", expected.content, delivery.without_received),
        ("sender", b"<" + expected.sender.strip(b"<>") + b">", delivery.sender),
        (
            "recipients",
            {(unquoted(one), told(one.parameters)) for one in expected.recipients},
            {(address, told(parameters)) for address, parameters in delivery.recipients},
        ),
        ("sender's parameters", told(expected.sender_parameters), told(delivery.sender_parameters)),
    ]


def unquoted(recipient: Recipient) -> bytes:
    """An address as it is passed on; none of ours needs its quotes."""
    return b"<" + re.sub(rb'[\\"]', b"", recipient.mailbox) + b">"


def told(parameters: tuple[bytes, ...]) -> frozenset[bytes]:
    """Those that are passed on, as Postfix spells them."""
    passed = [one.upper() for one in parameters if one.upper().startswith((b"NOTIFY=", b"RET="))]
    return frozenset([*passed, *(one for one in parameters if one.startswith(b"ENVID="))])
