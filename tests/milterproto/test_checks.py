"""The list of checks; what they find is in `test_plays`."""

from __future__ import annotations

import re

from milterproto._shell.checks import CHECKS


def test_names_are_told_apart() -> None:
    """They are for --skip."""
    names = [check.name for check in CHECKS]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", name) for name in names)


def test_each_says_what_to_do() -> None:
    """As part of a sentence, and in one line of the manual's table."""
    for check in CHECKS:
        for text in (check.what, check.advice):
            assert text
            assert not text.endswith(".")
            assert "|" not in text
