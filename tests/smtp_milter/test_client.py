"""What a gateway is told of the client."""

from __future__ import annotations

import ipaddress
import socket
import struct

import attrs
import pytest
from smtp_milter._client import Client

import nginxauth.xclient as xc
from milterproto.message import Message

MACROS = {
    b"j": b"mta.test",
    b"{daemon_addr}": b"198.51.100.1",
    b"{daemon_port}": b"25",
    b"{client_ptr}": b"other.example.org",
}
CLIENT = Client(
    b"mail.example.org", ipaddress.ip_address("192.0.2.7"), 4321, b"helo.test", b"ann", MACROS
)
V6 = attrs.evolve(CLIENT, ip=ipaddress.ip_address("2001:db8::7"))
NOBODY = Client()


def test_xclient() -> None:
    """All of it; and every gateway that takes XCLIENT takes it."""
    command = CLIENT.xclient()
    assert command == xc.XClient(
        name=b"mail.example.org",
        reverse_name=b"other.example.org",
        port=4321,
        destaddr=b"198.51.100.1",
        destport=25,
        addr=b"192.0.2.7",
        login=b"ann",
        helo=b"helo.test",
        proto=b"ESMTP",
    )
    assert b"ADDR=IPV6:2001:db8::7" in xc.plan(V6.xclient(), xc.EVERYTHING).commands[0]


def test_a_client_of_which_nothing_is_known() -> None:
    """Each attribute says so; or the gateway would keep ours."""
    command = NOBODY.xclient()
    assert command.addr is command.name is command.port is command.login is xc.UNAVAILABLE
    assert command.helo is command.reverse_name is xc.UNAVAILABLE
    assert command.destaddr is command.destport is None
    assert xc.plan(command, xc.EVERYTHING).omitted == ()
    assert xc.plan(NOBODY.xforward(b"x"), xc.EVERYTHING).omitted == ()


@pytest.mark.parametrize("name", [b"unknown", b"[192.0.2.7]", b"a..b", b"192.0.2.7", b"", b"a b"])
def test_names_that_are_none(name: bytes) -> None:
    """What Postfix would not take is not available; for now, if the MTA says so."""
    client = attrs.evolve(CLIENT, hostname=name)
    assert client.xclient().name is xc.UNAVAILABLE
    later = attrs.evolve(client, macros={b"{client_resolve}": b"TEMP"})
    assert later.xclient().name is xc.TEMPUNAVAIL
    assert later.xforward(b"x").name is xc.UNAVAILABLE


@pytest.mark.parametrize("helo", [b"a\r\nb", b"x" * 300, b"[unavailable]", b""])
def test_helo_that_can_not_be_told(helo: bytes) -> None:
    """Rather nothing than an error."""
    assert attrs.evolve(CLIENT, helo=helo).xclient().helo is xc.UNAVAILABLE


def test_odd_macros() -> None:
    """They come from an MTA's configuration."""
    odd = attrs.evolve(CLIENT, macros={b"{daemon_addr}": b"\xff", b"{daemon_port}": b"smtp"})
    assert odd.xclient().destaddr is odd.xclient().destport is None


def test_proxy_v1() -> None:
    """Both ends, of one family."""
    assert CLIENT.proxy_v1() == b"PROXY TCP4 192.0.2.7 198.51.100.1 4321 25\r\n"
    assert V6.proxy_v1() == b"PROXY TCP6 2001:db8::7 :: 4321 25\r\n"
    assert attrs.evolve(CLIENT, macros={}).proxy_v1() == (
        b"PROXY TCP4 192.0.2.7 0.0.0.0 4321 0\r\n"
    )
    assert NOBODY.proxy_v1() == b"PROXY UNKNOWN\r\n"


def test_proxy_v2() -> None:
    """The same in binary."""
    signature = b"\r\n\r\n\0\r\nQUIT\n"
    ends = socket.inet_aton("192.0.2.7") + socket.inet_aton("198.51.100.1")
    assert CLIENT.proxy_v2() == signature + b"\x21\x11\0\x0c" + ends + struct.pack(">HH", 4321, 25)
    v6 = V6.proxy_v2()
    assert v6[12:16] == b"\x21\x21\0\x24"
    assert len(v6) == 16 + 36
    assert NOBODY.proxy_v2() == signature + b"\x20\0\0\0"


def test_received() -> None:
    """As an MTA writes it, so that filters can read it; and always one field."""
    assert CLIENT.received(1_800_000_000.0) == (
        b"Received: from helo.test (mail.example.org [192.0.2.7])\r\n"
        b"\t(Authenticated sender: ann)\r\n"
        b"\tby mta.test with ESMTPA; Fri, 15 Jan 2027 08:00:00 -0000"
    )
    tls = attrs.evolve(
        V6, login=b"", macros={**MACROS, b"{tls_version}": b"TLSv1.3", b"{cipher}": b"AES"}
    )
    assert tls.received(0).split(b"\r\n\t")[:2] == [
        b"Received: from helo.test (mail.example.org [IPv6:2001:db8::7])",
        b"(using TLSv1.3 with cipher AES)",
    ]
    odd = attrs.evolve(CLIENT, helo=b"a\r\nX: y (", login=b"\xff)")
    (field,) = Message.parse(odd.received(0)).headers
    assert field.name == b"Received"
    assert NOBODY.received(0).startswith(b"Received: from unknown (unknown [unknown])\r\n\tby ")
