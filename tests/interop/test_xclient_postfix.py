"""XCLIENT and XFORWARD to a real Postfix: what we send is what it and the filter understand."""

from __future__ import annotations

import contextlib
import ipaddress
import random
import re
import socketserver
import threading
from collections.abc import Iterator
from typing import Any, ClassVar, Final

import attrs
import pytest
from adapters._listen import listen
from adapters.services import milter
from hypothesis import example, given, settings

import milterproto as mp
from nginxauth import xclient as xc
from tests.docs.test_xclient_page import rows
from tests.examples.adapter_hosts import ASYNCIO
from tests.nginxauth.test_xclient_receiver import REVERSE_NAMES
from tests.nginxauth.xclient_strategies import xclients

from ._postfix import PATIENCE
from ._postfix_bed import Bed
from ._postfix_client import Client

Seen = list[tuple[Any, dict[bytes, bytes]]]
MESSAGE: Final = b"Subject: hello\r\n\r\nbody\r\n"
# What Postfix puts a ? for in a HELO name.
NEUTERED: Final = re.compile(rb'[ <>()\\";@]')


@contextlib.contextmanager
def filtering(bed: Bed) -> Iterator[list[Seen]]:
    """Our filter behind Postfix, on the asyncio adapter; what each of its sessions has seen."""
    sessions: list[Seen] = []

    def session(conn: mp.FilterConnection) -> Any:
        seen: Seen = []
        sessions.append(seen)

        def handle(event: Any) -> None:
            seen.append((event, dict(conn.macros)))

        return handle

    service = milter(session, mp.Wants())
    with ASYNCIO.serve(service, None, listen(f"unix:{bed.other}", mode=0o666)):
        yield sessions


def of(seen: Seen, kind: type) -> tuple[Any, dict[bytes, bytes]]:
    """The one event of that kind, and the macros with it."""
    (one,) = [(event, macros) for event, macros in seen if type(event) is kind]
    return one


def connect(bed: Bed, service: str) -> tuple[Client, xc.Offer]:
    client = bed.client(service, helo=b"")
    return client, xc.parse_ehlo(client.must(b"250", b"EHLO proxy.test"))


def tell(client: Client, plan: xc.Plan) -> None:
    """Send the commands one by one, each of which must be taken."""
    for line in plan.commands:
        reply = client.command(line.removesuffix(b"\r\n"))
        assert plan.outcome(int(reply[:3])) is xc.Outcome.ACCEPTED, (line, reply)


def text_of(value: Any, else_: bytes, unavailable: bytes = b"unknown") -> bytes:
    """A value as Postfix's macros have it, where it was not told, and where it can't be."""
    if isinstance(value, xc.Special):
        return unavailable
    return else_ if value is None else str(value).encode() if isinstance(value, int) else value


def ip(text: bytes) -> Any:
    """An address that can be compared, however it is spelled."""
    bare = re.sub(rb"(?i)^ipv6:", b"", text).decode()
    return bare if bare == "unknown" else ipaddress.ip_address(bare)


# --- what it offers ------------------------------------------------------------------------


def test_the_profile_is_what_postfix_offers(bed: Bed) -> None:
    """In its order; to a stranger, nothing."""
    client, offer = connect(bed, "xclient-bare")
    with client:
        assert offer == xc.POSTFIX.offer
        assert xc.POSTFIX.seen
        client.quit()
    client, offer = connect(bed, "v6")
    with client:
        assert offer == xc.Offer()
        with pytest.raises(xc.LocalProtocolError, match="would take you for the client"):
            xc.plan(xc.XClient(name=xc.UNAVAILABLE, addr=b"192.0.2.1"), offer)
        client.quit()


# --- the client ----------------------------------------------------------------------------

WHOLE: Final = xc.XClient(
    name=b"a.example",
    reverse_name=b"b.example",
    port=4321,
    destaddr=b"198.51.100.7",
    destport=587,
    addr=b"192.0.2.1",
    login=b"ann@example.test",
    helo=b"helo.example",
    proto=b"ESMTP",
)


