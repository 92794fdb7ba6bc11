"""Our server is held to what a real Dovecot answers to the same bytes, good and malformed."""

from __future__ import annotations

import base64
import random
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pytest

import dovecotauth as da

from ._dovecot import PASSWORD, Dovecot

HELLO: Final = da.ServerHello(
    tuple(map(da.Mechanism, (b"PLAIN", b"LOGIN", b"CRAM-MD5", b"SCRAM-SHA-256"))), 1, 1, b"0" * 32
)
# Dovecot's auth_username_chars, as they are unless set; anybody else fails without a password.
USER_NAME: Final = re.compile(rb"[A-Za-z0-9._@-]+")


class Daemon:
    """As much of Dovecot's auth as the scripts below need, on our codec."""

    def __init__(self) -> None:
        self.names: dict[int, bytes] = {}
        self.mechanisms: dict[int, bytes] = {}

    def handle(self, event: Any) -> list[da.FromServer]:
        match event:
            case da.Connected():
                return [da.Version(1, 2), HELLO]
            case da.Malformed():
                return [event.reply]
            case da.Auth():
                self.names.pop(event.id, None)
                self.mechanisms[event.id] = event.mechanism
                if event.mechanism == b"PLAIN":
                    return [self.plain(event.id, event.response)]
                return [self.login(event.id, event.response or None)]
            case da.Cont():
                if self.mechanisms[event.id] == b"PLAIN":
                    return [self.plain(event.id, event.data)]
                return [self.login(event.id, event.data)]
            case _:
                return []

    def plain(self, number: int, response: bytes | None) -> da.Cont | da.Ok | da.Fail:
        if response is None:
            return da.Cont(number, b"")
        parts = response.split(b"\0")
        return self.verdict(number, *parts[1:]) if len(parts) == 3 else da.Fail(number)

    def login(self, number: int, data: bytes | None) -> da.Cont | da.Ok | da.Fail:
        if data is None:
            return da.Cont(number, b"Username:")
        if number not in self.names:
            if not USER_NAME.fullmatch(data):
                return da.Fail(number)
            self.names[number] = data
            return da.Cont(number, b"Password:")
        return self.verdict(number, self.names.pop(number), data)

    def verdict(self, number: int, user: bytes, password: bytes) -> da.Ok | da.Fail:
        if b"\0" in user:
            return da.Fail(number)
        right = user in (b"alice", b"bob") and password == PASSWORD
        return da.Ok(number, user) if right else da.Fail(number, user)


Outcome = list[str] | str
DISCONNECT: Final = "disconnect"


def ours(script: bytes) -> Outcome:
    """What our server makes of a client's bytes."""
    conn, daemon, output = da.ServerConnection(), Daemon(), b""
    conn.receive_data(script)
    try:
        while (event := conn.next_event()) is not None:
            for reply in daemon.handle(event):
                output += conn.send(reply)
    except da.RemoteProtocolError:
        return DISCONNECT
    return kinds(output)


GOOD: Final = base64.b64encode(b"\0alice\0" + PASSWORD)
BAD: Final = base64.b64encode(b"\0alice\0x")
# A success and a failure: when both are answered, all is that was asked before.
SENTINEL: Final = (
    b"AUTH\t998\tPLAIN\tservice=smtp\tno-penalty\tresp=" + BAD + b"\n"
    b"AUTH\t999\tPLAIN\tservice=smtp\tno-penalty\tresp=" + GOOD + b"\n"
)


def theirs(dovecot: Dovecot, script: bytes) -> Outcome:
    """What Dovecot does."""
    output = b""
    with dovecot.connect(dovecot.client) as sock:
        try:
            sock.sendall(script)
            while not (b"\nFAIL\t998" in output and b"\nOK\t999" in output):
                data = sock.recv(65536)
                if not data:
                    return DISCONNECT
                output += data
            # Failures come together, and in any order.
            sock.settimeout(0.2)
            while data := sock.recv(65536):
                output += data
        except TimeoutError:
            pass
        except ConnectionError:
            return DISCONNECT
    return kinds(output)


def kinds(output: bytes) -> list[str]:
    """The replies: which kind for which id, with the code; sorted, for failures are shuffled."""
    found = []
    for line in output.split(b"\n"):
        verb, *words = line.split(b"\t")
        if verb in (b"CONT", b"OK", b"FAIL"):
            # Of a reason, the first word tells which it is.
            why = [word.split()[0] for word in words[1:] if word.startswith((b"code=", b"reason="))]
            found.append(b" ".join([verb, words[0], *why[:1]]).decode())
    return sorted(found)


