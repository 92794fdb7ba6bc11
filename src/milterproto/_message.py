"""A whole message as a plain object: what a filter's author thinks in."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, final

import attrs

from ._errors import LocalProtocolError
from ._events import Connect, Family
from ._headers import Field, Headers, bytes_of

if TYPE_CHECKING:
    from email.message import EmailMessage

_LINE_END: Final = re.compile(rb"\r?\n")
_HEAD: Final = re.compile(rb"(?:[!-9;-~]+[ \t]*:[^\n]*\n(?:[ \t][^\n]*\n)*)*")
# Of a local part: what is quoted, or has a quoted character.
_QUOTING: Final = re.compile(rb'\\(.)|"', re.DOTALL)
# RFC 5321, 4.1.2 (A-d-l): obsolete, to be ignored, and still taken by all.
_DOMAIN: Final = rb"@(?:\[[^\]]*\]|[^][@:,\s]+)"
_ROUTE: Final = re.compile(rb"%b(?:,%b)*:" % (_DOMAIN, _DOMAIN))
_FIELD: Final = re.compile(rb"([!-9;-~]+)[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*)\n")


def _is(kind: type, attribute: str) -> Callable[[object, object, Any], None]:
    """A validator, so that the error comes where the wrong thing is written."""

    def check(_instance: object, _attribute: object, value: Any) -> None:
        if not isinstance(value, kind):
            raise LocalProtocolError(f"{attribute}: {value!r} is no {kind.__name__}")

    return check


def _many_bytes(attribute: str, values: Any) -> tuple[bytes, ...]:
    if isinstance(values, bytes | str) or not isinstance(values, Iterable):
        raise LocalProtocolError(f"{attribute}: {values!r} is no tuple of bytes")
    return tuple(bytes_of(attribute, one) for one in values)


def _sender_parameters(values: Iterable[bytes]) -> tuple[bytes, ...]:
    return _many_bytes("sender_parameters", values)


def _recipient_parameters(values: Iterable[bytes]) -> tuple[bytes, ...]:
    return _many_bytes("recipients", values)


def _recipients(values: Iterable[Recipient]) -> list[Recipient]:
    # Any iterable, for an iterator can be read but once, and all look-ups after that find nobody.
    if not isinstance(values, Iterable):
        raise LocalProtocolError(f"recipients: {values!r} is no list of Recipient")
    listed = list(values)
    check_recipients(listed)
    return listed


def _headers(fields: Iterable[Field]) -> Headers:
    return fields if isinstance(fields, Headers) else Headers(fields)


def check_recipients(recipients: Iterable[Recipient]) -> None:
    """A list can be given anything."""
    for one in recipients:
        if not isinstance(one, Recipient):
            raise LocalProtocolError(f"recipients: {one!r} is no Recipient")


@final
@attrs.frozen
class Client:
    """Who sends the message.

    ``hostname``, ``family``, ``port`` and ``address`` are those of `Connect`; ``helo`` the name of
    the last HELO or EHLO; ``tls`` the TLS version (``{tls_version}``) and ``login`` the user name
    (``{auth_authen}``), both empty where there is none.
    """

    hostname: bytes = b"unknown"
    family: Family = Family.UNKNOWN
    port: int = 0
    address: bytes = b""
    helo: bytes = b""
    tls: bytes = b""
    login: bytes = b""

    @property
    def ip(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """The address, as `Connect.ip` reads it."""
        return Connect(self.hostname, self.family, self.port, self.address).ip


@final
@attrs.frozen
class Recipient:
    """One recipient of the envelope; both parts as in `RcptTo`."""

    address: bytes = attrs.field(validator=_is(bytes, "recipients"))
    parameters: tuple[bytes, ...] = attrs.field(default=(), converter=_recipient_parameters)

    @property
    def mailbox(self) -> bytes:
        """The address without its angle brackets, and without a source route before it."""
        return mailbox(self.address)

    @property
    def canonical(self) -> bytes:
        """The mailbox in one spelling, to be compared and looked up: ``nobody@example.test``.

        In lower case, without quotes and without the dot that may end a domain. So a client can't
        get round a rule by another spelling; but local parts that differ in case only, which
        hardly any system has, are one. What an MTA rewrites besides, it alone knows: the macro
        ``{rcpt_addr}`` has what Postfix makes of it.
        """
        return unquoted(self.mailbox).removesuffix(b".").lower()


@attrs.define
class Message:
    """A message: change it in any way, and let `diff` find the edits.

    ``sender`` with angle brackets, if the client wrote any, and ``sender_parameters`` as in
    `MailFrom`; ``headers`` without those that the MTA hides from filters, such as its own Received;
    ``body`` with CRLF line ends. ``quarantined`` is the reason, if the message is to be held.

    ``client`` and ``macros`` say where it comes from. No edit can change that. ``macros`` are those
    of the moment when a filter was given the message, and don't count when messages are compared.
    Nor do ``notes``, which are the filter's own: what a function of a `MessageFilter` puts there,
    those that are called later for the same message find.

    Raises LocalProtocolError, which names the attribute, when one is given what it can't be. Lists
    are copied from whatever can be iterated over.
    """

    sender: bytes = attrs.field(default=b"<>", validator=_is(bytes, "sender"))
    recipients: list[Recipient] = attrs.field(factory=list, converter=_recipients)
    headers: Headers = attrs.field(factory=Headers, converter=_headers)
    body: bytes = attrs.field(default=b"", validator=_is(bytes, "body"))
    sender_parameters: tuple[bytes, ...] = attrs.field(default=(), converter=_sender_parameters)
    client: Client = attrs.field(factory=Client, validator=_is(Client, "client"))
    quarantined: bytes | None = attrs.field(
        default=None, validator=attrs.validators.optional(_is(bytes, "quarantined"))
    )
    macros: Mapping[bytes, bytes] = attrs.field(factory=dict, eq=False, repr=False)
    notes: dict[str, Any] = attrs.field(factory=dict, eq=False, repr=False)

    @classmethod
    def parse(
        cls,
        content: bytes,
        *,
        sender: bytes = b"<>",
        recipients: Iterable[bytes] = (),
        client: Client | None = None,
    ) -> Message:
        """A message from its text, as it stands in a file or comes after DATA, with any line ends.

        What follows the last line that can belong to a header is the body, after an empty line or
        without one.
        """
        content = _LINE_END.sub(b"\n", content)
        if not content.endswith(b"\n"):
            content += b"\n"
        head = _HEAD.match(content).group()  # type: ignore[union-attr]  # it matches nothing, too
        fields = [Field(name, raw) for name, raw in _FIELD.findall(head)]
        return cls(
            sender,
            [Recipient(address) for address in recipients],
            Headers(fields),
            canonical_body(content[len(head) :].removeprefix(b"\n")),
            client=client or Client(),
        )

    @property
    def content(self) -> bytes:
        """The text of the message with CRLF line ends, as an MTA would send it on.

        With the empty line after the header always; Postfix adds none to a message that ends with
        its header.
        """
        lines = [b"%b:%b\n" % (field.name, field.raw) for field in self.headers]
        return b"".join(lines).replace(b"\n", b"\r\n") + b"\r\n" + self.body

    @property
    def queue_id(self) -> bytes:
        """The MTA's name for the message, for a log; empty if it has told none yet."""
        return self.macros.get(b"i", b"")

    def parsed(self) -> EmailMessage:
        """What the `email` package makes of the content: MIME parts, attachments, text.

        It is a copy to look at, with lines that end in LF; to change it changes nothing here.
        """
        import email.policy  # noqa: PLC0415

        content = self.content.replace(b"\r\n", b"\n")
        return email.message_from_bytes(content, policy=email.policy.default)

    def copy(self) -> Message:
        """Another message that is the same, and can be changed alone."""
        return attrs.evolve(self, recipients=list(self.recipients), headers=self.headers.copy())

    # --- editing ---------------------------------------------------------------------------

    def replace_body(self, data: bytes) -> None:
        """Put another body there; line ends of any kind become CRLF, and the last is supplied."""
        self.body = canonical_body(data)

    def add_recipient(self, address: bytes, *parameters: bytes) -> None:
        """Add a recipient, if it is not there yet: ``b"<a@b>"``, then such as ``b"NOTIFY=NEVER"``.

        One that is there in another spelling of its domain stays as it is.
        """
        if len(_others(self.recipients, address)) == len(self.recipients):
            self.recipients.append(Recipient(address, parameters))

    def remove_recipient(self, address: bytes) -> bool:
        """Remove a recipient; False if it was not there.

        Brackets don't count, nor does the case of the domain.
        """
        before = len(self.recipients)
        self.recipients = _others(self.recipients, address)
        return len(self.recipients) < before

    def change_sender(self, address: bytes) -> None:
        """Put another envelope sender there, in angle brackets; null is ``b"<>"``."""
        self.sender = address

    def quarantine(self, reason: bytes) -> None:
        """Let the MTA hold the message (Postfix: the hold queue)."""
        self.quarantined = reason


