"""What we say that nginx makes of an answer, beside what nginx makes of it.

The authentication service is a raw socket that says what it is told to say, however odd. Then
the mail client's side of nginx is looked at, and nginx's log, and compared to what `nginxauth`
has to say of the same bytes.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import attrs
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import nginxauth as na

from ._nginx import MailClient, Nginx
from ._nginx_peers import Backend, RawAuthServer, field
from ._postfix import free_port

PROTOCOLS: Final = ("smtp", "imap", "pop3")
OK: Final = b"HTTP/1.0 200 OK\r\n"
TO: Final = b"Auth-Server: 127.0.0.1\r\nAuth-Port: {port}\r\n"
END: Final = b"\r\n"

# What nginx logs, by what we say; where it logs nothing, it has not got that far.
INVALID_HEADER: Final = "sent invalid header in response"
REASONS: Final = {
    "no Auth-Server or no Auth-Port, and no refusal": {"did not send server or port"},
    "no Auth-Pass, and nginx has no password to log in with": {"did not send password"},
    "an Auth-Server that is no IP address to nginx": {"sent invalid server address"},
    "an Auth-Port that is no number from 1 to 65535": {"sent invalid server port"},
    "a CR that ends no line": {INVALID_HEADER, "sent invalid response"},
    "a folded header": {INVALID_HEADER},
    "this is TLS, and nginx speaks HTTP only": {INVALID_HEADER},
    "a header name with something else than letters, digits and -": {INVALID_HEADER},
    "a head of more than 1024 bytes": {""},
    "end of file before the answer's empty line": {""},
}


@attrs.frozen
class Seen:
    """What nginx did, or what we say that it does.

    ``kind``: ``in`` (it connected to ``upstream``), ``refused``, ``again`` (it asked again), or
    ``error``. ``line`` is what the mail client read, if nginx made it itself, and ``kept`` whether
    the client could go on.
    """

    kind: str
    line: bytes = b""
    kept: bool = False
    upstream: str = ""
    reasons: frozenset[str] = frozenset()


@attrs.frozen
class Session:
    """One login: where the client was, what it read last, and whether it could go on then."""

    port: int
    user: bytes
    line: bytes
    kept: bool


@attrs.define
class Peers:
    """All that a test of this module talks to."""

    nginx: Nginx
    auth: RawAuthServer
    backends: dict[str, Backend]
    numbers: Iterator[int] = attrs.field(factory=itertools.count)

    def differences(
        self, protocol: str, method: str, answers: Sequence[bytes], size: int = 2000
    ) -> list[bytes]:
        """The answers, each sent in chunks of ``size``, of which nginx makes what we do not say."""
        port = b"%d" % self.backends[protocol].port
        ready = [answer.replace(b"{port}", port) for answer in answers]
        position = self.nginx.log_position
        with ThreadPoolExecutor(24) as pool:
            sessions = list(
                pool.map(lambda answer: self._session(protocol, method, answer, size), ready)
            )
        log = Log(self.nginx.log(position))
        wrong = []
        for answer, session in zip(ready, sessions, strict=True):
            seen, ours = log.judge(session), said(self._asked(session.user), answer)
            if not agree(seen, ours):
                print(f"{answer!r}\n  nginx: {seen}\n  we:    {ours}")
                wrong.append(answer)
        return wrong

    def _session(self, protocol: str, method: str, answer: bytes, size: int) -> Session:
        user = b"u%d" % next(self.numbers)
        chunks = [answer[at : at + size] for at in range(0, len(answer), size)]
        self.auth.script(user, chunks)
        with self.nginx.client(protocol) as client:
            line = LOGINS[protocol, method](client, user)
            kept = bool(client.command(b"n NOOP" if protocol == "imap" else b"NOOP"))
            return Session(client.name[1], user, line, kept)

    def _asked(self, user: bytes) -> na.AuthRequest:
        head = self.auth.requests[user][0]
        lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")[1:]
        request = na.parse_request(
            (name, value) for name, _, value in (line.partition(b": ") for line in lines)
        )
        assert isinstance(request, na.AuthRequest), request
        return request


# Nobody has logged in, or one without a name, and nothing is logged: these are the next server's
# replies to RCPT, PASS and LOGIN, and nginx's own once AUTH has been taken there.
_TAKEN: Final = (b"250 2.0.0 fine\r\n", b"+OK fine\r\n", b"t OK in\r\n", b"235 2.0.0 OK\r\n")


class Log:
    """What nginx has logged, by the client's port."""

    def __init__(self, text: str) -> None:
        self._lines: dict[int, list[str]] = {}
        ports: dict[str, int] = {}
        for line in text.split("\n"):
            number = re.search(r" \*([0-9]+) ", line)
            if number is None:
                continue
            if client := re.search(r" client [^ ]*:([0-9]+) connected to ", line):
                ports[number[1]] = int(client[1])
                self._lines[int(client[1])] = []
            elif number[1] in ports:
                self._lines[ports[number[1]]].append(line)

    def judge(self, session: Session) -> Seen:
        """What nginx did, by its log and by what the client read."""
        lines, line, kept = self._lines[session.port], session.line, session.kept
        for logged in lines:
            if found := re.search(r", upstream: \"?([^ \"]*)", logged):
                return Seen("in", upstream=found[1])
        if line in _TAKEN:
            return Seen("in")
        if line in (b"535 5.7.0 over\r\n", b"t NO over\r\n", b"-ERR over\r\n"):
            return Seen("again")
        if any("client login failed" in logged for logged in lines):
            return Seen("refused", line, kept)
        logged = " ".join(lines)
        known = set().union(*REASONS.values()) - {""}
        reasons = frozenset(text for text in known if text in logged) or frozenset({""})
        return Seen("error", line, kept, reasons=reasons)