@pytest.mark.parametrize(
    ("command", "connected", "macros", "resolved"),
    [
        (
            WHOLE,
            mp.Connect(b"a.example", mp.Family.INET, 4321, b"192.0.2.1"),
            {b"_": b"b.example [192.0.2.1] (may be forged)", b"{client_ptr}": b"b.example"},
            b"OK",
        ),
        (
            xc.XClient(name=b"a.example", addr=b"2001:db8::1", port=7),
            mp.Connect(b"a.example", mp.Family.INET6, 7, b"2001:db8::1"),
            {b"_": b"a.example [2001:db8::1]", b"{client_ptr}": b"a.example"},
            b"OK",
        ),
        (
            xc.XClient(name=xc.UNAVAILABLE, addr=b"2001:db8::1", port=xc.UNAVAILABLE),
            mp.Connect(b"[2001:db8::1]", mp.Family.INET6, 0, b"2001:db8::1"),
            {b"{client_name}": b"unknown", b"{client_port}": b"0"},
            b"FAIL",
        ),
        (
            xc.XClient(name=xc.TEMPUNAVAIL, reverse_name=xc.TEMPUNAVAIL, addr=b"192.0.2.1", port=1),
            mp.Connect(b"[192.0.2.1]", mp.Family.INET, 1, b"192.0.2.1"),
            {b"{client_name}": b"unknown", b"{client_ptr}": b"unknown"},
            b"TEMP",
        ),
        (
            xc.XClient(name=xc.UNAVAILABLE, addr=xc.UNAVAILABLE, port=xc.UNAVAILABLE),
            mp.Connect(b"unknown", mp.Family.INET, 0, b"unknown"),
            {b"{client_addr}": b"unknown"},
            b"FAIL",
        ),
        (
            # As a socket for both families has it.
            xc.XClient(name=xc.UNAVAILABLE, addr=b"::ffff:192.0.2.1", port=5),
            mp.Connect(b"[192.0.2.1]", mp.Family.INET, 5, b"192.0.2.1"),
            {b"{client_addr}": b"192.0.2.1"},
            b"FAIL",
        ),
    ],
    ids=["whole", "IPv6", "no name", "no name yet", "nothing", "IPv4 in IPv6"],
)
def test_the_filter_sees_the_client(
    bed: Bed,
    command: xc.XClient,
    connected: mp.Connect,
    macros: dict[bytes, bytes],
    resolved: bytes,
) -> None:
    """And not the proxy: address, names, port, HELO and the macros."""
    with filtering(bed) as sessions:
        client, offer = connect(bed, "other-xclient")
        with client:
            plan = xc.plan(command, offer)
            assert plan.omitted == ()
            tell(client, plan)
            again = xc.parse_ehlo(client.must(b"250", b"EHLO real.example"))
            assert again.xclient == ()
            assert client.message(MESSAGE).startswith(b"250 ")
            client.quit()
    proxy, real = sessions
    assert of(proxy, mp.Connect)[0].address == b"127.0.0.1"
    event, got = of(real, mp.Connect)
    assert event == connected
    assert {name: got.get(name) for name in macros} == macros
    assert got[b"{client_resolve}"] == resolved
    assert of(real, mp.Helo)[0] == mp.Helo(b"real.example")
    login = of(real, mp.MailFrom)[1].get(b"{auth_authen}")
    assert login == command.login
    bed.delivery()


def test_helo_and_proto_count_if_there_is_no_ehlo(bed: Bed) -> None:
    """The message's own Received header has them."""
    client, offer = connect(bed, "xclient-bare")
    with client:
        tell(client, xc.plan(WHOLE, offer))
        assert client.message(MESSAGE).startswith(b"250 ")
        client.quit()
    received = b" ".join(bed.delivery().values(b"Received")[0].split())
    assert received.startswith(b"from helo.example (a.example [192.0.2.1])")
    assert b" with ESMTPA id " in received