def mailbox(address: bytes) -> bytes:
    """An address of the envelope without its angle brackets, and without a source route."""
    bare = without_brackets(address)
    route = _ROUTE.match(bare)
    return bare[route.end() :] if route else bare


def without_brackets(address: bytes) -> bytes:
    """An address of the envelope, all of it."""
    if address[:1] == b"<" and address[-1:] == b">":
        return address[1:-1]
    return address


def unquoted(mailbox: bytes) -> bytes:
    """An address as Postfix keeps it: ``"b"@x`` is ``b@x``."""
    local, at, domain = mailbox.rpartition(b"@")
    return _QUOTING.sub(rb"\1", local) + at + domain


def canonical_body(data: bytes) -> bytes:
    """A body as an MTA keeps it: CRLF after each line, the last too; a CR alone is no line end."""
    if data and not data.endswith(b"\n"):
        data += b"\r\n"
    return _LINE_END.sub(b"\r\n", data)


def _others(recipients: Iterable[Recipient], address: bytes) -> list[Recipient]:
    """Those with another address."""
    gone = _comparable(address)
    # Most have another local part, and one look at the bytes says so, in a seventh of the time that
    # a comparison takes (and `in` in a third): a filter may add a thousand, one by one.
    local = gone[: gone.rfind(b"@") + 1]
    return [
        one for one in recipients if one.address.find(local) < 0 or _comparable(one.address) != gone
    ]


def _comparable(address: bytes) -> bytes:
    local, at, domain = mailbox(address).rpartition(b"@")
    return local + at + domain.lower()
