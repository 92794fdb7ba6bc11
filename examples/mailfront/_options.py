"""Arguments of the daemons' command lines."""

from __future__ import annotations

import argparse
import ipaddress
from collections.abc import Callable
from typing import TypeVar

Name = TypeVar("Name")
Value = TypeVar("Value")


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


def address(text: str) -> tuple[bytes, int]:
    """IP:PORT, or [IP]:PORT; nginx takes no names."""
    host, colon, port = text.rpartition(":")
    host = host.strip("[]")
    if not colon or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise ValueError(f"{text!r} is not IP:PORT")
    return ipaddress.ip_address(host).compressed.encode(), int(port)


def mode(text: str) -> int:
    """Permissions, in octal digits."""
    try:
        return int(text, 8)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no octal number, such as 660") from None
