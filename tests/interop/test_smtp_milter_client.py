"""Who the client is, a gateway is told in each of the ways; and a second Postfix decides by it."""

from __future__ import annotations

import contextlib
import shutil
import socket
import socketserver
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.proxy_protocol import ProxyData
from aiosmtpd.smtp import SMTP, Envelope
from aiosmtpd.smtp import Session as SMTPSession

import dovecotauth as da

from ._postfix import PATIENCE, Postfix, free_port
from ._postfix_bed import Bed
from ._postfix_client import Client
from ._sink import Sink
from ._smtp_gateway import Script, ScriptedGateway
from ._smtp_milter import configuration, smtp_milter

CONTENT = (
    b"From: a@example.org\r\nDate: Tue, 24 Nov 2026 04:00:00 +0000\r\n"
    b"Message-Id: <1@example.org>\r\nSubject: hi\r\n\r\nbody\r\n"
)
ADDR = b"XCLIENT NAME=mail.example.org PORT=4321 ADDR="
FROM_V4, FROM_V6 = ADDR + b"192.0.2.7", ADDR + b"IPV6:2001:db8::7"


def client_from(bed: Bed, xclient: bytes, login: bytes = b"") -> Client:
    """A client from anywhere, who may have logged in."""
    client = bed.client("other-xclient")
    client.must(b"220", xclient + (b" LOGIN=" + login if login else b""))
    client.must(b"250", b"EHLO helo.test")
    return client


class _Greeter(socketserver.StreamRequestHandler):
    """A SASL server that only says hello: without one, Postfix does not look at logins."""

    def handle(self) -> None:
        hello = da.ServerHello((da.Mechanism(b"PLAIN"),), 1, 1, b"0" * 32)
        self.wfile.write(da.ServerConnection().send(hello))
        with contextlib.suppress(ConnectionError):
            self.rfile.read()


class Peer:
    """A Postfix that takes XCLIENT, looks at the client, and hands on to the sink meanwhile."""

    def __init__(self, program: Path) -> None:
        self.sink_port = free_port()
        # Not pytest's tmp_path: the user "postfix" has to reach what is inside.
        self.root = Path(tempfile.mkdtemp(prefix="mailwire-"))
        self.root.chmod(0o755)
        self.world = Sink()
        access = {
            "smtpd_milters": "",
            "smtpd_authorized_xclient_hosts": "127.0.0.1",
            "smtpd_authorized_xforward_hosts": "127.0.0.1",
            "smtpd_helo_required": "yes",
            "inet_protocols": "all",
            "smtpd_sasl_auth_enable": "yes",
            "smtpd_sasl_type": "dovecot",
            "smtpd_sasl_path": f"{self.root}/auth",
            "smtpd_client_restrictions": (
                "check_client_access inline:{ { 192.0.2.66 = 554 5.7.1 Not from there },"
                " { bad.example.org = 554 5.7.1 Not from that name } }"
            ),
            "smtpd_helo_restrictions": (
                "check_helo_access inline:{ { bad.helo = 450 4.7.1 Not with that name } }"
            ),
            "smtpd_sender_restrictions": (
                "check_sasl_access inline:{ { eve = 550 5.7.1 Not you } }"
            ),
            "smtpd_relay_restrictions": (
                "check_recipient_access inline:{example.test=permit}, reject"
            ),
        }
        proxying = {**access, "smtpd_proxy_filter": f"127.0.0.1:{self.sink_port}"}
        early = {**proxying, "smtpd_delay_reject": "no"}
        self.postfix = Postfix(
            program,
            self.root,
            self.world.port,
            {"access": proxying, "early": early},
            settings={},
        )

    def __enter__(self) -> Self:
        self.world.__enter__()
        self._sasl = socketserver.ThreadingUnixStreamServer(f"{self.root}/auth", _Greeter)
        self._sasl.daemon_threads = True
        (self.root / "auth").chmod(0o666)
        threading.Thread(target=self._sasl.serve_forever, args=(0.05,)).start()
        self.postfix.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        print(self.postfix.log())
        self.postfix.stop()
        self._sasl.shutdown()
        self._sasl.server_close()
        self.world.__exit__()
        shutil.rmtree(self.root, ignore_errors=True)


@pytest.fixture(scope="module")
def peer(postfix_program: Path) -> Iterator[Peer]:
    with Peer(postfix_program) as running:
        yield running


@pytest.mark.parametrize("connect", ["mail", "connect"])
def test_a_postfix_as_gateway(bed: Bed, tmp_path: Path, peer: Peer, connect: str) -> None:
    """17: by address, name, HELO and login, from the client's own; and mail comes back."""
    port = peer.postfix.ports["access" if connect == "mail" else "early"]
    settings = configuration(bed, port, sink=peer.sink_port, connect=connect)
    refusals = {
        (ADDR + b"192.0.2.66", b"helo.test", b""): b"554 5.7.1 <mail.example.org[192.0.2.66]>: ",
        (b"XCLIENT NAME=bad.example.org ADDR=192.0.2.7", b"helo.test", b""): b"554 5.7.1 ",
        (FROM_V4, b"bad.helo", b""): b"450 4.7.1 <bad.helo>: Helo command rejected: Not with",
        (FROM_V4, b"helo.test", b"eve"): b"550 5.7.1 <eve>: SASL login name rejected: Not you",
    }
    with smtp_milter(tmp_path, settings):
        for (xclient, helo, login), reply in refusals.items():
            with bed.client("other-xclient") as client:
                told = client.command(xclient + (b" LOGIN=" + login if login else b""))
                if told.startswith(b"220"):
                    client.command(b"EHLO " + helo)
                    told = list(client.walk(CONTENT).values())[-1]
                if connect == "connect" and reply.startswith(b"554"):
                    # To a refusal at CONNECT, Postfix gives words of its own at first.
                    assert told.startswith(b"554")
                else:
                    assert told.startswith(reply), told
        for xclient, login in ((FROM_V4, b""), (FROM_V6, b""), (FROM_V4, b"ann lee")):
            with client_from(bed, xclient, login.replace(b" ", b"+20")) as client:
                for _ in range(2):
                    assert client.message(CONTENT).startswith(b"250 ")
                client.quit()
            for _ in range(2):
                assert bed.delivery().without_received == CONTENT
    log = peer.postfix.log()
    assert "client=mail.example.org[2001:db8::7]" in log  # 12
    assert "sasl_method=XCLIENT, sasl_username=ann lee" in log  # 11
    assert "improper command pipelining" not in log


