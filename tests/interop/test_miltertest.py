"""Debian's `miltertest`, an independent MTA side in Lua, drives a filter on our codec."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import pytest

import milterproto as mp

from ._filters import Answers, Event, Filter, FilterServer, Session, answering

SCRIPTS = Path(__file__).with_name("miltertest")
PATIENCE = 20.0

Run: TypeAlias = Callable[[str, Filter], list[Session]]


@pytest.fixture(scope="module")
def server() -> Iterator[FilterServer]:
    """Our filter, on a unix socket with a short path."""
    with (
        tempfile.TemporaryDirectory(prefix="mailwire-") as directory,
        FilterServer(Path(directory) / "filter") as running,
    ):
        yield running


@pytest.fixture
def run(server: FilterServer, require_program: Callable[[str, str], Path]) -> Run:
    """Run a script against a filter; the sessions that the filter has had."""
    program = require_program("miltertest", "miltertest")

    def run_script(script: str, wanted: Filter) -> list[Session]:
        server.install(wanted)
        definitions = {"sock": f"unix:{server.path}", "helper": str(SCRIPTS / "helper.lua")}
        done = subprocess.run(
            [
                str(program),
                *(f"-D{name}={value}" for name, value in definitions.items()),
                "-s",
                str(SCRIPTS / script),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        server.wait_until_idle(PATIENCE)
        for session in wanted.sessions:
            if session.error is not None:
                raise session.error
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""
        return wanted.sessions

    return run_script


def test_edits(run: Run) -> None:
    """Every command of a message arrives, and every edit is what miltertest then sees."""
    edits: list[mp.Response] = [
        mp.Progress(),
        mp.AddHeader(b"X-Added", b"one\n two"),
        mp.InsertHeader(2, b"X-Top", b"first"),
        mp.ChangeHeader(1, b"Subject", b"new"),
        mp.ChangeHeader(1, b"X-Old", b""),
        mp.AddRecipient(b"<g@h.test>"),
        mp.DeleteRecipient(b"<c@d.test>"),
        mp.ReplaceBody(b"new body\r\n"),
        mp.Quarantine(b"odd"),
        mp.Accept(),
    ]
    wants = mp.Wants(actions=mp.ALL_ACTIONS)
    (session,) = run("edits.lua", Filter(answering({mp.EndOfMessage: edits}), wants))
    assert session.events[1:] == [
        mp.Connect(b"client.test", mp.Family.INET, 12345, b"192.0.2.1"),
        mp.Helo(b"client.test"),
        mp.MailFrom(b"<a@b.test>", (b"SIZE=1", b"BODY=8BITMIME")),
        mp.RcptTo(b"<c@d.test>", (b"NOTIFY=NEVER",)),
        mp.RcptTo(b"<e@f.test>"),
        mp.Data(),
        mp.Header(b"Subject", b"one\n two"),
        mp.Header(b"X-Empty", b""),
        mp.EndOfHeaders(),
        mp.Body(b"first\r\n"),
        mp.Body(b"second\r\n"),
        mp.EndOfMessage(),
        mp.Quit(),
        mp.ConnectionClosed(),
    ]
    assert session.of(mp.EndOfMessage)[0].macros == {
        b"j": b"mta.test",
        b"{daemon_name}": b"",
        b"{tls_version}": b"TLSv1.3",
        b"i": b"QUEUEID",
    }
    assert session.of(mp.RcptTo)[0].macros[b"{rcpt_addr}"] == b"c@d.test"


REFUSAL = mp.ReplyCode(b"550", b"5.7.1", (b"no 100% of you",))


def judge(conn: mp.FilterConnection, event: Event) -> Sequence[mp.Response] | None:
    """Refuse what is called so, and what comes fifth; answer the fourth with what is rare."""
    match event:
        case mp.MailFrom(b"<refused@b.test>"):
            return [REFUSAL]
        case mp.RcptTo(b"<refused@d.test>"):
            return [mp.TempFail()]
        case mp.Body(b"skip the rest\r\n"):
            return [mp.Skip()]
        case mp.EndOfMessage() if conn.transaction == 4:
            return [mp.Discard()]
        case mp.EndOfMessage() if conn.transaction == 5:
            return [REFUSAL]
        case _:
            return None


def test_sessions(run: Run) -> None:
    """Several messages on one connection: refused, aborted, accepted, discarded, refused."""
    (session,) = run("sessions.lua", Filter(judge, mp.Wants()))
    message = ["MailFrom", "RcptTo", "Data", "Header", "EndOfHeaders", "Body", "EndOfMessage"]
    assert session.kinds == [
        *["Negotiate", "Connect", "Helo", "Unknown", "MailFrom"],
        *["MailFrom", "RcptTo", "RcptTo", "Abort"],
        *message * 3,
        *["Quit", "ConnectionClosed"],
    ]
    assert [one.transaction for one in session.of(mp.MailFrom)] == [1, 2, 3, 4, 5]
    assert [one.transaction for one in session.of(mp.EndOfMessage)] == [3, 4, 5]


def test_abrupt_end(run: Run) -> None:
    """A connection that is cut in a message is a clean end, and the next one is served."""
    first, second = run("abrupt.lua", Filter(answering({}), mp.Wants()))
    assert first.kinds[-1] == "ConnectionClosed"
    assert "Quit" not in first.kinds
    assert first.of(mp.Connect)[0].event == mp.Connect(b"localhost", mp.Family.UNKNOWN)
    assert second.kinds == ["Negotiate", "Connect", "Quit", "ConnectionClosed"]


def test_refused_connection(run: Run) -> None:
    """A verdict at Connect arrives, and Quit may follow it."""
    answers: Answers = {mp.Connect: [mp.Reject()]}
    (session,) = run("refused.lua", Filter(answering(answers), mp.Wants()))
    assert session.kinds == ["Negotiate", "Connect", "Quit", "ConnectionClosed"]


def test_old_mta_and_few_wants(run: Run) -> None:
    """What the filter does without is left out; what an old MTA waits for is answered."""
    # Data too, for miltertest sends it even to those who do not want it.
    wants = mp.Wants(
        events={mp.Connect, mp.Data, mp.MailFrom, mp.RcptTo, mp.EndOfHeaders, mp.Body},
        replies={mp.Connect, mp.Data, mp.MailFrom, mp.RcptTo, mp.EndOfHeaders},
        actions=mp.ALL_ACTIONS,
    )
    (session,) = run("quiet.lua", Filter(answering({}), wants))
    assert session.kinds[1:] == [
        *["Connect", "MailFrom", "RcptTo", "Data", "EndOfHeaders", "Body", "EndOfMessage"],
        *["Quit", "ConnectionClosed"],
    ]
    assert session.of(mp.Body)[0].due
