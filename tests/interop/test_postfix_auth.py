"""A real Postfix whose clients log in at the authentication daemon."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import shutil
import smtplib
import ssl
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import attrs
import pytest
import scramp
from mailfront import userdb

from ._postfix import PATIENCE, Postfix, free_port
from ._postfix_bed import make_certificate
from ._postfix_client import Client
from ._postgresql import PostgreSQL, programs
from ._program import Program
from ._sink import Sink
from ._table_daemon import TableDaemon

ANN = "ann@example.test"
BOB = "bob@example.test"


@attrs.define
class Site:
    """Postfix, its database, and where the daemon has to be."""

    postfix: Postfix
    database: PostgreSQL
    sink: Sink
    addresses: tuple[str, str]
    ports: dict[str, int]

    def daemon(self, *arguments: str) -> Program:
        """The daemon, on a unix socket and on TCP."""
        listen = [word for one in self.addresses for word in ("--listen", one)]
        return Program(
            "mailfront/auth_daemon.py",
            *("--database", self.database.url, "--mode", "666", *listen, *arguments),
        )

    def smtp(self, service: str, *, source: str = "127.0.0.1") -> smtplib.SMTP:
        """A client that has said EHLO, under TLS where that is offered."""
        smtp = smtplib.SMTP(
            "127.0.0.1",
            self.postfix.ports[service],
            timeout=PATIENCE,
            source_address=(source, 0),
        )
        smtp.ehlo("client.test")
        if smtp.has_extn("starttls"):
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            smtp.starttls(context=context)
            smtp.ehlo("client.test")
        return smtp


@pytest.fixture(scope="module")
def site(postfix_program: Path, require_program: Callable[[str, str], Path]) -> Iterator[Site]:
    bin_directory = programs(require_program)
    with contextlib.ExitStack() as stack:
        root = Path(tempfile.mkdtemp(prefix="mailwire-"))
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        root.chmod(0o755)
        ports = {"auth": free_port(), "logins": free_port()}
        addresses = f"unix:{root}/auth", f"inet:127.0.0.1:{ports['auth']}"
        database = stack.enter_context(PostgreSQL(bin_directory))
        asyncio.run(userdb.main(database.url, demo=True))
        sink = stack.enter_context(Sink())
        sasl = {
            "smtpd_sasl_type": "dovecot",
            "smtpd_sasl_auth_enable": "yes",
            "smtpd_sasl_security_options": "noanonymous",
            "smtpd_sasl_path": f"{root}/auth",
            "smtpd_sender_login_maps": f"tcp:127.0.0.1:{ports['logins']}",
            "smtpd_relay_restrictions": "permit_sasl_authenticated, reject",
            "smtpd_recipient_restrictions": "reject_sender_login_mismatch, "
            "permit_sasl_authenticated, reject",
            "smtpd_hard_error_limit": "9999",
            "smtpd_soft_error_limit": "9999",
        }
        tls = {
            "smtpd_tls_security_level": "may",
            "smtpd_tls_auth_only": "yes",
            "smtpd_tls_chain_files": str(make_certificate(root)),
        }
        services = {
            "clear": sasl,
            "tls": {**sasl, **tls},
            "tcp": {**sasl, **tls, "smtpd_sasl_path": f"inet:127.0.0.1:{ports['auth']}"},
        }
        # Each client gets an smtpd of its own, that no daemon of an earlier test has left behind.
        settings = {"max_use": "1"}
        postfix = Postfix(postfix_program, root, sink.port, services, settings=settings)
        stack.enter_context(postfix)
        yield Site(postfix, database, sink, addresses, ports)


class Scram:
    """smtplib asks this what to say."""

    def __init__(self, user: str, password: str) -> None:
        self._client = scramp.ScramClient(["SCRAM-SHA-256"], user, password)
        self._step = 0

    def __call__(self, challenge: bytes | None = None) -> str:
        self._step += 1
        if self._step == 1:
            return str(self._client.get_client_first())
        assert challenge is not None
        if self._step == 2:
            self._client.set_server_first(challenge.decode())
            return str(self._client.get_client_final())
        self._client.set_server_final(challenge.decode())
        return ""


def log_in(smtp: smtplib.SMTP, mechanism: str, user: str, password: str) -> tuple[int, bytes]:
    """Postfix's answer."""
    try:
        if mechanism == "SCRAM-SHA-256":
            return smtp.auth(mechanism, Scram(user, password))
        smtp.user, smtp.password = user, password
        method = smtp.auth_plain if mechanism == "PLAIN" else smtp.auth_login
        return smtp.auth(mechanism, method)
    except smtplib.SMTPResponseException as error:
        return error.smtp_code, cast("bytes", error.smtp_error)


MECHANISMS = ["PLAIN", "LOGIN", "SCRAM-SHA-256"]


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("service", ["tls", "tcp"])
def test_each_mechanism(site: Site, service: str, mechanism: str) -> None:
    """Right, wrong, unknown and blocked; over a unix socket and over TCP."""
    with site.daemon():
        for user, password, code in (
            (ANN, "ann", 235),
            ("Ann@Example.Test", "ann", 235),
            (ANN, "bob", 535),
            ("nobody@example.test", "ann", 535),
            ("tim@trial.example.test", "tim", 535),
            (BOB, "bob", 235),
        ):
            with site.smtp(service) as smtp:
                assert mechanism in smtp.esmtp_features["auth"].split()
                assert log_in(smtp, mechanism, user, password)[0] == code


