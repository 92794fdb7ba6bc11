"""The test kit's socket form against filters of other makes: OpenDKIM, and one on libmilter."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import milterproto as mp
from milterproto.message import Client, Message
from milterproto.testing import MTA, Habits, deliver

from ._libmilter import Program, build, on
from ._opendkim import OpenDKIM
from ._postfix import PATIENCE, free_port

pytestmark = pytest.mark.interop

MESSAGE = Message.parse(
    b"From: a@example.org\nTo: b@example.test\nSubject: hi\n folded\nX-A:tight\n"
    b"Date: Tue, 24 Nov 2026 04:00:00 +0000\nMessage-Id: <1@example.org>\n\nbody\n.\n",
    sender=b"<a@example.org>",
    recipients=[b"<b@example.test>", b"<c@example.test>"],
)


# --- OpenDKIM ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dkim_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def opendkim(
    require_program: Callable[[str, str], Path],
    tmp_path_factory: pytest.TempPathFactory,
    dkim_port: int,
) -> Iterator[OpenDKIM]:
    """One that signs what comes from example.org by 127.0.0.1."""
    program = require_program("opendkim", "opendkim")
    with OpenDKIM(program, tmp_path_factory.mktemp("opendkim"), dkim_port) as running:
        yield running


@pytest.mark.parametrize("habits", Habits)
def test_opendkim_signs(opendkim: OpenDKIM, dkim_port: int, habits: Habits) -> None:
    """What we say is delivered is what OpenDKIM itself finds a good signature on."""
    message = MESSAGE.copy()
    message.client = Client(b"localhost", mp.Family.INET, 40112, b"127.0.0.1", b"client.test")
    with socket.create_connection(("127.0.0.1", dkim_port), PATIENCE) as wire:
        result = deliver(wire, message, habits=habits)
    assert result.verdict in (mp.Accept(), mp.Continue())
    assert result.message is not None
    (signature,) = result.edits
    assert isinstance(signature, mp.InsertHeader)
    assert result.message.headers.get("DKIM-Signature").startswith(b"v=1;")
    assert "succeeded" in opendkim.verify(result.message.content)
    tampered = result.message.copy()
    tampered.replace_body(b"other\n")
    assert "succeeded" not in opendkim.verify(tampered.content)


# --- libmilter -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def program(
    tmp_path_factory: pytest.TempPathFactory, require_program: Callable[[str, str], Path]
) -> Path:
    """The compiled filter."""
    require_program("gcc", "gcc")
    require_program("/usr/include/libmilter/mfapi.h", "libmilter-dev")
    return build(tmp_path_factory.mktemp("libmilter"))


@pytest.fixture
def peer(program: Path) -> Iterator[Program]:
    """A filter that wants every event, may do everything, and says Continue."""
    with (
        tempfile.TemporaryDirectory(prefix="mailwire-") as directory,
        Program(program, Path(directory) / "filter") as running,
    ):
        yield running


def connected(peer: Program) -> socket.socket:
    wire = socket.socket(socket.AF_UNIX)
    wire.settimeout(PATIENCE)
    wire.connect(str(peer.path))
    return wire


@pytest.mark.parametrize("version", [2, 3, 4, 6])
@pytest.mark.parametrize("habits", Habits)
def test_edits_of_a_filter_on_libmilter(peer: Program, habits: Habits, version: int) -> None:
    """Every kind of edit, in whatever session."""
    peer.script(
        on("eom", "insheader", 0, b"X-I", b"i"),
        on("eom", "chgheader", 1, b"subject", b"new"),
        on("eom", "addrcpt", b"<d@example.test>"),
        on("eom", "delrcpt", b"<c@example.test>"),
        on("eom", "chgfrom", b"<new@example.org>", None),
        on("eom", "replacebody", b"new\r\n"),
        on("eom", "quarantine", b"odd"),
        on("eom", "progress"),
        on("eom", "accept"),
    )
    with connected(peer) as wire:
        result = deliver(wire, MESSAGE, habits=habits, version=version)
    assert (result.verdict, result.stage) == (mp.Accept(), mp.EndOfMessage)
    after = result.message
    assert after is not None
    assert after.headers[0].name == b"X-I"
    assert after.headers.get("subject") == b"new"
    assert after.body == b"new\r\n"
    assert after.sender == b"<new@example.org>"
    assert [one.address for one in after.recipients] == [b"<b@example.test>", b"<d@example.test>"]
    assert after.quarantined == b"odd"
    called = [call.callback for call in peer.session()]
    assert called.count("eom") == 1
    assert called.count("mail") == (2 if habits is Habits.HOSTILE else 1)


@pytest.mark.parametrize("habits", Habits)
@pytest.mark.parametrize(
    "stage", ["connect", "helo", "mail", "data", "header", "eoh", "body", "eom"]
)
@pytest.mark.parametrize("verdict", ["reject", "tempfail", "accept"])
def test_verdicts_of_a_filter_on_libmilter(
    peer: Program, stage: str, verdict: str, habits: Habits
) -> None:
    """Twice on one connection: whatever was decided, nothing waits for ever."""
    peer.script(on(stage, verdict))
    kinds = {"reject": mp.Reject(), "tempfail": mp.TempFail(), "accept": mp.Accept()}
    with connected(peer) as wire:
        mta = MTA(wire, habits=habits)
        for _ in range(2):
            result = mta.deliver(MESSAGE)
            assert result.verdict == kinds[verdict]
            assert result.accepted is (verdict == "accept")
        mta.quit()


def test_refused_recipients_and_given_up_messages(peer: Program) -> None:
    """All on one connection."""
    with connected(peer) as wire:
        mta = MTA(wire)
        assert mta.deliver(MESSAGE, until=mp.Header).verdict is None
        peer.script(on("rcpt", "reject"))
        refused = mta.deliver(MESSAGE)
        assert (refused.verdict, refused.stage, refused.message) == (mp.Reject(), mp.RcptTo, None)
        peer.script()
        assert mta.deliver(MESSAGE).accepted
        mta.quit()
