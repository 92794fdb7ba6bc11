"""Messages on their way, and back."""

from __future__ import annotations

from smtp_milter._content import Normalizer
from smtp_milter._outgoing import Outgoing
from smtp_milter._returned import Returned
from smtp_milter._spool import Spool

from milterproto.message import Message


def outgoing(content: bytes) -> Outgoing:
    """As an MTA shows it."""
    message = Message.parse(content)
    made = Outgoing()
    for field in message.headers:
        made.add_field(field.name, field.raw)
    made.add_body(message.body)
    made.end()
    return made


def returned(
    content: bytes,
    *,
    sender: bytes = b"<a@example.org>",
    recipients: tuple[bytes, ...] = (b"<b@example.test>",),
    nonce: bytes = b"",
    ident: bytes = b"",
) -> Returned:
    """As the sink takes it."""
    spool, normalizer = Spool(), Normalizer()
    spool.write(normalizer.feed(content) + normalizer.finish())
    return Returned(sender, recipients, spool, nonce, ident)
