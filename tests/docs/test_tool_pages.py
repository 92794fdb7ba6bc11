"""The tools' pages show what the tools print, and their tables are the code's."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

import pytest

from milterproto._shell.bench import Outcome
from milterproto._shell.checks import CHECKS
from milterproto._shell.options import parser
from milterproto._shell.replay import Difference
from milterproto._shell.report import Status, outcome_json, sent_json, transcript_json
from milterproto._shell.transcript import FIRST_LINE, FROM_MTA, Entry, parse
from milterproto.message import Message
from milterproto.testing import deliver

from .tool_pages import DOCS, PAGES, PICTURE, without_times, written


@pytest.mark.parametrize("name", PAGES)
def test_what_is_shown_is_what_is_printed(name: str) -> None:
    """Each command of the page is run; tool_pages.py writes what it prints."""
    # Not tmp_path, whose name may be too long for a socket.
    with tempfile.TemporaryDirectory(prefix="mailwire-") as directory:
        page, picture = written(name, Path(directory))
    shown = (DOCS / name).read_text(encoding="utf-8")
    assert without_times(page) == without_times(shown)
    if picture:
        # What comes after Quit comes from both sides at once.
        drawn, end, _ = picture.partition(">Quit")
        assert end
        assert drawn == PICTURE.read_text(encoding="utf-8").partition(">Quit")[0]


def test_all_checks_are_in_the_table() -> None:
    """In their order, with what they do and what to do."""
    page = (DOCS / "tool_check.md").read_text(encoding="utf-8")
    table = page.partition("## The checks")[2].partition("## ")[0]
    rows = re.findall(r"^\| `([a-z0-9-]+)`( \(w\))? \| (.+) \| (.+) \|$", table, re.MULTILINE)
    assert rows == [
        (check.name, "" if check.serious else " (w)", check.what, check.advice) for check in CHECKS
    ]


def test_exit_statuses() -> None:
    """All that there are, for all tools; 2 is argparse's."""
    page = (DOCS / "tools.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d) \|(.*)\|$", page, re.MULTILINE)
    assert [int(number) for number, _ in rows] == sorted({*map(int, Status), 2})
    head = re.search(r"^\| status \|(.*)\|$", page, re.MULTILINE)
    assert head
    tools = [cell.strip(" `") for cell in head[1].split("|")]
    assert sorted(tools) == sorted(re.findall(r"^\| \[`(\w+)`\]", page, re.MULTILINE))
    # What stands there is what --help says.
    for column, tool in enumerate(tools):
        cells = [row.split("|")[column].strip() for _, row in rows]
        numbers = {int(number) for (number, _), cell in zip(rows, cells, strict=True) if cell}
        assert numbers == statuses(tool)


def statuses(tool: str) -> set[int]:
    """The exit statuses in a tool's --help."""
    action = next(one for one in parser([])._actions if one.dest == "tool")
    assert isinstance(action.choices, dict)
    text = action.choices[tool].epilog.partition("Exit status: ")[2]
    return {int(number) for number in re.findall(r"(?:^|[,\n] ?)(\d)\b", text)}


def words_in_code(text: str) -> list[str]:
    return re.findall(r"`([a-z]+)`", text)


def test_all_that_is_in_json() -> None:
    """Is on the pages, and nothing else: scripts depend on it."""
    result = deliver(lambda _message: None, Message(b"<a@example.org>"))
    sent = sent_json(Message(), result, [Entry(1, 0, FROM_MTA, b"Q", b"")])
    page = (DOCS / "tool_send.md").read_text(encoding="utf-8").partition("## In JSON")[2]
    rows = dict(re.findall(r"^\| `([a-z]+)` \| (.*) \|$", page, re.MULTILINE))
    assert list(rows) == list(sent)
    assert words_in_code(rows["status"]) == ["accepted", "refused", "temporary", "broken"]
    assert words_in_code(rows["message"]) == list(sent["message"])
    assert words_in_code(rows["session"]) == ["way"]
    assert set(sent["session"][0]) == {"way", "event"}

    page = (DOCS / "tool_check.md").read_text(encoding="utf-8").partition("## In JSON")[2]
    told = words_in_code(page.partition("## ")[0])
    assert told == list(outcome_json(Outcome(CHECKS[0])))

    page = (DOCS / "tool_record.md").read_text(encoding="utf-8")
    shown, replayed = re.findall(r"`--json` gives.*?(?=\n\n)", page, re.DOTALL)
    assert words_in_code(replayed) == list(Difference(1, "x").as_json)
    (entry,) = transcript_json([Entry(1, 0, FROM_MTA, b"Q", b"")])
    assert [*words_in_code(shown), "event"] == list(entry)


def test_the_line_of_the_file() -> None:
    """The example can be read."""
    page = (DOCS / "tool_record.md").read_text(encoding="utf-8")
    line = page.partition("```json\n")[2].partition("\n")[0]
    (entry,) = parse([FIRST_LINE, line])
    assert json.loads(line) == json.loads(entry.line)
