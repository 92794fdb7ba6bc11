import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nginxauth._address import is_address

# Seen with Debian's nginx 1.22.1: tests/interop/test_nginx_answers.py has these and more.
TAKEN = [
    b"127.0.0.1",
    b"127..0.1",
    b"127...",
    b"...",
    b"0127.000.0.01",
    b"255.255.255.254",
    b"::",
    b"::1",
    b"::1:",
    b":0:0:0:0:0:0:0:1",
    b"0:0:0:0:0:0::1",
    b"::0:0:0:0:0:0:1",
    b"2001:DB8::a",
    b"::ffff:127.0.0.1",
    b"::FFFF:127..0.1",
    b"0:0:0:0:0:0:127.0.0.1",
    b"::0:0:0:0:0:127.0.0.1",
    b":0:0:0:0:0:0:127.0.0.1",
]
REFUSED = [
    b"",
    b".",
    b"127.1",
    b"127.0.0.1.",
    b"2130706433",
    b"127.0.0.256",
    b"0x7f.0.0.1",
    b"127.0.0.1 ",
    b"127.0.0.-1",
    b"127.0.0.1\n",
    b"255.255.255.255",
    b"a.0.0.1",
    b":",
    b":::",
    b"1:",
    b"1",
    b"1::2::3",
    b"0:0:0:0:0:0:0:0:1",
    b"0:0:0:0:0:0:0::",
    b"::0:0:0:0:0:0:0:1",
    b"00001::1",
    b"::00001",
    b"::g",
    b"g::1",
    b"::ffff:00127.0.0.1",
    b"::ffff:.0.0.1",
    b"::ffff:a.0.0.1",
    b"::ffff:255.255.255.255",
    b"0:0:0:0:0:0:0:127.0.0.1",
    b"::0:0:0:0:0:0:127.0.0.1",
    b":127.0.0.1",
    b"127.0.0.1:25",
    b"::127.0.0.1:1",
    b"[::1]",
    b"::1%lo",
    b"localhost",
    b"unix:/run/x",
]


@pytest.mark.parametrize("text", TAKEN)
def test_nginx_connects_to_it(text: bytes) -> None:
    """However it looks."""
    assert is_address(text)


@pytest.mark.parametrize("text", REFUSED)
def test_nginx_does_not_take_it(text: bytes) -> None:
    """However good it looks to others."""
    assert not is_address(text)


@given(st.ip_addresses())
def test_an_address_as_it_should_be(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    """Is taken, in its short form and in its long one."""
    if str(address) != "255.255.255.255":
        assert is_address(str(address).encode())
        assert is_address(address.exploded.encode())


@given(st.text("0127.:afg", max_size=24).map(str.encode) | st.binary(max_size=8))
@example(b"1:2:3:4:5:6:7::")
@example(b"::ffff:255.255.255.255")
@example(b"1:2:3:4:5:6:255.255.255.255")
@example(b"::2:3:4:5:6:7:8")
@example(b"1::3:4:5:6:7:8")
def test_what_is_an_address_to_python(text: bytes) -> None:
    """Is one to nginx, but for a zone, for all ones, and for a gap of one group at the end."""
    try:
        address = ipaddress.ip_address(text.decode("ascii"))
    except ValueError:
        return
    ones = text.endswith(b"255.255.255.255")
    gap = text.endswith(b"::") and text.count(b":") == 8
    assert is_address(text) is not (ones or gap or b"%" in text), address
