"""One attribute's value <-> its text: what is checked is what Postfix checks, and a little more."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import attrs

from ._errors import LocalProtocolError
from ._xclient_events import TEMPUNAVAIL, UNAVAILABLE, Special
from ._xtext import Xtext, decode_xtext, encode_xtext

# Postfix's limit on an encoded value; also the longest host name.
MAX_VALUE: Final = 255
_MAX_PROTO: Final = 64

# Postfix's valid_hostname: an underscore will do, and digits alone won't.
_HOSTNAME: Final = re.compile(
    rb"(?=.{1,255}\Z)(?![0-9.]+\Z)[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
    rb"(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*"
)
_PORT: Final = re.compile(rb"[0-9]{1,5}")
# They end a line, or a C string: to Postfix LOGIN=ann+00x is ann.
_BREAKS: Final = re.compile(rb"[\0\r\n]")
# Postfix puts ? in their place, and that is another user.
_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]")
_SPECIALS: Final[Mapping[bytes, Special]] = {one.value: one for one in Special}
_PREFIX: Final = b"IPV6:"

# A value that can be sent as it is given gives its text, all others an error's.
Encoder: TypeAlias = Callable[[Any], bytes]
# The value, or None if it is bad.
Decoder: TypeAlias = Callable[[bytes], Any]


def _bad(what: str) -> LocalProtocolError:
    return LocalProtocolError(f"{what}; where it can't be told, tell UNAVAILABLE")


def _encode_text(value: bytes) -> bytes:
    if not value:
        raise _bad("a value can't be empty; None leaves the attribute out")
    if _BREAKS.search(value):
        raise _bad("a value can't have NUL, CR or LF")
    if value.upper() in _SPECIALS:
        raise _bad("a text that would be read as the special value of that name")
    return value


def _decode_text(text: bytes) -> bytes | None:
    return None if _BREAKS.search(text) else text


def _encode_login(value: bytes) -> bytes:
    if _CONTROL.search(value):
        raise _bad("a login name can't have control characters: Postfix makes ? of them")
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        raise _bad("a login name has to be UTF-8: Postfix makes ? of all else") from None
    return _encode_text(value)


def _decode_login(text: bytes) -> bytes | None:
    return None if _CONTROL.search(text) else text


def _encode_name(value: bytes) -> bytes:
    if not _HOSTNAME.fullmatch(value):
        raise _bad("not a host name as Postfix takes it")
    return value


def _decode_name(text: bytes) -> bytes | None:
    return text if _HOSTNAME.fullmatch(text) else None


def _ipv4(text: str) -> ipaddress.IPv4Address:
    address = ipaddress.IPv4Address(text)
    if address.packed[0] == 0 and any(address.packed):
        raise ValueError  # Postfix takes no other address of that net
    return address


def _ipv6(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.IPv6Address(text)
    if address.scope_id is not None:
        raise ValueError
    mapped = address.ipv4_mapped
    return address if mapped is None else _ipv4(str(mapped))


def _encode_address(value: bytes) -> bytes:
    try:
        text = value.decode("ascii")
        address = _ipv6(text) if ":" in text else _ipv4(text)
    except ValueError:
        raise _bad("not an IP address, without brackets, prefix and zone") from None
    prefix = _PREFIX if address.version == 6 else b""
    return prefix + str(address).encode()


def _decode_address(text: bytes) -> bytes | None:
    prefixed = text[: len(_PREFIX)].upper() == _PREFIX
    bare = text[len(_PREFIX) :] if prefixed else text
    try:
        address = (_ipv6 if prefixed else _ipv4)(bare.decode("ascii"))
    except ValueError:
        return None
    return str(address).encode()


def _decode_bare_address(text: bytes) -> bytes | None:
    return _decode_address(text) or _decode_address(_PREFIX + text)


def _encode_port(value: int) -> bytes:
    if type(value) is not int or not 0 <= value <= 65535:
        raise _bad("a port is a number from 0 to 65535")
    return b"%d" % value


def _decode_port(text: bytes) -> int | None:
    # Postfix takes up to 99999.
    return int(text) if _PORT.fullmatch(text) and int(text) <= 65535 else None


def _encode_word(words: tuple[bytes, ...], value: bytes) -> bytes:
    if value not in words:
        raise LocalProtocolError(f"one of {', '.join(word.decode() for word in words)}")
    return value


def _decode_word(words: tuple[bytes, ...], text: bytes) -> bytes | None:
    word = text.upper()
    return word if word in words else None


def _encode_proto(value: bytes) -> bytes:
    if len(value) > _MAX_PROTO:
        raise _bad(f"{len(value)} bytes, over {_MAX_PROTO}")
    return _encode_text(value)


def _decode_proto(text: bytes) -> bytes | None:
    return _decode_text(text) if len(text) <= _MAX_PROTO else None


@attrs.frozen
class Kind:
    """How values of one kind are written and read; ``lenient`` is the reader for sloppy peers."""

    encode: Encoder
    decode: Decoder
    lenient: Decoder
    specials: frozenset[Special] = frozenset({UNAVAILABLE})


@attrs.frozen
class Attribute:
    """An attribute of one of the commands; its field has its name in lower case."""

    name: bytes
    kind: Kind

    @property
    def field(self) -> str:
        """The field of `XClient` or `XForward`."""
        return self.name.decode().lower()

    def encode(self, value: object) -> bytes:
        """A value as xtext; LocalProtocolError, with the attribute's name, if it can't be sent."""
        try:
            text = self._text(value)
        except LocalProtocolError as error:
            raise LocalProtocolError(f"{self.name.decode()}: {error}") from None
        except (AttributeError, TypeError):
            found = type(value).__name__
            raise LocalProtocolError(f"{self.name.decode()}: a value of type {found}") from None
        if len(text) > MAX_VALUE:
            raise LocalProtocolError(
                f"{self.name.decode()}: {len(text)} bytes when encoded, over {MAX_VALUE}"
            )
        return text

    def _text(self, value: object) -> bytes:
        if not isinstance(value, Special):
            if type(value) is not bytes and not isinstance(value, int):
                raise TypeError  # a subclass, too: what its methods say need not be what is sent
            return encode_xtext(self.kind.encode(value))
        if value not in self.kind.specials:
            raise LocalProtocolError(f"it can't be {value.name}")
        return value.value

    def decode(self, text: bytes, how: Xtext, *, lenient: bool) -> Any:
        """A value from what stands on the wire; None if it is bad."""
        decoded = decode_xtext(text, how)
        if decoded is None:
            return None
        # What was encoded is special, too: Postfix compares behind the decoding.
        special = _SPECIALS.get(decoded.upper())
        if special is not None:
            return special if special in self.kind.specials else None
        return (self.kind.lenient if lenient else self.kind.decode)(decoded)


_NAME: Final = Kind(_encode_name, _decode_name, _decode_name)
_NAME_OR_LATER: Final = attrs.evolve(_NAME, specials=frozenset({UNAVAILABLE, TEMPUNAVAIL}))
_ADDRESS: Final = Kind(_encode_address, _decode_address, _decode_bare_address)
_NUMBER: Final = Kind(_encode_port, _decode_port, _decode_port)
_LOGIN: Final = Kind(_encode_login, _decode_login, _decode_login)
_TEXT: Final = Kind(_encode_text, _decode_text, _decode_text)
_SHORT_TEXT: Final = Kind(_encode_proto, _decode_proto, _decode_proto)
_PROTO: Final = Kind(
    partial(_encode_word, (b"SMTP", b"ESMTP")),
    partial(_decode_word, (b"SMTP", b"ESMTP")),
    partial(_decode_word, (b"SMTP", b"ESMTP", b"LMTP")),
    frozenset(),
)
_WHERE: Final = (b"LOCAL", b"REMOTE")
_SOURCE: Final = Kind(
    partial(_encode_word, _WHERE), partial(_decode_word, _WHERE), partial(_decode_word, _WHERE)
)


def _table(**kinds: Kind) -> Mapping[bytes, Attribute]:
    attributes = [Attribute(name.encode(), kind) for name, kind in kinds.items()]
    return MappingProxyType({attribute.name: attribute for attribute in attributes})


# In the order in which they are sent. NAME comes before REVERSE_NAME, because to Postfix it sets
# both. Every XCLIENT wipes LOGIN, HELO and PROTO, so they go with the last; so does ADDR, because
# afterwards there may be no other.
XCLIENT_ATTRIBUTES: Final = _table(
    NAME=_NAME_OR_LATER,
    REVERSE_NAME=_NAME_OR_LATER,
    PORT=_NUMBER,
    DESTADDR=_ADDRESS,
    DESTPORT=_NUMBER,
    ADDR=_ADDRESS,
    LOGIN=_LOGIN,
    HELO=_TEXT,
    PROTO=_PROTO,
)
LAST_COMMAND: Final = frozenset({b"ADDR", b"LOGIN", b"HELO", b"PROTO"})

XFORWARD_ATTRIBUTES: Final = _table(
    NAME=_NAME,
    ADDR=_ADDRESS,
    PORT=_NUMBER,
    PROTO=_SHORT_TEXT,
    HELO=_TEXT,
    IDENT=_TEXT,
    SOURCE=_SOURCE,
)