def test_the_reverse_name(bed: Bed) -> None:
    """What our receiver makes of commands that tell it or do not; it differs in the last."""
    order = ([b"REVERSE_NAME=b.example NAME=a.example"], b"a.example")
    with filtering(bed) as sessions:
        for commands, expected in (*REVERSE_NAMES, order):
            with bed.client("other-xclient", helo=b"") as client:
                for command in commands:
                    client.must(b"220", b"XCLIENT " + command)
                client.quit()
            macros = of(sessions[-1], mp.Connect)[1]
            assert macros[b"{client_ptr}"] == text_of(expected, b"unknown"), commands


@pytest.mark.parametrize(
    "login",
    [
        *(b"ann", b"Ann Lee", b"ann+lee@example.test", b"a=b", b"[ann]", b"+2B", b"ann+ab@x"),
        *(b'"ann', b'"a b"', b"ann\\", b"<ann", b"a>b", b"from:", b"'", b"%s", b"IPV6:::1"),
        *("é".encode(), "\U0001f512 lock".encode(), b"x" * 255),
    ],
)
def test_every_login_arrives(bed: Bed, login: bytes) -> None:
    """Whatever is in it, and the attributes beside it are what they were."""
    with filtering(bed) as sessions:
        client, offer = connect(bed, "other-xclient")
        with client:
            command = xc.XClient(name=b"a.example", addr=b"192.0.2.1", port=7, login=login)
            tell(client, xc.plan(command, offer))
            client.must(b"250", b"MAIL FROM:<a@example.org>")
            client.quit()
    macros = of(sessions[-1], mp.MailFrom)[1]
    assert macros[b"{auth_authen}"] == login
    assert macros[b"{auth_type}"] == b"XCLIENT"
    assert of(sessions[-1], mp.Connect)[0] == mp.Connect(
        b"a.example", mp.Family.INET, 7, b"192.0.2.1"
    )


@pytest.mark.parametrize(
    ("service", "code"), [("xclient-login", b"554"), ("xclient-login-sasl", b"250")]
)
def test_a_login_lets_him_relay_where_sasl_is_on(bed: Bed, service: str, code: bytes) -> None:
    """Without it Postfix takes LOGIN, and tells it to filters, but permits nobody for it."""
    client, offer = connect(bed, service)
    with client:
        command = xc.XClient(name=xc.UNAVAILABLE, addr=b"192.0.2.1", login=b"ann")
        tell(client, xc.plan(command, offer))
        client.must(b"250", b"EHLO client.test")
        client.must(b"250", b"MAIL FROM:<a@example.test>")
        client.must(code, b"RCPT TO:<b@elsewhere.test>")
        client.quit()


def test_what_is_not_encoded_swallows_what_follows(bed: Bed) -> None:
    """Why three characters more are encoded than xtext asks for: nginx sends them as they are."""
    for login in (b'"ann', b"ann\\", b"<ann"):
        with filtering(bed) as sessions, bed.client("other-xclient", helo=b"") as client:
            client.must(b"220", b"XCLIENT ADDR=192.0.2.1 LOGIN=%b NAME=a.example" % login)
            client.must(b"250", b"MAIL FROM:<a@example.org>")
            client.quit()
        macros = of(sessions[-1], mp.MailFrom)[1]
        assert macros[b"{auth_authen}"] == login + b" NAME=a.example"
        assert of(sessions[-1], mp.Connect)[0].hostname == b"[192.0.2.1]"


