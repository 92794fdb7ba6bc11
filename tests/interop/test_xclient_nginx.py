"""nginx sends XCLIENT: to Postfix, with our filter behind it, and to our receiver in aiosmtpd."""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs
import pytest

import milterproto as mp
from nginxauth import xclient as xc

from ._nginx import MailClient, Nginx
from ._nginx_peers import RawAuthServer
from ._postfix_bed import Bed
from ._program import Program
from .test_xclient_postfix import filtering, of

PROXY4: Final = b"PROXY TCP4 192.0.2.9 198.51.100.1 5555 25\r\n"
PROXY6: Final = b"PROXY TCP6 2001:db8::9 2001:db8::1 5555 25\r\n"


@attrs.frozen
class Front:
    """nginx, and who tells it where a user's mail goes to."""

    nginx: Nginx
    auth: RawAuthServer

    @contextlib.contextmanager
    def client(
        self, login: bytes, port: int, proxy: bytes = PROXY4
    ) -> Iterator[tuple[MailClient, bytes]]:
        """A client from elsewhere that has tried to log in, and what it was told."""
        answer = b"HTTP/1.0 200 OK\r\nAuth-Status: OK\r\nAuth-Server: 127.0.0.1\r\n"
        # As nginx writes the name: none of ours has a blank or a %.
        self.auth.script(login, (answer + b"Auth-Port: %d\r\n\r\n" % port,))
        with self.nginx.client("smtp-proxied-real", proxy_header=proxy) as client:
            assert client.greeting.startswith(b"220 ")
            assert client.command(b"EHLO client.example").startswith(b"250")
            response = base64.b64encode(b"\0" + login + b"\0secret")
            yield client, client.command(b"AUTH PLAIN " + response)


@pytest.fixture(scope="module")
def front(nginx_program: Path) -> Iterator[Front]:
    """One nginx for all tests."""
    with RawAuthServer() as auth, Nginx(nginx_program, f"127.0.0.1:{auth.port}/auth") as nginx:
        yield Front(nginx, auth)
        # Shown with a test that fails.
        print(nginx.log())


def escapes(front: Front) -> bool:
    """Whether this nginx writes a login as xtext."""
    return tuple(map(int, front.nginx.version.split("."))) >= (1, 29, 2)


# --- to Postfix ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("proxy", "connected"),
    [
        (PROXY4, mp.Connect(b"[192.0.2.9]", mp.Family.INET, 0, b"192.0.2.9")),
        (PROXY6, mp.Connect(b"[2001:db8::9]", mp.Family.INET6, 0, b"2001:db8::9")),
    ],
    ids=["IPv4", "IPv6"],
)
def test_the_filter_sees_who_logged_in(
    bed: Bed, front: Front, proxy: bytes, connected: mp.Connect
) -> None:
    """His address and his login; the port is nginx's own, for nginx tells none."""
    with (
        filtering(bed) as sessions,
        front.client(b"ann@example.test", bed.postfix.ports["other-xclient"], proxy) as got,
    ):
        client, reply = got
        assert reply == b"235 2.0.0 OK\r\n"
        for line in (b"MAIL FROM:<ann@example.test>", b"RCPT TO:<b@example.test>"):
            assert client.command(line).startswith(b"250 ")
        assert client.command(b"DATA").startswith(b"354 ")
        assert client.command(b"Subject: hello\r\n\r\nbody\r\n.").startswith(b"250 ")
        assert client.command(b"QUIT").startswith(b"221 ")
    front_session, session = sessions
    assert of(front_session, mp.Connect)[0].address == b"127.0.0.1"
    event, macros = of(session, mp.Connect)
    assert attrs.evolve(event, port=0) == connected
    assert event.port not in (0, 5555)
    assert macros[b"{client_name}"] == b"unknown"
    assert of(session, mp.Helo)[0] == mp.Helo(b"client.example")
    macros = of(session, mp.MailFrom)[1]
    assert macros[b"{auth_authen}"] == b"ann@example.test"
    assert macros[b"{auth_type}"] == b"XCLIENT"
    bed.delivery()


def login_at_postfix(bed: Bed, front: Front, login: bytes) -> bytes:
    """Whom Postfix, and the filter, take a user for."""
    with (
        filtering(bed) as sessions,
        front.client(login, bed.postfix.ports["other-xclient"]) as (client, reply),
    ):
        assert reply == b"235 2.0.0 OK\r\n"
        assert client.command(b"MAIL FROM:<a@example.org>").startswith(b"250 ")
        assert client.command(b"QUIT").startswith(b"221 ")
    return of(sessions[-1], mp.MailFrom)[1][b"{auth_authen}"]


