"""What a gateway offers, and which of the client's parameters it can be told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Self, final

import attrs

from nginxauth import xclient as xc
from smtp_milter._replies import Reply

# The extension that each parameter of MAIL and RCPT belongs to. What is not here is not passed on.
_EXTENSION: Final[Mapping[bytes, bytes]] = {
    b"AUTH": b"AUTH",
    b"BODY": b"8BITMIME",
    b"BY": b"DELIVERBY",
    b"ENVID": b"DSN",
    b"MT-PRIORITY": b"MT-PRIORITY",
    b"NOTIFY": b"DSN",
    b"ORCPT": b"DSN",
    b"REQUIRETLS": b"REQUIRETLS",
    b"RET": b"DSN",
    b"SIZE": b"SIZE",
    b"SMTPUTF8": b"SMTPUTF8",
}


@final
@attrs.frozen
class Offer:
    """A reply to EHLO: arguments by keyword, in upper case; none of them for a reply to HELO."""

    keywords: Mapping[bytes, tuple[bytes, ...]] = attrs.field(factory=dict)

    @classmethod
    def parse(cls, reply: Reply) -> Self:
        """Read a reply to EHLO."""
        words = [line.upper().split() for line in reply.lines[1:]]
        return cls({line[0]: tuple(line[1:]) for line in reversed(words) if line})

    def __contains__(self, keyword: bytes) -> bool:
        return keyword in self.keywords

    @property
    def proxying(self) -> xc.Offer:
        """XCLIENT and XFORWARD."""
        return xc.Offer(self.keywords.get(b"XCLIENT", ()), self.keywords.get(b"XFORWARD", ()))

    @property
    def max_size(self) -> int:
        """The longest message in bytes; 0 if it does not say."""
        size = self.keywords.get(b"SIZE", (b"0",))[:1]
        return int(size[0]) if size and size[0].isdigit() and len(size[0]) < 20 else 0

    def parameters(self, given: Iterable[bytes]) -> tuple[bytes, ...]:
        """Those of a client's parameters that the gateway takes, spelled as they were."""
        taken = []
        for one in given:
            name, _, value = one.upper().partition(b"=")
            if _EXTENSION.get(name) not in self.keywords:
                continue
            # An MTA makes DATA of BDAT for its filters, and lines of all that has none.
            is_binary = name == b"BODY" and value == b"BINARYMIME"
            taken.append(b"BODY=8BITMIME" if is_binary else one)
        return tuple(taken)