def test_any_client_arrives(bed: Bed) -> None:
    """All attributes of any client that can be sent, in one command or in several."""

    @settings(max_examples=150, deadline=None, derandomize=True, database=None)
    @example(WHOLE)
    @example(xc.XClient(name=xc.UNAVAILABLE, addr=b"::", destaddr=b"::1", port=0))
    @given(xclients)
    def check(command: xc.XClient) -> None:
        client, offer = connect(bed, "other-xclient")
        position = bed.postfix.log_position
        with client:
            peer = client.name[1]
            tell(client, xc.plan(command, offer))
            client.must(b"250", b"MAIL FROM:<a@example.org>")
            # Refused, so that the log has what no macro has.
            client.must(b"554", b"RCPT TO:<b@elsewhere.test>")
            client.quit()
        _, macros = of(sessions[-1], mp.Connect)
        assert macros[b"{client_name}"] == text_of(command.name, b"unknown")
        pointer = command.reverse_name
        if pointer is None and isinstance(command.name, bytes):
            pointer = command.name
        assert macros[b"{client_ptr}"] == text_of(pointer, b"unknown")
        assert macros[b"{client_port}"] == text_of(command.port, b"%d" % peer, b"0")
        port = b"%d" % bed.postfix.ports["other-xclient"]
        assert macros[b"{daemon_port}"] == text_of(command.destport, port)
        for name, value in (("client", command.addr), ("daemon", command.destaddr)):
            got = macros[b"{%b_addr}" % name.encode()]
            assert ip(got) == ip(text_of(value, b"127.0.0.1"))
        login = command.login if isinstance(command.login, bytes) else None
        assert of(sessions[-1], mp.MailFrom)[1].get(b"{auth_authen}") == login
        line = bed.postfix.wait_for_log(r"NOQUEUE: reject: RCPT .*", since=position)[0]
        assert f"proto={(command.proto or b'SMTP').decode()}" in line
        helo = command.helo
        if helo is None or helo is xc.UNAVAILABLE:
            assert "helo=" not in line
        elif re.fullmatch(rb"[ -~]+", helo):
            assert line.endswith(f"helo=<{NEUTERED.sub(b'?', helo).decode()}>")

    with filtering(bed) as sessions:
        check()


def test_a_client_in_two_commands(bed: Bed) -> None:
    """Nothing is lost, in our order; in that of Postfix's manual the login is."""
    label = b"n" * 63
    command = xc.XClient(
        name=b".".join([label] * 4)[:255],
        addr=b"192.0.2.1",
        login=b"l" * 200,
        helo=b".".join([b"h" * 63] * 4)[:255],
        proto=b"ESMTP",
    )
    with filtering(bed) as sessions:
        client, offer = connect(bed, "other-xclient")
        with client:
            plan = xc.plan(command, offer)
            assert len(plan.commands) == 2
            tell(client, plan)
            client.must(b"250", b"MAIL FROM:<a@example.org>")
            client.quit()
        with bed.client("other-xclient", helo=b"") as client:
            client.must(b"220", b"XCLIENT HELO=helo.example PROTO=ESMTP LOGIN=ann")
            client.must(b"220", b"XCLIENT NAME=a.example ADDR=192.0.2.1")
            client.must(b"250", b"MAIL FROM:<a@example.org>")
            client.quit()
    ours, manuals = sessions[2], sessions[-1]
    assert of(ours, mp.Connect)[0].hostname == command.name
    assert of(ours, mp.MailFrom)[1][b"{auth_authen}"] == command.login
    assert of(manuals, mp.Connect)[0].hostname == b"a.example"
    assert b"{auth_authen}" not in of(manuals, mp.MailFrom)[1]


# --- the session ---------------------------------------------------------------------------


