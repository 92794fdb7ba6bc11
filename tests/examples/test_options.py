"""The arguments of the daemons' command lines."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import pytest
from mailfront import _options as options


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (options.pair(str, int), "a=1", ("a", 1)),
        (options.pair(str, str), "a=b=c", ("a", "b=c")),
        (options.number(float, 0, 10), "0", 0.0),
        (options.number(float, 0, 10), "2.5", 2.5),
        (options.number(int, 1, 10), "10", 10),
        (options.address, "127.0.0.1:25", (b"127.0.0.1", 25)),
        (options.address, "[2001:DB8::0]:25", (b"2001:db8::", 25)),
        (options.host_port, "127.0.0.1:0", ("127.0.0.1", 0)),
        (options.host_port, "[::1]:65535", ("::1", 65535)),
        (options.host_port, "localhost:80", ("localhost", 80)),
        (options.mode, "660", 0o660),
        (options.mode, "0", 0),
        (options.mode, "777", 0o777),
    ],
)
def test_what_is_taken(parse: Callable[[str], Any], text: str, value: object) -> None:
    """And what becomes of it."""
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text", "complaint"),
    [
        *(
            (options.pair(str, int), text, f"'{text}' is not NAME=VALUE")
            for text in ("a", "a=", "")
        ),
        (options.pair(str, int), "a=b", "invalid literal"),
        (options.pair(int, str), "a=1", "invalid literal"),
        *(
            (options.number(float, 0, 10), text, f"'{text}' is no number from 0 to 10")
            for text in ("-1", "10.1", "nan", "inf", "soon", "")
        ),
        (options.number(int, 0, 10), "1.5", "is no number from 0 to 10"),
        *(
            (options.host_port, text, f"'{text}' is not HOST:PORT")
            for text in ("x", ":80", "[]:80", "x:", "x:y", "127.0.0.1:99999", "x:-1")
        ),
        *(
            (options.mode, text, f"'{text}' is no octal number")
            for text in ("rw", "8", "-1", "1777", "")
        ),
    ],
)
def test_what_is_not(parse: Callable[[str], Any], text: str, complaint: str) -> None:
    """Said by argparse, of the argument it stands at."""
    with pytest.raises(argparse.ArgumentTypeError, match=complaint.replace("[", r"\[")):
        parse(text)


@pytest.mark.parametrize("text", ["x", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "mail:25"])
def test_nginx_takes_no_names(text: str) -> None:
    """An address is a value in a pair, which makes an argparse error of it."""
    with pytest.raises(ValueError):
        options.address(text)
    with pytest.raises(argparse.ArgumentTypeError):
        options.pair(str, options.address)(f"paid={text}")
