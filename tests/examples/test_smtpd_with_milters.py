"""An SMTP server of another make that asks milters."""

from __future__ import annotations

import contextlib
import itertools
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from adapters._listen import listen
from adapters.services import messages, milter
from smtpd_with_milters import show

import milterproto as mp
from milterproto.message import Message, MessageFilter, Recipient
from tests.interop._postfix_client import Client
from tests.milterproto.peers import Answer, Scripted, filter_at, frame

from .adapter_hosts import THREADS
from .smtpd_host import PATIENCE, smtpd

CONTENT = b"From: a@example.org\r\nSubject: hi\r\nX-Tight:x\r\n\r\nbody\r\n.\r\n"


@contextlib.contextmanager
def filters(directory: Path, *services: Any) -> Iterator[list[str]]:
    """The addresses of filters that are running."""
    with contextlib.ExitStack() as stack:
        addresses = []
        for number, service in enumerate(services):
            addresses.append(f"unix:{directory / str(number)}")
            stack.enter_context(THREADS.serve(service, None, listen(addresses[-1])))
        yield addresses


@contextlib.contextmanager
def client(port: int, helo: bytes = b"EHLO client.test") -> Iterator[Client]:
    with Client(port, PATIENCE) as connected:
        connected.must(b"250", helo)
        yield connected


def one(message: Message) -> None:
    message.headers.append("X-One", b"1")
    message.headers.set("Subject", b"[one] " + message.headers.get("Subject"))
    message.replace_body(message.body + b"one\n")
    message.add_recipient(b"<one@example.test>")


def two(message: Message) -> None:
    assert message.headers.get("X-One") == b"1"
    message.headers.set("Subject", b"[two] " + message.headers.get("Subject"))
    message.replace_body(message.body + b"two\n")
    message.change_sender(b"<two@example.org>")


def test_each_sees_the_edits_of_those_before_it(tmp_path: Path) -> None:
    """Of headers and body; and the message that is taken has them all, twice on one connection."""
    with (
        filters(tmp_path, messages(one), messages(two)) as addresses,
        smtpd(*addresses) as (port, taken),
        client(port) as sending,
    ):
        for _ in range(2):
            assert sending.message(CONTENT).startswith(b"250")
            message = taken.get(timeout=PATIENCE)
            assert message.content == (
                b"From: a@example.org\r\nSubject: [two] [one] hi\r\nX-Tight:x\r\nX-One: 1\r\n"
                b"\r\nbody\r\n.\r\none\r\ntwo\r\n"
            )
            assert message.sender == b"<two@example.org>"
            assert [to.mailbox for to in message.recipients] == [
                b"b@example.test",
                b"one@example.test",
            ]
        sending.quit()


def saying(kind: type[mp.Command], verdict: mp.Verdict) -> Any:
    def session(conn: mp.FilterConnection) -> Any:
        def handle(event: Any) -> mp.Response | None:
            return verdict if isinstance(event, kind) and conn.our_turn else None

        return handle

    return milter(session, mp.Wants())


NO = mp.ReplyCode.text(550, "5.7.1", "No", "Really not")
NO_TEXT = b"550-5.7.1 No\r\n550 5.7.1 Really not"


@pytest.mark.parametrize(
    ("kind", "stage"),
    [
        (mp.Connect, "MAIL"),
        (mp.Helo, "MAIL"),
        (mp.MailFrom, "MAIL"),
        (mp.RcptTo, "RCPT"),
        (mp.Data, "DATA"),
        (mp.Header, "content"),
        (mp.EndOfHeaders, "content"),
        (mp.Body, "content"),
        (mp.EndOfMessage, "content"),
    ],
)
@pytest.mark.parametrize(
    ("verdict", "reply"),
    [
        (NO, NO_TEXT),
        (mp.Reject(), b"550 5.7.1 Command rejected"),
        (mp.TempFail(), b"451 4.7.1 Service unavailable - try again later"),
    ],
)
def test_refusals_reach_the_client(
    tmp_path: Path, kind: type[mp.Command], stage: str, verdict: mp.Verdict, reply: bytes
) -> None:
    """At the stage that they are about; and later filters need not be asked."""
    heard: list[Message] = []
    with (
        filters(tmp_path, saying(kind, verdict), messages(heard.append)) as addresses,
        smtpd(*addresses) as (port, taken),
        client(port) as sending,
    ):
        replies = sending.walk(CONTENT)
        assert list(replies)[-1] == stage
        assert replies[stage] == reply
        # Nothing slips through by asking again.
        assert not sending.command(b"DATA").startswith(b"354")
        sending.quit()
        assert taken.empty()
    assert heard == []