def test_what_the_replies_mean(bed: Bed) -> None:
    """Each outcome that Postfix has; and what our receiver says in the same place."""

    def outcome(client: Client, line: bytes) -> xc.Outcome:
        return xc.Plan((), (), resets=True).outcome(int(client.command(line)[:3]))

    addr = b"XCLIENT ADDR=192.0.2.1"
    with bed.client("xclient-bare") as client:
        assert outcome(client, addr + b" FOO=x") is xc.Outcome.SYNTAX
    with bed.client("xclient-bare") as client:
        client.must(b"250", b"MAIL FROM:<>")
        assert outcome(client, addr) is xc.Outcome.IN_TRANSACTION
        client.quit()
    with bed.client("xclient-bare") as client:
        assert outcome(client, addr) is xc.Outcome.ACCEPTED
        assert outcome(client, addr) is xc.Outcome.NOT_AUTHORISED
        client.quit()
    with bed.client("v6") as client:
        assert outcome(client, addr) is xc.Outcome.NOT_AUTHORISED
        client.quit()
    with bed.client("xclient-early") as client:
        assert outcome(client, b"XCLIENT ADDR=192.0.2.66") is xc.Outcome.REJECTED
    with bed.client("xclient-early") as client:
        assert outcome(client, b"XCLIENT ADDR=192.0.2.67") is xc.Outcome.CLOSING


@pytest.mark.parametrize(
    "lines",
    [
        [(b"XCLIENT ADDR=192.0.2.1", False), (b"XCLIENT ADDR=192.0.2.1", False)],
        [(b"XCLIENT ADDR=[UNAVAILABLE]", False), (b"XCLIENT PORT=1", False)],
        [(b"XCLIENT NAME=a.example PORT=7", False), (b"XCLIENT ADDR=192.0.2.1", False)],
        [(b"XCLIENT", True), (b"XFORWARD", True), (b"XCLIENT ADDR=192.0.2.1", True)],
        [(b"XCLIENT", False), (b"XFORWARD", False), (b"XCLIENT PORT=x", False)],
        [(b"XFORWARD NAME=a.example", False), (b"XFORWARD SOURCE=LOCAL PORT=1", False)],
        [(b"XFORWARD NAME=a.example", True)],
    ],
    ids=lambda lines: lines[0][0].decode().replace(" ", "-") + f"-{len(lines)}-{lines[0][1]}",
)
def test_a_session_goes_as_with_our_receiver(bed: Bed, lines: list[tuple[bytes, bool]]) -> None:
    """The code of each reply, and whether XCLIENT is offered afterwards."""
    receiver = xc.Receiver(xc.POSTFIX.offer)
    client, offer = connect(bed, "xclient-bare")
    with client:
        assert offer == receiver.offer
        for line, in_transaction in lines:
            if in_transaction:
                client.must(b"250", b"MAIL FROM:<>")
            event = receiver.receive(line, in_transaction=in_transaction)
            if isinstance(event, xc.Refused):
                expected = event.reply
            else:
                expected = b"220" if isinstance(event, xc.XClient) else b"250 2.0.0 Ok"
            # Postfix may repeat what was wrong behind it.
            assert client.command(line).startswith(expected)
            if in_transaction:
                client.must(b"250", b"RSET")
            again = xc.parse_ehlo(client.must(b"250", b"EHLO again.test"))
            assert again.xclient == receiver.offer.xclient
        client.quit()


def test_what_stands_behind_xclient_is_improper(bed: Bed) -> None:
    """Postfix 3.7 logs it and goes on; from 3.9 it refuses, as our receiver does."""
    position = bed.postfix.log_position
    with bed.client("xclient-bare") as client:
        client.send(b"XCLIENT ADDR=192.0.2.1\r\nEHLO x.test\r\n")
        reply = client.reply()
        if reply.startswith(b"220 "):
            bed.postfix.wait_for_log("improper command pipelining", since=position)
        else:
            assert reply == b"554 5.5.0 Error: SMTP protocol synchronization"


