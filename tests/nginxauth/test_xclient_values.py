import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nginxauth._errors import LocalProtocolError
from nginxauth._xclient_events import TEMPUNAVAIL, UNAVAILABLE
from nginxauth._xclient_values import (
    MAX_VALUE,
    XCLIENT_ATTRIBUTES,
    XFORWARD_ATTRIBUTES,
    Attribute,
)
from nginxauth._xtext import Xtext

from .xclient_strategies import anything

ATTRIBUTES = [*XCLIENT_ATTRIBUTES.values(), *XFORWARD_ATTRIBUTES.values()]
attributes = st.sampled_from(ATTRIBUTES)
X, F = XCLIENT_ATTRIBUTES, XFORWARD_ATTRIBUTES


def decoded(attribute: Attribute, text: bytes, *, lenient: bool = False) -> Any:
    return attribute.decode(text, Xtext.STRICT, lenient=lenient)


def test_fields_are_named_as_attributes_are() -> None:
    """In lower case, underscore and all."""
    assert [X[name].field for name in (b"ADDR", b"REVERSE_NAME")] == ["addr", "reverse_name"]


@given(attributes, anything)
def test_what_can_be_sent_comes_back(attribute: Attribute, value: object) -> None:
    """As it was, but for the spelling of an address.

    Whatever the value, what is written is one word of a line, within Postfix's limit.
    """
    try:
        text = attribute.encode(value)
    except LocalProtocolError:
        return
    assert 0 < len(text) <= MAX_VALUE
    assert not set(text) - set(range(0x21, 0x7F))
    assert not set(text) & set(b'="\\<')
    back = decoded(attribute, text)
    if attribute.name.endswith(b"ADDR") and isinstance(value, bytes):
        assert type(back) is bytes
        there, here = (ipaddress.ip_address(one.decode()) for one in (back, value))
        assert there == (getattr(here, "ipv4_mapped", None) or here)
    else:
        assert back == value


@given(attributes, st.binary(max_size=300), st.sampled_from(Xtext), st.booleans())
def test_any_text_is_a_value_or_bad(
    attribute: Attribute, text: bytes, how: Xtext, lenient: bool
) -> None:
    """And no value of any attribute can end a line."""
    value = attribute.decode(text, how, lenient=lenient)
    if isinstance(value, bytes):
        assert not set(value) & set(b"\0\r\n")


@pytest.mark.parametrize("value", [b"", b"a\nb", b"a\rb", b"a\0b"])
@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_what_can_break_out_of_a_line_is_refused(attribute: Attribute, value: bytes) -> None:
    """Before it is encoded, and after it was decoded."""
    with pytest.raises(LocalProtocolError):
        attribute.encode(value)
    text = b"".join(b"+%02X" % byte for byte in value)
    if text:
        assert decoded(attribute, text) is None


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        (b"mail.example.org", True),
        (b"a_b.example", True),
        (b"_", True),
        (b"1.2.3.a", True),
        (b"1-2", True),
        (b"a" * 63 + b".example", True),
        (b".".join([b"a" * 63] * 4)[:255], True),
        (b"a" * 64 + b".example", False),
        (b".".join([b"a" * 63] * 4) + b"a", False),
        (b".".join([b"a"] * 129), False),
        (b"1.2.3", False),
        (b"127.0.0.1", False),
        (b"a..b", False),
        (b".a", False),
        (b"a.", False),
        (b"-a.example", False),
        (b"a-.example", False),
        (b"a b", False),
        (b"a\n", False),
        (b"[192.0.2.1]", False),
        (b"\xc3\xa9.example", False),
    ],
)
def test_host_names(name: bytes, taken: bool) -> None:
    """Those that Postfix takes, and no others, in both directions."""
    for attribute in (X[b"NAME"], X[b"REVERSE_NAME"], F[b"NAME"]):
        text = b"".join(b"+%02X" % byte for byte in name) if len(name) < 85 else name
        assert decoded(attribute, text) == (name if taken else None)
        if taken:
            assert attribute.encode(name) == name
        else:
            with pytest.raises(LocalProtocolError, match="NAME: not a host name"):
                attribute.encode(name)


