"""Dovecot's authentication protocol beside PyPI's packages for it, in one run.

    python -m tests.benchmarks.bench_dovecotauth [--docs]

PyPI's `dovecot` 0.5 can't take part: it installs, but is Python 2 throughout (it sends str, and
encodes with `.encode("base64")`).
"""

from __future__ import annotations

import sys

from tests.benchmarks import _page
from tests.benchmarks._compare import Side, compare, markdown, show

SIDES = (
    Side("mailwire", "tests.benchmarks.dovecot_ours"),
    Side("floor", "tests.benchmarks.dovecot_floor", remark="makes our events, and checks nothing"),
    Side(
        "dovecotauth (PyPI)",
        "tests.benchmarks.dovecot_dovecotauth",
        "dovecotauth",
        "PLAIN only, one request at a time, escapes nothing, checks no id and no length; its "
        "server is a demonstration",
    ),
)


def main() -> None:
    """Measure, and print."""
    figures = compare(SIDES)
    show("dovecotauth, CPU time", SIDES, figures)
    if "--docs" in sys.argv[1:]:
        _page.put("dovecotauth", markdown(figures))


if __name__ == "__main__":
    main()
