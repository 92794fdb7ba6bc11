"""What nginx is told: by the daemon's own class, and by the program over a socket."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from unittest.mock import AsyncMock

import attrs
import pytest
from adapters._contract import TryAgainError
from mailfront import _options, nginx_daemon, userdb
from mailfront._passwords import Passwords
from mailfront.nginx_daemon import Front
from mailfront.userdb import Plan, UserDB

import nginxauth as na

PATIENCE = 20
PAID, TRIAL = (b"127.0.0.1", 10025), (b"::1", 10026)
ROUTES = {Plan.PAID: PAID, Plan.TRIAL: TRIAL}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('database') / 'mail.db'}"
    asyncio.run(userdb.main(url, demo=True))
    return url


def ask(database: str, *requests: na.AuthRequest, secret: bytes = b"") -> list[na.Reply]:
    """What each is told, in turn."""

    async def answer(front: Front) -> list[na.Reply]:
        return [await front.answer(request) for request in requests]

    return asyncio.run(with_front(database, secret, answer))


async def with_front(
    database: str, secret: bytes, use: Callable[[Front], Awaitable[list[na.Reply]]]
) -> list[na.Reply]:
    users = UserDB.connect(database)
    passwords = Passwords(users, workers=1)
    try:
        return await use(Front(users, passwords, ROUTES, secret=secret))
    finally:
        passwords.close()
        await users.close()


def login(user: bytes, password: bytes, method: bytes = na.PLAIN) -> na.AuthRequest:
    return na.AuthRequest(method, user, password, b"smtp", 1, b"192.0.2.1", b"[UNAVAILABLE]")


def mail_to(rcpt: bytes) -> na.AuthRequest:
    envelope = na.Envelope(b"client.test", b"MAIL FROM:<x@example.org>", rcpt)
    return attrs.evolve(login(b"", b"", na.NONE), envelope=envelope)


def test_who_logs_in_goes_to_the_postfix_of_his_plan(database: str) -> None:
    """Under the name that the database has."""
    assert ask(
        database, login(b"Ann@Example.test", b"ann"), login(b"bob@example.test", b"bob")
    ) == [
        na.Allow(*PAID, user=b"ann@example.test"),
        na.Allow(*TRIAL, user=b"bob@example.test"),
    ]


@pytest.mark.parametrize(
    ("user", "password"),
    [
        (b"ann@example.test", b"bob"),
        (b"nobody@example.test", b"ann"),
        (b"tim@trial.example.test", b"ann"),
        (b"\xff@example.test", b"ann"),
        (b"ann@example.test", b"\xff"),
        (b"", b""),
    ],
)
def test_what_is_wrong_is_all_the_same(database: str, user: bytes, password: bytes) -> None:
    """A stranger, or a blocked user, is not told from a user."""
    (told,) = ask(database, login(user, password))
    assert told == na.Deny(b"Authentication failed", b"535 5.7.8", wait=1)


def test_who_guesses_waits_longer(database: str) -> None:
    """By address; the password that is right then is taken at once."""
    wrong = login(b"ann@example.test", b"x")
    elsewhere = attrs.evolve(wrong, client_ip=b"192.0.2.2")
    told = ask(database, wrong, wrong, wrong, wrong, elsewhere, login(b"ann@example.test", b"ann"))
    assert [reply.wait for reply in told if isinstance(reply, na.Deny)] == [1, 1, 2, 4, 1]
    assert isinstance(told[-1], na.Allow)


def test_the_blocked_is_told_if_he_knows_the_password(database: str) -> None:
    """And may try another name."""
    (told,) = ask(database, login(b"tim@trial.example.test", b"tim"))
    assert told == na.Deny(b"This account is blocked", b"525 5.7.13", wait=1)


def test_a_name_that_xclient_would_garble(database: str) -> None:
    """A blank in LOGIN=... would be the next attribute's beginning."""
    (told,) = ask(database, login(b"a b@example.test", b"a b"))
    assert told == na.Deny(b"This name can't log in here", b"535 5.7.8", wait=1)


@pytest.mark.parametrize("method", [na.CRAM_MD5, na.APOP, na.EXTERNAL, na.XOAUTH2, b"new"])
def test_ways_that_are_not_offered(database: str, method: bytes) -> None:
    """What needs the password in clear text, or what nobody has set up."""
    (told,) = ask(database, login(b"ann@example.test", b"ann", method))
    assert told == na.Deny(b"This way to log in is not offered", b"504 5.5.4")


