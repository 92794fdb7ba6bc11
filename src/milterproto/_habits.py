"""How MTAs go about it: which macros they send when, and what they do between the events."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final, TypeAlias

import attrs

from ._apply import Dialect
from ._events import (
    Body,
    Command,
    Connect,
    Data,
    EndOfHeaders,
    EndOfMessage,
    Header,
    Helo,
    MailFrom,
    RcptTo,
    Unknown,
)
from ._flags import Stage
from ._message import Message, Recipient, mailbox

Names: TypeAlias = tuple[bytes, ...]


class Habits(enum.Enum):
    """Whose.

    ``HOSTILE`` keeps the protocol, and uses all the liberties that it gives: single bytes, bodies
    in small pieces, HELO and ABORT again and again, an unknown command in the midst of a message,
    another message that is given up half-way, an end without QUIT.
    """

    POSTFIX = "Postfix"
    SENDMAIL = "Sendmail"
    HOSTILE = "hostile"

    @property
    def dialect(self) -> Dialect:
        """How it applies edits."""
        return Dialect.SENDMAIL if self is Habits.SENDMAIL else Dialect.POSTFIX

    @property
    def last_replies(self) -> frozenset[bytes]:
        """Codes of replies after which it closes the client's connection, whatever they are to."""
        return frozenset({b"421"} if self is Habits.SENDMAIL else {b"421", b"521"})


_TLS: Final = (b"{tls_version}", b"{cipher}", b"{cipher_bits}", b"{cert_subject}", b"{cert_issuer}")

# Unless the filter asks for others; as the manual's page on the wire format has them. A stage that
# is missing has no macros frame, not even an empty one.
_POSTFIX: Final[Mapping[type[Command], Names]] = {
    Connect: (b"j", b"{daemon_name}", b"{daemon_addr}", b"v", b"_"),
    Helo: _TLS,
    MailFrom: (
        *(b"i", b"{auth_type}", b"{auth_authen}", b"{auth_author}"),
        *(b"{mail_addr}", b"{mail_host}", b"{mail_mailer}"),
    ),
    RcptTo: (b"i", b"{rcpt_addr}", b"{rcpt_host}", b"{rcpt_mailer}"),
    Data: (b"i",),
    Unknown: (),
    Header: (b"i",),
    EndOfHeaders: (b"i",),
    Body: (b"i",),
    EndOfMessage: (b"i",),
}
_SENDMAIL: Final[Mapping[type[Command], Names]] = {
    Connect: (b"j", b"_", b"{daemon_name}", b"{if_name}", b"{if_addr}"),
    Helo: _TLS,
    MailFrom: (
        *(b"i", b"{auth_type}", b"{auth_authen}", b"{auth_ssf}", b"{auth_author}"),
        *(b"{mail_mailer}", b"{mail_host}", b"{mail_addr}"),
    ),
    RcptTo: (b"{rcpt_mailer}", b"{rcpt_host}", b"{rcpt_addr}"),
    EndOfMessage: (b"{msg_id}",),
}
MACROS: Final = {
    Habits.POSTFIX: _POSTFIX,
    Habits.SENDMAIL: _SENDMAIL,
    Habits.HOSTILE: _POSTFIX,
}

# Which list a filter asks for names of; Postfix uses two of them more than once.
STAGES: Final[Mapping[type[Command], Stage]] = {
    Connect: Stage.CONNECT,
    Helo: Stage.HELO,
    MailFrom: Stage.MAIL,
    RcptTo: Stage.RCPT,
    Data: Stage.DATA,
    Header: Stage.EOH,
    EndOfHeaders: Stage.EOH,
    Body: Stage.EOM,
    EndOfMessage: Stage.EOM,
}


@attrs.define
class MacroValues:
    """What is known of a message, macro by macro; those that are unknown are left out."""

    habits: Habits
    message: Message
    queue_id: bytes
    recipient: Recipient | None = None
    # Postfix opens the queue file once it has taken a recipient.
    has_queue_id: bool = False

    def of(self, names: Names) -> dict[bytes, bytes]:
        """Name and value of those that are known; the message's own macros count first."""
        values = {**self._usual(), **self.message.macros}
        return {name: values[name] for name in names if name in values}

    def _usual(self) -> dict[bytes, bytes]:
        client = self.message.client
        values = {
            b"j": b"mta.test",
            b"_": b"%b [%b]" % (client.hostname, client.address),
            b"{daemon_name}": b"mta.test",
            b"{mail_addr}": mailbox(self.message.sender),
            b"{mail_host}": mailbox(self.message.sender).rpartition(b"@")[2],
            b"{mail_mailer}": b"smtp",
        }
        if self.habits is not Habits.SENDMAIL:
            values[b"v"] = b"Postfix 3.7.11"
            values[b"{daemon_addr}"] = b"192.0.2.25"
        if client.tls:
            values[b"{tls_version}"] = client.tls
        if client.login:
            values[b"{auth_type}"] = b"PLAIN"
            values[b"{auth_authen}"] = client.login
        if self.recipient is not None:
            values[b"{rcpt_addr}"] = self.recipient.mailbox
            values[b"{rcpt_host}"] = self.recipient.mailbox.rpartition(b"@")[2]
            values[b"{rcpt_mailer}"] = b"smtp"
        if self.has_queue_id or self.habits is Habits.SENDMAIL:
            values[b"i"] = self.queue_id
        if message_id := self.message.headers.get("Message-Id"):
            values[b"{msg_id}"] = message_id
        return values
