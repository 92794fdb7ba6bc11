"""What has come back beside what was sent -> the edits that make the one of the other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final, final

import attrs

import milterproto as mp
from milterproto.message import Dialect, Field, Headers, Message, Recipient, diff
from smtp_milter._outgoing import Outgoing
from smtp_milter._returned import Returned

# What a server adds to any message that it takes; in none of them is a change of the message.
_TRACE: Final = frozenset({b"received", b"return-path", b"delivered-to"})


class NoEditsError(Exception):
    """What has come back can't be told to the MTA. The text has nothing of the mail."""


@final
@attrs.frozen(kw_only=True)
class Rules:
    """``dialect`` and ``leading_space`` are the MTA's, as for `milterproto.message.diff`."""

    dialect: Dialect | None
    leading_space: bool
    keep_trace: bool = False
    remove_recipients: bool = False


def find_edits(
    envelope: Message,
    outgoing: Outgoing,
    on_top: Sequence[Field],
    returned: Sequence[Returned],
    rules: Rules,
) -> list[mp.Edit]:
    """``envelope`` has the sender and those recipients that the gateway was given.

    ``on_top`` are fields of our own that were sent above the message's. Of several messages that
    have come back, each for other recipients, all have to have the same content. Raises
    NoEditsError, UnreadableError, and LocalProtocolError for what no edit can say.
    """
    headers, body_at = returned[0].headers()
    kept = _kept(headers, outgoing, on_top, keep_trace=rules.keep_trace)
    for other in returned[1:]:
        other_headers, other_at = other.headers()
        other_kept = _kept(other_headers, outgoing, on_top, keep_trace=rules.keep_trace)
        if other_kept != kept or other.content.digest(other_at) != returned[0].content.digest(
            body_at
        ):
            raise NoEditsError("it has made different messages for different recipients")
    before = attrs.evolve(envelope, headers=outgoing.headers, body=b"")
    after = attrs.evolve(
        before,
        headers=Headers(kept),
        sender=_sender(envelope.sender, returned),
        recipients=_recipients(envelope.recipients, returned, may_remove=rules.remove_recipients),
    )
    edits = diff(before, after, rules.dialect, leading_space=rules.leading_space)
    content = returned[0].content
    if content.digest(body_at) != outgoing.body.digest():
        # In one run, as Postfix wants them; an empty body is one empty piece.
        edits += [mp.ReplaceBody(chunk) for chunk in content.chunks(body_at)] or [
            mp.ReplaceBody(b"")
        ]
    return edits


def _key(field: Field) -> tuple[bytes, bytes]:
    """How fields are compared: folding, and how many blanks there are, change nothing."""
    return field.name.lower(), b" ".join(field.value.split())


def _kept(
    headers: Headers, outgoing: Outgoing, on_top: Sequence[Field], *, keep_trace: bool
) -> list[Field]:
    """The fields that come back, without ours and what is added by the way; as they were before."""
    originals: dict[tuple[bytes, bytes], list[Field]] = defaultdict(list)
    for sent, original in zip(outgoing.sent, outgoing.headers, strict=True):
        originals[_key(sent)].append(original)
    ours = [_key(field) for field in on_top]
    kept = []
    for field in headers:
        key = _key(field)
        if key in ours:
            ours.remove(key)
        elif originals[key]:
            kept.append(originals[key].pop(0))
        elif keep_trace or key[0] not in _TRACE:
            kept.append(field)
    return kept


def _sender(before: bytes, returned: Sequence[Returned]) -> bytes:
    senders = {Recipient(one.sender).canonical for one in returned}
    if len(senders) > 1:
        raise NoEditsError("it has made different senders for different recipients")
    return before if senders == {Recipient(before).canonical} else returned[0].sender


def _recipients(
    before: Sequence[Recipient], returned: Sequence[Returned], *, may_remove: bool
) -> list[Recipient]:
    """Those of before as they were written, in their order, and then the new ones."""
    # A gateway may write an address anew: in lower case, without a route or needless quotes.
    back = (Recipient(one) for message in returned for one in message.recipients)
    there = {one.canonical: one for one in back}
    kept = [one for one in before if one.canonical in there]
    if len(kept) < len(before) and not may_remove:
        raise NoEditsError("it has left out a recipient")
    known = {one.canonical for one in before}
    return [*kept, *(one for name, one in there.items() if name not in known)]
