import ipaddress

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import milterproto as mp
from milterproto import _events


def test_events_are_frozen_and_compare_by_value() -> None:
    """An event in hand can't be changed by what handles it."""
    event = mp.Helo(b"a.test")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        event.name = b"b.test"  # type: ignore[misc]
    assert event == mp.Helo(b"a.test")
    other: mp.Command = mp.Unknown(b"a.test")
    assert event != other
    assert len({event, mp.Helo(b"a.test")}) == 1


def test_macro_values_by_name_as_on_the_wire() -> None:
    """Names keep their braces, empty values stay, the order is the MTA's."""
    macros = mp.Macros(b"C", b"j\0mta.test\0{daemon_name}\0MTA4\0{mail_host}\0\0")
    assert list(macros.values.items()) == [
        (b"j", b"mta.test"),
        (b"{daemon_name}", b"MTA4"),
        (b"{mail_host}", b""),
    ]
    assert macros.values is macros.values


@pytest.mark.parametrize(
    ("raw", "values"),
    [
        (b"", {}),
        (b"i", {}),
        (b"i\0", {}),
        (b"i\0Q1", {}),
        (b"i\0Q1\0", {b"i": b"Q1"}),
        (b"i\0Q1\0j\0", {b"i": b"Q1"}),
        (b"i\0Q1\0rest", {b"i": b"Q1"}),
        (b"i\0Q1\0i\0Q2\0", {b"i": b"Q1"}),
        (b"\0\0", {b"": b""}),
    ],
)
def test_odd_macro_packets_are_read_as_far_as_they_go(
    raw: bytes, values: dict[bytes, bytes]
) -> None:
    """A name without a value, or bytes after the last NUL, cost nothing but themselves."""
    assert mp.Macros(b"M", raw).values == values


@given(st.binary())
def test_macro_values_never_raise(raw: bytes) -> None:
    """Whatever the peer sent, looking at it is safe."""
    assert len(mp.Macros(b"M", raw).values) <= raw.count(b"\0")


def test_macros_made_for_a_command() -> None:
    """An MTA names the event class; the code byte and the layout follow."""
    macros = mp.Macros.of(mp.RcptTo, {b"i": b"Q1", b"{rcpt_addr}": b"a@b"})
    assert macros == mp.Macros(b"R", b"i\0Q1\0{rcpt_addr}\0a@b\0")


@pytest.mark.parametrize(
    ("family", "address", "expected"),
    [
        (mp.Family.INET, b"192.0.2.1", "192.0.2.1"),
        (mp.Family.INET6, b"2001:db8::1", "2001:db8::1"),
        (mp.Family.INET6, b"IPv6:2001:db8:0:0:0:0:0:1", "2001:db8::1"),
        (mp.Family.INET6, b"ipv6:::1", "::1"),
        (mp.Family.INET6, b"[IPv6:::1]", "::1"),
        (mp.Family.INET6, b"[::1]", "::1"),
    ],
)
def test_client_addresses_in_every_spelling(
    family: mp.Family, address: bytes, expected: str
) -> None:
    """Sendmail writes an IPv6: prefix and no ::, Postfix the short form, some add brackets."""
    assert mp.Connect(b"h", family, 1, address).ip == ipaddress.ip_address(expected)


@pytest.mark.parametrize(
    ("family", "address"),
    [
        (mp.Family.UNKNOWN, b""),
        (mp.Family.UNIX, b"192.0.2.1"),
        (mp.Family.INET, b"192.0.2.256"),
        (mp.Family.INET, b""),
        (mp.Family.INET6, b"\xff\xfe"),
    ],
)
def test_what_is_no_ip_address_gives_none(family: mp.Family, address: bytes) -> None:
    """The view never raises; the bytes are there to be looked at."""
    assert mp.Connect(b"h", family, 1, address).ip is None


def test_reply_text_from_str() -> None:
    """Code, enhanced code and lines, as a filter author has them."""
    assert mp.ReplyCode.text(550, "5.7.1", "100% spam", "go away") == mp.ReplyCode(
        b"550", b"5.7.1", (b"100% spam", b"go away")
    )


@pytest.mark.parametrize(("code", "enhanced"), [(451, b"4.0.0"), (554, b"5.0.0")])
def test_a_missing_enhanced_code_is_supplied(code: int, enhanced: bytes) -> None:
    """The class is the code's own, the rest as libmilter has it."""
    assert mp.ReplyCode.text(code, None, "no").enhanced == enhanced


def test_a_reply_without_text_has_one_empty_line() -> None:
    """A reply with no line at all would leave the SMTP client waiting."""
    assert mp.ReplyCode.text(550, "5.7.1").lines == (b"",)


@given(st.integers(), st.none() | st.text(), st.text())
def test_making_a_reply_never_fails(code: int, enhanced: str | None, line: str) -> None:
    """What can't be sent is found by send(), where all is told at once."""
    assert isinstance(mp.ReplyCode.text(code, enhanced, line), mp.ReplyCode)


def test_making_a_reply_from_lone_surrogates_never_fails() -> None:
    """Such a str comes from os.fsdecode() of a file name, for instance."""
    assert mp.ReplyCode.text(550, "\udc80", "\udc80\ud800").enhanced == b"\x80"


def test_every_command_has_a_code_of_its_own() -> None:
    """The codes are those that Macros name their commands by."""
    codes = list(_events.COMMAND_CODES.values())
    assert sorted(codes) == sorted(set(codes))
    assert b"".join(sorted(codes)) == b"ABCDEHKLMNOQRTU"
