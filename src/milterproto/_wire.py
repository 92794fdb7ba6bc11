"""One frame to one event, and back: layouts only, by table.

A decoder takes a payload and gives an event or raises RemoteProtocolError. An encoder takes an
event and gives a payload or raises LocalProtocolError. Neither knows what may be said when;
that is `_state`'s.
"""

from __future__ import annotations

import functools
import re
import struct
from collections.abc import Callable, Mapping
from typing import Any, Final

from ._errors import LocalProtocolError, RemoteProtocolError
from ._events import (
    COMMAND_CODES,
    Abort,
    Accept,
    AddHeader,
    AddRecipient,
    Body,
    ChangeHeader,
    ChangeSender,
    Command,
    Connect,
    ConnectionFailure,
    Continue,
    Data,
    DeleteRecipient,
    Discard,
    EndOfHeaders,
    EndOfMessage,
    Family,
    Header,
    Helo,
    InsertHeader,
    Macros,
    MailFrom,
    Negotiate,
    Progress,
    Quarantine,
    Quit,
    QuitNewConnection,
    RcptTo,
    Reject,
    ReplaceBody,
    ReplyCode,
    Response,
    Shutdown,
    Skip,
    TempFail,
    Unknown,
)
from ._flags import Actions, Steps
from ._reply import decode_reply, encode_reply

# What every peer reads: libmilter and Sendmail drop the connection over one byte more.
MAX_PACKET: Final = 65535

_FAMILIES: Final = {family.value[0]: family for family in Family}
HEADER_NAME: Final = re.compile(rb"[!-9;-~]+")  # RFC 5322, 3.6.8: printable, no colon
_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]")
_WORD: Final = re.compile(rb"[^\x00-\x20\x7f]+")
_UNFOLDED: Final = re.compile(rb"[\x00\r]|\n(?![ \t])")
_MACRO_NAME: Final = re.compile(rb"[^\x00-\x20,{}\x7f-\xff]|\{[^\x00-\x20,{}\x7f-\xff]+\}")
_MACRO_SEPARATOR: Final = re.compile(rb"[ ,]+")
# Sendmail keeps the first 50 names of a list and logs a complaint about the rest.
_MAX_MACRO_NAMES: Final = 50
# Postfix and libmilter hold indexes in signed 32-bit integers somewhere along the way.
_MAX_INDEX: Final = 0x7FFFFFFF


# --- decoding ----------------------------------------------------------------------------


def _strings(payload: bytes, what: str) -> list[bytes]:
    """The NUL-terminated strings that fill the payload; at least one."""
    if payload[-1:] != b"\0":
        raise RemoteProtocolError(f"{what}: the last string has no NUL")
    return payload[:-1].split(b"\0")


def _single(payload: bytes, what: str) -> bytes:
    if not payload or payload.find(b"\0") != len(payload) - 1:
        raise RemoteProtocolError(f"{what}: not exactly one NUL-terminated string")
    return payload[:-1]


def _bare(event: Any, what: str) -> Callable[[bytes], Any]:
    """A decoder for a message without fields; one instance serves for all."""

    def decode(payload: bytes) -> Any:
        if payload:
            raise RemoteProtocolError(f"{what} with a payload of {len(payload)} bytes")
        return event

    return decode


def _text(make: Callable[[bytes], Any], what: str) -> Callable[[bytes], Any]:
    """A decoder for a message of exactly one string."""

    def decode(payload: bytes) -> Any:
        return make(_single(payload, what))

    return decode


def _address(make: Callable[[bytes, tuple[bytes, ...]], Any], what: str) -> Callable[[bytes], Any]:
    """A decoder for an envelope address, then one string for each ESMTP parameter."""

    def decode(payload: bytes) -> Any:
        address, *parameters = _strings(payload, what)
        return make(address, tuple(parameters))

    return decode


