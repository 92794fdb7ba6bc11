"""nginx asks our server whether its mail clients may log in: each method, any bytes, trouble."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Self

import attrs
import pytest
from adapters._listen import listen
from adapters.services import auth_http
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import nginxauth as ng
from tests.examples.adapter_hosts import ASYNCIO, THREADS, TRIO, Host

from ._nginx import SECRET, SERVICES, MailClient, Nginx, client_tls
from ._nginx_peers import Backend
from ._postfix import PATIENCE, free_port

PROTOCOLS: Final = ("smtp", "imap", "pop3")
USER: Final = b"ann@example.test"
PASSWORD: Final = b"s\xc3\xb6me 100%+ thing"
IN: Final = re.compile(rb"235 |t OK|\+OK")
EXAMPLES: Final = Path(__file__).parents[2] / "examples"
# For tests that hypothesis draws from: each example takes some milliseconds at a real server.
FEW: Final = settings(max_examples=40, phases=[Phase.explicit, Phase.generate, Phase.shrink])


class Judge:
    """What the service asks; ``requests`` has what came, ``answer`` says what goes back."""

    def __init__(self) -> None:
        self.requests: list[ng.AuthRequest] = []
        self.answer: Callable[[ng.AuthRequest], Any] = self.by_password
        self.backends: Mapping[bytes, Backend] = {}
        self.more: dict[str, Any] = {}

    def __call__(self, request: ng.AuthRequest) -> Any:
        self.requests.append(request)
        return self.answer(request)

    def by_password(self, request: ng.AuthRequest) -> ng.Reply:
        """The one user."""
        if request.user == USER and ng.verify(request, PASSWORD):
            return self.allow(request)
        return ng.Deny(b"Wrong name or password", b"535 5.7.8")

    def allow(self, request: ng.AuthRequest, **more: Any) -> ng.Allow:
        """Whoever he is."""
        port = self.backends[request.protocol].port
        password = more.pop("password", None if request.protocol == b"smtp" else PASSWORD)
        return ng.Allow(b"127.0.0.1", port, password=password, **more)


@pytest.fixture(scope="module")
def backends() -> Iterator[Mapping[bytes, Backend]]:
    """A mail server of each kind, that takes every login."""
    with contextlib.ExitStack() as stack:
        yield {name.encode(): stack.enter_context(Backend(name)) for name in PROTOCOLS}


@pytest.fixture(scope="module")
def judge_of_all(backends: Mapping[bytes, Backend]) -> Judge:
    judge = Judge()
    judge.backends = backends
    return judge


@pytest.fixture
def judge(judge_of_all: Judge) -> Judge:
    """Anew for each test."""
    judge_of_all.requests.clear()
    judge_of_all.answer = judge_of_all.by_password
    return judge_of_all


@pytest.fixture(scope="module")
def nginx(nginx_program: Path, judge_of_all: Judge) -> Iterator[Nginx]:
    """With our server, and for some of its services one that takes more, or less."""
    with contextlib.ExitStack() as stack:

        def serve(connect: Callable[[], ng.ServerConnection]) -> int:
            listener = listen("inet:127.0.0.1:0")
            service = attrs.evolve(auth_http(judge_of_all), connect=connect)
            stack.enter_context(ASYNCIO.serve(service, None, listener))
            port: int = listener.getsockname()[1]
            return port

        usual = serve(ng.ServerConnection)
        lax = serve(lambda: ng.ServerConnection(allow_controls=True))
        strict = serve(lambda: ng.ServerConnection(max_attempts=2))
        services = dict(SERVICES)
        for name in PROTOCOLS:
            for kind, port in (("lax", lax), ("strict", strict)):
                own = (f"auth_http 127.0.0.1:{port}/;",)
                services[f"{name}-{kind}"] = attrs.evolve(SERVICES[name], directives=own)
        running = stack.enter_context(Nginx(nginx_program, f"127.0.0.1:{usual}/auth", services))
        yield running
        # Shown with a test that fails.
        print(running.log()[-5000:])
        assert running.exit_status is None


def b64(data: bytes) -> bytes:
    return base64.b64encode(data)


def salt_of(challenge: bytes) -> bytes:
    return base64.b64decode(challenge.split()[1])


# --- how mail clients log in


def sasl(command: bytes, *steps: Callable[[bytes], bytes]) -> Callable[[MailClient], bytes]:
    """A client that answers each challenge; what it hears at last."""

    def log_in(client: MailClient) -> bytes:
        reply = client.command(command)
        for step in steps:
            assert reply[:1] in (b"3", b"+"), reply
            reply = client.command(b64(step(reply)))
        return reply

    return log_in


Login = Callable[[MailClient], bytes]


def logins(protocol: str, user: bytes, password: bytes) -> dict[str, Login]:
    """Every way to log in with a password, by nginx's name for the method and the client's."""
    verb = {"smtp": b"AUTH ", "imap": b"t AUTHENTICATE ", "pop3": b"AUTH "}[protocol]

    def cram(challenge: bytes) -> bytes:
        digest = hmac.new(password, salt_of(challenge), "md5").hexdigest().encode()
        return user + b" " + digest

    def apop(client: MailClient) -> bytes:
        salt = re.findall(rb"<.*>", client.greeting)[0]
        digest = hashlib.md5(salt + password).hexdigest().encode()
        return client.command(b"APOP " + user + b" " + digest)

    def user_and_pass(client: MailClient) -> bytes:
        assert client.command(b"USER " + user).startswith(b"+OK")
        return client.command(b"PASS " + password)

    ways: dict[str, Login] = {
        "plain PLAIN": sasl(verb + b"PLAIN", lambda _: b"\0".join((b"x", user, password))),
        "plain LOGIN": sasl(verb + b"LOGIN", lambda _: user, lambda _: password),
        "cram-md5 CRAM-MD5": sasl(verb + b"CRAM-MD5", cram),
    }
    if protocol == "imap":
        ways["plain command"] = lambda client: client.command(
            b't LOGIN "%b" "%b"' % (user, password)
        )
    if protocol == "pop3":
        ways["apop APOP"] = apop
        ways["plain USER"] = user_and_pass
    return ways


WAYS: Final = [(protocol, way) for protocol in PROTOCOLS for way in logins(protocol, b"", b"")]
every_way = pytest.mark.parametrize(
    ("protocol", "way"), WAYS, ids=[f"{protocol} {way}" for protocol, way in WAYS]
)
every_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)


def greeted(client: MailClient, protocol: str) -> MailClient:
    if protocol == "smtp":
        assert client.command(b"EHLO client.test").startswith(b"250")
    return client


def log_in(
    nginx: Nginx,
    protocol: str,
    way: str = "plain PLAIN",
    password: bytes = PASSWORD,
    *,
    service: str = "",
) -> bytes:
    """What a client hears at last."""
    with nginx.client(service or protocol) as client:
        return logins(protocol, USER, password)[way](greeted(client, protocol))


REFUSED: Final = {
    "smtp": b"535 5.7.8 Wrong name or password\r\n",
    "imap": b"t NO [AUTHENTICATIONFAILED] Wrong name or password\r\n",
    "pop3": b"-ERR [AUTH] Wrong name or password\r\n",
}
LATER: Final = {
    "smtp": b"451 4.3.0 Temporary authentication failure\r\n",
    "imap": b"t NO [UNAVAILABLE] Temporary authentication failure\r\n",
    "pop3": b"-ERR [SYS/TEMP] Temporary authentication failure\r\n",
}
INTERNAL: Final = {
    "smtp": b"451 4.3.2 Internal server error\r\n",
    "imap": b"* BAD internal server error\r\n",
    "pop3": b"-ERR internal server error\r\n",
}


# --- logins


@every_way
def test_the_right_password(nginx: Nginx, judge: Judge, protocol: str, way: str) -> None:
    """By every method; the server behind is logged in to with the clear one."""
    assert IN.match(log_in(nginx, protocol, way))
    (request,) = judge.requests
    assert request.method.decode() == way.split(maxsplit=1)[0]
    assert (request.user, request.protocol.decode()) == (USER, protocol)
    assert (request.attempt, request.client_ip) == (1, b"127.0.0.1")
    assert (request.client_host is None) == (protocol != "smtp")
    assert bool(request.salt) == (request.method != ng.PLAIN)
    heard = b"".join(judge.backends[protocol.encode()].sessions[-1])
    assert USER in heard
    assert (PASSWORD in heard) == (protocol != "smtp")


@every_way
def test_a_wrong_password(nginx: Nginx, judge: Judge, protocol: str, way: str) -> None:
    """In the words of each protocol."""
    assert log_in(nginx, protocol, way, PASSWORD + b"x") == REFUSED[protocol]
    assert len(judge.requests) == 1


@every_protocol
def test_another_name_and_password(nginx: Nginx, judge: Judge, protocol: str) -> None:
    """They go to the server behind as they are, for replies have no escapes."""
    user, password = b"b\xc3\xb6b%20+@x", b"p%41 \xff+=w"
    judge.answer = lambda request: judge.allow(request, user=user, password=password)
    assert IN.match(log_in(nginx, protocol))
    heard = b"".join(judge.backends[protocol.encode()].sessions[-1])
    if protocol == "smtp":
        assert b"LOGIN=" in heard
    assert user in heard or b"LOGIN=b+C3+B6b%20+2B@x" in heard
    assert (password in heard) == (protocol != "smtp")


def test_an_empty_name_keeps_the_login_out_of_xclient(nginx: Nginx, judge: Judge) -> None:
    """For a server behind that does not know that attribute."""
    judge.answer = lambda request: judge.allow(request, user=b"")
    assert IN.match(log_in(nginx, "smtp"))
    (xclient,) = [
        line for line in judge.backends[b"smtp"].sessions[-1] if line.startswith(b"XCLIENT")
    ]
    assert b"LOGIN" not in xclient
    assert b"ADDR=127.0.0.1" in xclient


# --- any bytes

no_nul = st.binary(max_size=40).map(lambda data: data.replace(b"\0", b""))


def type_in(nginx: Nginx, service: str, way: str, user: bytes, password: bytes) -> bytes:
    protocol = service.split("-", maxsplit=1)[0]
    with nginx.client(service) as client:
        return logins(protocol, user, password)[way](greeted(client, protocol))


@every_protocol
def test_what_is_typed_is_what_we_are_asked(nginx: Nginx, judge: Judge, protocol: str) -> None:
    """Names and passwords of any bytes, by PLAIN and by LOGIN, where NUL may be in them, too."""

    @FEW
    @given(user=no_nul, password=no_nul)
    def plain(user: bytes, password: bytes) -> None:
        # nginx takes neither an empty name nor an empty password in PLAIN.
        judge.requests.clear()
        reply = type_in(nginx, f"{protocol}-lax", "plain PLAIN", user, password)
        if judge.requests:
            (request,) = judge.requests
            assert (request.user, request.password) == (user, password)
            assert reply == REFUSED[protocol]
        else:
            assert not user or not password

    @FEW
    @given(user=st.binary(max_size=40), password=st.binary(max_size=40))
    def login(user: bytes, password: bytes) -> None:
        judge.requests.clear()
        reply = type_in(nginx, f"{protocol}-lax", "plain LOGIN", user, password)
        (request,) = judge.requests
        assert (request.user, request.password) == (user, password)
        assert reply == REFUSED[protocol]

    plain()
    login()


@every_protocol
@pytest.mark.parametrize(
    ("user", "password"),
    [(b"a\r\nQUIT", b"x"), (b"a", b"x\n"), (b"\x7f", b"x"), (b"a", b"\x01"), (b"a\0", b"x")],
    ids=repr,
)
def test_control_bytes_are_refused(
    nginx: Nginx, judge: Judge, protocol: str, user: bytes, password: bytes
) -> None:
    """The function that would judge is not asked."""
    reply = type_in(nginx, protocol, "plain LOGIN", user, password)
    assert judge.requests == []
    assert reply == REFUSED[protocol].replace(b"Wrong name or password", b"Authentication failed")


# --- who asks


@pytest.mark.parametrize("protocol", ["smtp", "imap"])
def test_a_client_with_ipv6(nginx: Nginx, judge: Judge, protocol: str) -> None:
    """Without brackets."""
    assert IN.match(log_in(nginx, protocol, service=f"{protocol}-v6"))
    assert judge.requests[0].client_ip == b"::1"


@pytest.mark.parametrize(
    ("service", "header", "proxy", "client_ip"),
    [
        (
            "smtp-proxied",
            b"PROXY TCP4 192.0.2.9 198.51.100.4 5555 25\r\n",
            ng.ProxyProtocol(b"192.0.2.9", 5555, b"198.51.100.4", 25),
            b"127.0.0.1",
        ),
        (
            "smtp-proxied-real",
            b"PROXY TCP6 2001:db8::9 2001:db8::4 5555 25\r\n",
            ng.ProxyProtocol(b"2001:db8::9", 5555, b"2001:db8::4", 25),
            b"2001:db8::9",
        ),
        ("smtp-proxied", b"PROXY UNKNOWN\r\n", None, b"127.0.0.1"),
    ],
    ids=["IPv4", "IPv6 and taken for the client", "unknown"],
)
def test_a_proxy_header(
    nginx: Nginx, judge: Judge, *, service: str, header: bytes, proxy: object, client_ip: bytes
) -> None:
    """Who really connected."""
    with nginx.client(service, proxy_header=header) as client:
        way = logins("smtp", USER, PASSWORD)["plain PLAIN"]
        assert IN.match(way(greeted(client, "smtp")))
    (request,) = judge.requests
    assert (request.proxy_protocol, request.client_ip) == (proxy, client_ip)


def test_the_shared_secret(nginx: Nginx, judge: Judge) -> None:
    """And a stranger has none."""
    log_in(nginx, "smtp", service="smtp-header")
    log_in(nginx, "smtp")
    ours, other = judge.requests
    assert ours.headers == ((b"X-Auth-Key", SECRET.encode()), (b"X-Too", b"b"))
    assert ng.has_secret(ours, b"x-auth-key", SECRET.encode())
    assert not ng.has_secret(other, b"X-Auth-Key", SECRET.encode())


# --- certificates


def external(nginx: Nginx, service: str, certificate: str) -> bytes:
    protocol = service.split("-", maxsplit=1)[0]
    context = client_tls(nginx.root, certificate)
    verb = {"smtp": b"AUTH EXTERNAL", "imap": b"t AUTHENTICATE EXTERNAL"}[protocol]
    with MailClient("127.0.0.1", nginx.ports[service], context=context) as client:
        return sasl(verb, lambda _: USER)(greeted(client, protocol))


@pytest.mark.parametrize("service", ["smtp-tls", "imap-tls"])
def test_a_certificate_that_nginx_has_verified(nginx: Nginx, judge: Judge, service: str) -> None:
    """The method external, with all that the certificate says."""
    judge.answer = judge.allow
    assert IN.match(external(nginx, service, "client"))
    (request,) = judge.requests
    assert (request.method, request.user, request.password) == (ng.EXTERNAL, USER, b"")
    tls = request.tls
    assert tls is not None
    assert tls.verify == b"SUCCESS"
    assert tls.protocol.startswith(b"TLSv1.")
    assert tls.cipher
    assert tls.subject == b"CN=client test,O=Ex\\, Inc,C=DE"
    assert tls.issuer == b"CN=test CA"
    assert re.fullmatch(rb"[0-9a-f]{40}", tls.fingerprint)
    assert re.fullmatch(rb"[0-9A-F]+", tls.serial)
    assert tls.certificate in (nginx.root / "client.pem").read_bytes()
    assert tls.certificate.startswith(b"-----BEGIN CERTIFICATE-----\n")
    assert IN.match(external(nginx, service, "client"))


@pytest.mark.parametrize("certificate", ["", "stranger"])
@pytest.mark.parametrize("service", ["smtp-tls", "imap-tls"])
def test_no_certificate_or_a_stranger_s(
    nginx: Nginx, judge: Judge, service: str, certificate: str
) -> None:
    """nginx would let us say yes."""
    judge.answer = judge.allow
    assert b"Authentication failed" in external(nginx, service, certificate)
    assert judge.requests == []


def test_what_a_stranger_s_certificate_says(nginx: Nginx, judge: Judge) -> None:
    """It is there with other methods, and `verify` says that it is worth nothing."""
    context = client_tls(nginx.root, "stranger")
    with MailClient("127.0.0.1", nginx.ports["smtp-tls"], context=context) as client:
        way = logins("smtp", USER, PASSWORD)["plain PLAIN"]
        assert IN.match(way(greeted(client, "smtp")))
    tls = judge.requests[0].tls
    assert tls is not None
    assert tls.verify.startswith(b"FAILED:")
    assert tls.subject == b"CN=stranger"


def test_external_after_another_attempt(nginx: Nginx, judge: Judge) -> None:
    """The password of that attempt is not his who comes with a certificate."""
    judge.answer = lambda request: (
        judge.allow(request) if request.method == ng.EXTERNAL else ng.Deny(b"no", wait=1)
    )
    context = client_tls(nginx.root, "client")
    with MailClient("127.0.0.1", nginx.ports["smtp-tls"], context=context) as client:
        greeted(client, "smtp")
        plain = logins("smtp", b"eve", b"guess")["plain PLAIN"]
        assert plain(client) == b"535 5.7.0 no\r\n"
        assert IN.match(sasl(b"AUTH EXTERNAL", lambda _: USER)(client))
    assert [(one.method, one.user, one.password) for one in judge.requests] == [
        (ng.PLAIN, b"eve", b"guess"),
        (ng.EXTERNAL, USER, b""),
    ]


# --- mail that nobody logged in for


def test_recipients_one_by_one(nginx: Nginx, judge: Judge) -> None:
    """The refused may be followed by another; after the first that is taken, nobody is asked."""

    def answer(request: ng.AuthRequest) -> ng.Reply:
        assert request.envelope is not None
        if request.envelope.recipient == b"<ann@example.test>":
            return judge.allow(request)
        return ng.Deny(b"no such user", b"550 5.1.1", wait=1)

    judge.answer = answer
    with nginx.client("smtp") as client:
        assert client.command(b"HELO client.test").startswith(b"250")
        assert client.command(b'mail from: <"a> b"@c.test> SIZE=10').startswith(b"250")
        refused = client.command(b"RCPT TO:<nobody@example.test>")
        assert refused == b"550 5.1.1 no such user\r\n"
        assert client.command(b"rcpt to:<ann@example.test> NOTIFY=NEVER").startswith(b"250")
        assert client.command(b"RCPT TO:<nobody@example.test>").startswith(b"250")
    first, second = judge.requests
    assert (first.method, first.user, first.password) == (ng.NONE, b"", b"")
    assert (first.attempt, second.attempt) == (1, 2)
    assert second.envelope == ng.Envelope(
        b"client.test",
        b'mail from: <"a> b"@c.test> SIZE=10',
        b"rcpt to:<ann@example.test> NOTIFY=NEVER",
    )
    assert second.envelope.sender == b'<"a> b"@c.test>'
    assert second.envelope.sender_parameters == (b"SIZE=10",)
    assert second.envelope.recipient_parameters == (b"NOTIFY=NEVER",)


def test_none_after_a_login_that_failed(nginx: Nginx, judge: Judge) -> None:
    """nginx sends the name and the password of that; they are not the sender's."""
    judge.answer = lambda _: ng.Deny(b"no", wait=1)
    with nginx.client("smtp") as client:
        plain = logins("smtp", b"eve", b"guess")["plain PLAIN"]
        assert plain(greeted(client, "smtp")) == b"535 5.7.0 no\r\n"
        client.command(b"MAIL FROM:<a@b.test>")
        client.command(b"RCPT TO:<c@d.test>")
    assert [(one.method, one.user, one.password) for one in judge.requests] == [
        (ng.PLAIN, b"eve", b"guess"),
        (ng.NONE, b"", b""),
    ]


