"""Dovecot's login processes ask our server whether a user may come in, and nobody else."""

from __future__ import annotations

import contextlib
import imaplib
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import scramp

import dovecotauth as da
from dovecotauth import master

from ._dovecot import PASSWORD
from ._dovecot_login import WORD, LoginDovecot, Users
from ._postfix import PATIENCE


@pytest.fixture(scope="module")
def _running(dovecot_program: Path, require_program: Any) -> Iterator[LoginDovecot]:
    require_program("/usr/lib/dovecot/imap-login", "dovecot-imapd")
    with LoginDovecot(dovecot_program) as running:
        yield running
        print(running.log())


@pytest.fixture
def running(_running: LoginDovecot) -> LoginDovecot:
    _running.users = Users(_running.users.home)
    return _running


@pytest.fixture
def users(running: LoginDovecot) -> Users:
    return running.users


@pytest.fixture
def imap(running: LoginDovecot) -> Iterator[imaplib.IMAP4]:
    client = imaplib.IMAP4("127.0.0.1", running.port, timeout=PATIENCE)
    yield client
    with contextlib.suppress(OSError):  # it may be closed
        client.shutdown()


class Forgetful(dict[Any, Any]):
    """Keeps no login."""

    def __setitem__(self, _key: object, _value: object) -> None:
        """For nobody."""


def asked(users: Users, kind: type) -> Any:
    """The one event of that kind."""
    (event,) = (one for one in users.asked if type(one) is kind)
    return event


def test_a_user_reads_his_mail(imap: imaplib.IMAP4, users: Users, running: LoginDovecot) -> None:
    """Under the name that we gave him, with the uid and the home that we gave him."""
    assert imap.login("ALICE", WORD) == ("OK", [b"Logged in"])
    assert imap.select()[0] == "OK"
    assert imap.append("INBOX", "", "", b"Subject: one\r\n\r\ntext\r\n")[0] == "OK"
    fetched: Any = imap.fetch("1", "(BODY[TEXT])")
    assert fetched[1][0][1] == b"text\r\n"
    mail = users.home / "mail"
    assert mail.is_dir()
    assert mail.stat().st_uid == 1000
    running.wait_for("Login: user=<alice>, method=PLAIN")

    auth, request = asked(users, da.Auth), asked(users, master.Request)
    pids = [one.pid for one in users.asked if isinstance(one, da.ClientHello)]
    assert auth.service == b"imap"
    assert auth.response == b"\0ALICE\0" + PASSWORD
    assert da.value_of(auth.parameters, b"rip") == b"127.0.0.1"
    assert request.client_pid in pids
    assert request.request_id == auth.id
    assert da.has(request.parameters, b"session_pid")
    # Nobody can have it again.
    assert not users.logins


def exchange(imap: imaplib.IMAP4, mechanism: str) -> Any:
    """AUTHENTICATE with what that mechanism wants."""
    if mechanism == "PLAIN":
        return imap.authenticate(mechanism, lambda _: b"\0bob\0" + PASSWORD)
    if mechanism == "LOGIN":
        words = [b"bob", PASSWORD]
        return imap.authenticate(mechanism, lambda _: words.pop(0))
    scram: Any = scramp.ScramClient([mechanism], "bob", WORD)

    def respond(challenge: bytes) -> bytes:
        if not challenge:
            return bytes(scram.get_client_first(), "ascii")
        if challenge.startswith(b"r="):
            scram.set_server_first(challenge.decode())
            return bytes(scram.get_client_final(), "ascii")
        scram.set_server_final(challenge.decode())
        return b""

    return imap.authenticate(mechanism, respond)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-256"])
def test_every_mechanism(
    imap: imaplib.IMAP4, users: Users, running: LoginDovecot, mechanism: str
) -> None:
    """As we offer them, with as many challenges as each takes."""
    assert f"AUTH={mechanism}" in imap.capabilities
    assert exchange(imap, mechanism) == ("OK", [b"Logged in"])
    assert asked(users, da.Auth).mechanism == mechanism.encode()
    running.wait_for(f"Login: user=<bob>, method={mechanism},")


def test_a_name_that_needs_escapes(imap: imaplib.IMAP4, running: LoginDovecot) -> None:
    """It is one name on both sockets, and nothing in it a parameter."""
    name = b"a\tsecured\x01b\xff"
    answer: Any = imap.authenticate("PLAIN", lambda _: b"\0" + name + b"\0" + PASSWORD)
    assert answer == ("OK", [b"Logged in"])
    running.wait_for("Login: user=<a?secured?b?>, method=PLAIN")


@pytest.mark.parametrize(
    ("user", "answer", "log"),
    [
        ("nobody", "[AUTHENTICATIONFAILED] Authentication failed.", "auth failed"),
        ("busy", "[UNAVAILABLE] Temporary authentication failure.", "temporary failure"),
        ("disabled", "[AUTHENTICATIONFAILED] Authentication failed.", "user disabled"),
        ("expired", "[EXPIRED] Authentication failed.", "password expired"),
        ("other", "[AUTHORIZATIONFAILED] Authorization failed", "authorization failed"),
        ("told", r"[ALERT] Come back\ttomorrow", "auth failed"),
        ("closed", "[CONTACTADMIN] Closed for today", "1 successful auths"),
    ],
)
def test_what_is_refused(
    imap: imaplib.IMAP4, running: LoginDovecot, user: str, answer: str, log: str
) -> None:
    """Dovecot's client reads our codes, our reasons and our flag, and tells the user."""
    with pytest.raises(imaplib.IMAP4.error) as caught:
        imap.login(user, "wrong" if user == "nobody" else WORD)
    assert answer in str(caught.value)
    imap.shutdown()
    running.wait_for(log, f"user=<{user}>")
    assert not [one for one in running.users.asked if isinstance(one, master.Request)]


