"""What an MTA makes of a filter's edits."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol, TypeAlias

import attrs

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
from ._headers import Field, Headers
from ._message import Message, Recipient, canonical_body, mailbox, without_brackets
from ._wire import HEADER_NAME


class Dialect(enum.Enum):
    """Whose way of applying edits.

    Postfix's is held to a real one in CI. Sendmail's was run against 8.17.1.9 by hand, header, body
    and addresses (tests/benchmarks/long_sendmail.py); parameters are from the reference, not run.
    """

    POSTFIX = "Postfix"
    SENDMAIL = "Sendmail"


def apply(
    message: Message,
    edits: Iterable[Edit],
    dialect: Dialect = Dialect.POSTFIX,
    *,
    leading_space: bool = False,
) -> Message:
    """The message as it is after these edits, in this order; the given one stays as it is.

    ``leading_space``: whether ``Steps.HDR_LEADSPC`` was negotiated, so that an edit's value is all
    that stands after the colon; otherwise the MTA writes a blank before it.

    Raises LocalProtocolError for edits that the MTA answers by an error of its own: a header name
    that is none and, for Postfix, a body in pieces with other edits between them.

    The message is the one that the filter was shown, so what the MTA hides from filters is hidden
    here: its own Received, which is taken to stand on top, and with Sendmail the header fields
    that it has yet to make.
    """
    work = _Work(message.copy(), dialect, leading_space)
    for edit in edits:
        way = _WAYS.get(type(edit))
        if way is None:
            raise LocalProtocolError(f"{edit!r} is no edit")
        if type(edit) is not ReplaceBody:
            work.body_ended = work.body is not None
        try:
            way(work, edit)
        except _WRONG_TYPES as exc:
            raise LocalProtocolError(f"{edit!r} has a field of the wrong type") from exc
    return work.finished()


# What Python itself raises over a str in place of bytes, or None in place of a number.
_WRONG_TYPES: Final = (TypeError, AttributeError, ValueError)


class _Work:
    """A message that edits are being made to."""

    def __init__(self, message: Message, dialect: Dialect, leading_space: bool) -> None:  # noqa: FBT001
        self.message = message
        self.dialect = dialect
        self.header = _HEADERS[dialect](message.headers, b"" if leading_space else b" ")
        self.recipients = RECIPIENTS[dialect](message.recipients)
        self.body: bytearray | None = None
        self.body_ended = False

    def change_sender(self, edit: ChangeSender) -> None:
        before, given = self.message.sender_parameters, edit.parameters
        self.message.sender = edit.sender
        self.message.sender_parameters = sender_parameters(before, given, self.dialect)

    def quarantine(self, edit: Quarantine) -> None:
        self.message.quarantined = edit.reason

    def replace_body(self, edit: ReplaceBody) -> None:
        if self.body_ended and self.dialect is Dialect.POSTFIX:
            raise LocalProtocolError("Postfix takes a new body only in one go")
        if self.body is None:
            self.body = bytearray()
        self.body += edit.data

    def finished(self) -> Message:
        message = self.message
        message.headers = Headers(self.header.shown())
        message.recipients = self.recipients.shown
        if self.body is not None:
            message.body = canonical_body(bytes(self.body))
        return message


_WAYS: Final[Mapping[type[Edit], Callable[[_Work, Any], None]]] = {
    AddHeader: lambda work, edit: work.header.add(edit.name, edit.value),
    InsertHeader: lambda work, edit: work.header.insert(edit.index, edit.name, edit.value),
    ChangeHeader: lambda work, edit: work.header.change(edit.index, edit.name, edit.value),
    AddRecipient: lambda work, edit: work.recipients.add(edit.recipient, edit.parameters),
    DeleteRecipient: lambda work, edit: work.recipients.delete(edit.recipient),
    ChangeSender: _Work.change_sender,
    Quarantine: _Work.quarantine,
    ReplaceBody: _Work.replace_body,
}


# --- the header --------------------------------------------------------------------------


class _Header(Protocol):
    """An MTA's list of header fields, with what it hides."""

    def __init__(self, shown: Headers, blank: bytes) -> None: ...
    def shown(self) -> Iterable[Field]:
        """The fields that are no secret."""

    def add(self, name: bytes, value: bytes) -> None:
        """ADDHEADER."""

    def insert(self, index: int, name: bytes, value: bytes) -> None:
        """INSHEADER."""

    def change(self, index: int, name: bytes, value: bytes) -> None:
        """CHGHEADER."""


# With a milter configured, Postfix cuts the header fields that it writes here, and so those that
# it has received: KLUDGE_HEADER_LIMIT, or header_size_limit if that is set to less.
POSTFIX_HEADER_LIMIT: Final = 60000