def _new_address(
    make: Callable[[bytes, tuple[bytes, ...]], Any], what: str
) -> Callable[[bytes], Any]:
    """A decoder for an envelope address, then perhaps ONE string with all parameters."""

    def decode(payload: bytes) -> Any:
        address, *parameters = _strings(payload, what)
        if len(parameters) > 1:
            raise RemoteProtocolError(f"{what}: more than two strings")
        return make(address, tuple(filter(None, parameters[0].split(b" "))) if parameters else ())

    return decode


def _pair(payload: bytes, what: str) -> tuple[bytes, bytes]:
    strings = payload.split(b"\0")
    if len(strings) != 3 or strings[2]:
        raise RemoteProtocolError(f"{what}: not exactly two NUL-terminated strings")
    return strings[0], strings[1]


def _indexed(
    make: Callable[[int, bytes, bytes], Any], what: str
) -> Callable[[bytes], InsertHeader | ChangeHeader]:
    def decode(payload: bytes) -> Any:
        if len(payload) < 4:
            raise RemoteProtocolError(f"{what}: no index")
        return make(int.from_bytes(payload[:4], "big"), *_pair(payload[4:], what))

    return decode


def _decode_negotiate(payload: bytes) -> Negotiate:
    if len(payload) < 12:
        raise RemoteProtocolError(f"negotiation of {len(payload)} bytes, fewer than 12")
    macros = []
    at = 12
    while at < len(payload):
        end = payload.find(b"\0", at + 4)
        if end < 0:
            raise RemoteProtocolError("negotiation: a macro list has no NUL")
        names = tuple(name for name in _MACRO_SEPARATOR.split(payload[at + 4 : end]) if name)
        macros.append((int.from_bytes(payload[at : at + 4], "big"), names))
        at = end + 1
    return Negotiate(*_negotiation_head(payload[:12]), tuple(macros))


# Every connection of an MTA begins with the same twelve bytes, and flags are slow to make.
@functools.lru_cache(maxsize=64)
def _negotiation_head(head: bytes) -> tuple[int, Actions, Steps]:
    version, actions, steps = struct.unpack("!LLL", head)
    return version, Actions(actions), Steps(steps)


# The three most frequent events are made without the `__init__` of frozen classes, which looks up
# each field by its name to get round their own `__setattr__`: 0.1 us less for each.
_new: Final = object.__new__
_set_command: Final = vars(Macros)["command"].__set__
_set_raw: Final = vars(Macros)["raw"].__set__
_set_name: Final = vars(Header)["name"].__set__
_set_value: Final = vars(Header)["value"].__set__
_set_data: Final = vars(Body)["data"].__set__


def decode_macros(payload: bytes) -> Macros:
    if not payload:
        raise RemoteProtocolError("macros without the code of their command")
    macros = _new(Macros)
    _set_command(macros, payload[:1])
    _set_raw(macros, payload[1:])
    return macros


def _decode_connect(payload: bytes) -> Connect:
    end = payload.find(b"\0")
    if end < 0 or end + 1 == len(payload):
        raise RemoteProtocolError("connect: no host name, or no address family")
    family = _FAMILIES.get(payload[end + 1])
    if family is None:
        raise RemoteProtocolError(f"connect: unknown address family 0x{payload[end + 1]:02x}")
    hostname, rest = payload[:end], payload[end + 2 :]
    if family is Family.UNKNOWN:
        # Neither port nor address; libmilter ignores whatever follows, and so do we.
        return Connect(hostname, family)
    if len(rest) < 4 or rest.find(b"\0", 2) != len(rest) - 1:
        raise RemoteProtocolError("connect: not a port and one NUL-terminated address")
    return Connect(hostname, family, int.from_bytes(rest[:2], "big"), rest[2:-1])


def _decode_header(payload: bytes) -> Header:
    # `_pair` written out, to save two calls a header line.
    try:
        name, value, rest = payload.split(b"\0")
    except ValueError:
        raise RemoteProtocolError("header: not exactly two NUL-terminated strings") from None
    if rest:
        raise RemoteProtocolError("header: the last string has no NUL")
    header = _new(Header)
    _set_name(header, name)
    _set_value(header, value)
    return header


def _decode_body(payload: bytes) -> Body:
    if not payload:
        raise RemoteProtocolError("body without a byte")
    body = _new(Body)
    _set_data(body, payload)
    return body