def said(request: na.AuthRequest, answer: bytes) -> Seen:
    """What we say to this answer."""
    conn = na.ClientConnection()
    conn.send(request)
    conn.receive_data(answer)
    conn.receive_data(b"")
    try:
        event = conn.next_event()
    except na.RemoteProtocolError as error:
        shown = na.mail_reply(None, request.protocol)
        reasons = frozenset(REASONS[str(error)])
        return Seen("error", shown.data, not shown.closes, reasons=reasons)
    match event:
        case na.Allow(server):
            port = re.findall(rb"(?mi)^auth-port: *([^\r\n]*?) *\r?$", answer)[-1]
            return Seen("in", upstream=f"{server.decode()}:{port.decode()}")
        case na.Deny():
            shown = na.mail_reply(event, request.protocol, tag=b"t")
            return Seen("refused", shown.data, not shown.closes)
        case na.Wait():
            return Seen("again")
        case _:
            raise AssertionError(event)


def agree(seen: Seen, ours: Seen) -> bool:
    """The same, but for what nginx did not log; of several reasons one is enough."""
    if seen == Seen("in"):
        return ours.kind == "in"
    if seen.kind == ours.kind == "error":
        if not seen.reasons & ours.reasons:
            return False
        return attrs.evolve(seen, reasons=frozenset()) == attrs.evolve(ours, reasons=frozenset())
    return seen == ours


# --- the mail client's side ----------------------------------------------------------------

_DIGEST: Final = b"0123456789abcdef" * 2


def smtp_plain(client: MailClient, user: bytes) -> bytes:
    client.command(b"EHLO c")
    return client.command(b"AUTH PLAIN " + base64.b64encode(b"\0" + user + b"\0p"))


def smtp_cram(client: MailClient, user: bytes) -> bytes:
    client.command(b"EHLO c")
    client.command(b"AUTH CRAM-MD5")
    return client.command(base64.b64encode(user + b" " + _DIGEST))


def smtp_none(client: MailClient, user: bytes) -> bytes:
    client.command(b"EHLO " + user)
    client.command(b"MAIL FROM:<a@b>")
    return client.command(b"RCPT TO:<c@d>")


