"""The authentication daemon, driven by our own client's side over real sockets."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import scramp
from mailfront import auth_daemon, userdb

import dovecotauth as da

PATIENCE = 20
EXAMPLE = Path(auth_daemon.__file__)
SECURED = ((b"service", b"smtp"), (b"rip", b"192.0.2.1"), (b"secured", None))
ANN = b"\0ann@example.test\0ann"


class Asker:
    """A client of the daemon."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(str(path))
        self.conn = da.ClientConnection()
        self.socket.sendall(self.conn.send(da.ClientHello(1)))
        self.hello = self.hear()
        while not isinstance(self.hello, da.ServerHello):
            self.hello = self.hear()

    def hear(self) -> Any:
        """The next event."""
        while (event := self.conn.next_event()) is None:
            self.conn.receive_data(self.socket.recv(65536))
        return event

    def ask(self, event: Any) -> Any:
        """Send, and hear."""
        self.socket.sendall(self.conn.send(event))
        return self.hear()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('database') / 'mail.db'}"
    asyncio.run(userdb.main(url, demo=True))
    return url


Start = Callable[..., Asker]


@pytest.fixture
def start(database: str, tmp_path: Path) -> Iterator[Start]:
    """The daemon as a program; it has to stop in order and to log no password."""
    path = tmp_path / "auth"
    running: list[subprocess.Popen[str]] = []
    askers: list[Asker] = []

    def begin(*options: str, url: str = database) -> Asker:
        if not running:
            command = [sys.executable, "-W", "error", str(EXAMPLE), "--listen", f"unix:{path}"]
            process = subprocess.Popen(
                [*command, "--database", url, *options], stderr=subprocess.PIPE, text=True
            )
            running.append(process)
            assert process.stderr is not None
            assert "listening on" in process.stderr.readline()
        askers.append(Asker(path))
        return askers[-1]

    yield begin
    for asker in askers:
        asker.socket.close()
    for process in running:
        process.terminate()
        assert process.stderr is not None
        log = process.stderr.read()
        process.stderr.close()
        assert process.wait(PATIENCE) == 0
        assert "hunter2" not in log


def granted(name: bytes = b"ann@example.test", number: int = 1) -> da.Ok:
    return da.Ok(number, name, ((b"plan", b"paid"),))


def plain(number: int, response: bytes | None = ANN) -> da.Auth:
    return da.Auth(number, b"PLAIN", SECURED, response)


def test_it_offers_what_it_can(start: Start) -> None:
    """Plaintext is said to be plaintext; each connection has a cookie of its own."""
    first, second = start(), start()
    assert first.hello.mechanisms == (
        da.Mechanism(b"SCRAM-SHA-256", da.Flags.MUTUAL_AUTH),
        da.Mechanism(b"PLAIN", da.Flags.PLAINTEXT),
        da.Mechanism(b"LOGIN", da.Flags.PLAINTEXT),
    )
    assert first.hello.cookie != second.hello.cookie
    assert first.hello.connection_id != second.hello.connection_id


def test_plain(start: Start) -> None:
    """With the response at once, or after an empty challenge; in any case of the name."""
    asker = start()
    assert asker.ask(plain(1)) == granted()
    assert asker.ask(plain(2, None)) == da.Cont(2, b"")
    assert asker.ask(da.Cont(2, b"\0ANN@Example.test\0ann")) == granted(number=2)
    same = b"ann@example.test" + ANN
    assert asker.ask(plain(3, same)) == granted(number=3)


@pytest.mark.parametrize(
    ("response", "code"),
    [
        (b"\0ann@example.test\0hunter2", b""),
        (b"\0nobody@example.test\0hunter2", b""),
        (b"\0\0ann", b""),
        (b"", b""),
        (b"ann", b""),
        (b"\0ann@example.test\0ann\0", b""),
        (b"\0\xff\0ann", b""),
        (b"bob@example.test" + ANN, da.AUTHZ_FAIL),
        (b"\0tim@trial.example.test\0tim", da.USER_DISABLED),
        (b"\0tim@trial.example.test\0hunter2", b""),
    ],
)
def test_what_plain_refuses(start: Start, response: bytes, code: bytes) -> None:
    """That a user is blocked is said only to who knows the password."""
    assert start().ask(plain(1, response)) == da.Fail(1, code=code)


def test_login(start: Start) -> None:
    """With the name at once, or asked for."""
    asker = start()
    assert asker.ask(da.Auth(1, b"LOGIN", SECURED)) == da.Cont(1, b"Username:")
    assert asker.ask(da.Cont(1, b"ann@example.test")) == da.Cont(1, b"Password:")
    assert asker.ask(da.Cont(1, b"ann")) == granted()
    first = da.Auth(2, b"LOGIN", SECURED, b"ann@example.test")
    assert asker.ask(first) == da.Cont(2, b"Password:")
    assert asker.ask(da.Cont(2, b"hunter2")) == da.Fail(2)


@pytest.mark.parametrize("final", [False, True], ids=["", "final-resp-ok"])
def test_scram(start: Start, final: bool) -> None:
    """The server proves itself, too; in the result where the client can take it there."""
    asker = start()
    scram = scramp.ScramClient(["SCRAM-SHA-256"], "ann@example.test", "ann")
    extra = ((b"final-resp-ok", None),) if final else ()
    first = scram.get_client_first().encode()
    challenge = asker.ask(da.Auth(1, b"SCRAM-SHA-256", (*SECURED[:2], *extra), first))
    scram.set_server_first(challenge.data.decode())
    end = asker.ask(da.Cont(1, scram.get_client_final().encode()))
    proof = end.response if final else end.data
    scram.set_server_final(proof.decode())
    if not final:
        end = asker.ask(da.Cont(1, b""))
    assert (end.user, end.fields) == (b"ann@example.test", ((b"plan", b"paid"),))


