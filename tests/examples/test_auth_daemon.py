"""The authentication daemon, driven by our own client's side over real sockets."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import socket
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import attrs
import pytest
import scramp
from adapters._contract import Dialogue, Limits
from adapters._listen import listen
from adapters.on_asyncio import Server
from adapters.services import dovecot_auth
from mailfront import _passwords, _sasl, auth_daemon, userdb

import dovecotauth as da

PATIENCE = 20
EXAMPLE = Path(auth_daemon.__file__)
SECURED = ((b"service", b"smtp"), (b"rip", b"192.0.2.1"), (b"secured", None))
ANN = b"\0ann@example.test\0ann"


class Asker:
    """A client of the daemon, who asks for a client with an address of its own: failures add up."""

    _numbers = itertools.count()

    def __init__(self, path: Path) -> None:
        self._address = b"2001:db8:0:%x::1" % next(self._numbers)
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(str(path))
        self.conn = da.ClientConnection()
        self.socket.sendall(self.conn.send(da.ClientHello(1)))
        self.hello = self.hear()
        while not isinstance(self.hello, da.ServerHello):
            assert not isinstance(self.hello, da.ConnectionClosed)
            self.hello = self.hear()

    def hear(self) -> Any:
        """The next event."""
        while (event := self.conn.next_event()) is None:
            self.conn.receive_data(self.socket.recv(65536))
        return event

    def say(self, event: Any) -> None:
        """Send."""
        if isinstance(event, da.Auth):
            mine = {b"rip": self._address}
            parameters = tuple((name, mine.get(name, value)) for name, value in event.parameters)
            event = attrs.evolve(event, parameters=parameters)
        self.socket.sendall(self.conn.send(event))

    def ask(self, event: Any) -> Any:
        """Send, and hear."""
        self.say(event)
        return self.hear()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('database') / 'mail.db'}"
    asyncio.run(userdb.main(url, demo=True))
    return url


class Daemon:
    """The daemon as a program; it has to stop in order and to log no password."""

    def __init__(
        self,
        path: Path,
        url: str,
        *options: str,
        files: int = 0,
        also: str = "",
        by: Path | None = None,
    ) -> None:
        self.path = path
        command = [sys.executable, "-W", "error", str(EXAMPLE)]
        ready = "listening on"
        if by is None:
            command += ["--listen", f"unix:{path}"]
        else:
            command = [str(by), "--listen", str(path), *command]
            ready = "Listening on"
        if files:
            command = ["sh", "-c", f'ulimit -Sn {files} && exec "$@"', "sh", *command]
        self._process = subprocess.Popen(
            [*command, "--database", url, *options], stderr=subprocess.PIPE, text=True
        )
        assert self._process.stderr is not None
        wanted = {ready, also}  # in either order
        while wanted - {""}:
            line = self._process.stderr.readline()
            assert line, wanted
            wanted = {one for one in wanted if one not in line}

    def stop(self) -> None:
        self._process.terminate()
        assert self._process.stderr is not None
        log = self._process.stderr.read()
        self._process.stderr.close()
        assert self._process.wait(PATIENCE) == 0
        assert "hunter2" not in log


@pytest.fixture(scope="module")
def usual(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """For all tests that need no options."""
    daemon = Daemon(tmp_path_factory.mktemp("usual") / "auth", database)
    yield daemon
    daemon.stop()


Start = Callable[..., Asker]


@pytest.fixture
def start(usual: Daemon, database: str, tmp_path: Path) -> Iterator[Start]:
    """A client of a daemon with these options."""
    daemons: dict[tuple[str, ...], Daemon] = {(database,): usual}
    askers: list[Asker] = []

    def begin(*options: str, url: str = database) -> Asker:
        wanted = (url, *options)
        if wanted not in daemons:
            daemons[wanted] = Daemon(tmp_path / "auth", *wanted)
        askers.append(Asker(daemons[wanted].path))
        return askers[-1]

    yield begin
    for asker in askers:
        asker.socket.close()
    for daemon in daemons.values():
        if daemon is not usual:
            daemon.stop()


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


def scram_until_the_end(asker: Asker, number: int) -> None:
    """As ann, with her password, up to the empty response that is due."""
    scram = scramp.ScramClient(["SCRAM-SHA-256"], "ann@example.test", "ann")
    first = scram.get_client_first().encode()
    challenge = asker.ask(da.Auth(number, b"SCRAM-SHA-256", SECURED, first))
    scram.set_server_first(challenge.data.decode())
    proof = asker.ask(da.Cont(number, scram.get_client_final().encode()))
    scram.set_server_final(proof.data.decode())


def challenge_of(asker: Asker, user: str, number: int = 1) -> dict[bytes, bytes]:
    """What SCRAM says first, by attribute."""
    first = scramp.ScramClient(["SCRAM-SHA-256"], user, "x").get_client_first().encode()
    challenge = asker.ask(da.Auth(number, b"SCRAM-SHA-256", SECURED, first))
    return dict(word.split(b"=", 1) for word in challenge.data.split(b","))


@pytest.mark.parametrize("user", ["ann@example.test", "nobody@example.test"])
def test_scram_with_a_wrong_password(start: Start, user: str) -> None:
    """A stranger is asked like a user, and refused like one."""
    asker = start()
    scram = scramp.ScramClient(["SCRAM-SHA-256"], user, "hunter2")
    first = scram.get_client_first().encode()
    challenge = asker.ask(da.Auth(1, b"SCRAM-SHA-256", SECURED, first))
    scram.set_server_first(challenge.data.decode())
    assert asker.ask(da.Cont(1, scram.get_client_final().encode())) == da.Fail(1)


def test_scram_tells_no_stranger_from_a_user(start: Start) -> None:
    """The salt is as long, stays the same, and is another for another; so do the rounds."""
    asker = start()
    ann = challenge_of(asker, "ann@example.test")
    nobody, again, other = (
        challenge_of(asker, f"{name}@example.test", number)
        for number, name in ((2, "nobody"), (3, "Nobody"), (4, "other"))
    )
    assert (len(nobody[b"s"]), nobody[b"i"]) == (len(ann[b"s"]), ann[b"i"])
    assert nobody[b"s"] == again[b"s"]
    assert nobody[b"s"] != other[b"s"]


def test_a_strangers_salt_is_the_sites(database: str) -> None:
    """The same at each replica, and after a restart; another at another site."""

    async def salt(url: str) -> bytes:
        users = userdb.UserDB.connect(url)
        passwords = _passwords.Passwords(users, workers=1)
        try:
            return (await passwords.scram_info("nobody@example.test", None))[0]
        finally:
            passwords.close()
            await users.close()

    async def elsewhere() -> bytes:
        with tempfile.TemporaryDirectory() as directory:
            url = f"sqlite+aiosqlite:///{directory}/mail.db"
            await userdb.main(url, demo=False)
            return await salt(url)

    first, second, third = (
        asyncio.run(one) for one in (salt(database), salt(database), elsewhere())
    )
    assert first == second
    assert first != third


@pytest.mark.parametrize("profile", ["postfix", "other"])
def test_what_was_proved_for_an_id_is_gone_with_its_exchange(start: Start, profile: str) -> None:
    """Otherwise the next one of that id would be let in without a password."""
    asker = start("--profile", profile)
    scram_until_the_end(asker, 7)
    asker.socket.sendall(b"CONT\t7\t*\n")
    refused = asker.hear()
    assert (refused.id, refused.code) == (7, da.INVALID_BASE64)
    assert asker.ask(plain(7, None)) == da.Cont(7, b"")
    assert asker.ask(da.Cont(7, b"")) == da.Fail(7)


def test_the_last_word_is_answered_by_nothing(start: Start) -> None:
    """A response to it is no part of SCRAM."""
    asker = start()
    scram_until_the_end(asker, 1)
    assert asker.ask(da.Cont(1, b"x")) == da.Fail(1)
    scram_until_the_end(asker, 2)
    assert asker.ask(da.Cont(2, b"")) == granted(number=2)


def test_an_id_is_used_again_after_a_response_that_is_none(start: Start) -> None:
    """The exchange that it ended does not disturb the new one."""
    asker = start("--profile", "other")
    assert asker.ask(plain(7, None)) == da.Cont(7, b"")
    asker.socket.sendall(b"CONT\t7\t*\n")
    assert asker.hear().code == da.INVALID_BASE64
    assert asker.ask(plain(7, None)) == da.Cont(7, b"")
    assert asker.ask(da.Cont(7, ANN)) == granted(number=7)


def test_exchanges_given_up_at_the_last_step(start: Start) -> None:
    """However many, they take nobody's place."""
    asker = start()
    for number in range(1, 1101):
        scram = scramp.ScramClient(["SCRAM-SHA-256"], "nobody@example.test", "x")
        first = scram.get_client_first().encode()
        assert asker.ask(da.Auth(number, b"SCRAM-SHA-256", SECURED, first)).id == number
    scram_until_the_end(asker, 2000)
    assert asker.ask(plain(2001)) == granted(number=2001)


