"""Nothing that a client says can become a second command, or a parameter."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from smtp_milter import _commands as commands
from smtp_milter._commands import UnwritableError


@pytest.mark.parametrize(
    ("sender", "parameters", "line"),
    [
        (b"<a@b>", (), b"MAIL FROM:<a@b>\r\n"),
        (b"a@b", (b"SIZE=10", b"SMTPUTF8"), b"MAIL FROM:<a@b> SIZE=10 SMTPUTF8\r\n"),
        (b"<>", (), b"MAIL FROM:<>\r\n"),
        (b"", (), b"MAIL FROM:<>\r\n"),
        (b'<"a > b"@c>', (), b'MAIL FROM:<"a > b"@c>\r\n'),
        (b'<"a\\"b"@c>', (), b'MAIL FROM:<"a\\"b"@c>\r\n'),
        (b"<@x,@y:a@b>", (b"ENVID=a+2Bb",), b"MAIL FROM:<@x,@y:a@b> ENVID=a+2Bb\r\n"),
        ("<ä@b>".encode(), (), "MAIL FROM:<ä@b>\r\n".encode()),
    ],
)
def test_mail(sender: bytes, parameters: tuple[bytes, ...], line: bytes) -> None:
    """As the client wrote it."""
    assert commands.mail(sender, parameters) == line


def test_the_other_commands() -> None:
    """RCPT, EHLO and HELO."""
    assert commands.rcpt(b"<a@b>", (b"NOTIFY=NEVER",)) == b"RCPT TO:<a@b> NOTIFY=NEVER\r\n"
    assert commands.ehlo(b"[IPv6:::1]") == b"EHLO [IPv6:::1]\r\n"
    assert commands.ehlo(b"x_y.test", b"HELO") == b"HELO x_y.test\r\n"


@pytest.mark.parametrize(
    "address",
    [
        b"<a@b> SIZE=1",
        b"a@b>",
        b"a@b\r\nDATA",
        b"a\0@b",
        b'<"a@b>',
        b"<a b@c>",
        b'<"a\nb"@c>',
        b"<" + b"a" * 2048 + b">",
    ],
)
def test_addresses_that_are_none(address: bytes) -> None:
    """Refused before anything is written."""
    with pytest.raises(UnwritableError):
        commands.rcpt(address)


@pytest.mark.parametrize("parameter", [b"", b"A=", b"A=b c", b"A=b\r\n", b"=x", b"A B", b"A=b=c"])
def test_parameters_that_are_none(parameter: bytes) -> None:
    """Likewise."""
    with pytest.raises(UnwritableError):
        commands.mail(b"<a@b>", (parameter,))


@pytest.mark.parametrize("name", [b"", b"a b", b"a\r\nQUIT", b"x" * 256, "ä".encode()])
def test_names_that_are_none(name: bytes) -> None:
    """What a client has said in EHLO need not be fit to be said again."""
    assert not commands.is_helo(name)
    with pytest.raises(UnwritableError):
        commands.ehlo(name)


@given(st.binary(max_size=20) | st.from_regex(rb'[<>"\\a@ \r\n]{0,9}'), st.binary(max_size=9))
def test_any_bytes_make_one_command_or_none(address: bytes, parameter: bytes) -> None:
    """One path in its brackets, and parameters without blanks."""
    try:
        line = commands.mail(address, (parameter,))
    except UnwritableError:
        return
    quoted = rb'"(?:[^"\\]|\\.)*"'
    assert re.fullmatch(rb"MAIL FROM:<(?:%b|[^<>\" ])*> [^ ]+\r\n" % quoted, line)
    assert not re.search(rb"[\x00-\x1f]", line[:-2])
