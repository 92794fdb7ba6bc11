"""The command line."""

from __future__ import annotations

import argparse

import pytest
from hypothesis import given
from hypothesis import strategies as st

import milterproto as mp
from milterproto._shell.options import (
    address,
    client,
    habits,
    macro,
    mailbox,
    message_of,
    parser,
    seconds,
)
from milterproto.message import Client, Recipient
from milterproto.testing import Habits

PARSER = parser(["one", "two"])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("/run/x.sock", "/run/x.sock"),
        ("./x", "./x"),
        ("unix:x.sock", "x.sock"),
        ("local:/run/x", "/run/x"),
        ("unix:/run/a:b", "/run/a:b"),
        ("localhost:8891", ("localhost", 8891)),
        ("inet:127.0.0.1:8891", ("127.0.0.1", 8891)),
        ("inet:8891@127.0.0.1", ("127.0.0.1", 8891)),
        ("8891@localhost", ("localhost", 8891)),
        ("inet6:[::1]:8891", ("::1", 8891)),
        ("inet6:8891@::1", ("::1", 8891)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_sockets(text: str, found: object) -> None:
    """As Postfix, Sendmail, libmilter and people write them."""
    assert address(text) == found


@pytest.mark.parametrize(
    "text", ["", "x", "unix:", "inet:", "inet:x", "x:65536", ":1", "x:-1", "x:one", "1@", "@x"]
)
def test_what_is_no_socket(text: str) -> None:
    """It is said how one is written."""
    with pytest.raises(argparse.ArgumentTypeError, match=r"written /path|no path"):
        address(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("192.0.2.1", Client(b"[192.0.2.1]", mp.Family.INET, 0, b"192.0.2.1")),
        ("mx.test[192.0.2.1]", Client(b"mx.test", mp.Family.INET, 0, b"192.0.2.1")),
        ("mx.test[192.0.2.1]:25", Client(b"mx.test", mp.Family.INET, 25, b"192.0.2.1")),
        ("2001:db8::1", Client(b"[2001:db8::1]", mp.Family.INET6, 0, b"2001:db8::1")),
        ("localhost[/run/x]", Client(b"localhost", mp.Family.UNIX, 0, b"/run/x")),
    ],
)
def test_clients(text: str, found: Client) -> None:
    """As Postfix logs them."""
    assert client(text) == found


@pytest.mark.parametrize(
    "text", ["", "\ud800", "mx.test", "mx.test[]", "x[192.0.2.1]:65536", "x[y]", "[1"]
)
def test_what_is_no_client(text: str) -> None:
    """It is said how one is written."""
    with pytest.raises(argparse.ArgumentTypeError, match="is no client: it is written"):
        client(text)


@given(st.text())
def test_any_text(text: str) -> None:
    """A value that can be sent, or that error."""
    for read in (address, client, macro):
        try:
            found = read(text)
        except argparse.ArgumentTypeError:
            continue
        if isinstance(found, Client):
            conn = mp.MTAConnection()
            offer = conn.send(mp.offer())
            assert offer
            assert found.ip or found.family is mp.Family.UNIX


def test_small_things() -> None:
    """Addresses get brackets, and macros braces."""
    assert mailbox("a@b") == mailbox("<a@b>") == b"<a@b>"
    assert mailbox("") == mailbox("<>") == b"<>"
    for text in ("Ann <a@b>", "<a@b> ", "a@b>c", "<<a@b>>"):
        with pytest.raises(argparse.ArgumentTypeError, match=r"written ann@example\.org"):
            mailbox(text)
    assert macro("i=4F=2") == (b"i", b"4F=2")
    assert macro("auth_authen=ann") == macro("{auth_authen}=ann") == (b"{auth_authen}", b"ann")
    assert macro("x=") == (b"x", b"")
    for text in ("", "i", "=x"):
        with pytest.raises(argparse.ArgumentTypeError, match="name=value"):
            macro(text)
    assert seconds("2.5") == 2.5
    for text in ("0", "-1", "inf", "nan", "x"):
        with pytest.raises(argparse.ArgumentTypeError, match="is no time"):
            seconds(text)
    assert habits("sendmail") is Habits.SENDMAIL
    with pytest.raises(argparse.ArgumentTypeError, match="none of postfix, sendmail, hostile"):
        habits("x")


def test_the_message() -> None:
    """What is said, and what stands in for what is not."""
    line = ["send", "--to", "/x", "-"]
    bare = message_of(PARSER.parse_args(line), b"Subject: x\n\ny\n")
    assert bare.sender == b"<sender@example.org>"
    assert bare.recipients == [Recipient(b"<someone@example.test>")]
    assert (bare.client.hostname, bare.client.helo) == (b"client.test", b"client.test")
    assert bare.macros == {}
    line += ["--from", "", "--rcpt", "b@c", "--rcpt", "<d@e>", "--client", "x[192.0.2.7]"]
    line += ["--helo", "me", "--macro", "i=1", "--macro", "auth_authen=ann"]
    full = message_of(PARSER.parse_args(line), b"Subject: x\n\ny\n")
    assert full.sender == b"<>"
    assert full.recipients == [Recipient(b"<b@c>"), Recipient(b"<d@e>")]
    assert full.client == Client(b"x", mp.Family.INET, 0, b"192.0.2.7", b"me")
    assert full.macros == {b"i": b"1", b"{auth_authen}": b"ann"}
    assert full.content == b"Subject: x\r\n\r\ny\r\n"


@pytest.mark.parametrize("tool", ["send", "record", "replay", "show", "check"])
def test_help(tool: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each has an example that can be parsed, and says what the exit status means."""
    with pytest.raises(SystemExit) as exit_:
        PARSER.parse_args([tool, "--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    example = text.partition("Example:\n  python -m milterproto ")[2].partition("\n")[0]
    words = example.partition(" >")[0].replace("data-again", "one").split()
    assert PARSER.parse_args(words).tool == tool
    assert "Exit status: 0" in text
    assert max(map(len, text.splitlines())) <= 100


def test_help_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    """An example that can be parsed, and the tools' names."""
    with pytest.raises(SystemExit):
        PARSER.parse_args(["--help"])
    text = capsys.readouterr().out
    example = text.partition("Example:\n  python -m milterproto ")[2].partition("\n")[0]
    assert PARSER.parse_args(example.split()).tool == "send"
    for tool in ("send", "record", "replay", "show", "check"):
        assert f"\n    {tool} " in text


@pytest.mark.parametrize(
    "line",
    [
        "",
        "x",
        "send x",
        "send --to x y",
        "send --to /x y --protocol 5",
        "send --to /x y --habits x",
        "send --to /x y --macro x",
        "send --to /x y --timeout 0",
        "check /x --skip three",
        "record /x",
        "replay x",
    ],
)
def test_lines_that_make_no_sense(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2."""
    with pytest.raises(SystemExit) as exit_:
        PARSER.parse_args(line.split())
    assert exit_.value.code == 2
    assert "usage: " in capsys.readouterr().err
