"""The page on states and the code say the same."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import get_args

import pytest

import milterproto as mp
from milterproto._events import COMMAND_CODES
from milterproto._state import COMMANDS, EDITS, SENDABLE, VERDICTS

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "milter_states.md").read_text(encoding="utf-8")
KINDS = {code.decode(): kind for kind, code in COMMAND_CODES.items()}
LIBMILTER = {
    "INIT": ["OPENING"],
    "OPTS": ["NEGOTIATED"],
    "CONN": ["CONNECTED"],
    "HELO": ["CONNECTED", "DONE", "RELEASED"],
    "MAIL": ["MAIL"],
    "RCPT": ["RCPT"],
    "DATA": ["DATA"],
    "HDRS": ["HEADERS"],
    "EOHS": ["EOH"],
    "BODY": ["BODY"],
    "ENDM": ["CONNECTED"],
    "ABRT": ["CONNECTED"],
    "UNKN": [state.name for state, row in COMMANDS.items() if mp.Unknown in row],
    "Q_NC": ["NEGOTIATED"],
}

Table = dict[str, dict[str, str]]


def table(heading: str, number: int = 0) -> Table:
    """A table of the section under a heading: rows by their first cell, cells by column."""
    section = re.split(rf"^## {heading}$", PAGE, flags=re.MULTILINE)[1]
    section = re.split(r"^## ", section, flags=re.MULTILINE)[0]
    lines = re.findall(r"(?:^\|.*\|\n)+", section, re.MULTILINE)[number].splitlines()
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]
    head, _, *body = rows
    assert all(len(row) == len(head) for row in body)
    return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in body}


def test_every_state_is_explained() -> None:
    """The list at the top of the page."""
    first = re.findall(r"(?:^\|.*\|\n)+", PAGE, re.MULTILINE)[0].splitlines()[2:]
    names = [name for line in first for name in line.split("|")[1].strip().split(", ")]
    assert names == [state.name for state in mp.State]


def test_commands() -> None:
    """The matrix of states and commands."""
    ours = {
        state.name: {
            code: row[kind].name if kind in row else "."
            for code, kind in KINDS.items()
            if code != "D"
        }
        for state, row in COMMANDS.items()
    }
    assert table("Commands") == ours


def shown(state: mp.State | None) -> str:
    """A cell; a verdict that changes nothing is '='."""
    return "=" if state is None else state.name


def test_verdicts() -> None:
    """The states after verdicts."""
    ours = {
        command.__name__: {
            verdict.__name__: "-"
            if verdict not in row
            else "="
            if (to := row[verdict]) is None
            else to.name
            for verdict in get_args(mp.Verdict)
        }
        for command, row in VERDICTS.items()
    }
    assert table("Verdicts") == ours


def test_what_may_be_sent() -> None:
    """The table of stage and reply."""
    edits = set(get_args(mp.Edit))
    ours = {}
    for command in VERDICTS:
        allowed = SENDABLE[command]
        row = {
            kind.__name__: "yes" if kind in allowed else "no"
            for kind in (*get_args(mp.Verdict), mp.Progress)
        }
        assert allowed & edits in (set(), edits)
        row["edits"] = "yes" if edits <= allowed else "no"
        ours[command.__name__] = row
    assert table("What a filter may send") == ours


def test_edits() -> None:
    """The action that each edit needs."""
    ours = {edit.__name__: {"action": str(action.name)} for edit, action in EDITS.items()}
    assert table("Edits") == ours


def differences() -> set[tuple[str, str, str, str]]:
    """The cells in which one takes a command and the other does not."""
    found = set()
    for from_, row in table("Where libmilter differs").items():
        for state in LIBMILTER[from_]:
            name = f"UNKN-{state}" if from_ == "UNKN" else from_
            for code, cell in row.items():
                theirs = "ignored" if cell.startswith(".") else "taken"
                ours = "taken" if KINDS[code] in COMMANDS[mp.State[state]] else "error"
                if (theirs == "taken") != (ours == "taken"):
                    found.add((name, code, theirs, ours))
    return found


def test_every_difference_from_libmilter_is_listed() -> None:
    """With its reason, and none that is none."""
    section = PAGE.split("these cells differ:\n\n")[1].split("\n\n")[0]
    listed = set()
    for line in section.splitlines()[2:]:
        from_, codes, theirs, ours, why = (cell.strip() for cell in line.strip("|").split("|"))
        assert why
        listed |= {(one, code, theirs, ours) for one in from_.split() for code in codes.split()}
    assert listed == differences()


def test_libmilters_states_have_a_counterpart() -> None:
    """And among the counterparts are all of ours in which a command may come."""
    assert set(table("Where libmilter differs")) == set(LIBMILTER)
    assert {name for names in LIBMILTER.values() for name in names} == {s.name for s in COMMANDS}


def test_the_diagram_is_that_of_the_tables() -> None:
    """`python docs/state_diagram.py` has been run since they changed."""
    spec = importlib.util.spec_from_file_location("state_diagram", DOCS / "state_diagram.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (DOCS / "milter_states.dot").read_text(encoding="utf-8") == module.drawing()


@pytest.mark.parametrize("state", list(mp.State), ids=lambda state: state.name)
def test_the_picture_shows_every_state(state: mp.State) -> None:
    """Graphviz's versions draw differently, so it is not compared byte by byte."""
    assert f">{state.name}<" in (DOCS / "milter_states.svg").read_text(encoding="utf-8")