def imap_plain(client: MailClient, user: bytes) -> bytes:
    return client.command(b"t LOGIN " + user + b" p")


def imap_cram(client: MailClient, user: bytes) -> bytes:
    client.command(b"t AUTHENTICATE CRAM-MD5")
    return client.command(base64.b64encode(user + b" " + _DIGEST))


def pop3_plain(client: MailClient, user: bytes) -> bytes:
    client.command(b"USER " + user)
    return client.command(b"PASS p")


def pop3_apop(client: MailClient, user: bytes) -> bytes:
    return client.command(b"APOP " + user + b" " + _DIGEST)


LOGINS: Final[dict[tuple[str, str], Callable[[MailClient, bytes], bytes]]] = {
    ("smtp", "plain"): smtp_plain,
    ("smtp", "cram-md5"): smtp_cram,
    ("smtp", "none"): smtp_none,
    ("imap", "plain"): imap_plain,
    ("imap", "cram-md5"): imap_cram,
    ("pop3", "plain"): pop3_plain,
    ("pop3", "apop"): pop3_apop,
}


# --- the answers ---------------------------------------------------------------------------


def padded(size: int, end: bytes = END) -> bytes:
    """A good answer of that many bytes, once the port has its five digits."""
    head = OK + b"Auth-Status: OK\r\n" + TO
    rest = size - len(head) - len(end) + len(b"{port}") - 5
    return head + b"X: " + b"x" * (rest - len(b"X: \r\n")) + b"\r\n" + end


STATUSES: Final = [
    OK + b"".join(b"Auth-Status:%b\r\n" % value for value in values) + TO + wait + END
    for values in (
        (),
        (b" OK",),
        (b" ok",),
        (b" OK!",),
        (b" \tOK",),
        (b" OK\t",),
        (b"   OK   ",),
        (b"OK",),
        (b"",),
        (b" ",),
        (b" no  such\tuser ",),
        (b" caf\xc3\xa9 \xff\x00\x01",),
        (b" [AUTHENTICATIONFAILED] no",),
        (b" no", b" OK"),
        (b" OK", b" no"),
        (b" no", b" "),
        (b" ", b" no"),
        (b" no", b" nay"),
        (b" WAIT",),
        (b" Wait",),
        (b" WAIT", b" OK"),
        (b" OK", b" WAIT"),
        (b" WAIT", b" no"),
        (b" no", b" WAIT"),
        (b" WAIT", b" no", b" "),
    )
    for wait in (b"", b"Auth-Wait: 1\r\n")
]
WAITS: Final = [
    OK + b"Auth-Status: no\r\n" + wait + END
    for wait in (
        b"Auth-Wait: 0\r\n",
        b"Auth-Wait: 01\r\n",
        b"Auth-Wait:1\r\n",
        b"Auth-Wait: -1\r\n",
        b"Auth-Wait: +1\r\n",
        b"Auth-Wait: 1s\r\n",
        b"Auth-Wait: 1 1\r\n",
        b"Auth-Wait: 0x1\r\n",
        b"Auth-Wait: 1.5\r\n",
        b"Auth-Wait:\r\n",
        b"Auth-Wait\r\n",
        b"Auth-Wait: \t1\r\n",
        b"Auth-Wait: 99999999999999999999\r\n",
        b"Auth-Wait: 1\r\nAuth-Wait: x\r\n",
        b"Auth-Wait: 1\r\nAuth-Wait: 0\r\n",
        b"Auth-Wait: 0\r\nAuth-Wait: 1\r\n",
    )
]
CODES: Final = [
    OK + b"Auth-Status: no\r\n" + code + END
    for code in (
        b"Auth-Error-Code: 451 4.3.0\r\n",
        b"Auth-Error-Code: 550\r\n",
        b"Auth-Error-Code: 250 2.0.0\r\n",
        b"Auth-Error-Code:\r\n",
        b"Auth-Error-Code: 1\r\nAuth-Error-Code: -ERR\r\n",
        b"auth-error-CODE: 454\r\n",
    )
]


