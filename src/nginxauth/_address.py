"""Which texts nginx takes for an IP address. It is its own reader, and stands alone."""

from __future__ import annotations

import re
from typing import Final

_OCTET: Final = re.compile(rb"[0-9]*")
_GROUP: Final = re.compile(rb"[0-9A-Fa-f]{0,4}")
# What it needs to have seen before a dot, to take the rest for an IPv4 address.
_DOTTED: Final = re.compile(rb"[0-9A-Fa-f]{1,4}\.")


def is_address(text: bytes) -> bool:
    """Whether nginx connects to it: no names, no brackets, no ``unix:``, no port.

    Odd ones are taken as well: ``127..0.1`` (an octet may be empty), ``0127.0.0.1`` (decimal all
    the same), ``:1:2:3:4:5:6:7:8``. Of those that are written as they should be, three kinds are
    not: 255.255.255.255, that at the end of an IPv6 address, and a ``::`` that stands for the
    last group alone, as in ``1:2:3:4:5:6:7::``.
    """
    return _is_ipv4(text) or _is_ipv6(text)


def _is_ipv4(text: bytes) -> bool:
    octets = text.split(b".")
    if len(octets) != 4 or not all(_OCTET.fullmatch(octet) for octet in octets):
        return False
    numbers = [int(octet or b"0") for octet in octets]
    # All ones are nginx's sign for "this is none".
    return max(numbers) <= 255 and min(numbers) < 255


def _is_ipv6(text: bytes) -> bool:
    # A colon at the start is passed over, whether or not another follows.
    *groups, last = text.removeprefix(b":").split(b":")
    words = sum(1 for group in groups if group)
    gaps = len(groups) - words
    if gaps > 1 or not all(_GROUP.fullmatch(group) for group in groups):
        return False
    if b"." in last:
        if not _DOTTED.match(last) or not _is_ipv4(last):
            return False
        words += 1
    elif not _GROUP.fullmatch(last) or not (last or gaps):
        return False
    # The last group counts even if it is empty, which makes zeros after "::". A gap has to stand
    # for something.
    return (words < 7) if gaps else (words == 7)
