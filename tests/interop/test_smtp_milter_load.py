"""Under load, with the gateway killed: nothing is lost, doubled, or delivered unscanned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ._postfix_bed import Bed
from ._smtp_load import load


def test_a_hundred_mails(bed: Bed, require_program: Callable[[str, str], Path]) -> None:
    """From 20 clients; spampd is killed and started again twice. `make long` sends 500."""
    program = require_program("spampd", "spampd")
    require_program("spamassassin", "spamassassin")
    outcome = load(bed, program, mails=100)
    assert outcome.refused == []
    assert outcome.delivered == dict.fromkeys(range(100), 1)
    assert outcome.unscanned == 0
    assert outcome.tempfailed  # or there was no time without a gateway