def test_any_command(nginx: Nginx, judge: Judge) -> None:
    """To the byte, or as HTTP 400 if it has one that h11 does not take."""
    arguments = st.binary(min_size=1, max_size=40).map(
        lambda data: data.replace(b"\r", b"").replace(b"\n", b"")
    )

    @FEW
    @given(arguments)
    def ask(argument: bytes) -> None:
        judge.requests.clear()
        line = b"MAIL FROM:<" + argument + b">"
        with nginx.client("smtp") as client:
            greeted(client, "smtp")
            assert client.command(line).startswith(b"250")
            reply = client.command(b"RCPT TO:<c@d.test>")
        if set(argument) & set(b"\0\x0b\x0c"):
            assert reply == INTERNAL["smtp"]
            assert judge.requests == []
        else:
            assert reply == REFUSED["smtp"]
            (request,) = judge.requests
            assert request.envelope is not None
            assert request.envelope.mail == line

    ask()


@pytest.mark.parametrize("byte", [b"\0", b"\x0b", b"\x0c"], ids=repr)
def test_bytes_that_http_does_not_allow(nginx: Nginx, judge: Judge, byte: bytes) -> None:
    """In the commands of method none: HTTP 400 to nginx, and a temporary error to its client."""
    with nginx.client("smtp") as client:
        greeted(client, "smtp")
        assert client.command(b"MAIL FROM:<a%b@b.test>" % byte).startswith(b"250")
        assert client.command(b"RCPT TO:<c@d.test>") == INTERNAL["smtp"]
    assert judge.requests == []


