"""What the driver makes of libFuzzer's end; no fuzzer is needed."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from . import __main__ as driver

STATISTICS = b"stat::number_of_executed_units: 25\n"
# What our greeting to a Dovecot client ends with, and libFuzzer's log, too.
GREETED = b"AssertionError: byte by byte:\n[b'SPID\\t1\\nDONE\\n']\n"


@pytest.mark.parametrize(
    ("status", "output", "good"),
    [
        (0, b"#25\tDONE\nDone 25 runs in 1 second(s)\n" + STATISTICS, True),
        (77, GREETED + STATISTICS, False),
        (70, b"ALARM: working on the last Unit for 10 seconds\n" + STATISTICS, False),
        (0, b"", False),
    ],
    ids=["the end", "an assertion that shows DONE", "too slow", "nothing was run"],
)
def test_good(
    status: int, output: bytes, good: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exit status tells, and no word in what is printed."""

    def run(*_: Any, **__: Any) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess((), status, output)

    monkeypatch.setattr(driver, "BUILD", tmp_path)
    monkeypatch.setattr(subprocess, "run", run)
    assert driver.fuzz("table_server", 1, keep=False) is good
