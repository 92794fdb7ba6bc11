"""What the tools print, as their pages show it.

`PYTHONPATH=examples python -m tests.docs.tool_pages` writes it there.

Each command of a page is run, with the filter that the page has in Python behind its socket. Times
are not compared, and all but the first of many checks in a row that found nothing are left out.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import re
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from adapters._listen import listen
from adapters.services import messages, milter

import milterproto as mp
from milterproto import __main__ as tools
from milterproto.message import Message, MessageFilter
from tests.examples.adapter_hosts import THREADS
from tests.interop._tools import recorder

DOCS: Final = Path(__file__).parents[2] / "docs"
PICTURE: Final = DOCS / "milter_session.svg"
PAGES: Final = ("tool_send.md", "tool_record.md", "tool_check.md")

MAIL: Final = (
    b"From: Ann <ann@example.org>\nTo: Bob <bob@example.test>\nSubject: Lunch?\n"
    b"Date: Tue, 24 Nov 2026 04:00:00 +0000\n\nAt noon.\n"
)
LOTTERY: Final = b"From: joe@example.org\nSubject: You have won\n\nthe lottery!\n"

_COMMAND: Final = "$ python -m milterproto "
_BLOCK: Final = re.compile(r"(?<=^```console\n).*?(?=^```$)", re.DOTALL | re.MULTILINE)
_PYTHON: Final = re.compile(r"(?<=^```python\n).*?(?=^```$)", re.DOTALL | re.MULTILINE)
_SECONDS: Final = re.compile(r"(?m)^(\d+) +\d+\.\d{4} ([<>] )")


def without_times(text: str) -> str:
    """The same, whenever it was run."""
    return _SECONDS.sub(r"\1 - \2", text)


def written(name: str, directory: Path) -> tuple[str, str]:
    """A page with what its commands print now, and the picture that one of them makes, or none."""
    page = (DOCS / name).read_text(encoding="utf-8")
    pictures: list[str] = []
    with _filters(name, directory):

        def run(block: re.Match[str]) -> str:
            commands = [line for line in block[0].splitlines() if line.startswith("$ ")]
            return "".join(f"{line}\n{_output(line, directory, pictures)}" for line in commands)

        return _BLOCK.sub(run, page), "".join(pictures)


def _output(line: str, directory: Path, pictures: list[str]) -> str:
    if not line.startswith(_COMMAND):
        return ""
    command, _, file = line.removeprefix(_COMMAND).partition(" > ")
    words = shlex.split(command.replace("/run/", f"{directory}/"))
    if words[0] == "record":
        _record(directory)
        return ""
    with contextlib.chdir(directory), contextlib.redirect_stdout(io.StringIO()) as out:
        tools.main(words)
    if file:
        pictures.append(out.getvalue())
        return ""
    lines = (line.rstrip() for line in out.getvalue().splitlines())
    return "".join(f"{line}\n" for line in _shortened(lines))


def _shortened(lines: Iterator[str]) -> Iterator[str]:
    for quiet, group in itertools.groupby(lines, lambda line: line.startswith("ok ")):
        if quiet:
            yield next(group)
            if any(True for _ in group):
                yield "..."
        else:
            yield from group


def _record(directory: Path) -> None:
    """As the page says, but that this program is the MTA."""
    front = f"unix:{directory / 'front'}"
    file = directory / "session.jsonl"
    send = (
        f"send --to {front} {directory / 'message.eml'} --from ann@example.org "
        "--rcpt bob@example.test --rcpt nobody@example.test"
    )
    recording = recorder(front, f"unix:{directory / 'filter.sock'}", file)
    with recording, contextlib.redirect_stdout(io.StringIO()):
        assert tools.main(send.split()) == 0


def _python(name: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "__docs__"}
    page = (DOCS / name).read_text(encoding="utf-8")
    for block in _PYTHON.findall(page):
        exec(compile(block, name, "exec"), namespace)
    return namespace


@contextlib.contextmanager
def _filters(name: str, directory: Path) -> Iterator[None]:
    (directory / "message.eml").write_bytes(MAIL)
    (directory / "lottery.eml").write_bytes(LOTTERY)
    if name == "tool_check.md":
        services = {"filter": milter(_python(name)["session"], mp.Wants())}
    else:
        shown = _python("tool_send.md")

        def changed(message: Message) -> None:
            message.headers.insert(0, "X-Client", message.client.address)

        services = {
            "filter": messages(shown["tested"]),
            "changed": messages(MessageFilter(changed, on_recipient=shown["know"])),
        }
    with contextlib.ExitStack() as stack:
        for path, service in services.items():
            listener = listen(f"unix:{directory / path}.sock")
            stack.enter_context(THREADS.serve(service, None, listener))
        yield


def main() -> None:
    """Write all."""
    for name in PAGES:
        with tempfile.TemporaryDirectory(prefix="mailwire-") as directory:
            page, picture = written(name, Path(directory))
        (DOCS / name).write_text(page, encoding="utf-8")
        if picture:
            PICTURE.write_text(picture, encoding="utf-8")
        print(os.path.relpath(DOCS / name))


if __name__ == "__main__":
    main()