HEAD: Final = b"VERSION\t1\t2\nCPID\t4242\n"
AUTH: Final = b"AUTH\t1\tPLAIN\tservice=smtp\tno-penalty"

# Where we differ from Dovecot 2.3, on purpose: the lines, what each makes of them, and why.
DIFFERENCES: Final[list[tuple[str, bytes, str | None, str | None, str]]] = [
    (
        "white space in base64",
        AUTH + b"\tresp= " + GOOD + b"\n",
        "OK 1",
        "FAIL 1 code=invalid_base64",
        "no client sends it, and a strict reader can't be led to read two things",
    ),
    (
        "NUL in a line",
        AUTH + b"\tx=\0\tresp=" + GOOD + b"\n",
        "CONT 1",
        None,
        "Dovecot drops the rest of the line, a password's place among it, and goes on",
    ),
    (
        "NUL by its escape",
        AUTH + b"\tx=\x010\tresp=" + GOOD + b"\n",
        "OK 1",
        None,
        "Dovecot takes what stands before it for the whole",
    ),
    (
        "protocol= for service=",
        b"AUTH\t1\tPLAIN\tprotocol=smtp\tresp=" + GOOD + b"\n",
        None,
        "OK 1",
        "Dovecot 2.4 sends and takes it",
    ),
    (
        "CONT for id 0",
        b"CONT\t0\t\n",
        "FAIL 0 reason=Authentication",
        None,
        "there can be no such request, and no such reply",
    ),
    (
        "CANCEL for id 0",
        b"CANCEL\t0\n",
        "",
        None,
        "likewise",
    ),
    (
        "an escape in the mechanism",
        b"AUTH\t1\tPL\x01AIN\tservice=smtp\tno-penalty\n",
        "CONT 1",
        None,
        "nobody has to escape a mechanism's name",
    ),
    (
        "an id again while its failure waits",
        AUTH + b"\tresp=" + BAD + b"\n" + AUTH + b"\tresp=" + GOOD + b"\n",
        "OK 1, FAIL 1",
        "FAIL 1, OK 1",
        "none for who looks at the set: Dovecot delays failures, and ours come at once",
    ),
]


@pytest.mark.parametrize(
    ("line", "dovecots", "our"),
    [case[1:4] for case in DIFFERENCES],
    ids=[case[0] for case in DIFFERENCES],
)
def test_where_we_differ_from_dovecot(
    dovecot: Dovecot, line: bytes, dovecots: str | None, our: str | None
) -> None:
    """The table says how, and why."""
    script = HEAD + line + SENTINEL

    def expected(answers: str | None) -> Outcome:
        if answers is None:
            return DISCONNECT
        return sorted([*filter(None, answers.split(", ")), "FAIL 998", "OK 999"])

    assert theirs(dovecot, script) == expected(dovecots)
    assert ours(script) == expected(our)


WORDS: Final = [
    b"service=smtp",
    b"service=smtp",
    b"service=smtp",
    b"no-penalty",
    b"secured",
    b"",
    b"rip=1.2.3.4",
    b"lport=x",
    b"=x",
    b"x=\x01t\x01n\x01r\x011\x01l\x01",
    b"nologin",
    b"resp",
    b"resp=",
    b"resp==",
    b"resp=" + GOOD,
    b"resp=" + GOOD,
    b"resp=" + BAD,
    b"resp=x",
    b"resp=AA==",
    b"resp=AA=A",
    b"resp=====",
    b"resp=" + GOOD[:-1],
    b"r\x01esp=" + GOOD,
    b"service",
    b"final-resp-ok",
    b"forward_fields=a=\x011t",
]
IDS: Final = [b"1", b"1", b"1", b"2", b"2", b"3", b"007"]
ODD_IDS: Final = [b"0", b"4294967296", b"4294967295", b"+1", b"-1", b"1 ", b"0x1", b"", b"x"]
CONTS: Final = [
    b"\t",
    b"\t" + GOOD,
    b"\t" + GOOD,
    b"\t" + BAD,
    b"\tYWxpY2U=",
    b"\tx",
    b"\t=",
    b"\t" + GOOD + b"\tx",
    b"\t#",
    b"",
    b"\t" + base64.b64encode(PASSWORD),
]
ODD_LINES: Final = [
    b"",
    b"FOO\t1",
    b"auth\t1\tPLAIN\tservice=smtp",
    b"CPID\t1",
    b"VERSION\t1\t1",
    b" ",
    b"OK\t1",
    b"CANCEL",
    b"CANCEL\t1\t",
    b"CANCEL\tx",
    b"AUTH",
    b"AUTH\t1",
    b"\tx",
    b"\r",
]
HEADS: Final = [
    b"VERSION\t1\t0\nCPID\t1\n",
    b"VERSION\t1\t1\nCPID\t1\n",
    b"VERSION\t1\t99\r\nCPID\t1\r\n",
    b"VERSION\t01\t2\nCPID\t01\n",
    b"VERSION\t1\t1\tx\nCPID\t1\n",
    b"VERSION\t2\t0\nCPID\t1\n",
    b"CPID\t1\n",
    b"VERSION\t1\t2\n",
    b"VERSION\t1\t2\nCPID\t0\n",
    b"VERSION\t1\t2\nCPID\t1\t\n",
    b"VERSION\t1\nCPID\t1\n",
    b"VERSION\t1\t4294967296\nCPID\t1\n",
    b"VERSION\t1\t-1\nCPID\t1\n",
    b"\nVERSION\t1\t2\nCPID\t1\n",
    b"VERSION\t1\t2\nCPID\t4294967295\n",
    b"VERSION\t1\t2\nCPID\t4294967296\n",
    b"version\t1\t2\nCPID\t1\n",
]


