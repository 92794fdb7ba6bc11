"""The SMTP-Milter's verdicts: a real Postfix in front, behind it a gateway that has a script."""

from __future__ import annotations

import resource
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ._postfix_bed import Bed
from ._smtp_gateway import Script, ScriptedGateway
from ._smtp_milter import configuration, smtp_milter

CONTENT = (
    b"From: a@example.org\r\nDate: Tue, 24 Nov 2026 04:00:00 +0000\r\n"
    b"Message-Id: <1@example.org>\r\nSubject: hi\r\n\r\nbody\r\n"
)


def test_a_refused_recipient(bed: Bed, tmp_path: Path) -> None:
    """1: the second of three; the others get the mail."""
    script = Script({b"RCPT TO:<c@": b"550-5.1.1 No\r\n550 5.1.1 such user"})
    with ScriptedGateway(script) as gateway:
        with smtp_milter(tmp_path, configuration(bed, gateway.port)), bed.client("other") as client:
            client.envelope(recipients=[b"<b@example.test>"])
            refused = client.command(b"RCPT TO:<c@example.test>")
            assert refused == b"550-5.1.1 No\r\n550 5.1.1 such user"
            client.must(b"250", b"RCPT TO:<d@example.test>")
            client.must(b"354", b"DATA")
            assert client.content(CONTENT).startswith(b"250 ")
            client.quit()
        delivery = bed.delivery()
    assert delivery.addresses == [b"<b@example.test>", b"<d@example.test>"]
    assert delivery.without_received == CONTENT
    (told,) = gateway.told
    assert [line[:4] for line in told.commands] == [
        *(b"EHLO", b"MAIL", b"RCPT", b"RCPT", b"RCPT", b"DATA"),
    ] + [b"QUIT"] * (told.commands[-1] == b"QUIT")
    # Nothing else than XCLIENT or XFORWARD tells it of the client.
    (content,) = told.contents
    received, rest = content.split(b"\r\nFrom: ", 1)
    assert received.startswith(b"Received: from client.test (unknown [127.0.0.1])\r\n\tby mta.test")
    assert b"From: " + rest == CONTENT


def test_a_refused_content(bed: Bed, tmp_path: Path) -> None:
    """2, 13: several lines, %, a digit first, no enhanced code: all as it was said."""
    replies = [
        b"554-5.7.1 100% spam\r\n554-5.7.1 really\r\n554 5.7.1 see %s",
        b"550 3 strikes",
        b"450 5.7.1 Later",
        b"421 4.7.0 Going down",
    ]
    with (
        ScriptedGateway(Script({b".": list(replies)})) as gateway,
        smtp_milter(tmp_path, configuration(bed, gateway.port)),
        bed.client("other") as client,
    ):
        told = [client.message(CONTENT) for _ in replies]
        client.quit()
    assert told == [
        b"554-5.7.1 100% spam\r\n554-5.7.1 really\r\n554 5.7.1 see %s",
        b"550 5.7.1 3 strikes",
        b"450 4.7.1 Later",
        b"451 4.3.2 Going down",
    ]


@pytest.mark.parametrize("verb", [b"MAIL", b"RCPT", b"DATA"])
def test_421_does_not_hang_up(bed: Bed, tmp_path: Path, verb: bytes) -> None:
    """3: the client gets 451 and stays; the next message goes through."""
    with (
        ScriptedGateway(Script({verb: [b"421 4.3.2 Too busy"]})) as gateway,
        smtp_milter(tmp_path, configuration(bed, gateway.port)),
        bed.client("other") as client,
    ):
        replies = list(client.walk(CONTENT).values())
        assert replies[-1] == b"451 4.3.2 Too busy"
        client.must(b"250", b"RSET")
        assert client.message(CONTENT).startswith(b"250 ")
        client.quit()
        bed.delivery()


