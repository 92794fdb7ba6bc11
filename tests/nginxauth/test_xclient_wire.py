import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nginxauth import xclient as xc
from nginxauth._errors import LocalProtocolError
from nginxauth._xclient_wire import Line, parse_line, split_line

from .xclient_strategies import any_lines

offers = st.builds(
    xc.Offer,
    *[
        st.lists(st.sampled_from(names), unique=True).map(tuple)
        for names in (xc.EVERYTHING.xclient, xc.EVERYTHING.xforward)
    ],
)


# --- EHLO ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "offer"),
    [
        (
            b"XCLIENT NAME ADDR PROTO HELO REVERSE_NAME PORT LOGIN DESTADDR DESTPORT",
            xc.Offer(xc.POSTFIX.offer.xclient),
        ),
        (b"XCLIENT  ADDR NAME PORT LOGIN DESTADDR DESTPORT", xc.EXIM.offer),
        (b"xforward NAME addr", xc.Offer((), (b"NAME", b"ADDR"))),
        (b"XCLIENT", xc.Offer()),
        (b"XCLIENT ADDR ADDR SESSION ", xc.Offer((b"ADDR", b"SESSION"))),
        (b"XCLIENTS ADDR", xc.Offer()),
        (b"SIZE XCLIENT ADDR", xc.Offer()),
        (b"", xc.Offer()),
    ],
)
@pytest.mark.parametrize(
    "reply",
    [b"250-mta.test\r\n250-%b\r\n250 DSN\r\n", b"250-mta.test\r\n250 %b\r\n", b"mta.test\n%b\nDSN"],
)
def test_what_is_offered(reply: bytes, line: bytes, offer: xc.Offer) -> None:
    """On the wire, and as smtplib keeps it; double blanks, any letter case."""
    assert xc.parse_ehlo(reply % line) == offer


def test_a_server_may_be_named_like_a_command() -> None:
    """The first line offers nothing; and the first of two lines with one keyword counts."""
    assert xc.parse_ehlo(b"250 XCLIENT ADDR\r\n") == xc.Offer()
    assert xc.parse_ehlo(b"x\nXCLIENT ADDR\nXCLIENT NAME") == xc.Offer((b"ADDR",))


@given(offers)
def test_an_offer_comes_back(offer: xc.Offer) -> None:
    """From its lines."""
    lines = xc.ehlo_lines(offer)
    assert xc.parse_ehlo(b"\n".join([b"mta.test", *lines])) == offer
    assert len(lines) == bool(offer.xclient) + bool(offer.xforward)


def test_the_lines_of_an_offer() -> None:
    """As Postfix writes them."""
    offer = xc.Offer((b"NAME", b"ADDR"), (b"NAME",))
    assert xc.ehlo_lines(offer) == (b"XCLIENT NAME ADDR", b"XFORWARD NAME")


@given(st.binary() | any_lines.map(lambda line: b"x\n" + line))
def test_any_reply_is_an_offer(reply: bytes) -> None:
    """And has nothing in it that could not be offered, but for bytes that no name has."""
    offer = xc.parse_ehlo(reply)
    for name in (*offer.xclient, *offer.xforward):
        assert re.fullmatch(rb"[^\s]+", name)
        assert name == name.upper()


@pytest.mark.parametrize("name", [b"", b"A B", b"A\r\n250 B", "NAME", 7])
def test_what_is_no_name_is_not_offered(name: Any) -> None:
    """A line of the reply can't be broken."""
    for offer in (xc.Offer((name,)), xc.Offer((), (b"NAME", name))):
        with pytest.raises(LocalProtocolError, match="names of attributes"):
            xc.ehlo_lines(offer)


def test_what_is_no_offer() -> None:
    """Such as a reply."""
    with pytest.raises(xc.LocalProtocolError, match="bytes is no Offer"):
        xc.ehlo_lines(b"250 XCLIENT NAME")  # type: ignore[arg-type]


# --- commands ------------------------------------------------------------------------------