@pytest.mark.parametrize("user", ["ann@example.test", "nobody@example.test"])
def test_scram_with_a_wrong_password(start: Start, user: str) -> None:
    """A stranger is asked like a user, with a salt that stays the same."""
    asker = start()
    salts = set()
    for number in (1, 2):
        scram = scramp.ScramClient(["SCRAM-SHA-256"], user, "hunter2")
        first = scram.get_client_first().encode()
        challenge = asker.ask(da.Auth(number, b"SCRAM-SHA-256", SECURED, first))
        salts.add(challenge.data.split(b",")[1])
        scram.set_server_first(challenge.data.decode())
        assert asker.ask(da.Cont(number, scram.get_client_final().encode())) == da.Fail(number)
    assert len(salts) == 1


@pytest.mark.parametrize(
    "first", [b"", b"rubbish", b"\xff", b"n,a=bob,n=ann,r=x", b"n,,n=ann", b"p=tls,,n=ann,r=x"]
)
def test_scram_that_is_none(start: Start, first: bytes) -> None:
    """Refused, and the connection goes on."""
    asker = start()
    assert asker.ask(da.Auth(1, b"SCRAM-SHA-256", SECURED, first)) == da.Fail(1)
    assert asker.ask(plain(2)) == granted(number=2)


def test_plaintext_without_tls(start: Start) -> None:
    """Refused with the reason; SCRAM may begin."""
    asker = start()
    for name in (b"PLAIN", b"LOGIN"):
        answer = asker.ask(da.Auth(1, name, SECURED[:2], ANN))
        assert answer == da.Fail(1, reason=b"this mechanism needs TLS")
    first = da.Auth(1, b"SCRAM-SHA-256", SECURED[:2], b"n,,n=ann,r=abc")
    assert isinstance(asker.ask(first), da.Cont)


def test_plaintext_where_it_is_allowed(start: Start) -> None:
    """By an option."""
    asker = start("--plaintext")
    assert asker.ask(da.Auth(1, b"PLAIN", SECURED[:2], ANN)) == granted()


def test_who_guesses_waits_and_who_knows_does_not(start: Start) -> None:
    """The delay grows for the client's address alone."""
    asker = start()
    begun = time.monotonic()
    for number in (1, 2):
        assert asker.ask(plain(number, b"\0ann@example.test\0hunter2")) == da.Fail(number)
    assert time.monotonic() - begun >= 1.5
    delays = auth_daemon.Delays()
    assert [delays.after_failure(b"a") for _ in range(5)] == [0.5, 1, 2, 4, 4]
    assert delays.after_failure(b"b") == 0.5


def test_exchanges_given_up_are_forgotten_for_postfix(start: Start) -> None:
    """It asks for one at a time, so a new one says that the last has ended."""
    asker = start()
    assert asker.ask(plain(1, None)) == da.Cont(1, b"")
    assert asker.ask(plain(2, None)) == da.Cont(2, b"")
    answer = asker.ask(da.Cont(1, ANN))
    assert (answer.id, answer.reason) == (1, b"Authentication request timed out")
    assert asker.ask(da.Cont(2, ANN)) == granted(number=2)


def test_others_ask_for_many_at_once(start: Start) -> None:
    """And may cancel one."""
    asker = start("--profile", "other")
    assert asker.ask(plain(1, None)) == da.Cont(1, b"")
    assert asker.ask(plain(2, None)) == da.Cont(2, b"")
    assert asker.ask(da.Cancel(1)) == da.Cancelled(1)
    assert asker.ask(da.Cont(2, ANN)) == granted(number=2)


@pytest.mark.parametrize("profile", ["postfix", "other"])
def test_the_database_can_not_be_asked(start: Start, tmp_path: Path, profile: str) -> None:
    """Never a wrong password: closed for Postfix, or said to be temporary."""
    asker = start("--profile", profile, url=f"sqlite+aiosqlite:///{tmp_path}/none/mail.db")
    answer = asker.ask(plain(1))
    if profile == "postfix":
        assert answer == da.ConnectionClosed()
    else:
        assert answer == da.Fail(1, code=da.TEMP_FAIL)


def test_too_many_at_once(start: Start) -> None:
    """Temporary, too."""
    asker = start("--profile", "other", "--at-work", "0")
    assert asker.ask(plain(1)) == da.Fail(1, code=da.TEMP_FAIL)


def test_what_it_can_not_listen_on_is_a_line() -> None:
    """And no traceback."""
    done = subprocess.run(
        [sys.executable, EXAMPLE, "--listen", "nonsense"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("can't start: 'nonsense' is not unix:/path")


def test_who_is_not_there_takes_as_long(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hash is checked for him, too; and a user without one has no password."""
    checked: list[str] = []
    verify = auth_daemon.Passwords._verify

    def note(passwords: auth_daemon.Passwords, known: str, password: str) -> bool:
        checked.append(known)
        verify(passwords, known, password)
        return True

    async def ask() -> list[bool]:
        users = userdb.UserDB.connect(database)
        passwords = auth_daemon.Passwords(users, workers=1, at_work=1)
        try:
            ann = await passwords.user("ANN@example.test")
            bare = userdb.User("x@example.test", "example.test", userdb.Plan.PAID, "x/")
            return [await passwords.is_right(one, "ann") for one in (ann, None, bare)]
        finally:
            passwords.close()
            await users.close()

    monkeypatch.setattr(auth_daemon.Passwords, "_verify", note)
    assert asyncio.run(ask()) == [True, False, False]
    assert len(checked) == 3
    assert all(known.startswith("$argon2id$") for known in checked)
    assert {known.split("$")[3] for known in checked} == {checked[0].split("$")[3]}
