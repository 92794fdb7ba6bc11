"""The site's own rules, its switches, and what an operator sees; behind a real Postfix."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from mailfront.userdb import UserDB, demo_rows
from smtp_milter._allow import AllowedSender

from ._postfix import PATIENCE, free_port
from ._postfix_bed import Bed
from ._program import EXAMPLES
from ._smtp_gateway import Script, ScriptedGateway
from ._smtp_milter import configuration, smtp_milter, toml

CONTENT = (
    b"From: a@example.org\r\nDate: Tue, 24 Nov 2026 04:00:00 +0000\r\n"
    b"Message-Id: <1@example.org>\r\nSubject: hi\r\n\r\nbody\r\n"
)
ANN, BOB = b"<ann@example.test>", b"<bob@example.test>"


def database(folder: Path) -> str:
    """Users; Ann takes all that comes from example.org, and all that Carol sends."""

    async def fill(url: str) -> None:
        users = UserDB.connect(url)
        await users.create_tables()
        rows = (("ann@example.test", "@example.org"), ("bob@example.test", "carol@example.net"))
        await users.add([*demo_rows(), *(AllowedSender(*row) for row in rows)])
        await users.close()

    url = f"sqlite+aiosqlite:///{folder}/users.db"
    asyncio.run(fill(url))
    return url


def test_the_allow_list(bed: Bed, tmp_path: Path) -> None:
    """Who has listed a sender gets his mail, and others what the gateway leaves of it."""
    url = database(tmp_path)
    script = Script({b".": b"554 5.7.1 Spam"})
    with ScriptedGateway(script) as gateway:
        settings = configuration(bed, gateway.port, allow_list={"database": url})
        with smtp_milter(tmp_path, settings), bed.client("other") as client:
            # Together they can't have different verdicts: Bob's copy has to come again, alone.
            client.envelope(recipients=[b"<Ann+tag@Example.test>"])
            apart = client.command(b"RCPT TO:" + BOB)
            assert apart == b"452 4.5.3 Send this in a transaction of its own"
            client.must(b"354", b"DATA")
            assert client.content(CONTENT).startswith(b"250 ")
            assert bed.delivery().addresses == [b"<Ann+tag@Example.test>"]
            assert gateway.told == []
            assert client.message(CONTENT, recipients=[BOB]) == b"554 5.7.1 Spam"
            client.envelope(b"<Carol@Example.NET>", [BOB])
            client.must(b"452", b"RCPT TO:" + ANN)
            client.must(b"354", b"DATA")
            assert client.content(CONTENT).startswith(b"250 ")
            assert bed.delivery().addresses == [BOB]
            client.quit()
    assert len(gateway.contents) == 1


@pytest.mark.parametrize("verb", [b"CONNECT", b"MAIL"])
def test_a_listed_recipient_needs_no_gateway(bed: Bed, tmp_path: Path, verb: bytes) -> None:
    """Whatever it thinks of the client or the sender is for the others."""
    url = database(tmp_path)
    with ScriptedGateway(Script({verb: b"550 5.7.1 Not you"})) as gateway:
        settings = configuration(bed, gateway.port, allow_list={"database": url})
        with smtp_milter(tmp_path, settings), bed.client("other") as client:
            client.must(b"250", b"MAIL FROM:<a@example.org>")
            told = client.command(b"RCPT TO:" + BOB)
            assert told.startswith(b"451" if verb == b"CONNECT" else b"550 5.7.1 Not you")
            client.must(b"250", b"RCPT TO:" + ANN)
            client.must(b"354", b"DATA")
            assert client.content(CONTENT).startswith(b"250 ")
            client.quit()
        assert bed.delivery().addresses == [ANN]


def test_without_the_database(bed: Bed, tmp_path: Path) -> None:
    """Nobody can say who is listed: the client is to come again."""
    url = database(tmp_path)
    with ScriptedGateway() as gateway:
        settings = configuration(bed, gateway.port, allow_list={"database": url})
        with smtp_milter(tmp_path, settings), bed.client("other") as client:
            (tmp_path / "users.db").write_bytes(b"no database")
            client.must(b"250", b"MAIL FROM:<a@example.org>")
            told = client.command(b"RCPT TO:" + ANN)
            assert told == b"451 4.3.0 The user database can't be asked"
            client.quit()


def test_metrics_and_log(bed: Bed, tmp_path: Path) -> None:
    """Counted by stage and fate; the log has queue ids, and nothing of the mail."""
    port, sink = free_port(), free_port()
    script = Script({b".": [b"554 5.7.1 Spam"]}, sink=sink)
    script.change = lambda content: content.replace(b"Subject: ", b"Subject: [x] ")
    with ScriptedGateway(script) as gateway:
        settings = configuration(bed, gateway.port, sink=sink, metrics=f"127.0.0.1:{port}")
        with smtp_milter(tmp_path, settings) as program, bed.client("other") as client:
            content = CONTENT.replace(b"Subject: hi", b"Subject: confidential")
            assert client.message(content) == b"554 5.7.1 Spam"
            assert client.message(content).startswith(b"250 ")
            client.quit()
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", None, PATIENCE) as page:
                text = page.read().decode()
    queue_id = bed.delivery().values(b"Received")[0].partition(b" id ")[2].split(b";")[0].decode()
    for line in (
        'smtp_milter_verdicts_total{code="554",stage="content"} 1.0',
        'smtp_milter_messages_total{fate="edited"} 1.0',
        'smtp_milter_edits_total{kind="ChangeHeader"} 1.0',
        'smtp_milter_sink_messages_total{what="taken"} 1.0',
        f'smtp_milter_gateway_seconds_count{{gateway="inet:127.0.0.1:{gateway.port}"}} 2.0',
    ):
        assert line in text
    log = "\n".join(program.log)
    assert f"{queue_id.split()[0]}: edited, ChangeHeader" in log
    assert "confidential" not in log


def check(folder: Path, settings: Mapping[str, Any]) -> tuple[int, str]:
    """What --check says, and its exit status."""
    path = folder / "check.toml"
    path.write_text(toml(settings))
    done = subprocess.run(
        [sys.executable, EXAMPLES / "smtp_milter/daemon.py", "--config", path, "--check"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_check(bed: Bed, tmp_path: Path) -> None:
    """Each thing that is in order, and each that is not."""
    url = database(tmp_path)
    script = Script(sink=free_port(), extensions=(b"SIZE 1000", b"XCLIENT NAME ADDR"))
    with ScriptedGateway(script) as gateway:
        settings = configuration(bed, gateway.port, sink=script.sink, allow_list={"database": url})
        status, said = check(tmp_path, settings)
        assert said.splitlines() == [
            f"ok:     sink: listens on inet:127.0.0.1:{script.sink}",
            f"ok:     inet:127.0.0.1:{gateway.port}: answers, and offers SIZE, XCLIENT",
            f"ok:     inet:127.0.0.1:{gateway.port}: is told of the client by xclient",
            f"ok:     inet:127.0.0.1:{gateway.port}: a message came back to the sink",
            "ok:     allow list: the database answers",
        ]
        assert status == 0
        with smtp_milter(tmp_path, settings):
            status, said = check(tmp_path, settings)
            assert "sink: somebody listens there" in said
            assert status == 0
        script.sink = 0
        status, said = check(tmp_path, settings)
        assert "FAULT:" in said
        assert "a message was taken (250 2.0.0 Ok), and did not come to the sink" in said
        assert status == 1
        script.replies[b"XCLIENT"] = b"550 5.7.0 Not you"
        assert "FAULT:  inet" in check(tmp_path, settings)[1]
    settings["allow_list"]["database"] = "sqlite+aiosqlite:////nowhere/users.db"
    settings["sink"]["listen"] = "unix:/nowhere/sink"
    status, said = check(tmp_path, settings)
    assert [line[:6] for line in said.splitlines()] == ["FAULT:"] * 3
    assert "no connection" in said
    assert status == 1


@pytest.mark.parametrize("what", ["metrics", "sink", "milter", "database"])
def test_what_can_not_be_had(tmp_path: Path, what: str) -> None:
    """The start says which address it is."""
    with socket.create_server(("127.0.0.1", 0)) as there:
        port = there.getsockname()[1]
        settings: dict[str, Any] = {
            "listen": ["inet:127.0.0.1:0"],
            "gateway": [{"address": "inet:127.0.0.1:1"}],
        }
        told = f"{what}: inet:127.0.0.1:{port}: Address already in use"
        match what:
            case "metrics":
                settings["metrics"] = f"127.0.0.1:{port}"
                told = told.replace("inet:", "")
            case "sink":
                settings["sink"] = {"listen": f"inet:127.0.0.1:{port}"}
            case "milter":
                settings["listen"] = [f"inet:127.0.0.1:{port}"]
            case _:
                url = "postgresql+asyncpg://user:secret@127.0.0.1:1/x"
                settings["allow_list"] = {"database": url}
                told = "the user database: "
        path = tmp_path / "wrong.toml"
        path.write_text(toml(settings))
        done = subprocess.run(
            [sys.executable, EXAMPLES / "smtp_milter/daemon.py", "--config", path],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"can't start: {told}"), done.stderr
    assert "secret" not in done.stderr
    assert done.returncode == 1


def test_the_unit(tmp_path: Path, require_program: Callable[[str, str], Path]) -> None:
    """Systemd finds no fault with it, and its command is the daemon's."""
    analyze = require_program("systemd-analyze", "systemd")
    text = (EXAMPLES / "smtp_milter/smtp-milter.service").read_text()
    python, daemon = re.findall(r"^ExecStart=(\S+) (\S+) --config ", text, re.MULTILINE)[0]
    assert (EXAMPLES / Path(daemon).relative_to("/opt/mailwire/examples")).exists()
    unit = tmp_path / "smtp-milter.service"
    unit.write_text(text.replace(python, sys.executable))
    done = subprocess.run(
        [analyze, "verify", unit], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert [line for line in done.stderr.splitlines() if str(tmp_path) in line] == []
    assert done.returncode == 0, done.stderr