@pytest.mark.parametrize("attribute", [X[b"ADDR"], X[b"DESTADDR"], F[b"ADDR"]])
@pytest.mark.parametrize(
    ("text", "value", "leniently"),
    [
        (b"192.0.2.1", b"192.0.2.1", b"192.0.2.1"),
        (b"0.0.0.0", b"0.0.0.0", b"0.0.0.0"),
        (b"IPV6:::1", b"::1", b"::1"),
        (b"ipv6:2001:DB8::0001", b"2001:db8::1", b"2001:db8::1"),
        (b"IPv6:::ffff:192.0.2.1", b"192.0.2.1", b"192.0.2.1"),
        (b"2001:db8::1", None, b"2001:db8::1"),
        (b"::ffff:192.0.2.1", None, b"192.0.2.1"),
        (b"0.1.2.3", None, None),
        (b"IPV6:::ffff:0.1.2.3", None, None),
        (b"300.1.1.1", None, None),
        (b"[192.0.2.1]", None, None),
        (b"IPV6:192.0.2.1", None, None),
        (b"IPV6:", None, None),
        (b"IPV6:fe80::1%eth0", None, None),
        (b"fe80::1%eth0", None, None),
        (b"010.0.0.1", None, None),
        (b"192.0.2", None, None),
        (b"192.0.2.1/32", None, None),
        (b"+31.2.3.4", b"1.2.3.4", b"1.2.3.4"),
        (b"+E9", None, None),
        (b"IPV6:+E9", None, None),
    ],
)
def test_addresses(
    attribute: Attribute, text: bytes, value: bytes | None, leniently: bytes | None
) -> None:
    """IPv6 with its prefix, in any case; leniently without, too."""
    assert decoded(attribute, text) == value
    assert decoded(attribute, text, lenient=True) == leniently


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"192.0.2.1", b"192.0.2.1"),
        (b"2001:DB8:0::1", b"IPV6:2001:db8::1"),
        (b"::ffff:192.0.2.1", b"192.0.2.1"),
    ],
)
def test_an_address_is_sent_as_all_servers_take_it(value: bytes, text: bytes) -> None:
    """Whichever way a socket spells it."""
    assert X[b"ADDR"].encode(value) == text


class Sly(bytes):
    """May say of itself what one wants to hear."""


@pytest.mark.parametrize(
    ("attribute", "value", "complaint"),
    [
        (X[b"ADDR"], b"0.1.2.3", "not an IP address"),
        (X[b"ADDR"], b"fe80::1%eth0", "not an IP address"),
        (X[b"ADDR"], b"IPV6:::1", "not an IP address"),
        (X[b"ADDR"], b"[::1]", "not an IP address"),
        (X[b"ADDR"], b"\xe9", "not an IP address"),
        (X[b"ADDR"], "192.0.2.1", "a value of type str"),
        (X[b"ADDR"], 7, "a value of type int"),
        (X[b"ADDR"], TEMPUNAVAIL, "it can't be TEMPUNAVAIL"),
        (F[b"NAME"], TEMPUNAVAIL, "it can't be TEMPUNAVAIL"),
        (X[b"PORT"], -1, "from 0 to 65535"),
        (X[b"PORT"], 65536, "from 0 to 65535"),
        (X[b"PORT"], True, "from 0 to 65535"),
        (X[b"PORT"], b"25", "from 0 to 65535"),
        (X[b"PROTO"], b"LMTP", "one of SMTP, ESMTP"),
        (X[b"PROTO"], b"smtp", "one of SMTP, ESMTP"),
        (X[b"PROTO"], UNAVAILABLE, "it can't be UNAVAILABLE"),
        (X[b"LOGIN"], b"a\tb", "control characters"),
        (X[b"LOGIN"], b"a\x7fb", "control characters"),
        (X[b"LOGIN"], b"\xe9", "UTF-8"),
        (X[b"LOGIN"], b"", "can't be empty"),
        (X[b"LOGIN"], b"[Unavailable]", "read as the special value"),
        (X[b"LOGIN"], "ann", "a value of type str"),
        (X[b"LOGIN"], Sly(b"ann"), "a value of type Sly"),
        (X[b"HELO"], b"[tempunavail]", "read as the special value"),
        (X[b"HELO"], b"a\r\nMAIL", "NUL, CR or LF"),
        (X[b"HELO"], b" " * 86, "258 bytes when encoded, over 255"),
        (X[b"HELO"], b"x" * 256, "256 bytes when encoded, over 255"),
        (F[b"PROTO"], b"p" * 65, "65 bytes, over 64"),
        (F[b"SOURCE"], b"local", "one of LOCAL, REMOTE"),
        (F[b"SOURCE"], b"ELSEWHERE", "one of LOCAL, REMOTE"),
    ],
)
def test_what_can_not_be_sent(attribute: Attribute, value: object, complaint: str) -> None:
    """With the attribute's name, and a reason."""
    with pytest.raises(LocalProtocolError, match=f"^{attribute.name.decode()}: .*{complaint}"):
        attribute.encode(value)