def _decode_reply_code(payload: bytes) -> ReplyCode:
    # Without its NUL, Postfix before the 2026-07 releases sends stale memory to the client.
    return decode_reply(_single(payload, "REPLYCODE"))


COMMAND_DECODERS: Final[Mapping[int, Callable[[bytes], Command]]] = {
    ord("O"): _decode_negotiate,
    ord("D"): decode_macros,
    ord("C"): _decode_connect,
    ord("H"): _text(Helo, "HELO"),
    ord("M"): _address(MailFrom, "MAIL"),
    ord("R"): _address(RcptTo, "RCPT"),
    ord("T"): _bare(Data(), "DATA"),
    ord("L"): _decode_header,
    ord("N"): _bare(EndOfHeaders(), "end of headers"),
    ord("B"): _decode_body,
    ord("E"): EndOfMessage,
    ord("A"): _bare(Abort(), "ABORT"),
    ord("Q"): _bare(Quit(), "QUIT"),
    ord("K"): _bare(QuitNewConnection(), "QUIT_NC"),
    ord("U"): _text(Unknown, "unknown command"),
}

RESPONSE_DECODERS: Final[Mapping[int, Callable[[bytes], Response]]] = {
    ord("O"): _decode_negotiate,
    ord("c"): _bare(Continue(), "CONTINUE"),
    ord("a"): _bare(Accept(), "ACCEPT"),
    ord("r"): _bare(Reject(), "REJECT"),
    ord("t"): _bare(TempFail(), "TEMPFAIL"),
    ord("d"): _bare(Discard(), "DISCARD"),
    ord("y"): _decode_reply_code,
    ord("s"): _bare(Skip(), "SKIP"),
    ord("4"): _bare(Shutdown(), "SHUTDOWN"),
    ord("f"): _bare(ConnectionFailure(), "CONN_FAIL"),
    ord("p"): _bare(Progress(), "PROGRESS"),
    ord("h"): lambda payload: AddHeader(*_pair(payload, "ADDHEADER")),
    ord("i"): _indexed(InsertHeader, "INSHEADER"),
    ord("m"): _indexed(ChangeHeader, "CHGHEADER"),
    ord("b"): ReplaceBody,
    ord("+"): _text(AddRecipient, "ADDRCPT"),
    ord("2"): _new_address(AddRecipient, "ADDRCPT_PAR"),
    ord("-"): _text(DeleteRecipient, "DELRCPT"),
    ord("e"): _new_address(ChangeSender, "CHGFROM"),
    ord("q"): _text(Quarantine, "QUARANTINE"),
}


# --- encoding ----------------------------------------------------------------------------


_pack_header: Final = struct.Struct("!Lc").pack


def _frame(code: bytes, payload: bytes, limit: int) -> bytes:
    if len(payload) > limit:
        raise LocalProtocolError(f"a payload of {len(payload)} bytes, more than {limit}")
    return _pack_header(len(payload) + 1, code) + payload


def _check_text(text: bytes, what: str) -> None:
    if _CONTROL.search(text):
        raise LocalProtocolError(f"{what} has control characters: {text!r}")


def _check_header(name: bytes, value: bytes) -> None:
    if not HEADER_NAME.fullmatch(name):
        raise LocalProtocolError(f"{name!r} is no header name")
    if _UNFOLDED.search(value):
        raise LocalProtocolError(
            f"the value of {name!r} has a NUL, a CR, or a LF that no space or tab follows"
        )


def _check_parameters(parameters: tuple[bytes, ...]) -> None:
    for parameter in parameters:
        if not _WORD.fullmatch(parameter):
            raise LocalProtocolError(f"{parameter!r} is no ESMTP parameter")