class _PostfixHeader:
    """One list with Postfix's own Received on top, which counts for positions but not by name."""

    def __init__(self, shown: Headers, blank: bytes) -> None:
        self._blank = blank
        # None is the hidden Received.
        self._fields: list[Field | None] = [None, *shown]

    def shown(self) -> Iterable[Field]:
        return [field for field in self._fields if field is not None]

    def add(self, name: bytes, value: bytes) -> None:
        self._fields.append(self._made(name, value))

    def insert(self, index: int, name: bytes, value: bytes) -> None:
        self._fields.insert(index, self._made(name, value))

    def change(self, index: int, name: bytes, value: bytes) -> None:
        place = self._find(index, name)
        if place is None:
            if value:
                self.add(name, value)
        elif value:
            self._fields[place] = self._made(name, value)
        else:
            # At once: what follows is counted anew.
            del self._fields[place]

    def _find(self, index: int, name: bytes) -> int | None:
        wanted = name.lower()
        count = 0
        for place, field in enumerate(self._fields):
            if field is not None and field.name.lower() == wanted:
                count += 1
                if count >= index:
                    return place
        return None

    def _made(self, name: bytes, value: bytes) -> Field:
        _check_name(name)
        raw = postfix_writes(name, self._blank + value)
        return Field(name, raw)


def postfix_writes(name: bytes, raw: bytes) -> bytes:
    """What remains of a field's raw value: folded for certain, and not too long."""
    head = len(name) + 1
    if head + len(raw) <= POSTFIX_HEADER_LIMIT and b"\n" not in raw:
        return raw
    kept: list[bytes] = []
    start = 0
    for line in (name + b":" + raw).split(b"\n"):
        if start + len(line) > POSTFIX_HEADER_LIMIT:
            # Before this line, if that loses little; in the middle of it otherwise.
            if start <= 0.9 * POSTFIX_HEADER_LIMIT:
                kept.append(line[: POSTFIX_HEADER_LIMIT - start])
            break
        kept.append(line)
        start += len(line) + 1
    folded = [line if line[:1] in (b" ", b"\t") else b"\t" + line for line in kept[1:]]
    return b"\n".join([kept[0], *folded])[head:]


@attrs.define
class _Entry:
    """A field in Sendmail's list. One that is deleted stays there without a value."""

    name: bytes
    raw: bytes | None
    # H_USER: from the message, or from a filter; all others are Sendmail's own.
    user: bool
    trace: bool = False


# The fields that the default configuration makes, in its order (H lines of cf/m4/proto.m4). They
# head the list from the start; those that the message brings along are not sent, but stay there.
_SENDMAIL_OWN: Final = (
    b"Return-Path",
    b"Received",
    b"Resent-Date",
    b"Date",
    b"Resent-From",
    b"From",
    b"Full-Name",
    b"Resent-Message-Id",
    b"Message-Id",
)
SENDMAIL_HIDDEN: Final = len(_SENDMAIL_OWN)
SENDMAIL_NAMES: Final = frozenset(name.lower() for name in _SENDMAIL_OWN)


class _SendmailHeader:
    """One list that begins with Sendmail's own fields, which hide unless they are given a value."""

    def __init__(self, shown: Headers, blank: bytes) -> None:
        self._blank = blank
        self._entries = [
            _Entry(name, None, user=False, trace=name == b"Received") for name in _SENDMAIL_OWN
        ]
        self._entries += [_Entry(field.name, field.raw, user=True) for field in shown]

    def shown(self) -> Iterable[Field]:
        return [
            Field(entry.name, entry.raw)
            for entry in self._entries
            if entry.user and entry.raw is not None
        ]

    def add(self, name: bytes, value: bytes) -> None:
        _check_name(name)
        own = self._own(name)
        if own is None:
            self._add(name, value)
        else:
            self._give(own, value)

    def insert(self, index: int, name: bytes, value: bytes) -> None:
        _check_name(name)
        # After the element of that number; and the first, Return-Path, is never shown.
        self._entries.insert(index + 1, _Entry(name, self._blank + value, user=True))

    def change(self, index: int, name: bytes, value: bytes) -> None:
        _check_name(name)
        entry = self._find(index, name) or self._own(name)
        if entry is not None:
            if value:
                self._give(entry, value)
            else:
                entry.raw = None
        elif value:
            self._add(name, value)

    def _add(self, name: bytes, value: bytes) -> None:
        """Before the first of that name, if there is one; a deleted one counts, too."""
        wanted = name.lower()
        places = (at for at, old in enumerate(self._entries) if old.name.lower() == wanted)
        place = next(places, len(self._entries))
        self._entries.insert(place, _Entry(name, self._blank + value, user=True))

    def _give(self, entry: _Entry, value: bytes) -> None:
        # The name keeps its old spelling.
        entry.raw = self._blank + value
        entry.user = True

    def _find(self, index: int, name: bytes) -> _Entry | None:
        wanted = name.lower()
        count = 0
        for entry in self._entries:
            if entry.user and entry.name.lower() == wanted:
                count += 1
                if count >= index:
                    return entry
        return None

    def _own(self, name: bytes) -> _Entry | None:
        wanted = name.lower()
        for entry in self._entries:
            if not entry.user and not entry.trace and entry.name.lower() == wanted:
                return entry
        return None


def _check_name(name: bytes) -> None:
    if not HEADER_NAME.fullmatch(name):
        raise LocalProtocolError(f"{name!r} is no header name")


