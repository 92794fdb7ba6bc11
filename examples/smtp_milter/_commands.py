"""SMTP commands, written: a value that could end a line, or be two, never gets into one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

# An address without its angle brackets: what is in quotes may be anything but a control.
_ADDRESS: Final = re.compile(
    rb'(?:"(?:[^"\\\x00-\x1f\x7f]|\\[^\x00-\x1f\x7f])*"|[^"<> \x00-\x1f\x7f])*'
)
_PARAMETER: Final = re.compile(rb"[A-Za-z0-9][A-Za-z0-9-]*(?:=[^= \x00-\x1f\x7f]+)?")
# What is said to EHLO: a name or an address in brackets.
_HELO: Final = re.compile(rb"[A-Za-z0-9._:\[\]-]{1,255}")
# RFC 5321, 4.5.3.1.4, and what extensions add to it: 26 bytes for SIZE, some 700 for DSN.
MAX_COMMAND: Final = 2048


class UnwritableError(Exception):
    """An envelope that can't be written down in SMTP."""


def ehlo(name: bytes, keyword: bytes = b"EHLO") -> bytes:
    """EHLO, or HELO, with a name for which `is_helo` holds."""
    if not is_helo(name):
        raise UnwritableError("this name can't be said in EHLO")
    return keyword + b" " + name + b"\r\n"


def is_helo(name: bytes) -> bool:
    """Whether a gateway can be told that a client has called itself so."""
    return _HELO.fullmatch(name) is not None


def mail(sender: bytes, parameters: Iterable[bytes] = ()) -> bytes:
    """MAIL; with or without angle brackets, the null sender is ``b"<>"`` or empty."""
    return _with_path(b"MAIL FROM:", sender, parameters)


def rcpt(recipient: bytes, parameters: Iterable[bytes] = ()) -> bytes:
    """RCPT."""
    return _with_path(b"RCPT TO:", recipient, parameters)


def _with_path(verb: bytes, address: bytes, parameters: Iterable[bytes]) -> bytes:
    if address[:1] == b"<" and address[-1:] == b">":
        address = address[1:-1]
    if not _ADDRESS.fullmatch(address):
        raise UnwritableError("this address can't be written in a command")
    words = [verb + b"<" + address + b">", *parameters]
    if not all(map(_PARAMETER.fullmatch, words[1:])):
        raise UnwritableError("a parameter can't be written in a command")
    command = b" ".join(words) + b"\r\n"
    if len(command) > MAX_COMMAND:
        raise UnwritableError(f"the command would have over {MAX_COMMAND} bytes")
    return command
