"""The mail front as it is shown, and with one program stopped: what its clients are told."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mailfront._demonstration import MAILS, follow
from mailfront._front import MailFront

from ._postfix import PATIENCE
from ._stack import ANN, BOB, KINDS, Load, Mail, running_front

ROOT = Path(__file__).parents[2]
UNCOUNTED = 1_000_000  # a number for mails whose ways nobody looks at
# Those of the table in docs/mail_front_down.md.
COLUMNS = (
    *("paid", "paid, logged in by nginx", "straight"),
    *("for paid", "for trial", "for nobody"),
)


@pytest.fixture(scope="module")
def front(require_program: Callable[[str, str], Path]) -> Iterator[MailFront]:
    with running_front(require_program) as running:
        yield running


def test_the_five_mails_of_make_stack(front: MailFront) -> None:
    """Each goes the way that its line says."""
    outcomes = [follow(front, mail) for mail in MAILS]
    assert [outcome.answer[:3] for outcome in outcomes] == ["250", "250", "550", "535", "250"]
    assert [outcome.way for outcome in outcomes[:2]] == [
        f"nginx -> postfix {plan} -> the world" for plan in ("paid", "trial")
    ]
    for outcome, (login, _) in zip(outcomes, (ANN, BOB), strict=False):
        assert f"login={login}" in outcome.changes
    assert outcomes[4].way == "nginx -> postfix trial"
    assert "held by check_body" in outcomes[4].changes


def rows_of_the_page() -> list[list[str]]:
    """What docs/mail_front_down.md says: the program, and what each kind of mail is told."""
    lines = (ROOT / "docs" / "mail_front_down.md").read_text().splitlines()
    rows = [re.findall(r"[^|]+", line) for line in lines if line.startswith("| `")]
    return [[cell.strip().strip("`") for cell in row] for row in rows]


@pytest.mark.parametrize(("name", "cells"), [(name, cells) for name, *cells in rows_of_the_page()])
def test_what_a_client_is_told_while_a_program_is_stopped(
    front: MailFront, name: str, cells: list[str]
) -> None:
    """Seen anew in each run; the page that says so is read here."""
    load = Load(front)
    process = front.processes[name]
    process.stop()
    try:
        for kind, cell in zip(COLUMNS, cells, strict=True):
            wanted = [0 if word == "closed" else int(word) for word in cell.split(", ")]
            for client in range(2):
                assert load.attempt(Mail(UNCOUNTED, kind, client)) in wanted, kind
    finally:
        process.start()
    wait_until_healthy(load)


def wait_until_healthy(load: Load) -> None:
    """An smtpd that has failed is started anew after some time, an answer kept for 30 s."""
    deadline = time.monotonic() + 2 * PATIENCE
    for kind in COLUMNS:
        while (code := load.attempt(Mail(UNCOUNTED, kind, 0))) != KINDS[kind].code:
            assert time.monotonic() < deadline, (kind, code)
            time.sleep(0.2)