# --- attempts and waiting


@every_protocol
def test_a_refusal_with_a_wait(nginx: Nginx, judge: Judge, protocol: str) -> None:
    """The client waits, and may try again; the last attempt that is allowed ends the session."""
    judge.answer = lambda _: ng.Deny(b"no", wait=1)
    with nginx.client(f"{protocol}-strict") as client:
        way = logins(protocol, USER, PASSWORD)["plain PLAIN"]
        greeted(client, protocol)
        begun = time.monotonic()
        assert b" no\r\n" in way(client)
        assert time.monotonic() - begun >= 0.9
        assert b" no\r\n" in way(client)
        assert client.rest() == b""
    assert [request.attempt for request in judge.requests] == [1, 2]


@pytest.mark.parametrize(
    ("protocol", "way"),
    [("smtp", "cram-md5 CRAM-MD5"), ("imap", "cram-md5 CRAM-MD5"), ("pop3", "apop APOP")],
)
def test_no_wait_after_a_digest(nginx: Nginx, judge: Judge, protocol: str, way: str) -> None:
    """CVE-2026-27651: nginx closes at once, and lives."""
    judge.answer = lambda _: ng.Deny(b"no", wait=5)
    begun = time.monotonic()
    with nginx.client(protocol) as client:
        assert b" no\r\n" in logins(protocol, USER, PASSWORD)[way](greeted(client, protocol))
        assert client.rest() == b""
    assert time.monotonic() - begun < 4
    assert nginx.exit_status is None