def test_a_gateway_that_dies_in_the_midst(bed: Bed, tmp_path: Path) -> None:
    """4: of the content, when it has seen a part of it."""
    with (
        ScriptedGateway(Script(dies_after=100_000)) as gateway,
        smtp_milter(tmp_path, configuration(bed, gateway.port)),
        bed.client("other") as client,
    ):
        told = client.message(CONTENT + b"0123456789abcd\r\n" * 500_000)
        assert told == b"451 4.3.2 The mail filter is not available"
        gateway.script.dies_after = 0
        assert client.message(CONTENT).startswith(b"250 ")
        client.quit()
        bed.delivery()
    assert len(gateway.contents) == 1


@pytest.mark.parametrize("verb", [b"CONNECT", b"EHLO", b"MAIL", b"RCPT", b"."])
def test_a_gateway_that_closes(bed: Bed, tmp_path: Path, verb: bytes) -> None:
    """4: wherever it does, the client is to come again, and the next message goes through."""
    with (
        ScriptedGateway(Script({verb: [b""]})) as gateway,
        smtp_milter(tmp_path, configuration(bed, gateway.port)),
        bed.client("other") as client,
    ):
        replies = list(client.walk(CONTENT).values())
        assert replies[-1] == b"451 4.3.2 The mail filter is not available"
        client.must(b"250", b"RSET")
        gateway.script.replies.clear()
        assert client.message(CONTENT).startswith(b"250 ")
        client.quit()
        bed.delivery()


def test_a_gateway_that_closes_before_the_content(bed: Bed, tmp_path: Path) -> None:
    """Then the same message goes by another connection, and the client notices nothing."""
    with (
        ScriptedGateway(Script({b"DATA": [b""]})) as gateway,
        smtp_milter(tmp_path, configuration(bed, gateway.port)),
        bed.client("other") as client,
    ):
        recipients = [b"<b@example.test>", b"<c@example.test>"]
        assert client.message(CONTENT, recipients=recipients).startswith(b"250 ")
        client.quit()
        assert bed.delivery().addresses == recipients
    first, second = gateway.told
    assert first.commands == second.commands[: len(first.commands)]


@pytest.mark.parametrize(
    ("policy", "reply"),
    [("tempfail", b"451 4.3.2 "), ("reject", b"554 5.3.0 "), ("accept", b"250 ")],
)
def test_no_gateway(bed: Bed, tmp_path: Path, policy: str, reply: bytes) -> None:
    """The policy decides; unscanned mail says so."""
    settings = configuration(bed, 1, on_failure=policy, unscanned_header="X-Unscanned: yes")
    with smtp_milter(tmp_path, settings), bed.client("other") as client:
        replies = list(client.walk(CONTENT).values())
        assert replies[-1].startswith(reply)
        client.quit()
        if policy == "accept":
            assert bed.delivery().without_received == b"X-Unscanned: yes\r\n" + CONTENT


def test_the_second_gateway(bed: Bed, tmp_path: Path) -> None:
    """It is asked when the first is not there, which after some failures is left alone."""
    settings = configuration(bed, 1, 0, gateway={"failures": 2, "rest": 60.0})
    with ScriptedGateway() as gateway:
        settings["gateway"][1]["address"] = f"inet:127.0.0.1:{gateway.port}"
        with smtp_milter(tmp_path, settings) as program:
            for _ in range(4):
                with bed.client("other") as client:
                    assert client.message(CONTENT).startswith(b"250 ")
                    client.quit()
                bed.delivery()
    log = "\n".join(program.log)
    assert log.count("has failed") == 1
    assert log.count("is left alone for 60 s") == 1
    assert len(gateway.contents) == 4


def test_a_slow_gateway(bed: Bed, tmp_path: Path) -> None:
    """14: before the end in less than the MTA's time; at the end there are signs of life."""
    over = threading.Event()

    def after(seconds: float, reply: bytes) -> Callable[[], bytes]:
        def wait() -> bytes:
            over.wait(seconds)
            return reply

        return wait

    script = Script({b"RCPT": after(15, b"")})
    settings = configuration(bed, 0, timeouts={"command": 1.0})
    with ScriptedGateway(script) as gateway:
        settings["gateway"][0]["address"] = f"inet:127.0.0.1:{gateway.port}"
        with smtp_milter(tmp_path, settings), bed.client("other") as client:
            replies = list(client.walk(CONTENT).values())
            assert replies[-1].startswith(b"451 4.3.2 ")
            client.must(b"250", b"RSET")
            # More than Postfix's milter_content_timeout, which here is 10 s.
            gateway.script = Script({b".": after(12, b"250 2.0.0 Ok")})
            assert client.message(CONTENT).startswith(b"250 ")
            client.quit()
            bed.delivery()
        over.set()


