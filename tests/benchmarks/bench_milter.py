"""The milter codec beside its peers, in one run: the same session, the same bytes.

    python -m tests.benchmarks.bench_milter [--docs]

With --docs the table and the chart go into the manual as well. Nothing is asserted: the machine
decides the figures, and only the ratios mean something elsewhere.
"""

from __future__ import annotations

import sys

from tests.benchmarks import _page
from tests.benchmarks._compare import Side, compare, markdown, show

SIDES = (
    Side("mailwire", "tests.benchmarks.milter_ours"),
    Side("floor", "tests.benchmarks.milter_floor", remark="frames packets, and checks nothing"),
    Side(
        "kilter.protocol",
        "tests.benchmarks.milter_kilter",
        "kilter.protocol",
        "checks that a reply suits its event, but not the order of events, and sets no limit to a "
        "packet; its MTA's side only packs and unpacks",
    ),
    Side(
        "purepythonmilter",
        "tests.benchmarks.milter_purepythonmilter",
        "purepythonmilter",
        "checks neither the order of events nor the replies; has no MTA's side",
    ),
    Side(
        "python-libmilter",
        "tests.benchmarks.milter_python_libmilter",
        "python-libmilter",
        "checks neither the order of events nor the replies, and sets no limit; has no MTA's side",
    ),
    Side(
        "miltertest",
        "tests.benchmarks.milter_miltertest",
        "miltertest",
        "single messages to dicts and back: no state, no limit, and text that is not UTF-8 fails",
    ),
)


def main() -> None:
    """Measure, and print."""
    figures = compare(SIDES)
    show("milter codec, CPU time of a session", SIDES, figures)
    if "--docs" in sys.argv[1:]:
        _page.put("milter", markdown(figures))
        ratios = {
            task: {name: figure.median for name, figure in by_side.items()}
            for task, by_side in figures.items()
        }
        chart = _page.bars("Milter codec: time of a session, mailwire = 1", ratios)
        (_page.DOCS / "benchmarks_milter.svg").write_text(chart, encoding="utf-8")


if __name__ == "__main__":
    main()
