"""Draws docs/milter_states.dot, and the SVG beside it if Graphviz is there, from the tables.

Run it as `python docs/state_diagram.py` after a change of the tables; a test holds the drawing
to them.
"""

from __future__ import annotations

import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

from milterproto._events import COMMAND_CODES
from milterproto._state import COMMANDS, TRANSACTION, VERDICTS, State

DOT = Path(__file__).with_name("milter_states.dot")
# What may come in nearly every state would hide the rest; the caption says it in words.
ANYTIME = frozenset("HMAQKU")
BLUE = "#3b6fb6"


def drawing() -> str:
    """The graph: commands as black arrows, verdicts that change the state as blue ones."""
    lines = [
        "// Made by state_diagram.py from the tables in milterproto. Don't edit.",
        "digraph milter {",
        "  rankdir=TB; nodesep=0.35; ranksep=0.4; bgcolor=white;",
        '  node [shape=box, style="rounded,filled", fillcolor=white, fontname="Helvetica"];',
        '  edge [fontname="Helvetica", fontsize=11];',
    ]
    for state in State:
        inside = state in TRANSACTION
        fill = ' [fillcolor="#eef4ff"]' if inside else ""
        lines.append(f"  {state.name}{fill};")
    edges: dict[tuple[str, str], list[str]] = defaultdict(list)
    for state, row in COMMANDS.items():
        for command, after in row.items():
            code = COMMAND_CODES[command].decode()
            if code not in ANYTIME or (state, code) == (State.CONNECTED, "M"):
                edges[state.name, after.name].append(code)
    lines += [
        f'  {source} -> {target} [label="{" ".join(codes)}"];'
        for (source, target), codes in edges.items()
    ]
    # The state that each command leaves behind, and where a verdict takes it from there.
    behind = {command: after for row in COMMANDS.values() for command, after in row.items()}
    moves: dict[tuple[str, str], list[str]] = defaultdict(list)
    for command, verdicts in VERDICTS.items():
        code = COMMAND_CODES[command].decode()
        for verdict, to in verdicts.items():
            if to is not None and to is not State.RELEASED and code != "U":
                moves[behind[command].name, to.name].append(verdict.__name__)
    moves["CONNECTED", "RELEASED"] = ["verdict on C or H"]
    moves["EOM", "REPLACING"] = ["ReplaceBody"]
    moves["REPLACING", "REPLACED"] = ["anything else"]
    lines += [
        f'  {source} -> {target} [label="{shortened(names)}", color="{BLUE}", fontcolor="{BLUE}"];'
        for (source, target), names in moves.items()
    ]
    return "\n".join([*lines, "}"]) + "\n"


def shortened(names: list[str]) -> str:
    """Verdicts in few words."""
    if len(names) == 1:
        return names[0]
    if "Continue" in names:
        return "any verdict"
    return "refused" if "Accept" not in names else "decided"


def main() -> None:
    """Write the files."""
    DOT.write_text(drawing())
    dot = shutil.which("dot")
    if dot is None:
        print("no Graphviz here: only the .dot file is new")  # noqa: T201
        return
    svg = DOT.with_suffix(".svg")
    subprocess.run([dot, "-Tsvg", "-o", svg, DOT], check=True)  # noqa: S603


if __name__ == "__main__":
    main()