def at(server: bytes, port: bytes = b"0") -> bytes:
    """An answer that names this server; with port 0 nginx looks at the address, and not for it."""
    lines = b"Auth-Status: OK\r\nAuth-Server: %b\r\nAuth-Port: %b\r\n"
    return OK + lines % (server, port) + END


# With all the forms in which this machine can be reached.
LOOPBACK: Final = [
    at(server, b"{port}")
    for server in (
        b"127.0.0.1",
        b"127..0.1",
        b"127...1",
        b"0127.000.0.01",
        b"::1",
        b"0:0:0:0:0:0:0:1",
        b":0:0:0:0:0:0:0:1",
        b"::0:0:0:0:0:0:1",
        b"0:0:0:0:0:0::1",
        b"::ffff:127.0.0.1",
        b"::FFFF:127..0.1",
    )
]
SERVERS: Final = [
    at(server)
    for server in (
        b"127...",
        b"0127.000.0.01",
        b"0177.0.0.1",
        b"0x7f.0.0.1",
        b"127.1",
        b"127.0.0.1.",
        b"2130706433",
        b"127.0.0.256",
        b"127.0.0.1x",
        b"255.255.255.255",
        b"255.255.255.254",
        b"::1",
        b"::",
        b":",
        b":::",
        b"1:",
        b"::1:",
        b"0:0:0:0:0:0:0:1",
        b":0:0:0:0:0:0:0:1",
        b"::0:0:0:0:0:0:1",
        b"::0:0:0:0:0:0:0:1",
        b"0:0:0:0:0:0:0::",
        b"0:0:0:0:0:0::1",
        b"0:0:0:0:0:0:0:0:1",
        b"1::2::3",
        b"00001::1",
        b"::g",
        b"::ffff:127.0.0.1",
        b"::FFFF:127..0.1",
        b"::ffff:255.255.255.255",
        b"1:2:3:4:5:6:7::",
        b"::ffff:00127.0.0.1",
        b"::ffff:.0.0.1",
        b"::ffff:127.0.0.1:1",
        b"0:0:0:0:0:0:127.0.0.1",
        b"0:0:0:0:0:0:0:127.0.0.1",
        b"::0:0:0:0:0:0:127.0.0.1",
        b"a.0.0.1",
        b"::a.0.0.1",
        b"[::1]",
        b"::1%lo",
        b"localhost",
        b"unix:/run/x",
        b"127.0.0.1:25",
        b"",
    )
]
PORTS: Final = [
    OK + b"Auth-Status: OK\r\nAuth-Server: 127.0.0.1\r\nAuth-Port:" + port + END + END
    for port in (
        b" 00{port}",
        b"{port}",
        b" {port} ",
        b" {port}x",
        b" +{port}",
        b" -1",
        b" 0",
        b" 65536",
        b" 18446744073709551617",
        b" 99999999999999999999999999",
        b"",
        b" 1\r\nAuth-Port: {port}",
    )
]
HEADS: Final = [
    TO + END,
    b"HTTP/1.1 500 Oops\r\nAuth-Status: OK\r\n" + TO + END,
    b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Auth-Status: OK\r\n" + TO + END,
    b"HTTP/\r\n" + TO + END,
    b"HTTP/\n" + TO + END,
    b"HTTP\r\n" + TO + END,
    b"HTT: x\r\n" + TO + END,
    b"http/1.1 200 OK\r\n" + TO + END,
    b"HTTP/1.1 200 OK\rX\n" + TO + END,
    OK.replace(b"\r", b"") + TO.replace(b"\r", b"") + b"\n",
    OK + TO + b"\n",
    OK + TO + b"\rX\r\n",
    OK + TO,
    OK + TO[:-2],
    b"",
    b"\r\n",
    b"\n",
    OK,
    OK + END,
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 3\r\n\r\nno!",
    OK + TO + END + b"Auth-Status: no\r\n\r\n",
    OK + b"X_y: z\r\n" + TO + END,
    OK + b"X.y: z\r\n" + TO + END,
    OK + b"X y: z\r\n" + TO + END,
    OK + b"X : z\r\n" + TO + END,
    OK + b": z\r\n" + TO + END,
    OK + b"-X: z\r\n" + TO + END,
    OK + b"9-X: z\r\n" + TO + END,
    OK + b"X\xc3\xa9: z\r\n" + TO + END,
    OK + b"X\x00: z\r\n" + TO + END,
    OK + b"X: z\r\n z\r\n" + TO + END,
    OK + b"X: z\r\n\tz\r\n" + TO + END,
    OK + b" " + TO + END,
    OK + b"X: a\rb\r\n" + TO + END,
    OK + b"X: a \r \r\n" + TO + END,
    OK + b"X\rb\r\n" + TO + END,
    OK + b"X:\x00\x01\xff:\r\n" + TO + END,
    OK + b"X\r\nY\n" + TO + END,
    OK + b"Auth-Status\r\n" + TO + END,
    OK + b"Auth-Server\r\nAuth-Port: 1\r\n" + END,
    OK + b"AUTH-SERVER: 127.0.0.1\r\nauth-port: {port}\r\n" + END,
    OK + b"Auth-Server: 192.0.2.1\r\n" + TO + END,
    OK + b"Auth_Server: 127.0.0.1\r\n" + TO + END,
    OK + b"Auth-Status: no\r\nAuth-Wait: 1\r\n" + TO,
    b"\x15\x03\x01\x00\x02\x02\x46",
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"220 mx.test ESMTP\r\n",
    padded(1023),
    padded(1024),
    padded(1025),
    padded(1026),
    padded(1024, b""),
    padded(1025, b"\n"),
    padded(3000),
    OK + b"X" * 2000,
    OK + b"Auth-Status: " + b"n" * 900 + b"\r\n" + END,
]
CREDENTIALS: Final = [
    OK + TO + credential + END
    for credential in (
        b"Auth-Pass: p\r\n",
        b"Auth-Pass:\r\n",
        b"Auth-Pass\r\n",
        b"Auth-User: other\r\n",
        b"Auth-User: other\r\nAuth-Pass: q\r\n",
        b"",
    )
]
ANSWERS: Final = [*STATUSES, *WAITS, *CODES, *LOOPBACK, *SERVERS, *PORTS, *HEADS, *CREDENTIALS]