# --- XFORWARD ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "client_text", "identity"),
    [
        (
            xc.XForward(
                name=b"a.example",
                addr=b"192.0.2.1",
                port=7,
                proto=b"ESMTP",
                helo=b"a b",
                ident=b"4Zx",
                source=b"REMOTE",
            ),
            "a.example[192.0.2.1]",
            "4Zx",
        ),
        (xc.XForward(name=b"a.example", addr=b"2001:db8::1"), "a.example[2001:db8::1]", None),
        (xc.XForward(name=xc.UNAVAILABLE, addr=xc.UNAVAILABLE, ident=b"a+b"), "unknown", "a+b"),
    ],
    ids=["whole", "IPv6", "nothing"],
)
def test_what_is_forwarded_is_logged(
    bed: Bed, command: xc.XForward, client_text: str, identity: str | None
) -> None:
    """For one message; it is pipelined with MAIL, and the next message has nothing of it."""
    client, offer = connect(bed, "xclient-bare")
    with client:
        plan = xc.plan(command, offer)
        assert plan.omitted == ()
        assert not plan.resets
        position = bed.postfix.log_position
        lines = [*plan.commands, b"MAIL FROM:<a@example.org>\r\n", b"RCPT TO:<b@example.test>\r\n"]
        client.send(b"".join(lines))
        for _ in plan.commands:
            assert plan.outcome(int(client.reply()[:3])) is xc.Outcome.ACCEPTED
        assert client.reply().startswith(b"250 ")
        assert client.reply().startswith(b"250 ")
        client.must(b"354", b"DATA")
        assert client.content(MESSAGE).startswith(b"250 ")
        first = bed.postfix.wait_for_log(r": client=.*", since=position)[0]
        position = bed.postfix.log_position
        assert client.message(MESSAGE).startswith(b"250 ")
        second = bed.postfix.wait_for_log(r": client=.*", since=position)[0]
        client.quit()
    assert f"orig_client={client_text}" in first
    assert (f"orig_queue_id={identity}" if identity else "orig_client") in first
    assert "orig_" not in second
    bed.delivery()
    bed.delivery()


class Filter(socketserver.StreamRequestHandler):
    """A server in front of Postfix's queue, on our receiver; ``forwarded`` has what it was told."""

    forwarded: ClassVar[list[xc.XForward]] = []

    def handle(self) -> None:
        # Postfix may be gone as soon as it has heard enough.
        with contextlib.suppress(ConnectionError):
            self.converse()

    def converse(self) -> None:
        receiver = xc.Receiver(xc.Offer((), xc.POSTFIX.offer.xforward))
        self.wfile.write(b"220 filter.test ESMTP\r\n")
        for line in self.rfile:
            verb = line.split(maxsplit=1)[0].upper()
            reply = b"250 2.0.0 Ok"
            if verb == b"EHLO":
                offered = [b"250-" + one for one in xc.ehlo_lines(receiver.offer)]
                reply = b"\r\n".join([b"250-filter.test", *offered, b"250 8BITMIME"])
            elif verb == b"XFORWARD":
                event = receiver.receive(line, in_transaction=False)
                reply = event.reply if isinstance(event, xc.Refused) else reply
            elif verb == b"MAIL":
                self.forwarded.append(receiver.forwarded)
            self.wfile.write(reply + b"\r\n")