_HEADERS: Final[Mapping[Dialect, type[_Header]]] = {
    Dialect.POSTFIX: _PostfixHeader,
    Dialect.SENDMAIL: _SendmailHeader,
}

# --- the envelope ------------------------------------------------------------------------

Parameters: TypeAlias = tuple[bytes, ...]

# RFC 3461, 4: any printable character but "+" and "=", or "+" and its number.
_XTEXT: Final = rb"(?:[!-*,-<>-~]|\+[0-9A-Fa-f]{2})+"
# What Postfix takes of a filter's parameters; over others it logs a warning.
_POSTFIX_SENDER: Final = re.compile(rb"(?i:RET=(?:FULL|HDRS))|(?i:ENVID=)" + _XTEXT)
_ESCAPED: Final = re.compile(rb"\+([0-9A-Fa-f]{2})")
_POSTFIX_RECIPIENT: Final = re.compile(
    rb"(?i:NOTIFY=(?:NEVER|(?:SUCCESS|FAILURE|DELAY)(?:,(?:SUCCESS|FAILURE|DELAY))*))"
    rb"|(?i:ORCPT=)[^;=]+;" + _XTEXT
)


def _key(parameter: bytes) -> bytes:
    """The name of an ESMTP parameter, for comparisons."""
    return parameter.partition(b"=")[0].upper()


def sender_parameters(before: Parameters, given: Parameters, dialect: Dialect) -> Parameters:
    """The sender's parameters after a ChangeSender that gives these."""
    if dialect is Dialect.SENDMAIL:
        return given or before
    # One that stands twice has the value of the last.
    new = {_key(one): one for one in given if _POSTFIX_SENDER.fullmatch(one)}
    kept = tuple(new.pop(_key(one), one) for one in before)
    return kept + tuple(new.values())


def _recipient_parameters(given: Parameters) -> Parameters:
    """What Postfix makes of the parameters of a recipient to add."""
    # And here the first counts.
    new: dict[bytes, bytes] = {}
    for one in given:
        if _POSTFIX_RECIPIENT.fullmatch(one):
            new.setdefault(_key(one), one)
    return tuple(new.values())


class Recipients(Protocol):
    """An MTA's list of recipients."""

    shown: list[Recipient]

    def __init__(self, before: Iterable[Recipient]) -> None: ...
    def add(self, address: bytes, parameters: Parameters) -> None:
        """ADDRCPT, ADDRCPT_PAR."""

    def delete(self, address: bytes) -> None:
        """DELRCPT."""


class _PostfixRecipients:
    """Several may have one address, if their parameters differ."""

    def __init__(self, before: Iterable[Recipient]) -> None:
        self.shown = list(before)
        # Those that came by SMTP have an ORCPT from the start, if only their own address.
        self._known = {_identity(one, b"rfc822;" + one.mailbox) for one in self.shown}

    def add(self, address: bytes, parameters: Parameters) -> None:
        recipient = Recipient(address, _recipient_parameters(parameters))
        identity = _identity(recipient)
        if identity not in self._known:
            self._known.add(identity)
            self.shown.append(recipient)

    def delete(self, address: bytes) -> None:
        # Postfix has the recipients without their routes, but takes a filter by its word.
        gone = _unquoted(without_brackets(address))
        # Forgets those in another case, too, though they stay.
        self._known -= {
            _identity(one) for one in self.shown if _unquoted(one.mailbox).lower() == gone.lower()
        }
        self.shown = [one for one in self.shown if _unquoted(one.mailbox) != gone]


# The local part of an address, if it is quoted or has a quoted character.
_QUOTING: Final = re.compile(rb'\\(.)|"', re.DOTALL)


def _unquoted(address: bytes) -> bytes:
    """How Postfix keeps an address: ``"b"@x`` is ``b@x``."""
    local, at, domain = address.rpartition(b"@")
    return _QUOTING.sub(rb"\1", local) + at + domain


def _identity(recipient: Recipient, orcpt: bytes = b"") -> tuple[object, ...]:
    """What makes Postfix take two for one: address and parameters, without regard to case."""
    values = {_key(one): one.partition(b"=")[2].lower() for one in recipient.parameters}
    notify = frozenset(values.get(b"NOTIFY", b"").split(b","))
    original = _ESCAPED.sub(_unescaped, values.get(b"ORCPT", orcpt)).lower()
    return _unquoted(recipient.mailbox).lower(), notify, original


class _SendmailRecipients:
    """One of an address; who is there already stays as it is."""

    def __init__(self, before: Iterable[Recipient]) -> None:
        self.shown = list(before)

    def add(self, address: bytes, parameters: Parameters) -> None:
        if all(one.mailbox != mailbox(address) for one in self.shown):
            self.shown.append(Recipient(address, parameters))

    def delete(self, address: bytes) -> None:
        self.shown = [one for one in self.shown if one.mailbox != mailbox(address)]


RECIPIENTS: Final[Mapping[Dialect, type[Recipients]]] = {
    Dialect.POSTFIX: _PostfixRecipients,
    Dialect.SENDMAIL: _SendmailRecipients,
}


def _unescaped(match: re.Match[bytes]) -> bytes:
    return bytes.fromhex(match[1].decode())