@contextlib.contextmanager
def running(nginx_program: Path) -> Iterator[Peers]:
    """nginx between a service that says anything, and mail servers that take everybody."""
    with (
        RawAuthServer() as auth,
        Backend("smtp") as smtp,
        Backend("imap") as imap,
        Backend("pop3") as pop3,
        # An end that comes together with the last bytes is not noticed, but by this timeout.
        Nginx(nginx_program, f"127.0.0.1:{auth.port}/auth", auth_http_timeout="2s") as nginx,
    ):
        yield Peers(nginx, auth, {"smtp": smtp, "imap": imap, "pop3": pop3})
        assert nginx.exit_status is None


@pytest.fixture(scope="module")
def peers(nginx_program: Path) -> Iterator[Peers]:
    """One nginx for all of them."""
    with running(nginx_program) as started:
        yield started
        # Shown with a test that fails.
        print(started.nginx.log()[-5000:])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_odd_answers(peers: Peers, protocol: str) -> None:
    """The whole table, each answer in one piece."""
    assert peers.differences(protocol, "plain", ANSWERS) == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_odd_answers_in_pieces(peers: Peers, protocol: str) -> None:
    """Byte by byte, as far as TCP lets them be."""
    assert peers.differences(protocol, "plain", [*HEADS, *STATUSES[::3]], 1) == []


@pytest.mark.parametrize(
    ("protocol", "method"),
    [pytest.param(*key, id="-".join(key)) for key in LOGINS if key[1] != "plain"],
)
def test_other_methods(peers: Peers, protocol: str, method: str) -> None:
    """They differ in whether nginx has a password left."""
    answers = [answer for answer in (*CREDENTIALS, *CODES, *STATUSES) if b"WAIT" not in answer]
    assert peers.differences(protocol, method, answers) == []


