"""Every code block of the documentation does what it says.

The Python blocks of one page run from top to bottom in one namespace, as a reader would type
them. A block with `>>>` is a doctest. A block that calls `asyncio.run(`, or begins with the name
of a file under examples/ in a comment, is a whole program: it may not differ from that file.

The blocks are found with a CommonMark parser and not with a test plug-in that looks for the
languages it knows, so that a block in any other language is a failure and not passed over.
"""

from __future__ import annotations

import ast
import doctest
import importlib.util
import json
import re
import shlex
import tomllib
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAM = "asyncio.run("
# Sphinx or a browser makes something of these, or nobody does; tests/interop/test_postgresql.py
# runs the SQL.
NOT_RUN = {"sql", "text", "{toctree}"}
COMMANDS = {
    *("apt-get", "cd", "cp", "git", "make", "pip", "postconf", "postfix", "postmap"),
    *("python", "swaks", "systemctl"),
}


@attrs.frozen
class Block:
    """A fenced block: its page, the line that its code begins on, language and code."""

    page: Path
    line: int
    language: str
    code: str

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """All code blocks of a page; one that is only indented has the language ''."""
    blocks = []
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type in ("fence", "code_block") and token.map is not None:
            first = token.map[0] + (2 if token.type == "fence" else 1)
            blocks.append(Block(page, first, token.info.strip(), token.content))
    return blocks


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def is_program(block: Block) -> bool:
    return block.language == "python" and (
        PROGRAM in block.code or block.code.startswith("# examples/")
    )


def run(block: Block, namespace: dict[str, object]) -> None:
    """Execute a python block; errors and failed assertions point into the page."""
    if re.search(r"^\s*>>> ", block.code, re.MULTILINE):
        test = doctest.DocTestParser().get_doctest(
            block.code, namespace, block.name, str(block.page), block.line - 1
        )
        report: list[str] = []
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
        runner.run(test, out=report.append, clear_globs=False)
        assert not runner.summarize(verbose=False).failed, "".join(report)
        namespace.update(test.globs)
    else:
        tree = ast.parse(block.code, str(block.page))
        ast.increment_lineno(tree, block.line - 1)
        exec(compile(tree, str(block.page), "exec"), namespace)


def check_program(block: Block) -> None:
    compile(block.code, block.name, "exec")
    first, _, rest = block.code.partition("\n")
    named = re.fullmatch(r"# (examples/\S+\.py)", first)
    assert named, f"{block.name}: a whole program must begin with '# examples/<file>.py'"
    file = (ROOT / named[1]).read_text(encoding="utf-8")
    # The file may carry that line as well, or not.
    assert file == (block.code if file.startswith(first) else rest), (
        f"{block.name} differs from {named[1]}"
    )


def check_console(block: Block) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    typed = [line[2:] for line in block.code.splitlines() if line.startswith("$ ")]
    assert typed, f"{block.name}: a console block needs a line that begins with '$ '"
    for line in typed:
        for command in re.split(r"&&|\|", line):
            words = shlex.split(command, comments=True)
            if words[0] == "sudo":
                del words[0]
            words[0] = words[0].removeprefix(".venv/bin/")
            assert words[0] in COMMANDS, f"{block.name}: what is {words[0]!r}?"
            if words[0] == "make":
                goals = {word for word in words[1:] if "=" not in word and word[0] != "-"}
                assert goals <= targets, f"{block.name}: no make target {goals - targets}"
            if words[0] == "python":
                if words[1] == "-m":
                    assert importlib.util.find_spec(words[2]), f"{block.name}: no {words[2]}"
                else:
                    assert (ROOT / words[1]).is_file(), f"{block.name}: no file {words[1]}"


CHECKS: dict[str, Callable[[Block], object]] = {
    "console": check_console,
    "json": lambda block: json.loads(block.code),
    "toml": lambda block: tomllib.loads(block.code),
}


def by_name(item: Block | Path) -> str:
    return item.name if isinstance(item, Block) else str(item.relative_to(ROOT))


@pytest.mark.parametrize("block", BLOCKS, ids=by_name)
def test_every_block_is_in_a_language_that_is_checked(block: Block) -> None:
    """No block escapes these tests by being in some other language, or in none."""
    assert block.language in {"python", *CHECKS, *NOT_RUN}


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_the_python_of_a_page_runs(page: Path) -> None:
    """A reader who types a page's Python from top to bottom gets what the page shows."""
    namespace: dict[str, object] = {"__name__": "__docs__"}
    for block in blocks_of(page):
        if block.language == "python" and not is_program(block):
            run(block, namespace)


@pytest.mark.parametrize("block", [b for b in BLOCKS if is_program(b)], ids=by_name)
def test_a_program_is_its_example_file(block: Block) -> None:
    """What the documentation shows as a program is the file that the other tests run."""
    check_program(block)


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language in CHECKS], ids=by_name)
def test_a_block_of_another_language_holds_good(block: Block) -> None:
    """Commands exist, TOML and JSON parse."""
    CHECKS[block.language](block)


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", ">>> 1 + 1\n3\n"),
        ("python", "assert 1 + 1 == 3\n"),
        ("console", "$ make no-such-target\n"),
        ("console", "$ python examples/no_such_file.py\n"),
        ("console", "$ frobnicate\n"),
        ("console", "make test\n"),
    ],
)
def test_a_wrong_block_is_seen(language: str, code: str) -> None:
    """The checks above can fail."""
    block = Block(ROOT / "README.md", 1, language, code)
    with pytest.raises(AssertionError):
        run(block, {}) if language == "python" else check_console(block)


def test_a_program_that_has_drifted_is_seen() -> None:
    """A program that is not its example file, or names none, fails."""
    body = "import asyncio\nasyncio.run(main())\n"
    with pytest.raises(AssertionError, match="must begin with"):
        check_program(Block(ROOT / "README.md", 1, "python", body))
    with pytest.raises(AssertionError, match="differs from"):
        check_program(Block(ROOT / "README.md", 1, "python", "# examples/demo.py\n" + body))


def test_blocks_are_found_with_their_lines(tmp_path: Path) -> None:
    """Fences are found in lists too, and an indented block counts as one without language."""
    page = tmp_path / "page.md"
    page.write_text("text\n\n```python\na = 1\n```\n\n- x\n\n  ```text\n  b\n  ```\n\nx\n\n    c\n")
    assert [(block.line, block.language, block.code) for block in blocks_of(page)] == [
        (4, "python", "a = 1\n"),
        (10, "text", "b\n"),
        (15, "", "c\n"),
    ]