@pytest.mark.parametrize(
    ("rcpt", "told"),
    [
        (b"RCPT TO:<ann@example.test>", na.Allow(*PAID)),
        (b"rcpt to: <ANN+lists@example.test> NOTIFY=NEVER", na.Allow(*PAID)),
        (b"RCPT TO:<bob@example.test>", na.Allow(*TRIAL)),
        (b"RCPT TO:<tim@trial.example.test>", na.Allow(*TRIAL)),
        (b'RCPT TO:<"a b"@example.test>', na.Allow(*PAID)),
        (b"RCPT TO:<team@example.test>", na.Allow(*PAID)),
        (b"RCPT TO:<nobody@example.test>", na.Deny(b"No such user here", b"550 5.1.1", wait=1)),
        (b"RCPT TO:<x@example.org>", na.Deny(b"Relay access denied", b"554 5.7.1", wait=1)),
        (b"RCPT TO:<ann>", na.Deny(b"This is no recipient's address", b"501 5.1.3", wait=1)),
        (b"RCPT TO:ann", na.Deny(b"This is no recipient's address", b"501 5.1.3", wait=1)),
    ],
)
def test_mail_from_outside(database: str, rcpt: bytes, told: na.Reply) -> None:
    """Goes to its first recipient's Postfix, and its client may try another recipient."""
    assert ask(database, mail_to(rcpt)) == [told]


def test_only_nginx_may_ask(database: str) -> None:
    """Who does not know the secret learns nothing, and nobody's mail is refused for it."""
    with_secret = attrs.evolve(
        login(b"ann@example.test", b"ann"), headers=((b"X-Auth-Key", b"s3cret"),)
    )
    wrong = attrs.evolve(with_secret, headers=((b"X-Auth-Key", b"other"),))
    right, *others = ask(
        database, with_secret, wrong, login(b"ann@example.test", b"ann"), secret=b"s3cret"
    )
    assert right == na.Allow(*PAID, user=b"ann@example.test")
    assert others == [na.Deny(b"The mail front is set up wrongly", b"451 4.3.5")] * 2


@pytest.mark.parametrize(
    "request_", [login(b"ann@example.test", b"ann"), mail_to(b"RCPT TO:<ann@example.test>")]
)
def test_what_the_database_raises_refuses_nobody(request_: na.AuthRequest) -> None:
    """It goes on to the adapter, whose answer is temporary."""
    users = AsyncMock(spec=UserDB)
    users.user.side_effect = users.plan.side_effect = ConnectionRefusedError

    async def answer() -> na.Reply:
        passwords = Passwords(users, workers=1)
        try:
            return await Front(users, passwords, ROUTES).answer(request_)
        finally:
            passwords.close()

    with pytest.raises(TryAgainError, match="ConnectionRefusedError"):
        asyncio.run(answer())


# --- the program ---------------------------------------------------------------------------

SCRIPT = Path(nginx_daemon.__file__)
BOTH = ("--route", "paid=127.0.0.1:10025", "--route", "trial=[::1]:10026")


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("there", [True, False], ids=["", "no database"])
def test_the_program(database: str, tmp_path: Path, there: bool) -> None:
    """It answers, logs no password, and stops in order."""
    (tmp_path / "secret").write_text("s3cret\n")
    url = database if there else f"sqlite+aiosqlite:///{tmp_path}/none/mail.db"
    options = ("--listen", f"unix:{tmp_path}/auth", "--secret-file", tmp_path / "secret")
    process = subprocess.Popen(
        (sys.executable, "-W", "error", SCRIPT, "--database", url, *BOTH, *options),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert "listening on" in process.stderr.readline()
    request = attrs.evolve(
        login(b"bob@example.test", b"bob"), headers=((b"X-Auth-Key", b"s3cret"),)
    )
    conn = na.ClientConnection(b"localhost", b"/auth")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(f"{tmp_path}/auth")
        connection.sendall(conn.send(request))
        while (told := conn.next_event()) is None:
            conn.receive_data(connection.recv(65536))
    process.terminate()
    log = process.stderr.read()
    process.stderr.close()
    assert process.wait(PATIENCE) == 0
    assert "s3cret" not in log
    if there:
        assert told == na.Allow(*TRIAL, user=b"bob@example.test")
    else:
        assert isinstance(told, na.Deny)
        assert told.code.startswith(b"4")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--listen", "nonsense", *BOTH), "can't start: 'nonsense' is not unix:/path"),
        (("--listen", "inet:127.0.0.1:0"), "can't start: no --route for the plan paid, trial"),
        (("--listen", "inet:127.0.0.1:0", *BOTH[:2]), "no --route for the plan trial"),
        (("--route", "gold=127.0.0.1:1"), "'gold' is not a valid Plan"),
        (("--route", "paid=localhost:1"), "'localhost' does not appear to be an IPv4 or IPv6"),
        (("--route", "paid=127.0.0.1"), "'127.0.0.1' is not IP:PORT"),
        (("--route", "paid=127.0.0.1:0"), "'127.0.0.1:0' is not IP:PORT"),
        (("--route", "paid"), "'paid' is not NAME=VALUE"),
        (("--mode", "9"), "'9' is no octal number"),
        (("--listen", "inet:127.0.0.1:0", *BOTH, "--secret-file", "/none"), "can't start:"),
    ],
)
def test_what_it_can_not_take_is_a_line(arguments: tuple[str, ...], complaint: str) -> None:
    """And no traceback."""
    done = run(*arguments)
    assert done.returncode != 0
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_a_route_is_an_address_and_a_port() -> None:
    """In nginx's form: no brackets, no names."""
    assert _options.address("[2001:DB8::1]:25") == (b"2001:db8::1", 25)
