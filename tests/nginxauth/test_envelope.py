import pytest
from hypothesis import given
from hypothesis import strategies as st

from nginxauth._envelope import split_command

MAIL, RCPT = b"MAIL FROM", b"RCPT TO"


@pytest.mark.parametrize(
    ("line", "address", "parameters"),
    [
        (b"MAIL FROM:<a@b>", b"<a@b>", ()),
        (b"MAIL FROM:<>", b"<>", ()),
        (b"mail from: <a@b> SIZE=10", b"<a@b>", (b"SIZE=10",)),
        (
            b"MaIl \t fRoM:\t<a@b>  SIZE=10\tbody=8BITMIME ",
            b"<a@b>",
            (b"SIZE=10", b"body=8BITMIME"),
        ),
        (b'MAIL FROM:<"a> b"@c>', b'<"a> b"@c>', ()),
        (b'MAIL FROM:<"a\\">b"@c> X', b'<"a\\">b"@c>', (b"X",)),
        (b"MAIL FROM:<@one.test,@two.test:a@b>", b"<@one.test,@two.test:a@b>", ()),
        (b"MAIL FROM:<a@[IPv6:::1]>", b"<a@[IPv6:::1]>", ()),
        (b"MAIL FROM:<\xc3\xa4@b> SMTPUTF8", b"<\xc3\xa4@b>", (b"SMTPUTF8",)),
        (b"MAIL FROM:<a@b> ORCPT=<x>", b"<a@b>", (b"ORCPT=<x>",)),
    ],
)
def test_lines_that_can_be_read(line: bytes, address: bytes, parameters: tuple[bytes, ...]) -> None:
    """The verb in any case, a blank where clients put one, and the address as it is."""
    assert split_command(line, MAIL) == (address, parameters)
    assert split_command(line, RCPT) is None
    assert split_command(b"RCPT TO" + line[line.index(b":") :], RCPT) == (address, parameters)


@pytest.mark.parametrize(
    "rest",
    [
        b"",
        b":",
        b":a@b",
        b" <a@b>",
        b":<a@b",
        b":<a b@c>",
        b":<a@b>>",
        b":<a@b>SIZE=1",
        b":<<a@b>",
        b':<"a@b>',
        b':<"a"@b',
        b":<a\\>b@c>",
        b":<a\\b@c>",
        b':<"\\\x01"@b>',
        b":<a\0@b>",
        b':<"\x01"@b>',
        b":<a@b> \x7f",
        b":<a@b> X\0",
    ],
)
def test_lines_that_can_not_be_read(rest: bytes) -> None:
    """What receivers would differ over, nobody should decide by."""
    assert split_command(MAIL + rest, MAIL) is None


def test_the_verb_is_looked_at() -> None:
    """All of it."""
    assert split_command(b"MAILFROM:<a@b>", MAIL) is None
    assert split_command(b"XMAIL FROM:<a@b>", MAIL) is None
    assert split_command(b"MAIL TO:<a@b>", MAIL) is None


@given(st.binary() | st.binary().map(lambda rest: b"MAIL FROM:<" + rest))
def test_whatever_comes(line: bytes) -> None:
    """No error, and no part of an address that is not there."""
    command = split_command(line, MAIL)
    if command is not None:
        address, parameters = command
        assert b" ".join((address, *parameters)) in b" ".join(line.split()).replace(b"> ", b"> ")


def test_long_lines_take_no_long_time() -> None:
    """Twice as long is twice as long, and not four times."""
    assert split_command(b"MAIL FROM:<" + b'"a"' * 100_000 + b" ", MAIL) is None
    assert split_command(b"MAIL FROM:<a>" + b" a" * 100_000 + b"\0", MAIL) is None
    assert split_command(b"MAIL FROM:<a>" + b" " * 100_000 + b"\0", MAIL) is None
    assert split_command(b"MAIL FROM:" + b" " * 100_000 + b"x", MAIL) is None
    assert split_command(b"MAIL" + b" " * 100_000 + b"x", MAIL) is None
