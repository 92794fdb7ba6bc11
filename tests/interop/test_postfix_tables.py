"""A real Postfix whose domains, recipients, aliases and transports come from the daemon."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest
from mailfront import userdb
from mailfront.userdb import Domain, Plan, User, UserDB

from ._postfix import PATIENCE, Postfix, free_port
from ._postfix_client import Client
from ._postgresql import PostgreSQL, programs
from ._sink import Delivery, Sink
from ._table_daemon import TableDaemon

REFUSED = b"Recipient address rejected: User unknown in virtual mailbox table"
MAPS = ("domains", "recipients", "aliases", "transport")


@attrs.define
class Site:
    """Postfix, a sink for each plan, and where the daemon has to be."""

    postfix: Postfix
    database: PostgreSQL
    paid: Sink
    trial: Sink
    ports: dict[str, int]

    def daemon(self, *arguments: str) -> TableDaemon:
        """The daemon, with short-lived answers so that each test asks anew."""
        return TableDaemon(
            self.database.url,
            *("--transport", f"paid=smtp:[127.0.0.1]:{self.paid.port}"),
            *("--transport", f"trial=smtp:[127.0.0.1]:{self.trial.port}"),
            *arguments,
            **self.ports,
        )

    def client(self) -> Client:
        client = Client(self.postfix.ports["mx"], PATIENCE)
        client.must(b"250", b"EHLO client.test")
        client.must(b"250", b"MAIL FROM:<a@example.org>")
        return client

    @staticmethod
    def delivery(sink: Sink) -> Delivery:
        return sink.deliveries.get(timeout=PATIENCE)


@pytest.fixture(scope="module")
def site(postfix_program: Path, require_program: Callable[[str, str], Path]) -> Iterator[Site]:
    bin_directory = programs(require_program)
    ports = {name: free_port() for name in (*MAPS, "socketmap")}
    tcp = {name: f"tcp:127.0.0.1:{ports[name]}" for name in MAPS}
    settings = {
        "virtual_mailbox_domains": tcp["domains"],
        "virtual_mailbox_maps": tcp["recipients"],
        "virtual_alias_maps": f"socketmap:inet:127.0.0.1:{ports['socketmap']}:aliases",
        "transport_maps": tcp["transport"],
        # Nobody is there: where the transport map says nothing, mail must not arrive as if it had.
        "virtual_transport": "smtp:[127.0.0.1]:1",
        # An address is looked up again at once, not in 30 seconds.
        "minimal_backoff_time": "1s",
        "queue_run_delay": "1s",
    }
    mx = {"smtpd_recipient_restrictions": "reject_unauth_destination"}
    with contextlib.ExitStack() as stack:
        root = Path(tempfile.mkdtemp(prefix="mailwire-"))
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        root.chmod(0o755)
        database = stack.enter_context(PostgreSQL(bin_directory))
        asyncio.run(userdb.main(database.url, demo=True))
        paid, trial = stack.enter_context(Sink()), stack.enter_context(Sink())
        postfix = stack.enter_context(
            Postfix(postfix_program, root, paid.port, {"mx": mx}, settings=settings)
        )
        yield Site(postfix, database, paid, trial, ports)
        print(postfix.log())


CONTENT = b"Subject: hello\r\n\r\nbody\r\n"


def test_recipients_aliases_and_transports(site: Site) -> None:
    """Known ones are taken and go the way of their plan; unknown ones are refused for good."""
    with site.daemon(), site.client() as client:
        for known in (b"ann@example.test", b"ANN+lists@Example.Test", b'"a b"@example.test'):
            client.must(b"250", b"RCPT TO:<%b>" % known)
        for unknown in (b"nobody@example.test", b'"no body"@example.test'):
            refusal = client.command(b"RCPT TO:<%b>" % unknown)
            assert refusal.startswith(b"550 5.1.1 <"), refusal
            assert refusal.endswith(REFUSED), refusal
        elsewhere = client.command(b"RCPT TO:<x@example.org>")
        assert elsewhere.startswith(b"554 5.7.1"), elsewhere
        client.must(b"250", b"RCPT TO:<bob@example.test>")
        client.must(b"354", b"DATA")
        client.must(b"250", CONTENT + b".")
        paid: set[bytes] = set()
        while len(paid) < 3:
            paid |= set(site.delivery(site.paid).addresses)
        assert paid == {
            b"<ann@example.test>",
            b"<ANN+lists@Example.Test>",
            b'<"a b"@example.test>',
        }
        assert site.delivery(site.trial).addresses == [b"<bob@example.test>"]
        client.must(b"250", b"MAIL FROM:<a@example.org>")
        client.must(b"250", b"RCPT TO:<team@example.test>")
        client.must(b"354", b"DATA")
        client.must(b"250", CONTENT + b".")
        assert site.delivery(site.paid).addresses == [b"<ann@example.test>"]
        assert site.delivery(site.trial).addresses == [b"<bob@example.test>"]
        client.quit()


def test_names_beyond_ascii(site: Site) -> None:
    """Postfix folds them before it asks for them in lists; a domain may be written in ASCII."""

    async def fill() -> None:
        users = UserDB.connect(site.database.url)
        for domain in ("straße.test", "οδος.test", "xn--bcher-kva.test"):
            rows = [Domain(domain), User(f"Ann@{domain}", domain, Plan.PAID, "m")]
            await users.add(rows)
        await users.close()

    asyncio.run(fill())
    domains = (
        "straße",
        "STRASSE",
        "xn--strae-oqa",
        "οδος",
        "ΟΔΟΣ",
        "bücher",
        "BÜCHER",
        "xn--bcher-kva",
    )
    with site.daemon(), site.client() as client:
        client.must(b"250", b"RSET")
        client.must(b"250", b"MAIL FROM:<a@example.org> SMTPUTF8")
        for domain in domains:
            client.must(b"250", f"RCPT TO:<ann@{domain}.test>".encode())
        elsewhere = client.command("RCPT TO:<ann@küche.test>".encode())
        assert elsewhere.startswith(b"554 5.7.1"), elsewhere
        client.quit()


def test_quotes_that_belong_to_the_address(site: Site) -> None:
    """Are somebody else's: mail for him would come back from where ann's mail goes."""
    with site.daemon(), site.client() as client:
        client.must(b"250", b'RCPT TO:<"ann"@example.test>')
        refusal = client.command(rb'RCPT TO:<"\"ann\""@example.test>')
        assert refusal.endswith(REFUSED), refusal
        client.quit()


def test_the_database_goes_and_comes_back(site: Site) -> None:
    """Meanwhile recipients get 4xx, known or not; afterwards the mail is taken."""
    nothing_kept = ("--fresh", "0", "--fresh-negative", "0", "--patience", "2")
    with site.daemon(*nothing_kept), site.client() as client:
        client.must(b"250", b"RCPT TO:<ann@example.test>")
        client.must(b"250", b"RSET")
        site.database.stop()
        try:
            client.must(b"250", b"MAIL FROM:<a@example.org>")
            for address in (b"ann@example.test", b"nobody@example.test"):
                reply = client.command(b"RCPT TO:<%b>" % address)
                assert reply.startswith(b"451 4.3.0"), reply
        finally:
            site.database.start()
        client.must(b"250", b"RCPT TO:<ann@example.test>")
        refusal = client.command(b"RCPT TO:<nobody@example.test>")
        assert refusal.endswith(REFUSED)
        client.must(b"354", b"DATA")
        client.must(b"250", CONTENT + b".")
        assert site.delivery(site.paid).addresses == [b"<ann@example.test>"]
        client.quit()


def test_fresh_answers_outlive_the_database(site: Site) -> None:
    """A recipient that was asked for a moment ago is known still."""
    with site.daemon(), site.client() as client:
        client.must(b"250", b"RCPT TO:<ann@example.test>")
        site.database.stop()
        try:
            client.must(b"250", b"RCPT TO:<ann@example.test>")
        finally:
            site.database.start()
        client.quit()


def test_a_slow_database(site: Site) -> None:
    """The client waits, and gets the right answer."""
    with site.daemon("--fresh", "0", "--patience", "30"), site.client() as client:
        client.must(b"250", b"RCPT TO:<ann@example.test>")
        site.database.freeze()
        thaw = threading.Timer(1, site.database.thaw)
        thaw.start()
        try:
            client.must(b"250", b"RCPT TO:<bob@example.test>")
        finally:
            thaw.join()
        client.quit()


def test_the_daemon_is_restarted_in_mid_session(site: Site) -> None:
    """Killed without a farewell: Postfix asks again, on a new connection."""
    with site.client() as client:
        with site.daemon() as daemon:
            client.must(b"250", b"RCPT TO:<ann@example.test>")
            client.must(b"250", b"RSET")
            client.must(b"250", b"MAIL FROM:<a@example.org>")
            daemon.kill()
        with site.daemon():
            client.must(b"250", b"RCPT TO:<ann@example.test>")
            client.must(b"250", b"RCPT TO:<bob@example.test>")
            client.must(b"354", b"DATA")
            client.must(b"250", CONTENT + b".")
            assert site.delivery(site.paid).addresses == [b"<ann@example.test>"]
            assert site.delivery(site.trial).addresses == [b"<bob@example.test>"]
        client.quit()