@every_protocol
def test_wait(nginx: Nginx, judge: Judge, protocol: str) -> None:
    """nginx asks the same again, and counts it for the same attempt."""
    judge.answer = lambda request: (
        ng.Wait(1) if len(judge.requests) == 1 else judge.by_password(request)
    )
    assert IN.match(log_in(nginx, protocol))
    first, second = judge.requests
    assert first == second


# --- trouble


@every_protocol
@pytest.mark.parametrize("fault", ["raises", "can't be sent"])
def test_a_fault_of_ours_is_no_refusal(
    nginx: Nginx, judge: Judge, protocol: str, fault: str
) -> None:
    """In the words that each protocol has for it."""

    def fail(_request: ng.AuthRequest) -> ng.Reply:
        if fault == "raises":
            raise ZeroDivisionError
        return ng.Allow(b"localhost", 25)

    judge.answer = fail
    assert log_in(nginx, protocol) == LATER[protocol]


def test_the_longest_reply(nginx: Nginx, judge: Judge) -> None:
    """1024 bytes, every one of which nginx reads."""
    ours = len(
        b"HTTP/1.1 200 OK\r\nAuth-Status: \r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    message = b"x" * (1024 - ours)
    judge.answer = lambda _: ng.Deny(message)
    assert log_in(nginx, "smtp") == b"535 5.7.0 " + message + b"\r\n"
    judge.answer = lambda _: ng.Deny(message + b"x")
    assert log_in(nginx, "smtp") == LATER["smtp"]


def test_who_is_too_slow_is_cancelled(nginx_program: Path, backends: object) -> None:
    """nginx gives up, its client hears 451, and the work that nobody waits for ends."""
    begun, cancelled = threading.Event(), threading.Event()

    async def slow(_request: ng.AuthRequest) -> ng.Reply:
        begun.set()
        try:
            await asyncio.sleep(1000)
        finally:
            cancelled.set()
        return ng.Deny(b"never said")

    listener = listen("inet:127.0.0.1:0")
    auth = f"127.0.0.1:{listener.getsockname()[1]}/"
    hasty = {"smtp-hasty": SERVICES["smtp-hasty"]}
    with (
        ASYNCIO.serve(auth_http(slow), None, listener),
        Nginx(nginx_program, auth, hasty) as nginx,
    ):
        assert log_in(nginx, "smtp", service="smtp-hasty") == INTERNAL["smtp"]
        assert begun.is_set()
        assert cancelled.wait(PATIENCE)


def test_an_answer_that_takes_its_time(nginx_program: Path, backends: Any) -> None:
    """Others are answered meanwhile."""
    enough = threading.Event()

    async def answer(request: ng.AuthRequest) -> ng.Reply:
        if request.user == b"slow":
            await asyncio.to_thread(enough.wait, PATIENCE)
        return ng.Allow(b"127.0.0.1", backends[b"smtp"].port)

    listener = listen("inet:127.0.0.1:0")
    auth = f"127.0.0.1:{listener.getsockname()[1]}/"
    with (
        ASYNCIO.serve(auth_http(answer), None, listener),
        Nginx(nginx_program, auth, {"smtp": SERVICES["smtp"]}) as nginx,
        nginx.client("smtp") as slow,
    ):
        greeted(slow, "smtp").send(b"AUTH PLAIN " + b64(b"\0slow\0p") + b"\r\n")
        assert IN.match(log_in(nginx, "smtp"))
        enough.set()
        assert IN.match(slow.line())


@pytest.mark.parametrize("host", [ASYNCIO, TRIO, THREADS], ids=lambda host: host.name)
def test_every_adapter(nginx_program: Path, backends: Mapping[bytes, Backend], host: Host) -> None:
    """Serves nginx, right password and wrong."""
    judge = Judge()
    judge.backends = backends
    listener = listen("inet:127.0.0.1:0")
    auth = f"127.0.0.1:{listener.getsockname()[1]}/"
    services = {name: SERVICES[name] for name in PROTOCOLS}
    with (
        host.serve(auth_http(judge), None, listener),
        Nginx(nginx_program, auth, services) as nginx,
    ):
        for protocol, way in WAYS:
            assert IN.match(log_in(nginx, protocol, way))
            assert log_in(nginx, protocol, way, b"wrong") == REFUSED[protocol]


# --- what the manual has

PAGE: Final = Path(__file__).parents[2] / "docs" / "nginx_web_app.md"


def test_the_manuals_nginx_conf(nginx_program: Path, tmp_path: Path) -> None:
    """Is a whole one. Its ports may be taken here, and only root may have them."""
    (block,) = re.findall(r"```text\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    config = re.sub(r"listen \d+;", lambda _: f"listen 127.0.0.1:{free_port()};", block)
    assert config.count("listen 127.0.0.1:") == 3
    (tmp_path / "nginx.conf").write_text(config)
    done = subprocess.run(
        [
            *(nginx_program, "-t", "-e", "stderr", "-c", tmp_path / "nginx.conf"),
            *("-g", f"pid {tmp_path}/pid;"),
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr


STARLETTE: Final = """\
import nginx_asgi, uvicorn
nginx_asgi.BACKENDS = {backends}
uvicorn.run(nginx_asgi.app, port={port}, log_level="critical")
"""
WSGI: Final = """\
import nginx_wsgi, waitress
nginx_wsgi.BACKENDS = {backends}
waitress.serve(nginx_wsgi.app, host="127.0.0.1", port={port})
"""
# Our own server on an adapter; a question about one user is its last.
OURS: Final = """\
import os, signal, nginx_wsgi
from adapters.run import arguments, serve
from adapters.services import auth_http
nginx_wsgi.BACKENDS = {{backends}}
def judge(request):
    if request.user == b"the last":
        os.kill(os.getpid(), signal.SIGKILL)
    return nginx_wsgi.judge(request)
options = ["--adapter", "{adapter}", "--listen", "inet:127.0.0.1:{{port}}"]
serve(auth_http(judge), arguments(None).parse_args(options))
"""


class WebApplication:
    """One of the manual's, as a program of its own; on the same port, each time."""

    def __init__(self, code: str, backends: Mapping[bytes, Backend]) -> None:
        self.port = free_port()
        where = {name: (b"127.0.0.1", backend.port) for name, backend in backends.items()}
        self._code = code.format(backends=where, port=self.port)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.kill()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", self._code],
            cwd=EXAMPLES,
            env={**os.environ, "AUTH_SECRET": SECRET},
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), PATIENCE).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        self.kill()
        raise AssertionError(self._code)

    def kill(self) -> None:
        """SIGKILL: no farewell."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(PATIENCE)


# The users of both applications; the second's password is UTF-8, with a blank and a %.
USERS: Final = {b"ann@example.test": b"sesame", b"bob@example.test": b"100% voil\xc3\xa0"}


@pytest.mark.parametrize("code", [STARLETTE, WSGI], ids=["uvicorn", "waitress"])
def test_a_web_application(
    nginx_program: Path, backends: Mapping[bytes, Backend], code: str
) -> None:
    """Every way to log in, right and wrong; killed, and started again."""
    secret = (f'auth_http_header X-Auth-Key "{SECRET}";',)
    services = {name: attrs.evolve(SERVICES[name], directives=secret) for name in PROTOCOLS}
    services["smtp-stranger"] = SERVICES["smtp"]
    with (
        WebApplication(code, backends) as application,
        Nginx(nginx_program, f"127.0.0.1:{application.port}/auth", services) as nginx,
    ):
        for protocol, way in WAYS:
            for user, password in USERS.items():
                with nginx.client(protocol) as client:
                    log_in_so = logins(protocol, user, password)[way]
                    assert IN.match(log_in_so(greeted(client, protocol)))
                heard = b"".join(backends[protocol.encode()].sessions[-1])
                assert user in heard
                assert (password in heard) == (protocol != "smtp")
        for protocol in PROTOCOLS:
            assert log_in(nginx, protocol) == REFUSED[protocol]
        # He who has not the secret gets HTTP 403.
        assert log_in(nginx, "smtp", service="smtp-stranger") == INTERNAL["smtp"]
        application.kill()
        for protocol in PROTOCOLS:
            assert log_in(nginx, protocol) == INTERNAL[protocol]
        application.start()
        assert IN.match(type_in(nginx, "smtp", "plain PLAIN", *next(iter(USERS.items()))))


@pytest.mark.parametrize("adapter", ["asyncio", "trio", "threads"])
def test_our_service_is_killed_and_started_again(
    nginx_program: Path, backends: Mapping[bytes, Backend], adapter: str
) -> None:
    """In the midst of a question, too; and nobody is told that his password is wrong."""
    ann = next(iter(USERS.items()))
    services = {name: SERVICES[name] for name in PROTOCOLS}
    with (
        WebApplication(OURS.format(adapter=adapter), backends) as ours,
        Nginx(nginx_program, f"127.0.0.1:{ours.port}/auth", services) as nginx,
        nginx.client("smtp") as patient,
    ):
        greeted(patient, "smtp")
        for protocol in PROTOCOLS:
            assert IN.match(type_in(nginx, protocol, "plain PLAIN", *ann))
        for user in (b"the last", b"nobody is there"):
            for protocol in PROTOCOLS:
                assert type_in(nginx, protocol, "plain PLAIN", user, b"x") == INTERNAL[protocol]
        ours.kill()
        ours.start()
        for protocol in PROTOCOLS:
            assert IN.match(type_in(nginx, protocol, "plain PLAIN", *ann))
        assert IN.match(logins("smtp", *ann)["plain PLAIN"](patient))
