"""xtext (RFC 3461, 4): a value in which no byte can end the value."""

from __future__ import annotations

import enum
import re
from typing import Final

from ._errors import LocalProtocolError


class Xtext(enum.Enum):
    """How the values of a command are read."""

    STRICT = enum.auto()
    """As RFC 3461 has it; a raw ``=`` is taken, too."""
    POSTFIX = enum.auto()
    """As Postfix does: a value that is no xtext as a whole stands for itself."""
    RAW = enum.auto()
    """Every value stands for itself: nginx before 1.29.2 and Postfix before 2.3 send them so."""


# Postfix takes ", \ and < for quoting, in which a blank ends no attribute: LOGIN="x NAME=y is one
# of its attributes, not two. RFC 3461 does not ask for these three.
_UNSAFE: Final = re.compile(rb'[^!-~]|[+="<\\]')
_STRICT: Final = re.compile(rb"(?:[!-*,-~]|\+[0-9A-Fa-f]{2})*")
_BROKEN: Final = re.compile(rb"\+(?![0-9A-Fa-f]{2})")
_ESCAPE: Final = re.compile(rb"\+([0-9A-Fa-f]{2})")


def encode_xtext(value: bytes) -> bytes:
    """Any bytes as xtext, with upper-case digits: nodemailer reads no others.

    Raises LocalProtocolError if they are not bytes; so does `decode_xtext`.
    """
    _check(value)
    return _UNSAFE.sub(lambda found: b"+%02X" % found[0][0], value)


def decode_xtext(text: bytes, how: Xtext = Xtext.STRICT) -> bytes | None:
    """What xtext stands for; None if it is none, which only `Xtext.STRICT` minds."""
    _check(text)
    if how is Xtext.RAW:
        return text
    if how is Xtext.STRICT and not _STRICT.fullmatch(text):
        return None
    if _BROKEN.search(text):
        return text
    return _ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), text)


def _check(text: bytes) -> None:
    if type(text) is not bytes:
        raise LocalProtocolError("what is encoded as xtext, and xtext itself, has to be bytes")