@pytest.mark.parametrize(
    ("attribute", "value", "text"),
    [
        (X[b"NAME"], b"a.example", b"a.example"),
        (X[b"NAME"], TEMPUNAVAIL, b"[TEMPUNAVAIL]"),
        (X[b"ADDR"], UNAVAILABLE, b"[UNAVAILABLE]"),
        (X[b"PORT"], 0, b"0"),
        (X[b"PORT"], 65535, b"65535"),
        (X[b"LOGIN"], "é=ann".encode(), b"+C3+A9+3Dann"),
        (X[b"LOGIN"], b'"\\<', b"+22+5C+3C"),
        (X[b"HELO"], b"x" * 255, b"x" * 255),
        (X[b"HELO"], b"a\tb\xe9", b"a+09b+E9"),
        (X[b"PROTO"], b"SMTP", b"SMTP"),
        (F[b"PROTO"], b"p" * 64, b"p" * 64),
        (F[b"SOURCE"], b"LOCAL", b"LOCAL"),
    ],
)
def test_what_is_sent(attribute: Attribute, value: object, text: bytes) -> None:
    """To the byte."""
    assert attribute.encode(value) == text


@pytest.mark.parametrize(
    ("attribute", "text", "value"),
    [
        (X[b"NAME"], b"[UNAVAILABLE]", UNAVAILABLE),
        (X[b"NAME"], b"[TempUnavail]", TEMPUNAVAIL),
        (X[b"LOGIN"], b"+5Bunavailable+5D", UNAVAILABLE),
        (X[b"LOGIN"], b"[TEMPUNAVAIL]", None),
        (X[b"LOGIN"], b"a+20b+2Bc", b"a b+c"),
        (X[b"LOGIN"], b"a+09b", None),
        (X[b"LOGIN"], b"+7F", None),
        (X[b"LOGIN"], b"+C3+A9", b"\xc3\xa9"),
        (X[b"LOGIN"], b"a+", None),
        (X[b"LOGIN"], b'"a', b'"a'),
        (X[b"HELO"], b"a+09b", b"a\tb"),
        (X[b"PORT"], b"[unavailable]", UNAVAILABLE),
        (X[b"PORT"], b"65535", 65535),
        (X[b"PORT"], b"00025", 25),
        (X[b"PORT"], b"65536", None),
        (X[b"PORT"], b"999999", None),
        (X[b"PORT"], b"abc", None),
        (X[b"PORT"], b"-1", None),
        (X[b"PORT"], b"+D9+A3", None),
        (X[b"PROTO"], b"esmtp", b"ESMTP"),
        (X[b"PROTO"], b"LMTP", None),
        (X[b"PROTO"], b"[UNAVAILABLE]", None),
        (F[b"NAME"], b"[TEMPUNAVAIL]", None),
        (F[b"PROTO"], b"p" * 64, b"p" * 64),
        (F[b"PROTO"], b"p" * 65, None),
        (F[b"SOURCE"], b"local", b"LOCAL"),
        (F[b"SOURCE"], b"[UNAVAILABLE]", UNAVAILABLE),
        (F[b"SOURCE"], b"here", None),
    ],
)
def test_what_is_read(attribute: Attribute, text: bytes, value: object) -> None:
    """Special values in any case, encoded or not."""
    assert decoded(attribute, text) == value


def test_what_is_no_xtext() -> None:
    """Stands for itself, where it may."""
    for how in (Xtext.POSTFIX, Xtext.RAW):
        assert X[b"LOGIN"].decode(b"a+2", how, lenient=False) == b"a+2"


def test_a_lenient_reader_knows_lmtp() -> None:
    """Dovecot says so."""
    assert decoded(X[b"PROTO"], b"lmtp", lenient=True) == b"LMTP"