def _encode_negotiate(event: Negotiate) -> bytes:
    parts = [number.to_bytes(4, "big") for number in (event.version, event.actions, event.steps)]
    for stage, names in event.macros:
        if len(names) > _MAX_MACRO_NAMES:
            raise LocalProtocolError(f"{len(names)} macros in a list, more than {_MAX_MACRO_NAMES}")
        for name in names:
            if not _MACRO_NAME.fullmatch(name):
                raise LocalProtocolError(f"{name!r} is no macro name such as b'i' or b'{{tls}}'")
        parts += (stage.to_bytes(4, "big"), b" ".join(names), b"\0")
    return b"".join(parts)


def _encode_macros(event: Macros) -> bytes:
    if event.command not in _MACRO_COMMANDS:
        raise LocalProtocolError(f"no macros are sent for command {event.command!r}")
    if event.raw and (event.raw[-1:] != b"\0" or event.raw.count(b"\0") % 2):
        raise LocalProtocolError("macros are pairs of name and value, each ended by one NUL")
    return event.command + event.raw


def _encode_connect(event: Connect) -> bytes:
    _check_text(event.hostname, "host name")
    _check_text(event.address, "address")
    head = event.hostname + b"\0" + event.family.value
    if event.family is Family.UNKNOWN:
        if event.port or event.address:
            raise LocalProtocolError("an unknown address family has neither port nor address")
        return head
    if not 0 <= event.port <= 0xFFFF:
        raise LocalProtocolError(f"port {event.port} is not between 0 and 65535")
    if not event.address:
        raise LocalProtocolError("an address is needed with this family")
    if event.family is not Family.UNIX and (
        # libmilter drops the connection over an address that it can't read.
        event.ip is None or event.ip.version != (4 if event.family is Family.INET else 6)
    ):
        raise LocalProtocolError(f"{event.address!r} is no address of {event.family.name}")
    return head + event.port.to_bytes(2, "big") + event.address + b"\0"


def _encode_helo(event: Helo) -> bytes:
    _check_text(event.name, "HELO name")
    return event.name + b"\0"


def _encode_envelope(address: bytes, parameters: tuple[bytes, ...]) -> bytes:
    _check_text(address, "address")
    _check_parameters(parameters)
    return b"\0".join((address, *parameters, b""))


def _encode_header(event: Header | AddHeader) -> bytes:
    _check_header(event.name, event.value)
    return event.name + b"\0" + event.value + b"\0"


def _encode_body(event: Body) -> bytes:
    # Even where MDS allows larger packets, Sendmail keeps its body pieces to this size.
    if not 1 <= len(event.data) <= MAX_PACKET:
        raise LocalProtocolError(
            f"a body piece has 1 to {MAX_PACKET} bytes, not {len(event.data)}; split it"
        )
    return event.data


def _encode_end_of_message(event: EndOfMessage) -> bytes:
    if event.data:
        # Filters on libmilter may answer twice, which loses the connection's turn for good.
        raise LocalProtocolError("send the last piece as Body, then EndOfMessage without data")
    return b""


def _encode_unknown(event: Unknown) -> bytes:
    _check_text(event.command, "unknown command")
    return event.command + b"\0"


def _encode_indexed(event: InsertHeader | ChangeHeader) -> bytes:
    if not 0 <= event.index <= _MAX_INDEX:
        raise LocalProtocolError(f"header index {event.index} is not between 0 and 2147483647")
    _check_header(event.name, event.value)
    return event.index.to_bytes(4, "big") + event.name + b"\0" + event.value + b"\0"


def _encode_new_address(address: bytes, parameters: tuple[bytes, ...]) -> bytes:
    _check_text(address, "address")
    if not address:
        raise LocalProtocolError("an empty address; the null sender is b'<>'")
    _check_parameters(parameters)
    # All parameters in ONE string: Postfix fails the connection over a third one.
    return b"\0".join((address, b" ".join(parameters), b"") if parameters else (address, b""))


def _encode_quarantine(event: Quarantine) -> bytes:
    _check_text(event.reason, "reason")
    if not event.reason:
        raise LocalProtocolError("a quarantine needs a reason")
    return event.reason + b"\0"


def _encode_nothing(_event: object) -> bytes:
    return b""