def test_a_login_may_become_another(bed: Bed, front: Front) -> None:
    """nginx before 1.29.2 sends it as it is, and Postfix decodes it."""
    expected = b"bob+41@x" if escapes(front) else b"bobA@x"
    assert login_at_postfix(bed, front, b"bob+41@x") == expected


def test_a_login_may_swallow_the_name(bed: Bed, front: Front) -> None:
    """Since xtext leaves a quotation mark as it is, in every version."""
    assert login_at_postfix(bed, front, b'"ann') == b'"ann NAME=[UNAVAILABLE]'


def test_who_has_logged_in_may_forward(bed: Bed, front: Front) -> None:
    """Postfix asks the proxy's address, not his: a proxy like nginx has to stay off that list."""
    port = bed.postfix.ports["other-xclient"]
    with filtering(bed), front.client(b"ann", port) as (client, reply):
        assert reply.startswith(b"235 ")
        offer = xc.parse_ehlo(client.command(b"EHLO client.example"))
        assert offer == xc.Offer((), xc.POSTFIX.offer.xforward)
        assert client.command(b"XCLIENT ADDR=127.0.0.1").startswith(b"550 ")
        assert client.command(b"XFORWARD SOURCE=LOCAL").startswith(b"250 ")
        assert client.command(b"QUIT").startswith(b"221 ")


# --- to our receiver -----------------------------------------------------------------------


@contextlib.contextmanager
def receiving(*options: str) -> Iterator[tuple[Program, int]]:
    with Program("xclient_receiver.py", "--port", "0", "--trust", "127.0.0.1", *options) as program:
        (ready,) = program.log
        yield program, int(ready.rpartition(":")[2])


@pytest.mark.parametrize(
    ("proxy", "addr"), [(PROXY4, "192.0.2.9"), (PROXY6, "2001:db8::9")], ids=["IPv4", "IPv6"]
)
def test_our_receiver_knows_who_logged_in(front: Front, proxy: bytes, addr: str) -> None:
    """And says so, once for each mail."""
    with (
        receiving("--login") as (program, port),
        front.client(b"ann@example.test", port, proxy) as (client, reply),
    ):
        assert reply == b"235 2.0.0 OK\r\n"
        for line in (b"MAIL FROM:<ann@example.test>", b"RCPT TO:<b@example.test>"):
            assert client.command(line).startswith(b"250 ")
        assert client.command(b"DATA").startswith(b"354 ")
        assert client.command(b"body\r\n.").startswith(b"250 ")
        # He is not nginx.
        assert client.command(b"XCLIENT ADDR=127.0.0.1").startswith(b"550 ")
        assert client.command(b"QUIT").startswith(b"221 ")
    (said,) = [said for said in program.log if said.startswith("mail: ")]
    assert said == (
        f"mail: addr={addr} name=[UNAVAILABLE] login=ann@example.test helo=client.example "
        "from=ann@example.test to=b@example.test"
    )


def test_a_server_without_login_refuses_nginx(front: Front) -> None:
    """nginx sends LOGIN without looking at what is offered, and the user can't log in."""
    position = front.nginx.log_position
    with receiving() as (_, port), front.client(b"ann", port) as (_, reply):
        assert reply.startswith(b"451 4.3.2 ")
    assert re.search(r"501 5\.5\.4 Bad XCLIENT attribute name", front.nginx.log(position))


@pytest.mark.parametrize("login", [b'"ann', b"<ann>", b"ann\\", b"a=b", "é".encode()])
def test_our_receiver_does_not_fall_for_quoting(front: Front, login: bytes) -> None:
    """To it a quotation mark is a character like any other."""
    with receiving("--login") as (program, port), front.client(login, port) as (client, reply):
        if login.isascii():
            assert reply == b"235 2.0.0 OK\r\n"
            assert client.command(b"MAIL FROM:<a@example.org>").startswith(b"250 ")
            assert client.command(b"RCPT TO:<b@example.test>").startswith(b"250 ")
            assert client.command(b"DATA").startswith(b"354 ")
            assert client.command(b".").startswith(b"250 ")
            assert client.command(b"QUIT").startswith(b"221 ")
        else:
            # aiosmtpd takes no other command in anything but ASCII.
            assert reply.startswith(b"235 " if escapes(front) else b"451 ")
    if login.isascii():
        (line,) = [line for line in program.log if line.startswith("mail: ")]
        assert f" name=[UNAVAILABLE] login={xc.encode_xtext(login).decode()} " in line