def test_an_exchange_is_given_up(imap: imaplib.IMAP4, users: Users) -> None:
    """The login process cancels it, and asks again on the same connection."""
    with pytest.raises(imaplib.IMAP4.error, match="aborted by client"):
        imap.authenticate("LOGIN", lambda challenge: None if b"Pass" in challenge else b"bob")
    assert imap.login("bob", WORD) == ("OK", [b"Logged in"])
    kinds = (da.Auth, da.Cont, da.Cancel)
    assert [(type(one), one.id) for one in users.asked if isinstance(one, kinds)] == [
        (da.Auth, 1),
        (da.Cont, 1),
        (da.Cancel, 1),
        (da.Auth, 2),
    ]


@pytest.mark.parametrize("initial", [True, False])
def test_what_is_no_base64(running: LoginDovecot, initial: bool) -> None:
    """Dovecot passes it on, so it is our Malformed and its reply that the mail client hears of."""
    where = "initial" if initial else "continued"
    with socket.create_connection(("127.0.0.1", running.port), PATIENCE) as sock:
        lines = sock.makefile("rwb")
        assert lines.readline().startswith(b"* OK")
        lines.write(b"a AUTHENTICATE PLAIN AAA\r\n" if initial else b"a AUTHENTICATE PLAIN\r\n")
        lines.flush()
        if not initial:
            assert lines.readline() == b"+ \r\n"
            lines.write(b"AAA\r\n")
            lines.flush()
        assert lines.readline() == f"a BAD Invalid base64 data in {where} response\r\n".encode()
    assert isinstance(asked(running.users, da.Malformed), da.Malformed)


def test_the_longest_lines_that_we_write_are_taken(imap: imaplib.IMAP4, users: Users) -> None:
    """By the login process, and by the mail process."""
    users.longest = True
    assert imap.login("alice", WORD) == ("OK", [b"Logged in"])


def test_a_login_that_nobody_knows(running: LoginDovecot, imap: imaplib.IMAP4) -> None:
    """What the master socket does not confirm is no login, whatever was said on the other."""
    running.users.logins = Forgetful()
    with pytest.raises(imaplib.IMAP4.error):
        imap.login("alice", WORD)
    running.wait_for("Internal login failure", "user=<alice>")
    assert asked(running.users, master.Request)


def test_many_at_once(running: LoginDovecot) -> None:
    """Each gets his own answer."""

    def one(number: int) -> str:
        with imaplib.IMAP4("127.0.0.1", running.port, timeout=PATIENCE) as client:
            try:
                return str(client.login("bob", WORD if number % 3 else "wrong")[0])
            except imaplib.IMAP4.error:
                return "NO"

    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(one, range(30))) == ["OK" if i % 3 else "NO" for i in range(30)]
    assert not running.users.logins


@pytest.fixture
def doveadm(
    running: LoginDovecot, require_program: Callable[[str, str], Path]
) -> Callable[..., tuple[int, str]]:
    """A doveadm command on our master socket: its exit status, and what it says."""
    program = require_program("doveadm", "dovecot-core")

    def run(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [program, "-c", running.root / "conf", *arguments],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    return run


def test_doveadm_looks_users_up(
    running: LoginDovecot, doveadm: Callable[..., tuple[int, str]]
) -> None:
    """USER and PASS, for who is there and who is not; an escaped value comes as it was."""
    status, text = doveadm("user", "-a", running.auth_master, "alice")
    assert status == 0
    assert f"uid\t1000\ngid\t1000\nhome\t{running.users.home}\n" in text
    status, text = doveadm("user", "-a", running.auth_master, "nobody")
    assert status == 67  # EX_NOUSER
    assert "user nobody doesn't exist" in text
    status, text = doveadm("auth", "lookup", "-a", running.auth_master, "alice", "nobody")
    assert status == 67
    assert "user      : alice\n  x         : a\tb\x01\n" in text
    assert "user nobody doesn't exist" in text
    status, text = doveadm("user", "-a", running.auth_master, "")
    assert status == 67
    assert "Disconnected" not in text
    kinds = {type(one) for one in running.users.asked if isinstance(one, master.Query)}
    assert kinds == {master.GetUser, master.GetPass}


@pytest.mark.parametrize("fails", [False, True])
def test_doveadm_lists_users(
    running: LoginDovecot, doveadm: Callable[..., tuple[int, str]], fails: bool
) -> None:
    """LIST; it looks for those who suit the mask itself."""
    running.users.list_fails = fails
    status, text = doveadm("user", "-a", running.auth_master, "a*")
    assert text.startswith("alice\n")
    assert "bob" not in text
    assert ("User listing returned failure" in text) is fails
    assert (status == 0) is not fails