_MACRO_COMMANDS: Final = frozenset(
    COMMAND_CODES[command]
    for command in (
        Connect,
        Helo,
        MailFrom,
        RcptTo,
        Data,
        Header,
        EndOfHeaders,
        Body,
        EndOfMessage,
        Unknown,
    )
)

_COMMAND_PAYLOADS: Final[Mapping[type[Command], Callable[[Any], bytes]]] = {
    Negotiate: _encode_negotiate,
    Macros: _encode_macros,
    Connect: _encode_connect,
    Helo: _encode_helo,
    MailFrom: lambda event: _encode_envelope(event.sender, event.parameters),
    RcptTo: lambda event: _encode_envelope(event.recipient, event.parameters),
    Data: _encode_nothing,
    Header: _encode_header,
    EndOfHeaders: _encode_nothing,
    Body: _encode_body,
    EndOfMessage: _encode_end_of_message,
    Abort: _encode_nothing,
    Quit: _encode_nothing,
    QuitNewConnection: _encode_nothing,
    Unknown: _encode_unknown,
}

_COMMAND_ENCODERS: Final = {
    kind: (COMMAND_CODES[kind], encode) for kind, encode in _COMMAND_PAYLOADS.items()
}

_RESPONSE_ENCODERS: Final[Mapping[type[Response], tuple[bytes, Callable[[Any], bytes]]]] = {
    Negotiate: (b"O", _encode_negotiate),
    Continue: (b"c", _encode_nothing),
    Accept: (b"a", _encode_nothing),
    Reject: (b"r", _encode_nothing),
    TempFail: (b"t", _encode_nothing),
    Discard: (b"d", _encode_nothing),
    ReplyCode: (b"y", lambda event: encode_reply(event) + b"\0"),
    Skip: (b"s", _encode_nothing),
    Shutdown: (b"4", _encode_nothing),
    Progress: (b"p", _encode_nothing),
    AddHeader: (b"h", _encode_header),
    InsertHeader: (b"i", _encode_indexed),
    ChangeHeader: (b"m", _encode_indexed),
    DeleteRecipient: (b"-", lambda event: _encode_new_address(event.recipient, ())),
    ChangeSender: (b"e", lambda event: _encode_new_address(event.sender, event.parameters)),
    Quarantine: (b"q", _encode_quarantine),
}


def encode_command(event: Command, limit: int = MAX_PACKET) -> bytes:
    """The frame for a command; `limit` is the largest payload that the filter reads."""
    try:
        code, encode = _COMMAND_ENCODERS[type(event)]
        return _frame(code, encode(event), limit)
    except _WRONG_TYPES as exc:
        raise _wrong_field(event) from exc


def encode_response(event: Response, limit: int = MAX_PACKET) -> bytes:
    """The frame for a response, or several for a long ReplaceBody.

    `FilterConnection.send` does this, and looks at the state as well. Alone it checks what a
    program reads from its settings, before there is a connection: LocalProtocolError for what
    could never be sent. ``limit`` is the largest payload that the MTA takes, in bytes.
    """
    try:
        if type(event) is ReplaceBody:
            # The MDS bits do not enlarge body packets: libmilter splits here all the same.
            starts = range(0, len(event.data) or 1, MAX_PACKET)
            return b"".join(_frame(b"b", event.data[i : i + MAX_PACKET], limit) for i in starts)
        if type(event) is AddRecipient:
            payload = _encode_new_address(event.recipient, event.parameters)
            return _frame(b"2" if event.parameters else b"+", payload, limit)
        row = _RESPONSE_ENCODERS.get(type(event))
        if row is None:
            raise LocalProtocolError(f"{type(event).__name__}(...) is never sent")
        code, encode = row
        return _frame(code, encode(event), limit)
    except _WRONG_TYPES as exc:
        raise _wrong_field(event) from exc


# What Python itself raises where an encoder meets a str for bytes or a number out of range.
_WRONG_TYPES: Final = (TypeError, AttributeError, ValueError, OverflowError)


def _wrong_field(event: object) -> LocalProtocolError:
    return LocalProtocolError(
        f"{event!r} has a field of the wrong type or range: text is bytes, "
        "parameters and lines are tuples of bytes"
    )