@pytest.mark.parametrize("kind", [mp.MailFrom, mp.RcptTo, mp.Data, mp.Header, mp.EndOfMessage])
def test_discarded(tmp_path: Path, kind: type[mp.Command]) -> None:
    """The client is told that all is well; the next message is another one."""
    with (
        filters(tmp_path, saying(kind, mp.Discard())) as addresses,
        smtpd(*addresses) as (port, taken),
        client(port) as sending,
    ):
        assert sending.message(CONTENT).startswith(b"250")
        assert sending.message(CONTENT).startswith(b"250")
        sending.quit()
        assert taken.empty()


def test_accepted_early(tmp_path: Path) -> None:
    """By the first; the second is asked all the same."""
    with (
        filters(tmp_path, saying(mp.MailFrom, mp.Accept()), messages(one)) as addresses,
        smtpd(*addresses) as (port, taken),
        client(port, b"HELO client.test") as sending,
    ):
        assert sending.message(CONTENT).startswith(b"250")
        assert taken.get(timeout=PATIENCE).headers.get("X-One") == b"1"
        sending.quit()


def test_421_ends_the_session(tmp_path: Path) -> None:
    """As MTAs end it."""
    gone = mp.ReplyCode.text(421, "4.7.0", "Go away")
    with (
        filters(tmp_path, saying(mp.RcptTo, gone)) as addresses,
        smtpd(*addresses) as (port, _),
        client(port) as sending,
    ):
        sending.must(b"250", b"MAIL FROM:<a@example.org>")
        assert sending.command(b"RCPT TO:<b@example.test>") == b"421 4.7.0 Go away"
        assert sending.reply() == b""


def test_some_recipients(tmp_path: Path) -> None:
    """One is refused, the rest go on; parameters are told; RSET begins anew."""
    seen: list[Message] = []

    def on_recipient(_message: Message, to: Recipient) -> mp.Verdict | None:
        return NO if to.mailbox == b"no@example.test" else None

    with (
        filters(tmp_path, messages(MessageFilter(seen.append, on_recipient=on_recipient))) as at,
        smtpd(*at) as (port, taken),
        client(port) as sending,
    ):
        sending.envelope(b"<x@example.org>")
        sending.must(b"250", b"RSET")
        sending.must(b"250", b"MAIL FROM:<a@example.org> SIZE=100")
        assert sending.command(b"RCPT TO:<no@example.test>") == NO_TEXT
        sending.must(b"250", b"RCPT TO:<yes@example.test>")
        sending.must(b"354", b"DATA")
        assert sending.content(CONTENT).startswith(b"250")
        sending.must(b"250", b"EHLO again.test")
        sending.quit()
        (message,) = seen
        assert message.sender_parameters == (b"SIZE=100",)
        assert message.client.address == b"127.0.0.1"
        assert message.client.helo == b"client.test"
        assert message.queue_id
        assert [one.mailbox for one in taken.get(timeout=PATIENCE).recipients] == [
            b"yes@example.test"
        ]


