"""The manual's page on the SMTP-Milter, followed with a real spampd; only ports are others."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path

from ._postfix import PATIENCE, free_port
from ._postfix_bed import Bed
from ._program import EXAMPLES
from ._smtp_milter import smtp_milter
from ._spampd import Spampd

PAGE = EXAMPLES.parent / "docs/smtp_milter.md"


def test_the_page(bed: Bed, require_program: Callable[[str, str], Path]) -> None:
    """Its configuration, what --check says, and the mail that is sent in the end."""
    program = require_program("spampd", "spampd")
    require_program("spamassassin", "spamassassin")
    swaks = require_program("swaks", "swaks")
    text = PAGE.read_text()
    (block,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    (said,) = re.findall(r"```text\n(ok: .*?)```", text, re.DOTALL)
    (sending,) = re.findall(r"(?m)^\$ (swaks .*)$", text)
    root = Path(tempfile.mkdtemp(prefix="mailwire-"))
    root.chmod(0o755)
    sink = free_port()
    try:
        # Debian's spampd has three children, tags all mail, and asks nobody else.
        with Spampd(program, root, sink, rules="") as spampd:
            for theirs, ours in (("10025", spampd.port), ("10026", sink)):
                block, said = block.replace(theirs, str(ours)), said.replace(theirs, str(ours))
            settings = tomllib.loads(block)
            assert settings["listen"] == ["inet:127.0.0.1:8895"]
            (root / "page.toml").write_text(block)
            checking = EXAMPLES / "smtp_milter/daemon.py", "--config", root / "page.toml", "--check"
            done = subprocess.run(
                [sys.executable, *checking],
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=True,
            )
            assert done.stdout == said
            settings.update(listen=[f"unix:{bed.other}"], mode="666")
            with smtp_milter(root, settings) as daemon:
                command = [str(swaks), *shlex.split(sending)[1:]]
                command += ["--port", str(bed.postfix.ports["other"])]
                subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)
                delivery = bed.delivery()
    finally:
        shutil.rmtree(root, ignore_errors=True)
    assert delivery.values(b"X-Spam-Flag") == [b" YES"]
    assert b"Content-Type: message/rfc822" in delivery.body
    assert b"Milter-Mark" not in delivery.content
    assert re.search(r": edited, .*ReplaceBody", "\n".join(daemon.log))
