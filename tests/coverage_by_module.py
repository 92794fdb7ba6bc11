"""Tells whether each module is covered by its own test module alone.

Reads the .coverage file of a run with `pytest --cov --cov-context=test`. For `_buffer.py` of
package `milterproto` it counts only what ran while tests of `tests/milterproto/test_buffer.py`
ran, and what ran outside any test: the import. A package's total of 100 % hides a module that
only its users' tests walk through; this does not.

`__init__.py` is left out, for it only re-exports: importing it is all there is to cover.

Usage: python tests/coverage_by_module.py [package ...]
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import tempfile
from pathlib import Path

import coverage
from coverage.exceptions import NoDataError


def gaps_of(cov: coverage.Coverage, module: Path, test: str) -> str:
    """What of a module is not covered by a test module; empty if all is."""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory, "report.json")
        try:
            cov.json_report(
                morfs=[str(module)],
                contexts=["^$", rf"^{re.escape(test)}::"],
                outfile=str(report),
            )
        except NoDataError:
            return "not measured at all"
        (file,) = json.loads(report.read_text(encoding="utf-8"))["files"].values()
    lines = [str(line) for line in file["missing_lines"]]
    branches = [f"{start}->{end}" for start, end in file["missing_branches"]]
    # A branch from a line that never ran says nothing new.
    branches = [branch for branch in branches if branch.split("->")[0] not in lines]
    return ", ".join(lines + branches)


def main(packages: list[str]) -> int:
    """Check all modules of the packages; the number of those with gaps."""
    # Python looks for modules beside a script first, and tests/ has a folder of that name.
    sys.path = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).parent]
    cov = coverage.Coverage()
    cov.load()
    failures = 0
    for package in packages:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            print(f"{package}: no such package")
            return 1
        for module in sorted(Path(spec.origin).parent.rglob("*.py")):
            if module.name == "__init__.py":
                continue
            test = f"tests/{package}/test_{module.stem.strip('_')}.py"
            gaps = gaps_of(cov, module, test) if Path(test).exists() else "no such test module"
            print(f"{package}/{module.name} by {test}: {gaps or '100 %'}")
            failures += bool(gaps)
    return failures


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:] or ["milterproto"]), 1))