def test_no_filter_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The client is told to come again; once the filter is there, its next HELO is heard."""
    with smtpd(f"unix:{tmp_path / '0'}") as (port, taken), client(port) as sending:
        assert sending.walk(CONTENT)["MAIL"].startswith(b"451 4.7.1")
        sending.must(b"250", b"EHLO client.test")
        assert sending.walk(CONTENT)["MAIL"].startswith(b"451 4.7.1")
        assert capsys.readouterr().err.count("a filter is of no use") == 2
        heard: list[Message] = []
        with filters(tmp_path, messages(heard.append)):
            assert sending.walk(CONTENT)["MAIL"].startswith(b"451 4.7.1")
            sending.must(b"250", b"EHLO again.test")
            assert sending.message(CONTENT).startswith(b"250")
            sending.quit()
        assert taken.get(timeout=PATIENCE).body == heard[0].body
        assert heard[0].client.address == b"127.0.0.1"
        assert heard[0].client.helo == b"again.test"


@pytest.mark.parametrize(
    "said",
    [
        # None of them is a reply that an MTA takes, or edits that it can make.
        {mp.Negotiate: frame(b"c")},
        {mp.Connect: frame(b"\x01")},
        {mp.Helo: frame(b"f")},
        {mp.MailFrom: frame(b"c") * 2},
        {mp.RcptTo: None},
        {mp.Header: frame(b"h", b"X\0y\0")},
        {mp.EndOfMessage: frame(b"h", b"X Y\0z\0") + frame(b"c")},
    ],
)
def test_filters_that_make_no_sense(said: Any, tmp_path: Path) -> None:
    """The message must wait, whatever its other filters say of it; nothing is left open."""
    heard: list[Message] = []
    with (
        filters(tmp_path, messages(heard.append)) as others,
        filter_at(None, lambda: Scripted(said)) as address,
        smtpd(f"inet:{address}", *others) as (port, taken),
        client(port) as sending,
    ):
        for _ in range(2):
            *_, last = sending.walk(CONTENT).values()
            assert last.startswith(b"451 4.7.1 ")
            sending.must(b"250", b"RSET")
        # For this client there is another try.
        sending.must(b"250", b"EHLO client.test")
        *_, last = sending.walk(CONTENT).values()
        assert last.startswith(b"451 4.7.1 ")
        sending.quit()
        assert taken.empty()
    assert heard == []


@pytest.mark.parametrize(
    ("helo", "content"),
    [
        (b"EHLO client.test", b"Subject: a\0b\r\n\r\nbody\r\n"),
        (b"EHLO client.test", b"Subject: a\r\n" + b" line\r\n" * 12_000 + b"\r\nbody\r\n"),
        (b"EHLO client\0.test", CONTENT),
    ],
)
def test_what_no_filter_can_be_shown(helo: bytes, content: bytes, tmp_path: Path) -> None:
    """It is refused for good, and what comes after it is not."""
    heard: list[Message] = []
    with (
        filters(tmp_path, messages(heard.append)) as addresses,
        smtpd(*addresses) as (port, taken),
        client(port, helo) as sending,
    ):
        *_, last = sending.walk(content).values()
        assert last == b"554 5.6.0 No filter can be asked about this"
        assert taken.empty()
        if content is not CONTENT:
            assert sending.message(CONTENT).startswith(b"250")
            assert taken.get(timeout=PATIENCE).headers.get("Subject") == b"hi"
        sending.quit()
    assert len(heard) == (content is not CONTENT)


def test_a_bounce(tmp_path: Path) -> None:
    """Its sender is null, to the filters and to whoever takes it."""
    heard: list[Message] = []
    with (
        filters(tmp_path, messages(heard.append)) as addresses,
        smtpd(*addresses) as (port, taken),
        client(port) as sending,
    ):
        assert sending.message(CONTENT, b"<>").startswith(b"250")
        assert taken.get(timeout=PATIENCE).sender == b"<>"
        sending.quit()
    assert heard[0].sender == b"<>"


def test_held(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What one filter wants to be held, the next one does not let go."""

    def hold(message: Message) -> None:
        message.quarantine(b"odd")

    with (
        filters(tmp_path, messages(hold), messages(one)) as addresses,
        smtpd(*addresses) as (port, taken),
        client(port) as sending,
    ):
        assert sending.message(CONTENT).startswith(b"250")
        message = taken.get(timeout=PATIENCE)
        assert message.quarantined == b"odd"
        assert message.headers.get("X-One") == b"1"
        sending.quit()
    show(message)
    assert "to be held: odd\n" in capsys.readouterr().out


def test_a_filter_that_takes_its_time_and_skips(tmp_path: Path) -> None:
    """Of a long body it wants the first piece only, and it says that it is still there."""
    pieces: list[int] = []

    def session(conn: mp.FilterConnection) -> Any:
        def handle(event: Any) -> Any:
            if isinstance(event, mp.Body):
                pieces.append(len(event.data))
                return mp.Skip()
            if isinstance(event, mp.EndOfMessage):
                return [mp.Progress(), mp.Progress(), mp.AddHeader(b"X-Done", b"1"), mp.Continue()]
            return None

        return handle

    wants = mp.Wants(actions=mp.Actions.ADDHDRS)
    with (
        filters(tmp_path, milter(session, wants), messages(one)) as addresses,
        smtpd(*addresses) as (port, taken),
        client(port) as sending,
    ):
        content = CONTENT + b"line\r\n" * 30_000
        for _ in range(2):
            assert sending.message(content).startswith(b"250")
            message = taken.get(timeout=PATIENCE)
            assert message.headers.get("X-Done") == b"1"
            assert message.headers.get("X-One") == b"1"
            assert len(message.body) > 180_000
        sending.quit()
    assert pieces == [65535, 65535]


class Heard(Scripted):
    """Tells when the session has ended, with all that was heard."""

    def __init__(self, ended: queue.Queue[list[Any]]) -> None:
        super().__init__()
        self._ended = ended

    def sendall(self, data: bytes, /) -> None:
        super().sendall(data)
        if mp.Quit() in self.seen:
            self._ended.put(self.seen)