def a_line(rng: random.Random) -> bytes:
    """Mostly in order: one line out of it ends a script."""
    number = rng.choice(ODD_IDS if rng.random() < 0.04 else IDS)
    if number == b"0":
        number = b"00000000000000000000000"
    ends = rng.choice([b"\n"] * 9 + [b"\r\n"])
    what = rng.random()
    if what < 0.04:
        return rng.choice(ODD_LINES) + ends
    if what < 0.6:
        mechanism = rng.choice([b"PLAIN"] * 5 + [b"plain", b"LOGIN", b"LOGIN"])
        mechanism = rng.choice([b"NOPE", b"", b"PLAIN "]) if rng.random() < 0.03 else mechanism
        words = rng.choices(WORDS, k=rng.randrange(3))
        if rng.random() < 0.85:
            # The response last, as it has to be.
            words = [b"service=smtp", *sorted(words, key=lambda word: b"esp" in word)]
        # Without it Dovecot asks for the penalty first, and other lines overtake this one.
        return b"\t".join([b"AUTH", number, mechanism, b"no-penalty", *words]) + ends
    if number.strip(b"0") == b"":
        number = b"x"  # in the table above
    if what < 0.9:
        return b"CONT\t" + number + rng.choice(CONTS) + ends
    return b"CANCEL\t" + number + ends


def a_script(rng: random.Random) -> bytes:
    """A session: a greeting, a few lines, and what has to be answered after them."""
    head = rng.choice([HEAD, HEAD, HEADS[0], HEADS[1]])
    return head + b"".join(a_line(rng) for _ in range(rng.randrange(1, 7))) + SENTINEL


def compared(dovecot: Dovecot, cases: list[bytes]) -> list[tuple[bytes, Outcome, Outcome]]:
    """Each with Dovecot's outcome and ours."""
    with ThreadPoolExecutor(25) as pool:
        answers = list(pool.map(lambda script: theirs(dovecot, script), cases))
    return [(script, real, ours(script)) for script, real in zip(cases, answers, strict=True)]


def test_the_same_bytes_give_the_same_answers(dovecot: Dovecot) -> None:
    """Over hundreds of sessions, good and malformed: each kind of answer, or the end."""
    rng = random.Random(20261124)
    cases = [head + SENTINEL for head in HEADS] + [a_script(rng) for _ in range(500)]
    found = compared(dovecot, cases)
    assert [case for case in found if case[1] != case[2]] == []
    # Neither kind of outcome is rare, or this would test little.
    ends = sum(real == DISCONNECT for _, real, _ in found)
    assert len(cases) / 5 < ends < len(cases) * 3 / 4


@pytest.mark.parametrize(("size", "taken"), [(16383, True), (16384, False)])
def test_the_longest_line(dovecot: Dovecot, size: int, taken: bool) -> None:
    """Without its LF; the longest that we write is taken."""
    line = AUTH + b"\tx=" + b"y" * (size - len(AUTH) - 3) + b"\n"
    script = HEAD + line + SENTINEL
    assert (theirs(dovecot, script) != DISCONNECT) is taken
    assert (ours(script) != DISCONNECT) is taken
