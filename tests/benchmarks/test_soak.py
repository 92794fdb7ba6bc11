"""The soak for a few seconds with a few peers; and that it sees all that it is there to see."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from . import _soak_report, long_soak
from .long_soak import ADAPTERS, KINDS, soak


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_soak(adapter: str) -> None:
    """Every kind of peer was there, for every protocol, and nothing was wrong."""
    report = asyncio.run(soak(adapter, seconds=2, connections=4 * len(KINDS)))
    assert not report.faults, str(report)
    assert set(report.tally.sessions) == set(KINDS)
    assert all(report.tally.latencies.values())
    assert f"{report.tally.answers:,} answers checked" in str(report)


SPOILT = """
import asyncio, logging, os, sys, threading
from adapters import on_asyncio
from tests.benchmarks import _soak_daemon as daemon

kept = []
left = on_asyncio.Server.left

def leak(server, session):
    left(server, session)
    thread = threading.Thread(target=threading.Event().wait, daemon=True)
    thread.start()
    task = asyncio.ensure_future(asyncio.sleep(3600))
    kept.append((session, thread, task, os.dup(0), b"x" * 1_000_000))
    logging.error("a bug")

look_up = daemon.look_up

def spoil(get):
    return daemon.tt.NotFound(b"whatever") if len(kept) % 3 == 0 else look_up(get)

on_asyncio.Server.left = leak
daemon.look_up = spoil
daemon.main(*sys.argv[1:])
"""


def test_what_it_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that keeps all that it has, and tells one peer in three something wrong."""
    monkeypatch.setattr(long_soak, "SETTLE", 0)
    monkeypatch.setattr(_soak_report, "MINUTE", 0)
    monkeypatch.setattr(_soak_report, "BLOCKS", (0.1, 0))
    program = tmp_path / "spoilt.py"
    program.write_text(SPOILT)
    report = asyncio.run(soak("asyncio", 2, 4 * len(KINDS), [str(program)]))
    for what in ("tasks", "threads", "descriptors", "dialogues", "grown", "blocks before", "a bug"):
        assert any(what in one for one in report.faults), (what, report.faults)
    assert any("good tcp_table: Found(" in one for one in report.faults), report.faults
