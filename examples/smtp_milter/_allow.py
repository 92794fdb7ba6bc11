"""The site's own rule: who takes mail from whom, whatever the gateway says of it."""

from __future__ import annotations

from typing import Final, final

import attrs
from mailfront._addresses import names_of
from mailfront.userdb import Base, UserDB
from sqlalchemy import select
from sqlalchemy.orm import Mapped, mapped_column

ANYBODY: Final = "*"


class AllowedSender(Base):
    """A recipient's mail from that sender does not go to the gateway.

    ``recipient`` is an address as `mailfront._addresses` has it, in lower case; ``sender`` is one,
    too, or ``@domain``, ``<>``, or ``*`` for all. An entry is for mail that comes, and senders can
    be forged: ``*`` says that a user wants no filter, a single address that he'd rather have forged
    mail than miss what is genuine.
    """

    __tablename__ = "allowed_senders"
    recipient: Mapped[str] = mapped_column(primary_key=True)
    sender: Mapped[str] = mapped_column(primary_key=True)


@final
@attrs.frozen
class AllowList:
    """Asks the user database; raises what it raises, and TimeoutError after its patience."""

    users: UserDB

    async def has(self, recipient: bytes, sender: bytes) -> bool:
        """Whether the recipient takes all that comes from that sender; both as in the envelope."""
        recipients = names_of(_bare(recipient))
        if not recipients:
            return False
        query = select(AllowedSender.sender).where(
            AllowedSender.recipient.in_(recipients),
            AllowedSender.sender.in_(senders_of(_bare(sender))),
        )
        return await self.users.value(query.limit(1)) is not None


def senders_of(address: bytes) -> list[str]:
    """By what names a sender may be listed."""
    if not address:
        return [ANYBODY, "<>"]
    names = names_of(address)
    return [ANYBODY, *names, *("@" + name.rpartition("@")[2] for name in names[:1])]


def _bare(address: bytes) -> bytes:
    return address[1:-1] if address[:1] == b"<" and address[-1:] == b">" else address
