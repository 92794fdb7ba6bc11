"""The benchmark of growth: each of its runs does what it says, for a few."""

from __future__ import annotations

import pytest

from tests.benchmarks import _page
from tests.benchmarks.bench_growth import GROWTHS, Growth, peak, seconds


@pytest.mark.parametrize("growth", GROWTHS, ids=lambda growth: growth.name)
def test_a_small_run(growth: Growth) -> None:
    """They assert by themselves that the session has come to its end."""
    assert seconds(growth.run, growth.sizes[0]) > 0
    assert peak(growth.run, growth.sizes[0]) > 0


@pytest.mark.parametrize(
    "name",
    ["milter", "end-to-end", "end-to-end-ratios", "growth", "dovecotauth", "nginxauth", "tcptable"],
)
def test_the_page_has_a_place_for_each_table(name: str) -> None:
    """And one only, so that `make bench ARGS=--docs` can write it."""
    page = _page.PAGE.read_text(encoding="utf-8")
    assert page.count(f"% begin {name}\n") == page.count(f"% end {name}\n") == 1