def test_login_after_an_eager_connection(bed: Bed, tmp_path: Path) -> None:
    """11: what was said too early is said again, at another connection."""
    script = Script(extensions=(b"XCLIENT NAME ADDR PORT HELO LOGIN",))
    with ScriptedGateway(script) as gateway:
        settings = configuration(bed, gateway.port, connect="connect")
        with smtp_milter(tmp_path, settings), client_from(bed, FROM_V4, b"ann") as client:
            assert client.message(CONTENT).startswith(b"250 ")
            client.quit()
        bed.delivery()
    lines = [[one for one in told.commands if one.startswith(b"XCLI")] for told in gateway.told]
    logins = [line.partition(b"LOGIN=")[2].split(b" ")[0] for (line,) in lines]
    # The first is the proxy itself, before its XCLIENT.
    assert logins == [b"[UNAVAILABLE]", b"[UNAVAILABLE]", b"ann"]
    assert b"ADDR=192.0.2.7" in lines[-1][0]


def test_xforward(bed: Bed, tmp_path: Path) -> None:
    """For each message; the connection serves the next client, too."""
    script = Script(extensions=(b"XFORWARD NAME ADDR PORT HELO IDENT SOURCE",))
    with (
        ScriptedGateway(script) as gateway,
        smtp_milter(tmp_path, configuration(bed, gateway.port)),
    ):
        for xclient in (FROM_V4, FROM_V6):
            with client_from(bed, xclient) as client:
                assert client.message(CONTENT).startswith(b"250 ")
                client.quit()
            bed.delivery()
    (told,) = gateway.told
    lines = [one for one in told.commands if one.startswith(b"XFORWARD")]
    assert [line.partition(b" IDENT=")[0] for line in lines] == [
        b"XFORWARD NAME=mail.example.org ADDR=192.0.2.7 PORT=4321 HELO=helo.test",
        b"XFORWARD NAME=mail.example.org ADDR=IPV6:2001:db8::7 PORT=4321 HELO=helo.test",
    ]
    assert told.contents == [CONTENT, CONTENT]  # no Received field


class _ProxyGateway(Controller):
    """aiosmtpd, which knows the PROXY protocol."""

    def __init__(self) -> None:
        self.seen: list[ProxyData] = []
        super().__init__(self, hostname="127.0.0.1", port=free_port())

    def factory(self) -> SMTP:
        return SMTP(self, proxy_protocol_timeout=5, loop=self.loop)

    async def handle_PROXY(  # noqa: N802 - the hook's name
        self, _server: SMTP, _session: SMTPSession, _envelope: Envelope, data: ProxyData
    ) -> bool:
        self.seen.append(data)
        return True

    def _trigger_server(self) -> None:
        """It is tried out with a header, or it would wait for one."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as probe:
            probe.sendall(b"PROXY UNKNOWN\r\nQUIT\r\n")
            while probe.recv(1000):
                pass
        self.seen.clear()


@pytest.mark.parametrize("tell", ["proxy", "proxy-v2"])
def test_the_proxy_protocol(bed: Bed, tmp_path: Path, tell: str) -> None:
    """As aiosmtpd reads it."""
    gateway = _ProxyGateway()
    gateway.start()
    try:
        settings = configuration(bed, gateway.port, gateway={"tell": tell})
        with smtp_milter(tmp_path, settings):
            for xclient in (FROM_V4, FROM_V6):
                with client_from(bed, xclient) as client:
                    assert client.message(CONTENT).startswith(b"250 ")
                    client.quit()
                bed.delivery()
    finally:
        gateway.stop()
    assert [str(one.src_addr) for one in gateway.seen] == ["192.0.2.7", "2001:db8::7"]
    assert all(int(one.src_port or 0) == 4321 for one in gateway.seen)


def test_xclient_that_is_offered_and_not_allowed(bed: Bed, tmp_path: Path) -> None:
    """Never go on as who we are: the gateway would trust the client."""
    script = Script({b"XCLIENT": b"550 5.7.0 Error: insufficient authorization"})
    script.extensions = (b"XCLIENT NAME ADDR",)
    with (
        ScriptedGateway(script) as gateway,
        smtp_milter(tmp_path, configuration(bed, gateway.port)) as program,
        bed.client("other") as client,
    ):
        assert client.command(b"MAIL FROM:<a@example.org>").startswith(b"451 4.3.2 ")
        client.quit()
    assert "XCLIENT is answered with 550 5.7.0" in "\n".join(program.log)