@given(any_lines, st.sampled_from(xc.Xtext), st.booleans(), offers)
def test_any_line_is_a_command_or_refused(
    line: bytes, xtext: xc.Xtext, lenient: bool, offer: xc.Offer
) -> None:
    """Nothing is raised; the reply to what is refused is one line, with nothing of the peer's."""
    found = xc.parse_command(line, offer, xtext=xtext, lenient=lenient)
    if isinstance(found, xc.Refused):
        assert re.fullmatch(rb"50[01] 5\.5\.[24] [A-Za-z.=: ,_]+", found.reply)
        assert found.data == line.removesuffix(b"\n").removesuffix(b"\r")
        assert found.reason
        assert not found.close
    else:
        assert found != type(found)()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"XCLIENT NAME=a.example", xc.XClient(name=b"a.example")),
        (b" \txclient \t name=a.example\t", xc.XClient(name=b"a.example")),
        (b"XCLIENT NAME=a.example\tPORT=25 \r\n", xc.XClient(name=b"a.example", port=25)),
        (b"XCLIENT NAME=a.example\n", xc.XClient(name=b"a.example")),
        (b"XCLIENT LOGIN=a=b", xc.XClient(login=b"a=b")),
        (b"XCLIENT PORT=1 port=2", xc.XClient(port=2)),
        (b'XCLIENT LOGIN="a NAME=a.example', xc.XClient(login=b'"a', name=b"a.example")),
        (b"XFORWARD Source=local", xc.XForward(source=b"LOCAL")),
    ],
)
def test_commands(line: bytes, expected: xc.Command) -> None:
    """Any white space, any letter case, the last of two, and no quoting."""
    assert xc.parse_command(line) == expected


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (b"XCLIENT", b"501 5.5.4 Syntax: XCLIENT attribute=value..."),
        (b"XFORWARD \r\n", b"501 5.5.4 Syntax: XFORWARD attribute=value..."),
        (b"XCLIENT ADDR", b"501 5.5.4 Error: attribute=value expected"),
        (b"XCLIENT ADDR=", b"501 5.5.4 Error: attribute=value expected"),
        (b"XCLIENT =x", b"501 5.5.4 Bad XCLIENT attribute name"),
        (b"XCLIENT NAME=bad host", b"501 5.5.4 Error: attribute=value expected"),
        (b"XCLIENT FOO=bar", b"501 5.5.4 Bad XCLIENT attribute name"),
        (b"XFORWARD LOGIN=bob", b"501 5.5.4 Bad XFORWARD attribute name"),
        (b"XCLIENT addr=x", b"501 5.5.4 Bad ADDR syntax"),
        (b"XCLIENT PORT=1 ADDR=x", b"501 5.5.4 Bad ADDR syntax"),
        (b"XCLIENT PORT=1\v", b"501 5.5.4 Bad PORT syntax"),
        (b"XCLIENT HELO=" + b"x" * 256, b"501 5.5.4 Error: attribute value too long"),
        (b"XCLIENT HELO=a\rb", b"501 5.5.4 Error: NUL, CR or LF in the command"),
        (b"XCLIENT HELO=a\nb\n", b"501 5.5.4 Error: NUL, CR or LF in the command"),
        (b"XCLIENT HELO=a\0", b"501 5.5.4 Error: NUL, CR or LF in the command"),
        (b"MAIL FROM:<>", b"500 5.5.2 Error: command not recognized"),
        (b"", b"500 5.5.2 Error: command not recognized"),
        (b"XCLIENTADDR=192.0.2.1", b"500 5.5.2 Error: command not recognized"),
    ],
)
def test_what_is_wrong_with_a_command(line: bytes, reply: bytes) -> None:
    """Postfix's words, without those of the line that it would repeat."""
    refused = xc.parse_command(line)
    assert isinstance(refused, xc.Refused)
    assert refused.reply == reply


def test_the_longest_line() -> None:
    """Counted with its end, wherever that is."""
    line = b"XCLIENT HELO=" + b"x" * 255 + b" NAME=a.example"
    for end in (b"", b"\n", b"\r\n"):
        limit = len(line) + 2
        assert isinstance(xc.parse_command(line + end, max_line=limit), xc.XClient)
        refused = xc.parse_command(line + end, max_line=limit - 1)
        assert isinstance(refused, xc.Refused)
        assert refused.reply == b"500 5.5.2 Error: command too long"
        assert (refused.data, refused.reason) == (line, f"over {limit - 1} bytes")
    assert isinstance(xc.parse_command(b"XCLIENT " + b"PORT=1 " * 400), xc.Refused)


@pytest.mark.parametrize(
    ("offer", "taken"),
    [(xc.Offer((b"ADDR", b"LOGIN")), True), (xc.Offer((b"ADDR",), (b"LOGIN",)), False)],
)
def test_only_what_is_offered_is_taken(offer: xc.Offer, taken: bool) -> None:
    """In a command that also has what is."""
    found = xc.parse_command(b"XCLIENT ADDR=192.0.2.1 LOGIN=ann", offer)
    assert isinstance(found, xc.XClient) is taken


def test_what_is_offered_and_not_known_is_refused() -> None:
    """Dovecot's SESSION is no attribute of ours."""
    found = xc.parse_command(b"XCLIENT SESSION=x", xc.DOVECOT.offer)
    assert isinstance(found, xc.Refused)


@pytest.mark.parametrize(
    ("how", "login"),
    [(xc.Xtext.STRICT, b"bob\xab"), (xc.Xtext.POSTFIX, b"bob\xab"), (xc.Xtext.RAW, b"bob+ab")],
)
def test_how_values_are_read(how: xc.Xtext, login: bytes) -> None:
    """A sender that does not encode can be told from one that does by nobody but its admin."""
    assert xc.parse_command(b"XCLIENT LOGIN=bob+ab", xtext=how) == xc.XClient(login=login)


def test_a_lenient_reader() -> None:
    """Takes an address as Dovecot writes it."""
    line = b"XCLIENT ADDR=2001:db8::1 PROTO=LMTP"
    assert isinstance(xc.parse_command(line), xc.Refused)
    expected = xc.XClient(addr=b"2001:db8::1", proto=b"LMTP")
    assert xc.parse_command(line, lenient=True) == expected


@pytest.mark.parametrize("line", ["XCLIENT ADDR=192.0.2.1", None, 7, ["XCLIENT"]])
def test_lines_are_bytes(line: Any) -> None:
    """What is no bytes is the caller's mistake, and not the peer's."""
    with pytest.raises(LocalProtocolError, match="in bytes"):
        xc.parse_command(line)
    with pytest.raises(LocalProtocolError, match="in bytes"):
        xc.parse_ehlo(line)
    assert xc.parse_command(memoryview(b"XCLIENT PORT=1")) == xc.XClient(port=1)  # type: ignore[arg-type]


def test_the_two_halves() -> None:
    """What the receiver calls one by one."""
    line = split_line(b"xforward  a=b c\r\n")
    assert isinstance(line, Line)
    words: Sequence[bytes] = line.words
    assert (line.data, line.keyword, words) == (b"xforward  a=b c", b"XFORWARD", (b"a=b", b"c"))
    found = parse_line(line, xc.EVERYTHING, xtext=xc.Xtext.STRICT, lenient=False)
    assert isinstance(found, xc.Refused)
    refused = line.refused(b"554 no", "why", close=True)
    assert refused == xc.Refused(line.data, "why", b"554 no", close=True)
    assert line.refused(b"554 no", "why").close is False
