"""What hypothesis draws from for XCLIENT: values that may be sent, and any others."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address

from hypothesis import strategies as st

from nginxauth import xclient as xc

unavailable = st.just(xc.UNAVAILABLE)
specials = st.sampled_from(xc.Special)


def sendable(text: bytes) -> bool:
    """No special value, and in one line."""
    special = text.upper() in {one.value for one in xc.Special}
    return bool(text) and not re.search(rb"[\0\r\n]", text) and not special


_labels = st.from_regex(rb"[a-z0-9_]([a-z0-9_-]{0,8}[a-z0-9_])?", fullmatch=True)
names = st.lists(_labels, min_size=1, max_size=4).map(
    lambda labels: b".".join([*labels, b"example"])
)
# Short enough for one command, when each byte takes three.
texts = st.binary(max_size=60).filter(sendable)
logins = (
    st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=16)
    .map(str.encode)
    .filter(sendable)
)


def _stays(address: IPv4Address | IPv6Address) -> bool:
    """Postfix takes it, and it is not IPv4 in IPv6, which becomes IPv4 when it is sent."""
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped is None
    return address.packed[0] != 0 or not int(address)


addresses = st.ip_addresses().filter(_stays).map(lambda address: str(address).encode())
ports = st.integers(0, 65535)


def _maybe(values: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.one_of(st.none(), values)


xclients = st.builds(
    xc.XClient,
    name=_maybe(names | specials),
    reverse_name=_maybe(names | specials),
    port=_maybe(ports | unavailable),
    destaddr=_maybe(addresses | unavailable),
    destport=_maybe(ports | unavailable),
    addr=_maybe(addresses | unavailable),
    login=_maybe(logins | unavailable),
    helo=_maybe(texts | unavailable),
    proto=_maybe(st.sampled_from([b"SMTP", b"ESMTP"])),
).filter(
    # An address has to have a name.
    lambda event: event != xc.XClient() and (event.addr is None or event.name is not None)
)

xforwards = st.builds(
    xc.XForward,
    name=_maybe(names | unavailable),
    addr=_maybe(addresses | unavailable),
    port=_maybe(ports | unavailable),
    proto=_maybe(texts.filter(lambda text: len(text) <= 64) | unavailable),
    helo=_maybe(texts | unavailable),
    ident=_maybe(texts | unavailable),
    source=_maybe(st.sampled_from([b"LOCAL", b"REMOTE"]) | unavailable),
).filter(lambda event: event != xc.XForward())

# What a caller may put there, against all that the types say.
anything = st.one_of(
    st.none(), specials, st.binary(max_size=300), st.integers(-5, 70000), st.text(max_size=5), texts
)
any_xclients = st.builds(
    xc.XClient,
    **dict.fromkeys(
        [*("name", "reverse_name", "port", "destaddr", "destport"), *("addr", "login", "helo")],
        anything,
    ),
    proto=anything,
)
any_xforwards = st.builds(
    xc.XForward,
    **dict.fromkeys(["name", "addr", "port", "proto", "helo", "ident", "source"], anything),
)

# Lines that have something of the commands in them.
_pieces = st.sampled_from(
    [
        *(b"XCLIENT", b"XFORWARD", b"xclient", b" ", b" ", b"  ", b"\t", b"=", b"+", b"+4", b"+4a"),
        *(one.encode() for one in ("NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "SOURCE")),
        *(b"IPV6:", b"ipv6:", b"::1", b"192.0.2.1", b"a.example", b"[UNAVAILABLE]", b"ESMTP"),
        *(b"[tempunavail]", b"65535", b"65536", b"\r\n", b"\n", b"\0", b"LOCAL", b"\xff", b'"'),
    ]
)
lines = st.lists(_pieces | st.binary(max_size=4), max_size=14).map(b"".join)
commands = lines.map(lambda rest: b"XCLIENT " + rest) | lines.map(lambda rest: b"XFORWARD " + rest)
any_lines = lines | commands | st.binary(max_size=100)
