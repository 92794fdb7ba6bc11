"""What a line is made of: numbers, base64, parameters with their escapes."""

from __future__ import annotations

import binascii
import functools
import re
from collections.abc import Iterable
from typing import Final

from ._errors import LocalProtocolError, RemoteProtocolError
from ._events import Parameters

# Dovecot keeps ids, pids and minor versions in 32 bits.
MAX_NUMBER: Final = 2**32 - 1

# Dovecot's document of 2.3 has "l" for LF; its code, of all versions, has "n".
ESCAPES: Final = {b"\0": b"0", b"\x01": b"1", b"\t": b"t", b"\r": b"r", b"\n": b"n"}
_MEANINGS: Final = {letter: byte for byte, letter in ESCAPES.items()}
_SPECIAL: Final = re.compile(rb"[\0\x01\t\r\n]")
_ESCAPED: Final = re.compile(rb"\x01(.?)", re.DOTALL)

# More than Dovecot's own names need, and less than could be taken for something else.
_NAME: Final = re.compile(rb"[!-<>-~]+")


# --- escapes -------------------------------------------------------------------------------


def escape(text: bytes) -> bytes:
    """Tab-escape, in one pass: what each byte becomes does not depend on its neighbours."""
    return _SPECIAL.sub(lambda found: b"\x01" + ESCAPES[found[0]], text)


def unescape(text: bytes) -> bytes:
    """Undo `escape`. Never fails: an unknown escape stands for its letter, an empty one for naught.

    In one pass: by chained replacements 01 01 74 would become TAB after 01, and it is "t".
    """
    if b"\x01" not in text:
        return text
    return _ESCAPED.sub(lambda found: _MEANINGS.get(found[1], found[1]), text)


def join_fields(pairs: Parameters) -> bytes:
    """The value for ``forward_fields``: parameters escaped within one parameter, which is again.

    Raises LocalProtocolError as for any parameters.
    """
    return b"\t".join(encode_parameters(pairs))


def split_fields(text: bytes) -> Parameters:
    """What `join_fields` has joined."""
    return decode_parameters(text.split(b"\t"))


# --- parameters ----------------------------------------------------------------------------


def decode_parameters(words: Iterable[bytes]) -> Parameters:
    """What stands between the TABs. Empty words mean nothing: Exim sends them, and Dovecot 2.4.

    Raises RemoteProtocolError for NUL: Dovecot would see a part of it and take it for the whole.
    """
    found: list[tuple[bytes, bytes | None]] = []
    for word in words:
        text = unescape(word)
        if b"\0" in text:
            raise RemoteProtocolError("a parameter with NUL")
        # Split after unescaping, as Dovecot does; there is no escape for "=".
        name, equals, value = text.partition(b"=")
        if name:
            found.append((name, value if equals else None))
    return tuple(found)


def encode_parameters(
    parameters: Parameters, reserved: frozenset[bytes] = frozenset()
) -> list[bytes]:
    """The words for parameters.

    Raises LocalProtocolError for what is none, for NUL, and for names in `reserved`: what they
    say has a place of its own in the event.
    """
    if parameters == ():
        return []
    try:
        return [_encode_parameter(name, value, reserved) for name, value in parameters]
    except (AttributeError, TypeError, ValueError):
        raise LocalProtocolError("parameters are pairs of a name and a value or None") from None


def _encode_parameter(name: bytes, value: bytes | None, reserved: frozenset[bytes]) -> bytes:
    low = _checked_name(name)
    if low in reserved:
        raise LocalProtocolError(f"{name.decode()!r} is no parameter: the event has a field for it")
    if value is None:
        return name
    if low == b"forward_fields":
        _check_forwarded(value)
    return name + b"=" + encode_text(value)


# There are few, and the same ones in every request: 0.3 us less for each.
@functools.lru_cache(maxsize=128)
def _checked_name(name: bytes) -> bytes:
    """A name in lower case, for Exim's comparisons don't mind the case."""
    if not _NAME.fullmatch(name):
        raise LocalProtocolError("a parameter's name is printable ASCII without blank and '='")
    return name.lower()


def _check_forwarded(value: bytes) -> None:
    """Refuse what is not of `join_fields`: of TAB or LF in a name Dovecot 2.3's auth dies."""
    for word in value.split(b"\t"):
        if _SPECIAL.search(unescape(word).partition(b"=")[0]):
            raise LocalProtocolError("the value of forward_fields is what join_fields has made")


def encode_text(text: bytes) -> bytes:
    """A value, escaped. Raises LocalProtocolError for NUL, and for what is not bytes."""
    if type(text) is not bytes:
        raise LocalProtocolError("text is given in bytes")
    if not _SPECIAL.search(text):
        return text
    if b"\0" in text:
        raise LocalProtocolError("text can't hold NUL: Dovecot would see what stands before it")
    return escape(text)


# --- numbers and base64 --------------------------------------------------------------------


def decode_number(word: bytes, what: str, least: int = 1) -> int:
    """A decimal number in 32 bits; leading zeros count for nothing, as with Dovecot."""
    if not word.isdigit():
        raise RemoteProtocolError(f"{what} that is no decimal number")
    if len(word) > 10:
        # Not int() of any length: Python refuses to read thousands of digits.
        word = word.lstrip(b"0")[:11] or b"0"
    number = int(word)
    if not least <= number <= MAX_NUMBER:
        raise RemoteProtocolError(f"{what} that is not from {least} to {MAX_NUMBER}")
    return number


def encode_number(number: int, what: str, least: int = 1) -> bytes:
    """Its digits."""
    if type(number) is not int or not least <= number <= MAX_NUMBER:
        raise LocalProtocolError(f"{what} has to be a number from {least} to {MAX_NUMBER}")
    return b"%d" % number


def decode_base64(word: bytes) -> bytes | None:
    """What it stands for; None for what is no base64 in the strict sense, padding and all.

    Dovecot also takes white space, which nobody sends.
    """
    # What "strict" lets pass: padding where none is wanted. (A regular expression for all of it
    # takes three times as long.)
    if len(word) % 4 or word.endswith(b"==="):
        return None
    try:
        return binascii.a2b_base64(word, strict_mode=True)
    except binascii.Error:
        return None


def encode_base64(data: bytes) -> bytes:
    """Standard alphabet, padded, in one line."""
    if type(data) is not bytes:
        raise LocalProtocolError("what goes into base64 is given in bytes")
    return binascii.b2a_base64(data, newline=False)