def test_without_tls_only_scram(site: Site) -> None:
    """Postfix was not told to wait for TLS here, so the daemon refuses the others."""
    with site.daemon():
        for mechanism, code in (("PLAIN", 535), ("LOGIN", 535), ("SCRAM-SHA-256", 235)):
            with site.smtp("clear") as smtp:
                got, text = log_in(smtp, mechanism, ANN, "ann")
                assert got == code
                assert (b"needs TLS" in text) == (code == 535)
    with site.daemon("--plaintext"), site.smtp("clear") as smtp:
        assert log_in(smtp, "PLAIN", ANN, "ann")[0] == 235


def test_postfix_offers_nothing_before_tls(site: Site) -> None:
    """smtpd_tls_auth_only, as the manual has it."""
    with site.daemon(), Client(site.postfix.ports["tls"], PATIENCE) as client:
        assert b"AUTH" not in client.must(b"250", b"EHLO client.test")


def test_a_thousand_exchanges_given_up(site: Site) -> None:
    """Postfix says nothing of it to the daemon."""
    with site.daemon("--plaintext"), Client(site.postfix.ports["clear"], PATIENCE) as client:
        client.must(b"250", b"EHLO client.test")
        for _ in range(1000):
            client.must(b"334", b"AUTH LOGIN")
            client.must(b"501", b"*")
        response = base64.b64encode(f"\0{ANN}\0ann".encode())
        client.must(b"235", b"AUTH PLAIN " + response)


def test_fifty_at_once(site: Site) -> None:
    """Each with an smtpd and a connection of its own; each hears what is true.

    On a machine with much else to do it may be "try again" first (454), which no client minds.
    """

    def one(number: int) -> int:
        right = number % 2 == 0
        mechanism = MECHANISMS[number % 3]
        code = 454
        for _ in range(5):
            with site.smtp("tls") as smtp:
                code = log_in(smtp, mechanism, ANN, "ann" if right else "wrong")[0]
            if code != 454:
                break
        return code

    with site.daemon(), ThreadPoolExecutor(50) as pool:
        assert list(pool.map(one, range(50))) == [235, 535] * 25


def test_a_right_password_under_attack(site: Site) -> None:
    """Guessers hold up one another; who knows his password is let in within Postfix's ten seconds.

    They come from other addresses than he; from his own he would wait among them.
    """

    def guess(number: int) -> int:
        code = 0
        for _ in range(2):
            with site.smtp("tls", source=f"127.0.3.{number % 5 + 1}") as smtp:
                code = log_in(smtp, "PLAIN", ANN, "guessed")[0]
        return code

    with site.daemon("--workers", "1"), ThreadPoolExecutor(40) as pool:
        guesses = [pool.submit(guess, number) for number in range(40)]
        for _ in range(5):
            with site.smtp("tls", source="127.0.2.1") as smtp:
                assert log_in(smtp, "PLAIN", ANN, "ann")[0] == 235
        assert {one.result() for one in guesses} <= {535, 454}


def test_the_daemon_is_restarted(site: Site) -> None:
    """Between logins: at most one 454. During one: that one fails for now."""
    with contextlib.ExitStack() as stack:
        with site.daemon():
            # Not before: an smtpd that finds no daemon when its client comes ends at once.
            between, during = (stack.enter_context(site.smtp("tls")) for _ in range(2))
            assert log_in(between, "PLAIN", ANN, "wrong")[0] == 535
            assert during.docmd("AUTH", "LOGIN")[0] == 334
        with site.daemon():
            assert during.docmd(base64.b64encode(ANN.encode()).decode())[0] == 454
            codes = [log_in(one, "PLAIN", ANN, "ann")[0] for one in (between, between, during)]
            assert codes[0] in (235, 454)
            assert 235 in codes[:2]
            assert codes[2] == 235


def test_the_database_is_down(site: Site) -> None:
    """Nobody is told that his password is wrong; and later it is right again."""
    with site.daemon():
        with site.smtp("tls") as smtp:
            assert log_in(smtp, "PLAIN", BOB, "wrong")[0] == 535
        site.database.stop()
        try:
            for mechanism in MECHANISMS:
                with site.smtp("tls") as smtp:
                    assert log_in(smtp, mechanism, ANN, "ann")[0] == 454
        finally:
            site.database.start()
        with site.smtp("tls") as smtp:
            assert log_in(smtp, "PLAIN", ANN, "ann")[0] == 235


def test_the_sender_is_bound_to_the_login(site: Site) -> None:
    """Real mail; the look-up daemon says who may send from where."""
    message = "Subject: hello\r\n\r\nbody\r\n"
    logins = TableDaemon(site.database.url, logins=site.ports["logins"])
    with logins, site.daemon():
        for sender, is_hers in ((ANN, True), ("team@example.test", True), (BOB, False)):
            with site.smtp("tls") as smtp:
                smtp.login(ANN, "ann")
                if is_hers:
                    smtp.sendmail(sender, "x@example.org", message)
                    delivery = site.sink.deliveries.get(timeout=PATIENCE)
                    assert delivery.sender == f"<{sender}>".encode()
                else:
                    with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
                        smtp.sendmail(sender, "x@example.org", message)
                    ((code, text),) = refused.value.recipients.values()
                    assert code == 553
                    assert b"not owned by user" in text