@pytest.mark.parametrize(
    ("client", "helo", "expected"),
    [
        (
            xc.XClient(name=b"a.example", addr=b"2001:db8::1", port=7),
            b"real.example",
            xc.XForward(name=b"a.example", addr=b"2001:db8::1", port=7, helo=b"real.example"),
        ),
        (
            xc.XClient(name=xc.UNAVAILABLE, addr=b"192.0.2.1", port=xc.UNAVAILABLE),
            b"[192.0.2.1]",
            xc.XForward(
                name=xc.UNAVAILABLE, addr=b"192.0.2.1", port=xc.UNAVAILABLE, helo=b"[192.0.2.1]"
            ),
        ),
        (
            # Too long for one command.
            xc.XClient(name=b".".join([b"n" * 63] * 4)[:255], addr=b"192.0.2.1", port=7),
            b"h" * 250,
            xc.XForward(
                name=b".".join([b"n" * 63] * 4)[:255], addr=b"192.0.2.1", port=7, helo=b"h" * 250
            ),
        ),
    ],
    ids=["IPv6", "unknown", "long"],
)
def test_our_receiver_takes_what_postfix_forwards(
    bed: Bed, client: xc.XClient, helo: bytes, expected: xc.XForward
) -> None:
    """From smtpd, which tells its content filter all that it knows of the client."""
    Filter.forwarded.clear()
    with socketserver.TCPServer(("127.0.0.1", bed.proxy_port), Filter) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        smtp, offer = connect(bed, "xclient-proxy")
        with smtp:
            tell(smtp, xc.plan(client, offer))
            smtp.must(b"250", b"EHLO " + helo)
            smtp.must(b"250", b"MAIL FROM:<a@example.org>")
            smtp.must(b"250", b"RCPT TO:<b@example.test>")
            smtp.quit()
        thread.join(PATIENCE)
    (forwarded,) = Filter.forwarded
    # LOCAL, for Postfix looks at the proxy's socket there; see below.
    assert forwarded == attrs.evolve(
        expected, proto=b"ESMTP", ident=forwarded.ident, source=b"LOCAL"
    )


def test_who_comes_through_a_proxy_on_the_same_machine_is_local(bed: Bed) -> None:
    """To permit_inet_interfaces, which does not know of XCLIENT, and to nothing else."""
    for service, code in (("xclient-local", b"250"), ("xclient-bare", b"554")):
        client, offer = connect(bed, service)
        with client:
            tell(client, xc.plan(xc.XClient(name=xc.UNAVAILABLE, addr=b"192.0.2.1"), offer))
            client.must(b"250", b"MAIL FROM:<a@example.org>")
            client.must(code, b"RCPT TO:<b@elsewhere.test>")
            client.quit()


# --- our parser beside Postfix's -----------------------------------------------------------

_PIECES: Final = {
    b"NAME": (b"a.example", b"a_b", b"a..b", b"-a", b"1.2.3.4", b"a.", b"x" * 63, b"x" * 64),
    b"REVERSE_NAME": (b"b.example", b"[TempUnavail]", b"b-"),
    b"ADDR": (
        *(b"192.0.2.1", b"IPV6:2001:db8::1", b"ipv6:::1", b"2001:db8::1", b"[192.0.2.1]"),
        *(b"300.1.1.1", b"1.2.3", b"IPV6:::ffff:192.0.2.1", b"IPV6:1.2.3.4", b"IPV6:", b"0.0.0.0"),
        *(b"0.1.2.3", b"IPV6:fe80::1%lo", b"IPV6:1:2:3:4:5:6:7::", b"IPV6:12345::", b"1.2.3.4."),
        *(b"IPV6:1:2:3:4:5:6:7:8", b"IPV6:::1.2.3.4", b"IPV6::1", b"+31.2.3.4", b"010.0.0.1"),
        b"IPV6:1:2:3:4:5:6:7:1.2.3.4",
    ),
    b"PORT": (b"0", b"25", b"00025", b"65535", b"65536", b"99999", b"999999", b"-1", b"x", b"2+35"),
    b"PROTO": (b"SMTP", b"esmtp", b"LMTP", b"E+53MTP", b"[UNAVAILABLE]", b"p" * 64, b"p" * 65),
    b"HELO": (b"h", b"a+20b", b"a+09b", b"x" * 255, b"x" * 256, b"a=b", b"[TEMPUNAVAIL]", b"+"),
    b"LOGIN": (
        *(b"ann", b"a+20b", b"a+2b", b"a+", b"+2G", b"a=b=", b"+09", b"a+00b", b"+7F", b"\xc3\xa9"),
        *(
            b'"a',
            b"a\\",
            b"<a",
            b"+5BUNAVAILABLE+5D",
            b"[TEMPUNAVAIL]",
            b"+0D+0A",
            b"\xff",
            b"\x01",
        ),
    ),
    b"DESTADDR": (b"192.0.2.2", b"IPV6:::2", b"x"),
    b"DESTPORT": (b"587", b"x"),
    b"IDENT": (b"4Zx", b"+20"),
    b"SOURCE": (b"LOCAL", b"remote", b"here"),
    b"FOO": (b"x",),
    b"": (b"x",),
}
_ANYWHERE: Final = (b"[UNAVAILABLE]", b"[unavailable]", b"")

