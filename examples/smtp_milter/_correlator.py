"""Which message that comes back belongs to which that was sent."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import final

import attrs

from milterproto.message import Recipient
from smtp_milter._returned import Returned
from smtp_milter._tokens import nonces_in


class Way(enum.Enum):
    """How a message is known again."""

    HEADER = "header"  # by a header field with our mark
    XFORWARD = "xforward"  # by IDENT
    ECHO = "echo"  # by the sink's reply, which the gateway repeats in its own


class DisagreementError(Exception):
    """By one way it is this message, by another it is not."""


@attrs.define
class _Expected:
    sender: bytes
    caught: list[Returned] = attrs.field(factory=list)


@final
class Correlator:
    """What was sent and may come back, by its mark; and what has come back.

    ``unclaimed`` gets what the sink has taken and nobody wanted afterwards.
    """

    def __init__(self, ways: frozenset[Way], unclaimed: Callable[[Returned], None]) -> None:
        self._ways = ways
        self._on_unclaimed = unclaimed
        self._expected: dict[bytes, _Expected] = {}
        # By the sink's mark: what can't be known before the gateway has answered, and who may ask.
        self._unclaimed: dict[bytes, tuple[Returned, set[bytes]]] = {}

    def expect(self, token: bytes, sender: bytes) -> None:
        """From now on this message may come back."""
        self._expected[token] = _Expected(Recipient(sender).canonical)

    def awaits(self, token: bytes) -> bool:
        """Whether this message may come back."""
        return token in self._expected

    def takes(self, returned: Returned, marks: list[bytes]) -> bool:
        """Whether something that has come back is ours; ``marks`` are those in its header.

        Nothing else may be taken: it would be lost.
        """
        named = {one for one in marks if one in self._expected and Way.HEADER in self._ways}
        if returned.ident in self._expected and Way.XFORWARD in self._ways:
            named.add(returned.ident)
        if len(named) == 1:
            self._expected[named.pop()].caught.append(returned)
            return True
        if named or Way.ECHO not in self._ways:
            return False
        sender = Recipient(returned.sender).canonical
        may_be = {token for token, one in self._expected.items() if one.sender == sender}
        if may_be:
            self._unclaimed[returned.nonce] = returned, may_be
        return bool(may_be)

    def claim(self, token: bytes, lines: tuple[bytes, ...]) -> list[Returned]:
        """What has come back of a message, now that the gateway has answered with these lines.

        Raises DisagreementError.
        """
        caught = list(self._expected[token].caught)
        echoed = nonces_in(lines) if Way.ECHO in self._ways else frozenset()
        if caught and echoed and not echoed & {one.nonce for one in caught}:
            raise DisagreementError("it names another message in its reply than it has handed on")
        known = (one for one in echoed if one in self._unclaimed)
        ours = [one for one in known if token in self._unclaimed[one][1]]
        caught += [self._unclaimed.pop(one)[0] for one in ours]
        self._expected[token].caught = caught
        return list(caught)

    def forget(self, token: bytes) -> None:
        """It has been dealt with."""
        del self._expected[token]
        for nonce, (returned, may_be) in list(self._unclaimed.items()):
            may_be.discard(token)
            if not may_be:
                del self._unclaimed[nonce]
                self._on_unclaimed(returned)
