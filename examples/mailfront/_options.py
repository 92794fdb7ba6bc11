"""Arguments of the daemons' command lines."""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
from collections.abc import Callable
from typing import Final, TypeVar

Name = TypeVar("Name")
Value = TypeVar("Value")
Number = TypeVar("Number", bound=float)

# Seconds. SQLite counts milliseconds, in 32 bits.
A_DAY: Final = 86_400


def pair(
    name_of: Callable[[str], Name], value_of: Callable[[str], Value]
) -> Callable[[str], tuple[Name, Value]]:
    """An argument of the form NAME=VALUE; the two say by ValueError what they do not take."""

    def parse(text: str) -> tuple[Name, Value]:
        name, equals, value = text.partition("=")
        if not equals or not value:
            raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
        try:
            return name_of(name), value_of(value)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse


def number(kind: Callable[[str], Number], least: float, most: float) -> Callable[[str], Number]:
    """A number of that kind, from ``least`` to ``most``."""

    def parse(text: str) -> Number:
        with contextlib.suppress(ValueError):
            value = kind(text)
            if least <= value <= most:  # which nan is not
                return value
        raise argparse.ArgumentTypeError(f"{text!r} is no number from {least} to {most}")

    return parse


def address(text: str) -> tuple[bytes, int]:
    """IP:PORT, or [IP]:PORT; nginx takes no names."""
    host, colon, port = text.rpartition(":")
    host = host.strip("[]")
    if not colon or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise ValueError(f"{text!r} is not IP:PORT")
    return ipaddress.ip_address(host).compressed.encode(), int(port)


def host_port(text: str) -> tuple[str, int]:
    """HOST:PORT, or [IPv6]:PORT, to listen at; port 0 is any that is free."""
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host, int(port)


def mode(text: str) -> int:
    """Permissions, in octal digits."""
    try:
        permissions = int(text, 8)
    except ValueError:
        permissions = -1
    if not 0 <= permissions <= 0o777:
        raise argparse.ArgumentTypeError(f"{text!r} is no octal number, such as 660")
    return permissions
