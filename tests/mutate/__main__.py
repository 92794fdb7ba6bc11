"""Break the codecs on purpose: ``python -m tests.mutate [MODULE...]``, such as tcptable/_wire.py.

mutmut makes the mutants of each module, and the module's own tests, with one seed, have to notice.
Those that survive are shown, but for mutants of a text that only a human reads, which are counted,
and for those that survivors.txt gives a reason for. The exit status is the number of the others.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent.parent
BUILD: Final = ROOT / "build" / "mutate"
REASONS: Final = Path(__file__).parent / "survivors.txt"

# All with functions that bytes or events go through; mutmut changes nothing outside of one.
MODULES: Final = {
    "tcptable": "_buffer _netstring _wire _connection socketmap",
    "milterproto": "_buffer _macros _negotiation _reply _state _wire _connection",
    "dovecotauth": "_buffer _fields _handshake _state _wire _client _server _connection "
    "_master_wire master",
    "nginxauth": "_address _answer _buffer _encode_request _escape _judge _reply _request _server "
    "_client _strict _xtext _xclient_values _xclient_wire _xclient_receiver _xclient_sender",
}

CONFIGURATION: Final = """
[tool.pytest]
minversion = "9.0"
strict = true
addopts = ["--import-mode=importlib", "-p", "no:cacheprovider", "--hypothesis-profile=ci"]
filterwarnings = ["error"]
markers = ["interop: talks to a real mail server or library on this machine"]
[tool.mutmut]
source_paths = ["src/"]
only_mutate = ["src/{module}"]
also_copy = ["tests", "docs"]
pytest_add_cli_args_test_selection = ["{tests}"]
"""

# Its command shows one, and takes seconds to begin.
_SHOW: Final = """
import sys
from mutmut.__main__ import show
for name in sys.argv[1:]:
    show.callback(name)
"""


def survivors(module: str) -> tuple[int, list[tuple[str, str]]]:
    """How many mutants were made of a module, and those that its tests did not notice."""
    place = BUILD / module.replace("/", ".").removesuffix(".py")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    package, _, file = module.partition("/")
    for name in ("src", "docs"):
        shutil.copytree(ROOT / name, place / name)
    (place / "tests").mkdir()
    shutil.copy(ROOT / "tests" / "__init__.py", place / "tests")
    shutil.copy(Path(__file__).parent / "anew.py", place / "tests" / "conftest.py")
    for name in (package, "vectors"):
        shutil.copytree(ROOT / "tests" / name, place / "tests" / name)
    tests = f"tests/{package}/test_{file.lstrip('_')}"
    (place / "pyproject.toml").write_text(CONFIGURATION.format(module=module, tests=tests))
    log = _mutmut(place, "run", "--max-children", os.environ.get("CHILDREN", "2"))
    counted = re.findall(r"(\d+)/(\d+) ", log)
    if not counted or counted[-1][0] != counted[-1][1]:
        raise SystemExit(f"{module}: mutmut has not come to its end\n{log[-3000:]}")
    named = re.findall(r"(\S+): (?:survived|no tests)", _mutmut(place, "results"))
    shown = re.split(r"^# .*$", _run(place, "-c", _SHOW, *named), flags=re.MULTILINE)[1:]
    if len(shown) != len(named):
        raise SystemExit(f"{module}: mutmut does not show what has survived")
    return int(counted[-1][1]), list(map(_change, shown))


def _mutmut(place: Path, *arguments: str) -> str:
    return _run(place, "-m", "mutmut", *arguments)


def _run(place: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=place,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return done.stdout.decode(errors="replace")


def _change(shown: str) -> tuple[str, str]:
    """The line before and the line after; mutmut changes one."""
    before = re.findall(r"^-(?!--)(.*)$", shown, re.MULTILINE)
    after = re.findall(r"^\+(?!\+\+)(.*)$", shown, re.MULTILINE)
    return " ".join(map(str.strip, before)), " ".join(map(str.strip, after))


_LITERAL: Final = re.compile(r"""\b([a-z]*)"((?:[^"\\]|\\.)*)"|(?<![\w"])"((?:[^"\\]|\\.)*)\"""")
_SAYS: Final = re.compile(r"Error\(|_fail\(|_malformed\(|code_number\(")


def _without_texts(line: str) -> str:
    """Each str is replaced, and no bytes; in what says something, None stands for one, too."""
    line = _LITERAL.sub(lambda found: found[0] if "b" in (found[1] or "") else "TEXT", line)
    return line.replace("None", "TEXT") if _SAYS.search(line) else line


def is_text(before: str, after: str) -> bool:
    """Whether only a text has changed: a str, which no bytes on the wire are made of."""
    return _without_texts(before) == _without_texts(after)


def reasons() -> dict[str, str]:
    """Why a mutant may survive, by its module and its new line."""
    found: dict[str, str] = {}
    reason = ""
    for line in REASONS.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            reason = line.removeprefix("#").strip()
        elif line.strip():
            found[line.strip()] = reason
    return found


def main() -> int:
    """How many mutants have survived without a reason."""
    every = [f"{package}/{name}.py" for package, names in MODULES.items() for name in names.split()]
    known, bad = reasons(), 0
    for module in sys.argv[1:] or every:
        made, alive = survivors(module)
        texts = [pair for pair in alive if is_text(*pair)]
        others = [pair for pair in alive if pair not in texts]
        open_ = [pair for pair in others if f"{module}: {pair[1]}" not in known]
        share = 100 * (made - len(alive)) / max(made - len(texts), 1)
        print(
            f"{module}: {made} mutants, {made - len(alive)} killed; {len(texts)} are of texts, "
            f"of the rest {share:.1f} % are killed; {len(others) - len(open_)} have a reason",
            flush=True,
        )
        for before, after in open_:
            print(f"  - {before}\n  + {after}", flush=True)
        bad += len(open_)
    return bad


if __name__ == "__main__":
    sys.exit(main())
