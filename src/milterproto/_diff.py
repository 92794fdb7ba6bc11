"""From a message as it was and as it should be to the edits that make it so."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import attrs

from ._apply import (
    RECIPIENTS,
    SENDMAIL_HIDDEN,
    SENDMAIL_NAMES,
    Dialect,
    postfix_writes,
    sender_parameters,
)
from ._errors import LocalProtocolError
from ._events import (
    AddHeader,
    AddRecipient,
    ChangeHeader,
    ChangeSender,
    DeleteRecipient,
    Edit,
    InsertHeader,
    Quarantine,
    ReplaceBody,
)
from ._headers import Field
from ._matches import Matches, matches
from ._message import (
    Message,
    Recipient,
    canonical_body,
    check_recipients,
    without_brackets,
)
from ._wire import encode_response

# Beyond the end of any header. Postfix adds one to it, which must not overflow 32 bits.
END: Final = 0x7FFFFFFE

# Each edit makes Postfix look through the whole header again: 10,000 deletions took 3.7.11 sixteen
# seconds, and 11,000 were the end of its cleanup process ("panic: cleanup_milter_error"), so that
# the client tries again for ever. This many take no time.
MAX_HEADER_EDITS: Final = 1000

# One address: of several, Postfix takes the first, and Sendmail all.
_ADDRESS: Final = re.compile(rb"<[^<>]*>|[^<>,\s]+")


def diff(
    before: Message,
    after: Message,
    dialect: Dialect | None = None,
    *,
    leading_space: bool = False,
    strict: bool = False,
) -> list[Edit]:
    """The edits, as few as need be, that turn one message into the other.

    They are such as all MTAs take alike, where these suffice. Without a dialect they always are,
    and less can be expressed: no new header field in the midst of others, for instance.
    ``leading_space`` as in `apply`. A header field that is only folded otherwise is left as it
    was, unless ``strict``. The order of recipients, and brackets around them, do not count.

    Raises LocalProtocolError, which names the attribute of the message, for what edits can't say.
    """
    check_recipients(after.recipients)
    if after.client != before.client:
        raise LocalProtocolError("client: no edit changes who has sent the message")
    writer = _HeaderWriter(dialect, leading_space=leading_space, strict=strict)
    header_edits = list(writer.edits(list(before.headers), list(after.headers)))
    if len(header_edits) > MAX_HEADER_EDITS and dialect is not Dialect.SENDMAIL:
        raise LocalProtocolError(
            f"headers: {len(header_edits)} changes are more than Postfix takes well, "
            f"{MAX_HEADER_EDITS}"
        )
    edits: list[Edit] = [
        *header_edits,
        *_body(before, after),
        *_recipients(before, after, dialect),
        *_sender(before, after, dialect),
        *_quarantine(before, after),
    ]
    for edit in edits:
        try:
            encode_response(edit)
        except LocalProtocolError as exc:
            raise LocalProtocolError(f"{_ATTRIBUTES[type(edit)]}: {exc}") from exc
    return edits


def expressible(
    before: Message,
    after: Message,
    dialect: Dialect | None = None,
    *,
    leading_space: bool = False,
    strict: bool = False,
) -> bool:
    """Whether `diff` finds edits that turn one message into the other."""
    try:
        diff(before, after, dialect, leading_space=leading_space, strict=strict)
    except LocalProtocolError:
        return False
    return True


_ATTRIBUTES: Final[dict[type[Edit], str]] = {
    AddHeader: "headers",
    InsertHeader: "headers",
    ChangeHeader: "headers",
    ReplaceBody: "body",
    AddRecipient: "recipients",
    DeleteRecipient: "recipients",
    ChangeSender: "sender",
    Quarantine: "quarantined",
}


# --- the header --------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class _Plan:
    """Positions of fields that stay, and of those that change; all others go, or are new."""

    before: Sequence[Field]
    after: Sequence[Field]
    stay: Matches
    change: Matches

    def removed(self) -> set[int]:
        """Positions in ``before``."""
        return set(range(len(self.before))) - {i for i, _ in (*self.stay, *self.change)}

    def added(self) -> Iterator[tuple[int, int | None]]:
        """Positions in ``after``, and the one in ``before`` of what is to stand above."""
        origin = {j: i for i, j in (*self.stay, *self.change)}
        above = None
        for j in range(len(self.after)):
            if j in origin:
                above = origin[j]
            else:
                yield j, above


@attrs.frozen
class _HeaderWriter:
    """Edits of a header, in one dialect or for all."""

    dialect: Dialect | None
    leading_space: bool = attrs.field(kw_only=True)
    strict: bool = attrs.field(kw_only=True)

    def edits(self, before: Sequence[Field], after: Sequence[Field]) -> Iterator[Edit]:
        """Changes and deletions from the last to the first, then what is new.

        So each index is right whether or not the MTA counts anew after a deletion.
        """
        plan = self._plan(before, after)
        yield from self._changes(plan)
        yield from self._additions(plan)

    def _plan(self, before: Sequence[Field], after: Sequence[Field]) -> _Plan:
        stay = matches([self._key(f) for f in before], [self._key(f) for f in after])
        change: Matches = []
        done_i = done_j = 0
        for i, j in (*stay, (len(before), len(after))):
            pairs = _by_name(before[done_i:i], after[done_j:j], self._name)
            change += ((done_i + at_i, done_j + at_j) for at_i, at_j in pairs)
            done_i, done_j = i + 1, j + 1
        return _Plan(before=before, after=after, stay=stay, change=change)

    def _key(self, field: Field) -> tuple[bytes, bytes]:
        return field.name, field.raw if self.strict else field.raw.replace(b"\n", b"")

    def _name(self, field: Field) -> bytes:
        # Sendmail leaves the name of a changed field as it was.
        return field.name.lower() if self.dialect is Dialect.POSTFIX else field.name

    def _changes(self, plan: _Plan) -> Iterator[Edit]:
        seen: Counter[bytes] = Counter()
        indexes = []
        for field in plan.before:
            seen[field.name.lower()] += 1
            indexes.append(seen[field.name.lower()])
        changed = {i: plan.after[j] for i, j in plan.change}
        for i in sorted({*changed, *plan.removed()}, reverse=True):
            name, value = plan.before[i].name, b""
            if i in changed:
                name, value = self._written(changed[i])
                if not value:
                    raise LocalProtocolError(
                        f"headers: an empty value for {name!r} would delete the field"
                    )
            yield ChangeHeader(indexes[i], name, value)

    def _additions(self, plan: _Plan) -> Iterator[Edit]:
        kept = [i for i, _ in sorted((*plan.stay, *plan.change))]
        top, middle, end = [], [], []
        for j, above in plan.added():
            if not kept or above == kept[-1]:
                end.append(j)
            elif above is None:
                top.append(j)
            else:
                middle.append((j, above))
        # The lowest first, so that none moves the place of another.
        for j, above in reversed(middle):
            yield InsertHeader(self._index(above, kept), *self._written(plan.after[j]))
        for j in reversed(top):
            yield InsertHeader(0, *self._written(plan.after[j]))
        # Sendmail puts an added field before others of its name, even deleted ones, and in the
        # place of one that it would make itself.
        taken = {field.name.lower() for field in plan.before} | SENDMAIL_NAMES
        taken |= {plan.after[j].name.lower() for j in (*top, *(j for j, _ in middle))}
        for j in end:
            name, value = self._written(plan.after[j])
            last = InsertHeader(END, name, value)
            yield last if name.lower() in taken else AddHeader(name, value)
            taken.add(name.lower())

    def _index(self, above: int, kept: Sequence[int]) -> int:
        """The index that inserts below a field, all deletions being done."""
        if self.dialect is Dialect.POSTFIX:
            # All that is left down to there, and Postfix's own Received on top.
            return 1 + sum(1 for i in kept if i <= above)
        if self.dialect is Dialect.SENDMAIL:
            # That field's own position, deleted ones and those that Sendmail hides included.
            return SENDMAIL_HIDDEN + above
        raise LocalProtocolError(
            "headers: where a new field goes in the midst of others, MTAs count differently; "
            "name the dialect, or put it on top or at the end"
        )

    def _written(self, field: Field) -> tuple[bytes, bytes]:
        """Name and value as they stand in an edit."""
        name, raw = field.name, field.raw
        if self.dialect is not Dialect.SENDMAIL and postfix_writes(name, raw) != raw:
            raise LocalProtocolError(
                f"headers: {name!r} is longer than Postfix allows, or misfolded"
            )
        if self.leading_space:
            return name, raw
        if not raw.startswith(b" "):
            raise LocalProtocolError(
                f"headers: no blank after the colon of {name!r}, but the MTA will write one"
            )
        return name, raw[1:]


def _by_name(
    before: Sequence[Field], after: Sequence[Field], name: Callable[[Field], bytes]
) -> Matches:
    """Pairs of fields of the same name, in order."""
    return matches([name(field) for field in before], [name(field) for field in after])


# --- the rest ----------------------------------------------------------------------------


def _body(before: Message, after: Message) -> Iterator[Edit]:
    if after.body == before.body:
        return
    if canonical_body(after.body) != after.body:
        raise LocalProtocolError("body: each line must end in CRLF, the last one too")
    yield ReplaceBody(after.body)


def _recipients(before: Message, after: Message, dialect: Dialect | None) -> list[Edit]:
    old, new = _grouped(before.recipients), _grouped(after.recipients)
    deletions: list[DeleteRecipient] = []
    additions: list[AddRecipient] = []
    for mailbox in {**old, **new}:
        had, wanted = old.get(mailbox, {}), new.get(mailbox, {})
        if not had.keys() <= wanted.keys():
            # All of that address go, with whatever parameters. Postfix knows no routes here.
            deletions.append(DeleteRecipient(_without_route(next(iter(had.values())))))
            had = {}
        additions += [
            AddRecipient(one.address, parameters)
            for parameters, one in wanted.items()
            if parameters not in had
        ]
    for edit in additions:
        if not _ADDRESS.fullmatch(edit.recipient):
            raise LocalProtocolError(f"recipients: {edit.recipient!r} is not one address")
    for one in _all_of(dialect):
        there = RECIPIENTS[one](before.recipients)
        for gone in deletions:
            there.delete(gone.recipient)
        for new_one in additions:
            there.add(new_one.recipient, new_one.parameters)
        if _as_set(there.shown) != _as_set(after.recipients):
            raise LocalProtocolError(
                f"recipients: {one.value} does not take them with these parameters, or takes two "
                "of them for one"
            )
    return [*deletions, *additions]


def _without_route(recipient: Recipient) -> bytes:
    if recipient.mailbox in (recipient.address, without_brackets(recipient.address)):
        return recipient.address
    return b"<%b>" % recipient.mailbox


def _grouped(recipients: Sequence[Recipient]) -> dict[bytes, dict[tuple[bytes, ...], Recipient]]:
    groups: dict[bytes, dict[tuple[bytes, ...], Recipient]] = defaultdict(dict)
    for one in recipients:
        groups[one.mailbox].setdefault(one.parameters, one)
    return groups


def _as_set(recipients: Sequence[Recipient]) -> set[tuple[bytes, tuple[bytes, ...]]]:
    return {(one.mailbox, one.parameters) for one in recipients}


def _all_of(dialect: Dialect | None) -> Sequence[Dialect]:
    return (dialect,) if dialect else tuple(Dialect)


def _sender(before: Message, after: Message, dialect: Dialect | None) -> Iterator[Edit]:
    old, new = before.sender_parameters, after.sender_parameters
    if (after.sender, new) == (before.sender, old):
        return
    if not _ADDRESS.fullmatch(after.sender):
        raise LocalProtocolError(f"sender: {after.sender!r} is not one address; null is b'<>'")
    # What Postfix leaves out of account, it complains of; so no more than need be.
    changed = tuple(one for one in new if one not in old)
    for given in ((), changed, new):
        if all(sender_parameters(old, given, one) == new for one in _all_of(dialect)):
            yield ChangeSender(after.sender, given)
            return
    raise LocalProtocolError(f"sender_parameters: a filter can't make them {new!r}")


def _quarantine(before: Message, after: Message) -> Iterator[Edit]:
    if after.quarantined == before.quarantined:
        return
    if after.quarantined is None:
        raise LocalProtocolError("quarantined: a quarantine can't be taken back")
    yield Quarantine(after.quarantined)
