"""The daemon in front of a gateway, as the program that it is."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ._postfix_bed import Bed
from ._program import Program

READY = "listening on"


def toml(settings: Mapping[str, Any]) -> str:
    """A configuration file: tables last, as TOML wants it."""
    lines, tables = [], []
    for name, value in settings.items():
        match value:
            case dict():
                tables.append(f"[{name}]\n{toml(value)}")
            case [dict(), *_]:
                tables += [f"[[{name}]]\n{toml(one)}" for one in value]
            case _:
                # JSON's strings, numbers, lists and booleans are TOML, too.
                lines.append(f"{name} = {json.dumps(value)}")
    return "\n".join([*lines, *tables]) + "\n"


def configuration(bed: Bed, *ports: int, sink: int = 0, **settings: Any) -> dict[str, Any]:
    """For gateways on these ports of loopback; ``sink`` is the sink's port, if there is one."""
    gateway = {"failures": 1000, **settings.pop("gateway", {})}
    made: dict[str, Any] = {
        "listen": [f"unix:{bed.other}"],
        "mode": "666",
        "name": "milter.test",
        "timeouts": {"connect": 2.0, "command": 5.0, "before_end": 8.0, "end": 30.0},
        "gateway": [{"address": f"inet:127.0.0.1:{port}", **gateway} for port in ports],
    }
    if sink:
        made["sink"] = {"listen": f"inet:127.0.0.1:{sink}", **settings.pop("sink_settings", {})}
    timeouts = settings.pop("timeouts", {})
    made["timeouts"].update(timeouts)
    return {**made, **settings}


@contextlib.contextmanager
def smtp_milter(
    folder: Path, settings: Mapping[str, Any], *, show: bool = True
) -> Iterator[Program]:
    """The daemon, running. ``show``: print its log, which pytest shows with a test that fails."""
    path = folder / "smtp_milter.toml"
    path.write_text(toml(settings))
    program = Program("smtp_milter/daemon.py", "--config", path, ready=READY)
    try:
        with program:
            yield program
    finally:
        if show:
            print("\n".join(program.log))
