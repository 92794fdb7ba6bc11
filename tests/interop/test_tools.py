"""send, check, record and replay, with filters of other makes: OpenDKIM and one on libmilter."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ._libmilter import Program, build, on
from ._opendkim import OpenDKIM
from ._postfix import free_port
from ._tools import recorder, tool

pytestmark = pytest.mark.interop

MAIL = (
    b"From: a@example.org\r\nTo: b@example.test\r\nSubject: hi\r\n folded\r\nX-A:tight\r\n"
    b"Date: Tue, 24 Nov 2026 04:00:00 +0000\r\nMessage-Id: <1@example.org>\r\n\r\nbody\r\n.\r\n"
)
# OpenDKIM signs for these, and verifies what comes from anybody else.
SIGNED = ("--from", "a@example.org", "--client", "localhost[127.0.0.1]")


# --- OpenDKIM ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def opendkim(
    require_program: Callable[[str, str], Path],
    tmp_path_factory: pytest.TempPathFactory,
    port: int,
) -> Iterator[OpenDKIM]:
    """One that signs and verifies."""
    program = require_program("opendkim", "opendkim")
    with OpenDKIM(program, tmp_path_factory.mktemp("opendkim"), port, mode="sv") as running:
        yield running


def signed(port: int) -> bytes:
    done = tool("send", "--to", f"127.0.0.1:{port}", "-", *SIGNED, "--json", stdin=MAIL)
    assert done.returncode == 0, done.stderr
    content: str = json.loads(done.stdout)["message"]["content"]
    return content.encode("utf-8", "surrogateescape")


@pytest.mark.parametrize("habits", ["postfix", "sendmail", "hostile"])
def test_opendkim_signs(opendkim: OpenDKIM, port: int, habits: str) -> None:
    """It is in the diff, and OpenDKIM itself takes the message in the JSON for well signed."""
    # The address as it stands in OpenDKIM's own configuration.
    line = ("send", "--to", f"inet:{port}@127.0.0.1", "-", *SIGNED, "--habits", habits)
    done = tool(*line, stdin=MAIL)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert any(line.startswith("+DKIM-Signature: v=1; a=rsa-sha256") for line in lines)
    assert lines[-1] == "accepted"
    assert "succeeded" in opendkim.verify(signed(port))


def test_opendkim_verifies(opendkim: OpenDKIM, port: int) -> None:
    """What was signed passes, and what was changed since then does not."""
    content = signed(port)
    line = ("send", "--to", f"127.0.0.1:{port}", "-", "--from", "a@example.org")
    done = tool(*line, stdin=content)
    assert done.returncode == 0, done.stderr
    assert "dkim=pass" in done.stdout
    done = tool(*line, stdin=content.replace(b"body", b"other"))
    assert "dkim=fail" in done.stdout


def found_in(target: str, *options: str) -> tuple[int, dict[str, list[str]]]:
    """The exit status of `check`, and the findings by the names of the checks."""
    done = tool("check", target, "--timeout", "1", "--json", *options)
    outcomes = json.loads(done.stdout)
    return done.returncode, {one["check"]: one["findings"] for one in outcomes if one["findings"]}


def test_what_check_finds_in_opendkim(opendkim: OpenDKIM, port: int) -> None:
    """It leaves DATA and unknown commands out, where libmilter has its gaps. Another one shows.

    When it verifies without a signature it asks to skip the body, and libmilter says that twice if
    the end of the message has a piece of it.
    """
    assert found_in(f"127.0.0.1:{port}", *SIGNED) == (0, {})
    status, found = found_in(f"127.0.0.1:{port}")
    assert (status, list(found)) == (0, ["body-at-end"])
    assert "Skip(...) is no reply to EndOfMessage(...)" in found["body-at-end"]


def test_record_and_replay_opendkim(opendkim: OpenDKIM, port: int, tmp_path: Path) -> None:
    """It says the same again, but for the time in its signature."""
    front, file = free_port(), tmp_path / "session.jsonl"
    with recorder(f"127.0.0.1:{front}", f"127.0.0.1:{port}", file):
        content = signed(front)
        line = ("send", "--to", f"127.0.0.1:{front}", "-", "--from", "a@example.org")
        assert "dkim=pass" in tool(*line, stdin=content).stdout
    assert "succeeded" in opendkim.verify(content)
    done = tool("replay", file, f"127.0.0.1:{port}", "--ignore", "DKIM-Signature")
    assert (done.returncode, done.stdout) == (0, "the same\n")
    shown = tool("show", file).stdout
    assert "1 " in shown
    assert "InsertHeader 0 Authentication-Results" in shown


def test_a_masked_transcript_can_be_replayed(opendkim: OpenDKIM, port: int, tmp_path: Path) -> None:
    """OpenDKIM then has another message to sign, of the same shape."""
    front, file = free_port(), tmp_path / "session.jsonl"
    with recorder(f"127.0.0.1:{front}", f"127.0.0.1:{port}", file, "--mask"):
        signed(front)
    assert "folded" not in file.read_text()
    done = tool("replay", file, f"127.0.0.1:{port}", "--ignore", "DKIM-Signature")
    # What stands in From is no address any more, so nothing is signed.
    assert done.returncode == 1
    assert "InsertHeader" in done.stdout


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


EDITS = (
    on("eom", "insheader", 0, b"X-I", b"i"),
    on("eom", "chgheader", 1, b"subject", b"new"),
    on("eom", "addrcpt", b"<d@example.test>"),
    on("eom", "chgfrom", b"<new@example.org>", None),
    on("eom", "replacebody", b"new\r\n"),
    on("eom", "quarantine", b"odd"),
)


def test_edits(peer: Program) -> None:
    """All of them in one diff."""
    peer.script(*EDITS)
    done = tool("send", "--to", f"unix:{peer.path}", "-", stdin=MAIL)
    assert done.returncode == 0, done.stderr
    changed = [line for line in done.stdout.splitlines() if line.startswith(("+", "-"))]
    assert changed[2:] == [
        "-MAIL FROM:<sender@example.org>",
        "+MAIL FROM:<new@example.org>",
        "+RCPT TO:<d@example.test>",
        "+held: odd",
        "+X-I: i",
        "-Subject: hi",
        "- folded",
        "+subject: new",
        "-body",
        "-.",
        "+new",
    ]
    assert done.stdout.endswith("\naccepted, and held: odd\n")


@pytest.mark.parametrize(
    ("stage", "verdict", "status"),
    [
        *((stage, "reject", 1) for stage in ("connect", "mail", "rcpt", "header", "eom")),
        *((stage, "tempfail", 3) for stage in ("helo", "data", "eom")),
        *((stage, "accept", 0) for stage in ("connect", "mail", "eom")),
        *(("eoh", "discard", 1), ("eom", "discard", 1), ("helo", "discard", 0)),
    ],
)
def test_the_exit_status(peer: Program, stage: str, verdict: str, status: int) -> None:
    """Whenever it is said. That a client is discarded, MTAs take no notice of."""
    peer.script(on(stage, verdict))
    done = tool("send", "--to", str(peer.path), "-", stdin=MAIL)
    assert done.returncode == status, done.stdout


def test_what_check_finds_in_libmilter(peer: Program) -> None:
    """It has a state table with a gap: RCPT after DATA gets no answer."""
    assert found_in(str(peer.path)) == (1, {"data-again": ["no answer to RcptTo"]})
    assert found_in(str(peer.path), "--skip", "data-again") == (0, {})


@pytest.mark.parametrize(
    ("rule", "check", "text"),
    [
        (on("rcpt", "skip"), "postfix", "asks the filter nothing more"),
        (on("connect", "discard"), "postfix", "through unfiltered"),
        (on("unknown", "accept"), "unknown", "crashes Postfix's smtpd"),
        (on("eom", "insheader", 0, b"X", b"a\rb"), "postfix", "has a NUL, a CR"),
        (on("body", "skip"), "body-at-end", "something that it was not asked for"),
    ],
)
def test_what_check_finds_in_filters_on_libmilter(
    peer: Program, rule: str, check: str, text: str
) -> None:
    """What their authors may do wrong, and libmilter lets through."""
    peer.script(rule)
    found = found_in(str(peer.path), "--skip", "data-again")[1]
    assert text in " ".join(found[check]), found


def test_record_and_replay_libmilter(peer: Program, tmp_path: Path) -> None:
    """The same script says the same; another does not."""
    file = tmp_path / "session.jsonl"
    peer.script(*EDITS)
    with recorder(f"unix:{tmp_path / 'front'}", f"unix:{peer.path}", file):
        for habits in ("postfix", "sendmail", "hostile"):
            line = ("send", "--to", str(tmp_path / "front"), "-", "--habits", habits)
            assert tool(*line, stdin=MAIL).returncode == 0
    again = ("replay", str(file), str(peer.path))
    assert tool(*again).stdout == "the same\n"
    peer.script(*EDITS[1:])
    done = tool(*again)
    assert done.returncode == 1
    assert done.stdout.count("- InsertHeader 0 X-I") == 3
    peer.script(on("mail", "tempfail"))
    assert "+ TempFail" in tool(*again).stdout
