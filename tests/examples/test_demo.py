"""`make demo` is the first thing that a newcomer runs."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"
PATIENCE = 60  # seconds


def environment(**changes: str) -> dict[str, str]:
    """The environment without what would switch colours on or off."""
    kept = {name: value for name, value in os.environ.items() if "COLOR" not in name}
    return {**kept, "COLUMNS": "100", "TERM": "xterm-256color", **changes}


def run(**changes: str) -> str:
    """What the demo prints into a pipe."""
    done = subprocess.run(
        [sys.executable, "-W", "error", DEMO],
        check=False,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=PATIENCE,
        env=environment(PYTHONIOENCODING="utf-8", **changes),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


def test_all_four_messages_are_shown_with_their_outcome() -> None:
    """Accepted with edits, one recipient refused, aborted, rejected at its end."""
    output = run(COLUMNS="200")
    sections = re.split(r"^(?=\S[^─\n]*─+$)", output, flags=re.MULTILINE)
    messages = [section for section in sections if section.startswith("Message")]
    outcomes = [re.findall(r"^⇒ (.*)", message, re.MULTILINE)[0] for message in messages]
    assert [outcome.partition(" ")[0].rstrip(",;:") for outcome in outcomes] == [
        "accepted",
        "accepted",
        "gone",
        "rejected",
    ]
    for edit in ("ChangeHeader", "AddHeader", "ReplaceBody"):
        assert f"← {edit}" in messages[0]
    assert "+Subject: [outside] Quarterly figures" in messages[0]
    assert "Refuse it: 550 5.1.1 No such user here" in messages[1]
    assert "EndOfMessage" not in messages[2]
    assert "554 5.7.1 This looks 100% like spam. / Ask postmaster if not." in messages[3]


def test_it_says_how_many_frames_it_has_shown() -> None:
    """The number in the last line is that of the rows."""
    output = run(COLUMNS="200")
    rows = re.findall(r"^[→←] [A-Z]", output, re.MULTILINE)
    assert f"{len(rows)} frames" in output.splitlines()[-1]


def test_it_fits_a_narrow_terminal() -> None:
    """No row is wider than the terminal says it is."""
    assert max(map(len, run(COLUMNS="80").splitlines())) <= 80


def test_no_colour_in_a_pipe() -> None:
    """A file is to be read by people, too."""
    assert "\x1b" not in run()


def test_colour_on_a_terminal() -> None:
    """Run as a newcomer does."""
    reader, writer = pty.openpty()
    with subprocess.Popen(
        [sys.executable, DEMO], stdout=writer, env=environment(PYTHONIOENCODING="utf-8")
    ) as process:
        os.close(writer)
        output = b""
        try:
            while piece := os.read(reader, 65536):
                output += piece
        except OSError:  # how Linux tells that the other end has closed
            pass
        os.close(reader)
        assert process.wait(PATIENCE) == 0
    assert b"\x1b[36m" in output