names = st.sampled_from(
    b"Auth-Status Auth-Server Auth-Port Auth-User Auth-Pass Auth-Wait Auth-Error-Code "
    b"Auth-Error-SASL X auth-STATUS Auth-Statu Date".split()
)
texts = st.one_of(
    st.sampled_from(
        [b"OK", b"WAIT", b"OK", b"no", b"127.0.0.1", b"::1", b"{port}", b"1", b"0", b"", b"\t"]
    ),
    st.binary(max_size=6),
    st.integers(850, 1000).map(lambda size: b"x" * size),
)
header_lines = st.builds(
    lambda *parts: b"".join(parts),
    names,
    st.sampled_from([b": ", b": ", b": ", b":", b":  ", b" :", b"", b"_:"]),
    texts,
    st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b" \r\n", b"\r\r\n"]),
)
# Of those above three in four spoil the framing, and then nothing else of an answer matters.
sound_lines = st.builds(
    b"%b: %b\r\n".__mod__,
    st.one_of(
        st.tuples(st.just(b"Auth-Status"), st.sampled_from([b"OK", b"WAIT", b"no", b"550 no"])),
        st.tuples(st.just(b"Auth-Wait"), st.sampled_from([b"0", b"1", b"x", b""])),
        st.tuples(st.just(b"Auth-Error-Code"), st.sampled_from([b"451 4.3.0", b"550", b""])),
        st.tuples(st.just(b"Auth-Server"), st.sampled_from([b"127.0.0.1", b"::1", b"x", b""])),
        st.tuples(st.just(b"Auth-Port"), st.sampled_from([b"{port}", b"0", b"65536", b"x"])),
        st.tuples(st.sampled_from([b"Auth-User", b"Auth-Pass"]), st.just(b"u")),
    ),
)
odd_answers = st.builds(
    lambda status, lines, to, end: b"".join((status, *lines, to, end)),
    st.sampled_from([OK, OK, b"", b"HTTP/1.1 401 no\n", b"HTTP/\r\n"]),
    st.one_of(*[st.lists(sound_lines, max_size=4)] * 2, st.lists(header_lines, max_size=5)),
    st.sampled_from([TO, TO, b""]),
    st.sampled_from([END, END, b"\n", b""]),
)


def few_waits(answer: bytes) -> bool:
    """Each second that nginx is told to wait is one of this test's."""
    return not re.search(rb"(?mi)^auth-wait: *(\{port\}|0*([2-9]|1[0-9]))", answer)


@settings(max_examples=8, derandomize=True, phases=[Phase.generate], database=None)
@given(
    st.sampled_from([key for key in LOGINS if key[1] in ("plain", "apop")]),
    st.lists(odd_answers.filter(few_waits), min_size=30, max_size=60),
)
def test_generated_answers(peers: Peers, login: tuple[str, str], answers: list[bytes]) -> None:
    """Put together from what is good and what is not."""
    assert peers.differences(*login, answers) == []


words = [":", "::", ".", "0", "1", "127", "256", "ffff", "0000", "00000", "g", "127.0.0.1"]
addresses = st.one_of(
    st.lists(st.sampled_from(words), max_size=9).map("".join),
    st.lists(st.sampled_from(["0", "1f", "", "127.0.0.1"]), min_size=3, max_size=9).map(":".join),
    st.lists(st.sampled_from(["0", "1", "255", "", "007"]), min_size=3, max_size=5).map(".".join),
    st.ip_addresses().map(str),
)


@settings(max_examples=4, derandomize=True, phases=[Phase.generate], database=None)
@given(st.lists(addresses, min_size=40, max_size=80))
def test_generated_addresses(peers: Peers, texts: list[str]) -> None:
    """What is one to nginx."""
    assert peers.differences("smtp", "plain", [at(text.encode()) for text in texts]) == []


# --- more than one answer, and late ones ---------------------------------------------------