@pytest.mark.parametrize(
    "error",
    [
        ssl.SSLCertVerificationError("a ValueError, too"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "from the driver"),
        KeyError("x"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize(
    ("mechanism", "response"),
    [(_sasl.plain, ANN), (_sasl.scram_sha_256, b"n,,n=ann,r=abc")],
    ids=["PLAIN", "SCRAM"],
)
def test_what_the_database_raises_denies_nobody(
    mechanism: _sasl.Mechanism, response: bytes, error: Exception
) -> None:
    """Not even what mechanisms take for a wrong password when it comes from elsewhere."""
    directory = AsyncMock(spec=_sasl.Directory)
    directory.user.side_effect = error
    with pytest.raises(type(error)):
        asyncio.run(anext(mechanism(directory, response)))


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


def test_a_right_password_waits_for_no_wrong_one(database: str, tmp_path: Path) -> None:
    """Though it is asked for on the same connection, and they wait for an hour."""
    options = auth_daemon.Options(profile="other", plaintext=True)

    async def ask() -> bytes:
        users = userdb.UserDB.connect(database)
        passwords = _passwords.Passwords(users, workers=1)
        patch.setattr(passwords.delays, "after_failure", lambda _client: 3600)
        service = dovecot_auth(
            lambda conn: auth_daemon.Logins(conn, passwords, options=options).handle,
            lambda: da.ServerHello((da.Mechanism(b"PLAIN"),), 1, 1, b"0" * 32),
            temp_fail=True,
        )
        server = Server(service, attrs.evolve(auth_daemon.LIMITS, grace=0))
        await server.listen(listen(f"unix:{tmp_path}/auth"))
        reader, writer = await asyncio.open_unix_connection(tmp_path / "auth")
        writer.write(b"VERSION\t1\t2\nCPID\t1\n")
        for number, password in enumerate([b"hunter2"] * 10 + [b"ann"], 1):
            response = base64.b64encode(b"\0ann@example.test\0" + password)
            writer.write(b"AUTH\t%d\tPLAIN\tservice=smtp\tresp=%b\n" % (number, response))
        await reader.readuntil(b"DONE\n")
        first = await reader.readline()
        await server.stop()
        writer.close()
        passwords.close()
        await users.close()
        return first

    with pytest.MonkeyPatch.context() as patch:
        assert asyncio.run(ask()) == b"OK\t11\tuser=ann@example.test\tplan=paid\n"


def test_a_request_is_cancelled_while_it_is_looked_at(start: Start) -> None:
    """Nothing more is said of it, and the next of that id is a new one."""
    asker = start("--profile", "other")
    asker.say(plain(1, b"\0ann@example.test\0hunter2"))
    asker.say(da.Cancel(1))
    assert asker.hear() == da.Cancelled(1)
    assert asker.ask(plain(1)) == granted()


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


def test_scram_with_more_than_a_challenge_can_hold(start: Start) -> None:
    """The nonce comes back in the challenge; refused, and the connection goes on."""
    asker = start()
    for number, length in ((1, 800), (2, 2000), (3, 7000)):
        first = b"n,,n=ann@example.test,r=" + b"x" * length
        answer = asker.ask(da.Auth(number, b"SCRAM-SHA-256", SECURED, first))
        assert type(answer) is (da.Cont if number == 1 else da.Fail)
    assert asker.ask(plain(4)) == granted(number=4)


def test_a_database_without_a_site_key(tmp_path: Path) -> None:
    """Said at the start: SCRAM can't be had, and PLAIN can."""
    url = f"sqlite+aiosqlite:///{tmp_path}/mail.db"
    asyncio.run(userdb.main(url, demo=True))
    with contextlib.closing(sqlite3.connect(tmp_path / "mail.db")) as file:
        file.execute("DELETE FROM secrets")
        file.commit()
    daemon = Daemon(tmp_path / "auth", url, also="nobody can log in by SCRAM: no site key")
    asker = Asker(daemon.path)
    assert asker.ask(plain(1)) == granted()
    first = b"n,,n=ann@example.test,r=abc"
    assert asker.ask(da.Auth(2, b"SCRAM-SHA-256", SECURED, first)) == da.ConnectionClosed()
    asker.socket.close()
    daemon.stop()


def test_more_connections_than_files(database: str, tmp_path: Path) -> None:
    """There are more to be had than one is given at first, and all are answered."""
    daemon = Daemon(tmp_path / "auth", database, files=150)
    askers = [Asker(daemon.path) for _ in range(200)]
    assert askers[-1].ask(plain(1)) == granted()
    for asker in askers:
        asker.socket.close()
    daemon.stop()


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("ANN@Example.test", "ann@example.test"),
        ("ann@XN--BCHER-KVA.test", "ann@bücher.test"),
        ("ann@STRASSE.test", "ann@strasse.test"),
        ("ann@straße.test", "ann@strasse.test"),
        ("ann", None),
        ("a\0@example.test", None),
    ],
)
def test_names_are_those_of_the_database(name: str, known: str | None) -> None:
    """In any form; who could not be there is looked for by nobody."""
    users = AsyncMock(spec=userdb.UserDB)
    users.user.return_value = None
    users.site_key.return_value = b"k" * 32

    async def ask() -> bytes:
        passwords = _passwords.Passwords(users, workers=1)
        try:
            assert await passwords.user(name) is None
            # And a stranger has one salt, whatever the form: a user would.
            salts = [(await passwords.scram_info(one, None))[0] for one in (name, known or name)]
            assert salts[0] == salts[1]
            return salts[0]
        finally:
            passwords.close()

    assert len(asyncio.run(ask())) == userdb.SCRAM_SALT_SIZE
    assert [call.args for call in users.user.call_args_list] == ([(known,)] if known else [])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--listen", "nonsense"), "can't start: 'nonsense' is not unix:/path"),
        ((), "can't start: nowhere to listen: give --listen"),
        (("--workers", "0"), "'0' is no number from 1"),
        (("--mode", "9"), "'9' is no octal number"),
    ],
)
def test_what_it_can_not_take_is_a_line(arguments: tuple[str, ...], complaint: str) -> None:
    """And no traceback."""
    done = subprocess.run(
        [sys.executable, EXAMPLE, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.interop
def test_a_socket_from_systemd(
    database: str, tmp_path: Path, require_program: Callable[[str, str], Path]
) -> None:
    """It is there before the daemon is, and what is said to it then is not lost."""
    activate = require_program("systemd-socket-activate", "systemd")
    daemon = Daemon(tmp_path / "auth", database, by=activate)
    asker = Asker(daemon.path)
    assert asker.ask(plain(1)) == granted()
    asker.socket.close()
    daemon.stop()


def test_who_is_not_there_takes_as_long(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hash is checked for him, too; and a user without one has no password."""
    checked: list[str] = []
    verify = _passwords.Passwords._verify

    def note(passwords: _passwords.Passwords, known: str, password: str) -> bool:
        checked.append(known)
        verify(passwords, known, password)
        return True

    async def ask() -> list[bool]:
        users = userdb.UserDB.connect(database)
        passwords = _passwords.Passwords(users, workers=1)
        try:
            ann = await passwords.user("ANN@example.test")
            bare = userdb.User("x@example.test", "example.test", userdb.Plan.PAID, "x/")
            return [await passwords.is_right(one, "ann", b"") for one in (ann, None, bare)]
        finally:
            passwords.close()
            await users.close()

    monkeypatch.setattr(_passwords.Passwords, "_verify", note)
    assert asyncio.run(ask()) == [True, False, False]
    assert len(checked) == 3
    assert all(known.startswith("$argon2id$") for known in checked)
    assert {known.split("$")[3] for known in checked} == {checked[0].split("$")[3]}


class Talk:
    """One connection to the daemon's own class, without sockets; what is forgotten by time."""

    def __init__(self, database: str, *, abandoned: float) -> None:
        self.conn = da.ServerConnection()
        self.users = userdb.UserDB.connect(database)
        self.passwords = _passwords.Passwords(self.users, workers=1)
        self.logins = auth_daemon.Logins(
            self.conn,
            self.passwords,
            options=auth_daemon.Options(profile="other", plaintext=True),
            abandoned=abandoned,
        )
        hello = da.ServerHello((da.Mechanism(b"PLAIN"), da.Mechanism(b"LOGIN")), 1, 1, b"0" * 32)
        assert self.conn.next_event() == da.Connected()
        self.conn.send(hello)
        self.feed(b"VERSION\t1\t1\nCPID\t1\n")
        list(self.conn.events())

    def feed(self, data: bytes) -> None:
        self.conn.receive_data(data)

    async def hear(self) -> da.FromServer | None:
        """What is answered to the next event."""
        event = self.conn.next_event()
        assert event is not None
        answer = await self.logins.handle(event)
        if answer is not None:
            self.conn.send(answer)
        return answer

    async def close(self) -> None:
        self.passwords.close()
        await self.users.close()


def test_what_is_given_up_is_forgotten_by_time(database: str) -> None:
    """After 150 s, as Dovecot does, though nothing more comes on that connection."""

    async def give_up() -> None:
        talk = Talk(database, abandoned=0.01)
        talk.feed(b"AUTH\t1\tPLAIN\tservice=smtp\n")
        assert await talk.hear() == da.Cont(1, b"")
        assert list(talk.conn.outstanding) == [1]
        async with asyncio.timeout(PATIENCE):
            while talk.conn.outstanding:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0)
        talk.feed(b"CONT\t1\t\n")
        answer = talk.conn.next_event()
        assert isinstance(answer, da.Malformed)
        assert answer.reply.reason == b"Authentication request timed out"
        await talk.close()

    asyncio.run(give_up())
    assert auth_daemon.ABANDONED == 150


def test_a_failure_of_what_was_given_up_is_nothing_to_its_successor(database: str) -> None:
    """For Postfix it would close the connection."""

    async def fail() -> None:
        talk = Talk(database, abandoned=150)
        talk.feed(b"AUTH\t1\tPLAIN\tservice=smtp\tresp=%b\n" % base64.b64encode(ANN))
        event = talk.conn.next_event()
        assert isinstance(event, da.Auth)
        gate = asyncio.Event()

        async def ask(_name: str) -> None:
            await gate.wait()
            raise ConnectionRefusedError

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(talk.passwords, "user", ask)
            work = asyncio.create_task(talk.logins.handle(event))
            await asyncio.sleep(0)
            talk.logins._forget(1)
            gate.set()
            assert await work is None
        await talk.close()

    asyncio.run(fail())


def test_a_timer_ends_its_own_exchange_only(database: str) -> None:
    """Whatever has become of the exchange before it that had the same id."""

    async def begin_again() -> None:
        talk = Talk(database, abandoned=150)
        talk.feed(b"AUTH\t1\tLOGIN\tservice=smtp\n")
        assert await talk.hear() == da.Cont(1, b"Username:")
        before = talk.logins._open[1].ending
        talk.conn.forget(1)  # as if the answer could not be sent
        talk.feed(b"AUTH\t1\tLOGIN\tservice=smtp\n")
        assert await talk.hear() == da.Cont(1, b"Username:")
        assert before.cancelled()
        assert not talk.logins._open[1].ending.cancelled()
        await talk.close()

    asyncio.run(begin_again())


def test_what_is_forgotten_at_work_is_not_answered(database: str) -> None:
    """An answer would be refused by the codec, and the connection closed for it."""

    async def forget() -> None:
        talk = Talk(database, abandoned=150)
        talk.feed(b"AUTH\t1\tPLAIN\tservice=smtp\tresp=%b\n" % base64.b64encode(ANN))
        event = talk.conn.next_event()
        assert isinstance(event, da.Auth)
        work = asyncio.create_task(talk.logins.handle(event))
        await asyncio.sleep(0)
        assert list(talk.logins._open) == [1]
        talk.logins._forget(1)
        assert await work is None
        await talk.close()

    asyncio.run(forget())


def test_what_has_ended_is_kept_nowhere(database: str) -> None:
    """However it ends: answered, refused, cancelled, malformed, or with the connection."""

    async def end_each() -> None:
        talk = Talk(database, abandoned=150)
        talk.feed(b"".join(b"AUTH\t%d\tLOGIN\tservice=smtp\n" % number for number in range(1, 6)))
        for number in range(1, 6):
            assert await talk.hear() == da.Cont(number, b"Username:")
        talk.feed(b"CANCEL\t1\nCONT\t2\t*\n")
        assert await talk.hear() is None
        assert await talk.hear() is None  # the adapter's service answers
        assert set(talk.logins._open) == {3, 4, 5}
        talk.feed(b"CONT\t3\t\n")
        assert await talk.hear() == da.Cont(3, b"Password:")
        talk.feed(b"CONT\t3\t\n")
        assert await talk.hear() == da.Fail(3)
        assert set(talk.logins._open) == {4, 5}
        handles = [exchange.ending for exchange in talk.logins._open.values()]
        talk.feed(b"")
        assert await talk.hear() is None
        assert not talk.logins._open
        assert all(handle.cancelled() for handle in handles)
        await talk.close()

    asyncio.run(end_each())


@pytest.mark.parametrize("temp_fail", [True, False])
def test_too_many_requests_are_no_wrong_password(temp_fail: bool) -> None:
    """Postfix takes every Fail for one, so for Postfix the connection is closed."""
    hello = da.ServerHello((da.Mechanism(b"PLAIN"),), 1, 1, b"0" * 32)

    def session(_conn: da.ServerConnection) -> Callable[[object], None]:
        return lambda _event: None

    said: list[bytes] = []
    service = dovecot_auth(session, lambda: hello, temp_fail=temp_fail)
    dialogue = Dialogue(service, Limits(), said.append)
    assert dialogue.run() is None
    said.clear()
    most = da.DEFAULT_MAX_OUTSTANDING
    requests = (b"AUTH\t%d\tPLAIN\tservice=smtp\n" % one for one in range(1, most + 2))
    dialogue.receive(b"VERSION\t1\t2\nCPID\t1\n" + b"".join(requests))
    assert dialogue.run() is None
    assert said == ([b"FAIL\t%d\tcode=temp_fail\n" % (most + 1)] if temp_fail else [])
    assert dialogue.is_over != temp_fail
