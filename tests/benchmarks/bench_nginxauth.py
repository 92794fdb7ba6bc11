"""What nginxauth's typed layer adds to bare h11, in one run.

python -m tests.benchmarks.bench_nginxauth [--docs]
"""

from __future__ import annotations

import sys

from tests.benchmarks import _page
from tests.benchmarks._compare import Side, compare, markdown, show

SIDES = (
    Side("mailwire", "tests.benchmarks.nginx_ours"),
    Side(
        "h11",
        "tests.benchmarks.nginx_h11",
        remark="HTTP alone: no limits of nginx's, no values decoded, the answer's headers constant",
    ),
)


def main() -> None:
    """Measure, and print."""
    figures = compare(SIDES)
    show("nginxauth, CPU time", SIDES, figures)
    if "--docs" in sys.argv[1:]:
        _page.put("nginxauth", markdown(figures))


if __name__ == "__main__":
    main()