def test_a_gateway_that_judges_nothing(bed: Bed, tmp_path: Path) -> None:
    """It greets, and takes MAIL and RCPT; and after some messages the next one is asked."""
    settings = configuration(bed, 0, 0, gateway={"failures": 2, "rest": 60.0})
    with ScriptedGateway(Script({b".": b""})) as broken, ScriptedGateway() as sound:
        for one, gateway in zip(settings["gateway"], (broken, sound), strict=True):
            one["address"] = f"inet:127.0.0.1:{gateway.port}"
        with smtp_milter(tmp_path, settings), bed.client("other") as client:
            told = [client.message(CONTENT)[:3] for _ in range(3)]
            client.quit()
        bed.delivery()
    assert told == [b"451", b"451", b"250"]
    assert (len(broken.contents), len(sound.contents)) == (2, 1)


def test_a_disk_that_is_full(bed: Bed, tmp_path: Path) -> None:
    """What the gateway would see but a part of is not delivered."""
    body = b"0123456789abcdef" * 60 + b"\r\n"
    with (
        ScriptedGateway() as gateway,
        smtp_milter(tmp_path, configuration(bed, gateway.port)) as program,
        bed.client("other") as client,
    ):
        limit = 2 * 1024 * 1024
        resource.prlimit(program.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        told = client.message(CONTENT + body * 4000)
        assert told == b"451 4.3.2 The mail filter is not available"
        assert client.message(CONTENT).startswith(b"250 ")
        client.quit()
        bed.delivery()
    assert len(gateway.contents) == 1
    assert "no verdict: its content can't be kept: File too large" in "\n".join(program.log)


def test_content_as_it_should_be(bed: Bed, tmp_path: Path) -> None:
    """5: dots over many chunks, a bare CR, no last line end; with a sink, see `ODD` there."""
    body = b".\r\n..\r\n.x\r\na\rb\r\n\xe4\r\n" + b".\r\n" * 30_000 + b"end"
    with (
        ScriptedGateway() as gateway,
        smtp_milter(tmp_path, configuration(bed, gateway.port)),
        bed.client("other") as client,
    ):
        header = CONTENT.partition(b"\r\n\r\n")[0]
        assert client.message(header + b"\r\n\r\n" + body).startswith(b"250 ")
        client.quit()
        delivery = bed.delivery()
    # Postfix itself makes a blank of a CR alone.
    assert delivery.body == body.replace(b"\rb", b" b") + b"\r\n"
    (content,) = gateway.contents
    assert content.partition(b"\r\n\r\n")[2] == delivery.body


def test_transactions(bed: Bed, tmp_path: Path) -> None:
    """10: two on one connection, and one that was given up between them."""
    with (
        ScriptedGateway() as gateway,
        smtp_milter(tmp_path, configuration(bed, gateway.port)),
        bed.client("other") as client,
    ):
        assert client.message(CONTENT).startswith(b"250 ")
        client.envelope()
        client.must(b"250", b"RSET")
        assert client.message(CONTENT, sender=b"<>").startswith(b"250 ")
        client.quit()
        bed.delivery()
        bed.delivery()
    (told,) = gateway.told  # the second message found the connection of the first
    verbs = [line[:4] for line in told.commands if line != b"QUIT"]
    one = [b"MAIL", b"RCPT", b"DATA"]
    assert verbs == [b"EHLO", *one, b"MAIL", b"RCPT", b"RSET", *one]


def test_a_gateway_that_does_not_wait(bed: Bed, tmp_path: Path) -> None:
    """It has closed between two messages: the next one goes by a new connection, unnoticed."""
    script = Script({b"MAIL": [b"250 ok", b"421 4.4.2 Timeout", b"250 ok", b""]})
    script.extensions = (b"XCLIENT NAME ADDR",)
    with (
        ScriptedGateway(script) as gateway,
        smtp_milter(tmp_path, configuration(bed, gateway.port)) as program,
        bed.client("other") as client,
    ):
        for _ in range(3):
            assert client.message(CONTENT).startswith(b"250 ")
            bed.delivery()
        client.quit()
    assert len(gateway.told) == 3
    assert "has failed" not in "\n".join(program.log)


def test_no_connection_free(bed: Bed, tmp_path: Path) -> None:
    """A client more than there are connections comes again; the gateway is not taken for dead."""
    settings = {"connections": 1, "wait_for_connection": 1.0, "failures": 1, "rest": 60.0}
    with (
        ScriptedGateway() as gateway,
        smtp_milter(tmp_path, configuration(bed, gateway.port, gateway=settings)),
        bed.client("other") as first,
        bed.client("other") as second,
    ):
        first.envelope()
        refused = second.command(b"MAIL FROM:<a@example.org>")
        assert refused == b"451 4.3.2 The mail filter is not available"
        # Not by RSET: Postfix tells of that together with the next command.
        first.quit()
        assert second.message(CONTENT).startswith(b"250 ")
        second.quit()
        bed.delivery()


def test_local_mail(bed: Bed, tmp_path: Path) -> None:
    """From the machine itself, without SMTP and without a client's name."""
    with (
        ScriptedGateway() as gateway,
        smtp_milter(tmp_path, configuration(bed, gateway.port)),
    ):
        bed.postfix.sendmail("root@example.org", "b@example.test", CONTENT.replace(b"\r\n", b"\n"))
        assert bed.delivery().without_received == CONTENT
    assert b"MAIL FROM:<root@example.org>" in gateway.commands
    (content,) = gateway.contents
    assert content.startswith(b"Received: from localhost (localhost [127.0.0.1])\r\n\tby mta.test")


def test_dry_run(bed: Bed, tmp_path: Path) -> None:
    """Whatever it says, the mail passes; the log has it, with the queue id."""
    script = Script({b"RCPT TO:<c@": b"550 5.1.1 No", b".": b"554 5.7.1 Spam"})
    with ScriptedGateway(script) as gateway:
        settings = configuration(bed, gateway.port, dry_run=True)
        with smtp_milter(tmp_path, settings) as program, bed.client("other") as client:
            recipients = [b"<b@example.test>", b"<c@example.test>"]
            reply = client.message(CONTENT, recipients=recipients)
            client.quit()
        delivery = bed.delivery()
    assert delivery.addresses == recipients
    assert delivery.without_received == CONTENT
    queue_id = reply.split()[-1].decode()
    log = "\n".join(program.log)
    assert f"{queue_id}: would be refused: content: 554 Spam" in log
    assert "would be refused: recipient: 550 No" in log
    assert "body" not in log


def test_parameters(bed: Bed, tmp_path: Path) -> None:
    """A gateway is told what it knows, spelled as it was."""
    script = Script(extensions=(b"SIZE 1000", b"DSN"))
    with (
        ScriptedGateway(script) as gateway,
        smtp_milter(tmp_path, configuration(bed, gateway.port)),
        bed.client("other") as client,
    ):
        client.must(b"250", b"MAIL FROM:<a@example.org> BODY=8BITMIME RET=HDRS ENVID=aB+2Bc")
        client.must(b"250", b"RCPT TO:<b@example.test> NOTIFY=NEVER")
        client.must(b"354", b"DATA")
        large = client.content(CONTENT + b"x" * 1000 + b"\r\n")
        assert large == b"552 5.3.4 Message too large for the mail filter"
        refused = client.command(b"MAIL FROM:<\xc3\xa4@example.org> SMTPUTF8")
        assert refused == b"550 5.6.7 The mail filter takes no SMTPUTF8"
        client.quit()
    assert b"MAIL FROM:<a@example.org> RET=HDRS ENVID=aB+2Bc" in gateway.commands
    assert b"RCPT TO:<b@example.test> NOTIFY=NEVER" in gateway.commands
