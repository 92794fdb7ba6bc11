"""Dovecot's submission server understands our XCLIENT, and our receiver Dovecot's."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import attrs
import pytest

from nginxauth import xclient as xc

from ._dovecot import PASSWORD
from ._dovecot_submission import PROGRAM, Submission
from ._postfix import PATIENCE
from ._postfix_client import Client
from ._program import Program

LOGIN: Final = b"AUTH PLAIN " + base64.b64encode(b"\0alice\0" + PASSWORD)


@attrs.frozen
class Chain:
    """Dovecot, and our receiver behind it."""

    dovecot: Submission
    receiver: Program

    def client(self) -> tuple[Client, xc.Offer]:
        """A trusted proxy that has said EHLO."""
        client = Client(self.dovecot.port, PATIENCE)
        return client, xc.parse_ehlo(client.must(b"250", b"EHLO proxy.test"))


@pytest.fixture(scope="module")
def submission_program(dovecot_program: Path, require_program: Callable[[str, str], Path]) -> Path:
    """The dovecot command, whose submission server is there, too."""
    require_program(PROGRAM, "dovecot-submissiond")
    return dovecot_program


@pytest.fixture
def chain(submission_program: Path) -> Iterator[Chain]:
    """Dovecot takes XCLIENT from here, and our receiver from Dovecot."""
    options = ("--port", "0", "--trust", "127.0.0.1", "--login")
    with Program("xclient_receiver.py", *options) as receiver:
        port = int(receiver.log[0].rpartition(":")[2])
        with Submission(submission_program, port) as dovecot:
            yield Chain(dovecot, receiver)
            # Shown with a test that fails.
            print(dovecot.log())


@pytest.mark.parametrize(
    ("addr", "helo"),
    [(b"192.0.2.1", b"client.example"), (b"2001:db8::1", xc.UNAVAILABLE)],
    ids=["IPv4", "IPv6"],
)
def test_the_client_is_passed_on(chain: Chain, addr: bytes, helo: bytes) -> None:
    """Our sender tells Dovecot, and Dovecot tells our receiver, with the user who logged in."""
    command = xc.XClient(name=b"a.example", addr=addr, port=77, helo=helo, proto=b"ESMTP")
    client, offer = chain.client()
    with client:
        plan = xc.plan(command, offer, xc.DOVECOT)
        assert [one.attribute for one in plan.omitted] == [b"NAME"]
        (line,) = plan.commands
        reply = client.command(line.removesuffix(b"\r\n"))
        assert reply.startswith(b"220 ")
        assert plan.outcome(int(reply[:3])) is xc.Outcome.ACCEPTED
        client.must(b"250", b"EHLO real.example")
        client.must(b"235", LOGIN)
        assert client.message(sender=b"<alice@example.test>").startswith(b"250 ")
        client.quit()
    chain.receiver.terminate()
    chain.receiver.wait()
    (said,) = [said for said in chain.receiver.log if said.startswith("mail: ")]
    assert said == (
        f"mail: addr={addr.decode()} login=alice helo=dovecot.test "
        "from=alice@example.test to=b@example.test"
    )


def test_what_dovecot_offers_and_takes(chain: Chain) -> None:
    """Attributes that it does not know are passed over, and there may be another client."""
    client, offer = chain.client()
    with client:
        assert offer == xc.DOVECOT.offer
        plan = xc.Plan((), (), resets=True)
        for line, outcome in (
            (b"XCLIENT ADDR=192.0.2.1 NAME=a.example FOO=x", xc.Outcome.ACCEPTED),
            (b"XCLIENT ADDR=2001:db8::1", xc.Outcome.ACCEPTED),
            (b"XCLIENT ADDR=300.1.1.1", xc.Outcome.SYNTAX),
            (b"XCLIENT HELO=a+", xc.Outcome.SYNTAX),
            (b"XCLIENT PROTO=LMTP", xc.Outcome.ACCEPTED),
        ):
            reply = client.command(line)
            assert plan.outcome(int(reply[:3])) is outcome, (line, reply)
        assert xc.parse_ehlo(client.must(b"250", b"EHLO x.test")) == xc.DOVECOT.offer
        client.quit()