# Where ours refuses and Postfix does not, or the other way; each has to be met.
DIFFERENT: Final = {
    "quoting: to Postfix it is not two attributes, or not one": rb'[<"\\]',
    "no xtext, which Postfix takes as it is": rb"(?i)\+(?![0-9A-F]{2})",
    "raw bytes that are not ASCII": rb"[\x80-\xff]",
    "raw control characters: white space to Postfix, or ?": rb"[\x01-\x08\x0b-\x1f\x7f]",
    "a port over 65535": rb"(?i)PORT=(?:6553[6-9]|655[4-9].|65[6-9]..|6[6-9]...|[7-9]....)",
    "control characters in a login, of which Postfix makes ?": rb"(?i)LOGIN=\S*\+(?:09|7F|0D)",
    "NUL, which ends the value to Postfix": rb"\+00",
    "TEMPUNAVAIL where it means nothing": rb"(?i)(?:HELO|LOGIN|PROTO|IDENT)=\[TEMPUNAVAIL\]",
    "an octet with a leading zero, which Postfix takes for octal": rb"ADDR=0[0-9]",
    "an IPv6 gap that stands for one group, at the end": rb"7::",
}


def lines() -> list[bytes]:
    """Each value alone, in both commands, and several hundred mixtures."""
    chance = random.Random(20261127)
    found = []
    for command in (b"XCLIENT", b"xforward"):
        found += [command, command + b" ADDR", command + b"\tADDR=192.0.2.1 \t PORT=1 "]
        for name, values in _PIECES.items():
            found += [b"%b %b=%b" % (command, name, value) for value in (*values, *_ANYWHERE)]
    found += [b"XCLIENT LOGIN=%b FOO=x" % value for value in (b"a", b'"a', b"a\\", b"<a")]
    for _ in range(250):
        words = []
        for _ in range(chance.randint(1, 5)):
            name = chance.choice(list(_PIECES))
            value = chance.choice((*_PIECES[name][:4], *_ANYWHERE[:1]))
            words.append(chance.choice((name, name.lower(), name.title())) + b"=" + value)
        command = chance.choice((b"XCLIENT", b"XFORWARD", b"XForward"))
        found.append(chance.choice((b" ", b"  ", b"\t")).join((command, *words)))
    return found


def test_our_parser_beside_postfixs(bed: Bed) -> None:
    """The same code for each line, or a reason that is known."""
    met = set()
    unexplained = []
    for line in lines():
        with bed.client("xclient-bare", helo=b"") as client:
            theirs = client.command(line)[:3]
        event = xc.parse_command(line)
        if isinstance(event, xc.Refused):
            ours = event.reply[:3]
        else:
            ours = b"220" if isinstance(event, xc.XClient) else b"250"
        if ours == theirs:
            continue
        reasons = [why for why, where in DIFFERENT.items() if re.search(where, line)]
        met.update(reasons)
        if not reasons:
            unexplained.append((line, ours, theirs))
    assert unexplained == []
    assert met == set(DIFFERENT)


def test_the_page_says_what_postfix_says(bed: Bed) -> None:
    """Where the manual lists a difference, Postfix's side of it."""
    for shown, code, _ in rows("| line | Postfix |"):
        with bed.client("xclient-bare", helo=b"") as client:
            assert client.command(shown.strip("`").encode())[:3] == code.encode(), shown