def test_how_messages_end(tmp_path: Path) -> None:
    """Each filter is told that a message is over, before the next begins, and what HELO is said."""
    ended: queue.Queue[list[Any]] = queue.Queue()
    # Says no to the second sender only, so that the first filter has heard of it.
    no: dict[type, Answer] = {
        mp.MailFrom: lambda mail: frame(b"r" if mail.sender == b"<no@example.org>" else b"c")
    }
    with (
        filter_at(None, lambda: Heard(ended)) as first,
        filter_at(None, lambda: Scripted(no)) as second,
        smtpd(f"inet:{first}", f"inet:{second}") as (port, taken),
        client(port) as sending,
    ):
        sending.envelope(b"<rset@example.org>")
        sending.must(b"250", b"RSET")
        sending.must(b"550", b"MAIL FROM:<no@example.org>")
        sending.envelope(b"<helo@example.org>")
        sending.must(b"250", b"EHLO again.test")
        sending.envelope(b"<long@example.org>")
        sending.must(b"354", b"DATA")
        assert sending.content(b"x" * 5000 + b"\r\n").startswith(b"500 ")
        assert sending.message(CONTENT).startswith(b"250")
        taken.get(timeout=PATIENCE)
        sending.quit()
        heard = ended.get(timeout=PATIENCE)
    kinds = (mp.Helo, mp.MailFrom, mp.Abort, mp.EndOfMessage, mp.Quit)
    said = [event for event in heard if isinstance(event, kinds)]
    in_order = [key for key, _ in itertools.groupby(said)]  # one ABORT more does no harm
    assert in_order == [
        mp.Helo(b"client.test"),
        *(mp.MailFrom(b"<rset@example.org>"), mp.Abort()),
        *(mp.MailFrom(b"<no@example.org>"), mp.Abort()),
        *(mp.MailFrom(b"<helo@example.org>"), mp.Abort(), mp.Helo(b"again.test")),
        *(mp.MailFrom(b"<long@example.org>"), mp.Abort()),
        *(mp.MailFrom(b"<a@example.org>"), mp.EndOfMessage(), mp.Abort(), mp.Quit()),
    ]


def test_queue_ids_are_told_apart(tmp_path: Path) -> None:
    """Of all clients."""
    heard: list[Message] = []
    with (
        filters(tmp_path, messages(heard.append)) as addresses,
        smtpd(*addresses) as (port, _),
    ):
        for _ in range(2):
            with client(port) as sending:
                for _ in range(2):
                    assert sending.message(CONTENT).startswith(b"250")
                sending.quit()
    assert len({message.queue_id for message in heard}) == 4


def test_a_filter_that_breaks(tmp_path: Path) -> None:
    """Whatever comes after it is not taken without it."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        # Answers the offer and MAIL, and closes at RCPT.
        sock, _ = listener.accept()
        with sock, listener:
            conn = mp.FilterConnection()
            while True:
                conn.receive_data(sock.recv(1 << 16))
                for event in conn.events():
                    if isinstance(event, mp.RcptTo):
                        return
                    if isinstance(event, mp.Negotiate):
                        sock.sendall(conn.send(mp.negotiate(event, mp.Wants())))
                    elif conn.our_turn:
                        sock.sendall(conn.send(mp.Continue()))

    thread = threading.Thread(target=serve)
    thread.start()
    address = f"inet:127.0.0.1:{listener.getsockname()[1]}"
    with smtpd(address) as (port, taken), client(port) as sending:
        sending.must(b"250", b"MAIL FROM:<a@example.org>")
        for _ in range(2):
            sending.must(b"451", b"RCPT TO:<b@example.test>")
        assert not sending.command(b"DATA").startswith(b"354")
        assert taken.empty()
    thread.join(PATIENCE)


def test_as_a_program(tmp_path: Path) -> None:
    """From the shell, to the end."""
    script = Path(__file__).parents[2] / "examples" / "smtpd_with_milters.py"
    with filters(tmp_path, messages(one)) as addresses:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        line = [sys.executable, str(script), "--listen", f"127.0.0.1:{port}", *addresses]
        with subprocess.Popen(
            line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr is not None
            assert process.stdout is not None
            assert process.stderr.readline() == f"listening on 127.0.0.1:{port}\n"
            with client(port) as sending:
                assert sending.message(CONTENT).startswith(b"250")
                sending.quit()
            assert process.stdout.readline() == (
                "from <a@example.org> to <b@example.test> to <one@example.test>\n"
            )
            process.terminate()
