"""What the MTA offers, what a filter wants, and the answer that fits both."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, TypeAlias, final

import attrs

from ._events import (
    Body,
    Command,
    Connect,
    Data,
    EndOfHeaders,
    Header,
    Helo,
    MacroLists,
    MailFrom,
    Negotiate,
    RcptTo,
    Unknown,
)
from ._flags import (
    ALL_ACTIONS,
    ALL_STEPS,
    MAX_VERSION,
    MDS_STEPS,
    MIN_VERSION,
    Actions,
    Stage,
    Steps,
)
from ._state import NO_REPLY, SUPPRESS
from ._wire import MAX_PACKET

OptionalEvent: TypeAlias = (
    type[Connect]
    | type[Helo]
    | type[MailFrom]
    | type[RcptTo]
    | type[Data]
    | type[Header]
    | type[EndOfHeaders]
    | type[Body]
    | type[Unknown]
)
"""The events that a filter may do without."""

ALL_EVENTS: Final[frozenset[OptionalEvent]] = frozenset(
    {Connect, Helo, MailFrom, RcptTo, Data, Header, EndOfHeaders, Body, Unknown}
)

# What Postfix offers for its milter_protocol settings 2, 3, 4 and 6 (seen on the wire).
_STEPS_BY_VERSION: Final = {2: Steps(0x7F), 3: Steps(0x17F), 4: Steps(0x37F)}

_MDS_256K: Final = int(Steps.MDS_256K)
_MDS_1M: Final = int(Steps.MDS_1M)

# The first version of each event that version 2 does not have.
SINCE: Final[Mapping[type[Command], int]] = {Unknown: 3, Data: 4}


@final
@attrs.frozen
class Wants:
    """What a filter would like; `negotiate` makes it fit what the MTA offers.

    ``events``: the event classes to be sent; all by default. `EndOfMessage`, `Abort` and the
    ends of a session always come.
    ``replies``: those of them that the filter will answer; all by default. Where the MTA
    can't do without an answer, ``our_turn`` says so all the same.
    ``actions``: what it may do to a message at end of message.
    ``macros``: the names to be sent at a stage, in place of the MTA's own choice; bytes, long
    names with or without braces.
    ``leading_space``: header values as they stand after the colon, with the first space; then
    that space must be written in edits, too.
    ``rejected_recipients``: show recipients that the MTA has already refused.
    ``large_packets``: packets over 64 KiB, if the MTA offers them (Sendmail built for it).
    """

    events: Collection[OptionalEvent] = ALL_EVENTS
    replies: Collection[OptionalEvent] = ALL_EVENTS
    actions: Actions = attrs.field(default=Actions(0))
    macros: Mapping[Stage, Collection[bytes]] = attrs.field(factory=dict)
    leading_space: bool = False
    rejected_recipients: bool = False
    large_packets: bool = False


def negotiate(offer: Negotiate, wants: Wants) -> Negotiate:
    """The answer to send: never more than the MTA offers.

    Look at the answer's ``actions`` if a filter is no use without one of them.
    """
    steps = Steps(0)
    for event in ALL_EVENTS:
        if event not in wants.events:
            steps |= SUPPRESS[event]
        elif event not in wants.replies:
            steps |= NO_REPLY[event]
    if Body in wants.events and Body in wants.replies:
        steps |= Steps.SKIP
    if wants.leading_space:
        steps |= Steps.HDR_LEADSPC
    if wants.rejected_recipients:
        steps |= Steps.RCPT_REJ
    if wants.large_packets:
        steps |= MDS_STEPS
    actions = wants.actions
    macros: MacroLists = ()
    # An MTA that does not know macro lists may take them for a broken answer.
    if wants.macros and offer.actions & Actions.SETSYMLIST:
        actions |= Actions.SETSYMLIST
        macros = _macro_lists(wants.macros)
    return Negotiate(
        min(offer.version, MAX_VERSION),
        actions & offer.actions & ALL_ACTIONS,
        steps & offer.steps & (ALL_STEPS | MDS_STEPS),
        macros,
    )


def offer(version: int = MAX_VERSION, *, actions: Actions = ALL_ACTIONS) -> Negotiate:
    """What an MTA offers: as Postfix does with ``milter_protocol`` 2, 3, 4 or 6."""
    return Negotiate(version, actions, _STEPS_BY_VERSION.get(version, ALL_STEPS))


def packet_limit(steps: Steps) -> int:
    """The largest payload that both sides agreed to, in bytes."""
    bits = int(steps)  # a flag makes another flag of each &
    if bits & _MDS_1M:
        return 1024 * 1024 - 1
    return 256 * 1024 - 1 if bits & _MDS_256K else MAX_PACKET


def offer_fault(offer: Negotiate) -> str | None:
    """Why an MTA must not offer this, or None."""
    if not MIN_VERSION <= offer.version <= MAX_VERSION:
        return f"version {offer.version} is not between {MIN_VERSION} and {MAX_VERSION}"
    if _beyond(offer.actions, ALL_ACTIONS) or _beyond(offer.steps, ALL_STEPS | MDS_STEPS):
        return "there are bits in it that the protocol does not know"
    if offer.steps & MDS_STEPS == MDS_STEPS:
        return "only one MDS bit may be offered"
    if offer.macros:
        return "macro lists are for the answer"
    return None


def answer_fault(answer: Negotiate, offer: Negotiate) -> str | None:
    """Why this is no answer to that offer, or None."""
    if not MIN_VERSION <= answer.version <= offer.version:
        return f"version {answer.version} is not between {MIN_VERSION} and {offer.version}"
    if actions := _beyond(answer.actions, offer.actions):
        return f"actions 0x{actions:x} were not offered"
    if steps := _beyond(answer.steps, offer.steps):
        return f"steps 0x{steps:x} were not offered"
    return None


def _beyond(bits: int, allowed: int) -> int:
    """The bits that are not allowed. On the flags themselves ~ would only turn named bits."""
    return int(bits) & ~int(allowed)


def macros_fault(answer: Negotiate) -> str | None:
    """Why a filter should not send these macro lists, or None."""
    if not answer.macros:
        return None
    stages = [stage for stage, _ in answer.macros]
    if len(set(stages)) < len(stages) or not set(stages) <= set(Stage):
        return "a macro list's stage is unknown or stands twice"
    if (Stage.EOM in stages) != (Stage.EOH in stages):
        # Sendmail looks for the EOH list to decide whether to use the EOM list.
        return "the macro lists of EOH and EOM go together, or Sendmail sends neither's macros"
    return None


def _macro_lists(macros: Mapping[Stage, Collection[bytes]]) -> MacroLists:
    lists = {stage: tuple(_braced(name) for name in names) for stage, names in macros.items()}
    for one, other in ((Stage.EOM, Stage.EOH), (Stage.EOH, Stage.EOM)):
        if one in lists:
            lists.setdefault(other, lists[one])
    return tuple((int(stage), lists[stage]) for stage in sorted(lists))


def _braced(name: bytes) -> bytes:
    return name if len(name) == 1 or name.startswith(b"{") else b"{" + name + b"}"