WAIT: Final = OK + b"Auth-Status: WAIT\r\n"


def test_a_wait_without_time_is_a_trap(peers: Peers) -> None:
    """It asks again at once, and takes every OK for another WAIT, until it is refused."""
    good = [(OK + b"Auth-Status: OK\r\n" + TO.replace(b"{port}", b"1") + END,)] * 3
    peers.auth.script(b"trap", (WAIT + END,), *good)
    with peers.nginx.client("smtp") as client:
        assert smtp_plain(client, b"trap") == b"535 5.7.0 over\r\n"
    assert len(peers.auth.requests[b"trap"]) == 5
    assert len(set(peers.auth.requests[b"trap"])) == 1


def test_after_a_wait_it_is_asked_the_same(peers: Peers) -> None:
    """And the answer to that counts; what the WAIT had beside it is asked for from then on."""
    port = b"%d" % peers.backends["imap"].port
    good = OK + b"Auth-Status: OK\r\n" + TO.replace(b"{port}", port) + END
    first = WAIT + b"Auth-Wait: 1\r\nAuth-Pass: other\r\n" + END
    peers.auth.script(b"patient", (first,), (good,))
    with peers.nginx.client("imap") as client:
        assert imap_plain(client, b"patient") == b"t OK in\r\n"
    one, two = peers.auth.requests[b"patient"]
    assert two == one.replace(b"Auth-Pass: p\r\n", b"Auth-Pass: other\r\n") != one


@pytest.mark.parametrize(("protocol", "method"), [("smtp", "cram-md5"), ("pop3", "apop")])
def test_a_wait_loses_the_digest(peers: Peers, protocol: str, method: str) -> None:
    """nginx has forgotten it, and asks again without; before 1.29.7 it may crash instead.

    (Debian's 1.22.1 has the correction.)
    """
    with Nginx(peers.nginx._program, f"127.0.0.1:{peers.auth.port}/auth") as nginx:
        peers.auth.script(b"digest", (WAIT + b"Auth-Wait: 1\r\n" + END,))
        with nginx.client(protocol) as client:
            line = LOGINS[protocol, method](client, b"digest")
        requests = peers.auth.requests[b"digest"]
        if line:
            assert [field(request, b"Auth-Pass") for request in requests] == [_DIGEST, b""]
        else:
            assert nginx.wait() == -signal.SIGSEGV


def test_a_slow_answer(peers: Peers) -> None:
    """It is waited for as long as auth_http_timeout, however it trickles in."""
    answered = threading.Event()

    def trickle() -> Iterator[bytes]:
        yield OK
        for number in range(100):
            if answered.wait(0.2):
                return
            yield b"X-%d: x\r\n" % number

    peers.auth.script(b"slow", trickle())
    with peers.nginx.client("smtp-hasty") as client:
        started = time.monotonic()
        assert smtp_plain(client, b"slow") == na.mail_reply(None, b"smtp").data
        taken = time.monotonic() - started
        answered.set()
        assert client.rest() == b""
    assert 0.9 < taken < 3


def test_a_late_answer(peers: Peers) -> None:
    """Before that it is as good as any."""
    port = b"%d" % peers.backends["smtp"].port
    late = threading.Event()

    def halves() -> Iterator[bytes]:
        yield OK + b"Auth-Stat"
        late.wait(0.5)
        yield b"us: OK\r\n" + TO.replace(b"{port}", port) + END

    peers.auth.script(b"late", halves())
    with peers.nginx.client("smtp-hasty") as client:
        assert smtp_plain(client, b"late") == b"235 2.0.0 OK\r\n"


def test_nobody_answers(nginx_program: Path) -> None:
    """Refused connections are an internal error, too, and at once."""
    with Nginx(nginx_program, f"127.0.0.1:{free_port()}/auth") as nginx:
        for protocol in PROTOCOLS:
            with nginx.client(protocol) as client:
                line = LOGINS[protocol, "plain"](client, b"u")
                assert line == na.mail_reply(None, protocol.encode()).data
                assert client.rest() == b""
