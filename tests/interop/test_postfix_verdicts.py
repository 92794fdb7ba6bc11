"""What a real Postfix tells its client for each verdict, and what it sends the filter then."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

import milterproto as mp

from ._filters import Event, Handler
from ._postfix_bed import Bed

pytestmark = pytest.mark.interop

START = ["Negotiate", "Connect", "Helo"]
# The header has Subject, and Message-Id, Date and From that Postfix adds.
CONTENT = ["Header", "Header", "Header", "Header", "EndOfHeaders", "Body", "EndOfMessage"]
MESSAGE = ["MailFrom", "RcptTo", "Data", *CONTENT]

# For each event of a message: the client's command that gets the reply to a refusal.
COMMANDS: dict[type[mp.Command], str] = {
    mp.MailFrom: "MAIL",
    mp.RcptTo: "RCPT",
    mp.Data: "DATA",
    mp.Header: "content",
    mp.EndOfHeaders: "content",
    mp.Body: "content",
    mp.EndOfMessage: "content",
}
REFUSALS: list[tuple[mp.Verdict, bytes]] = [
    (mp.Reject(), b"550 5.7.1 Command rejected"),
    (mp.TempFail(), b"451 4.7.1 Service unavailable - try again later"),
    (mp.ReplyCode.text(553, "5.1.8", "not you"), b"553 5.1.8 not you"),
    (mp.ReplyCode.text(452, "4.3.1", "not now"), b"452 4.3.1 not now"),
]


def name(value: object) -> str:
    """The id of a parameter."""
    if isinstance(value, mp.ReplyCode):
        return value.code.decode()
    return value.__name__ if isinstance(value, type) else type(value).__name__


def first_message(stage: type[mp.Command], verdict: mp.Verdict) -> Handler:
    """Gives the verdict at that stage of a connection's first message."""

    def handle(conn: mp.FilterConnection, event: Event) -> Sequence[mp.Response] | None:
        return [verdict] if type(event) is stage and conn.transaction == 1 else None

    return handle


def up_to(stage: type[mp.Command]) -> list[str]:
    """The events of a message that come until this one has."""
    return MESSAGE[: MESSAGE.index(stage.__name__) + 1]


@pytest.mark.parametrize("stage", COMMANDS, ids=name)
@pytest.mark.parametrize(("verdict", "reply"), REFUSALS, ids=name)
def test_refusal(bed: Bed, stage: type[mp.Command], verdict: mp.Verdict, reply: bytes) -> None:
    """A refusal reaches the client at that command, and the next message is untouched by it."""
    with bed.filter(first_message(stage, verdict)) as filter_, bed.client() as client:
        replies = client.walk()
        assert list(replies.items())[-1] == (COMMANDS[stage], reply)
        client.must(b"250", b"RSET")
        assert client.walk(b"Subject: second\r\n\r\nbody\r\n")["content"][:4] == b"250 "
        client.quit()
    assert bed.delivery().values(b"Subject") == [b" second"]
    kinds = filter_.session.kinds
    assert [kind for kind in kinds if kind != "Abort"] == [
        *START,
        *up_to(stage),
        *MESSAGE,
        "Quit",
        "ConnectionClosed",
    ]
    # Every message has its Abort, and the session's end has one of its own.
    assert kinds.count("Abort") == 3


@pytest.mark.parametrize("stage", COMMANDS, ids=name)
def test_accept(bed: Bed, stage: type[mp.Command]) -> None:
    """After an early Accept nothing more of the message is shown, but all of the next one."""
    with bed.filter(first_message(stage, mp.Accept())) as filter_, bed.client() as client:
        for _ in range(2):
            assert client.walk()["content"].startswith(b"250 ")
        client.quit()
    assert [bed.delivery().body for _ in range(2)] == [b"body\r\n"] * 2
    kinds = [kind for kind in filter_.session.kinds if kind != "Abort"]
    assert kinds == [*START, *up_to(stage), *MESSAGE, "Quit", "ConnectionClosed"]


@pytest.mark.parametrize("stage", COMMANDS, ids=name)
def test_discard(bed: Bed, stage: type[mp.Command]) -> None:
    """A discarded message is taken and never arrives; the next one does."""
    with bed.filter(first_message(stage, mp.Discard())) as filter_, bed.client() as client:
        assert client.walk()["content"].startswith(b"250 2.0.0 Ok: queued as")
        assert client.walk(b"Subject: second\r\n\r\nbody\r\n")["content"].startswith(b"250 ")
        client.quit()
    assert bed.delivery().values(b"Subject") == [b" second"]
    kinds = [kind for kind in filter_.session.kinds if kind != "Abort"]
    assert kinds == [*START, *up_to(stage), *MESSAGE, "Quit", "ConnectionClosed"]


@pytest.mark.parametrize("stage", [mp.MailFrom, mp.RcptTo], ids=name)
def test_discard_leads_to_the_filters_of_local_mail(bed: Bed, stage: type[mp.Command]) -> None:
    """Where there are any: here, one that can't be reached."""
    bed.other.unlink(missing_ok=True)
    with bed.filter({stage: [mp.Discard()]}), bed.client("local-too") as client:
        assert client.walk()["content"] == REFUSALS[1][1]
        client.quit()


@pytest.mark.parametrize(
    ("verdict", "greeting", "reply"),
    [
        (mp.Reject(), b"554 mta.test ESMTP not accepting connections", REFUSALS[0][1]),
        (mp.TempFail(), b"220 mta.test ESMTP Postfix", REFUSALS[1][1]),
        (REFUSALS[2][0], b"554 mta.test ESMTP not accepting connections", REFUSALS[2][1]),
        (REFUSALS[3][0], b"220 mta.test ESMTP Postfix", REFUSALS[3][1]),
    ],
    ids=name,
)
def test_refusal_at_connect(bed: Bed, verdict: mp.Verdict, greeting: bytes, reply: bytes) -> None:
    """The greeting tells of a 5xx only; MAIL gets the reply, each time, with no further event."""
    with bed.filter({mp.Connect: [verdict]}) as filter_, bed.client() as client:
        assert client.greeting == greeting
        assert client.walk() == {"MAIL": reply}
        assert client.walk() == {"MAIL": reply}
        client.quit()
    assert filter_.session.kinds == ["Negotiate", "Connect", "ConnectionClosed"]


@pytest.mark.parametrize(("verdict", "reply"), REFUSALS, ids=name)
def test_refusal_at_helo(bed: Bed, verdict: mp.Verdict, reply: bytes) -> None:
    """EHLO itself succeeds; MAIL gets the reply, and the filter's connection has ended."""
    with bed.filter({mp.Helo: [verdict]}) as filter_, bed.client() as client:
        assert client.walk() == {"MAIL": reply}
        assert client.walk() == {"MAIL": reply}
        client.quit()
    assert filter_.session.kinds == ["Negotiate", "Connect", "Helo", "ConnectionClosed"]


@pytest.mark.parametrize("stage", [mp.Connect, mp.Helo], ids=name)
def test_accepting_a_client(bed: Bed, stage: type[mp.Command]) -> None:
    """Accept before any message lets all messages through unseen."""
    with bed.filter({stage: [mp.Accept()]}) as filter_, bed.client() as client:
        for _ in range(2):
            assert client.walk()["content"].startswith(b"250 ")
        client.quit()
    assert [bed.delivery().body for _ in range(2)] == [b"body\r\n"] * 2
    expected = ["Negotiate", "Connect", *(["Helo"] if stage is mp.Helo else [])]
    assert filter_.session.kinds == [*expected, "ConnectionClosed"]


@pytest.mark.parametrize("stage", [mp.Connect, mp.Helo, mp.MailFrom, mp.RcptTo, mp.Data], ids=name)
def test_shutdown(bed: Bed, stage: type[mp.Command]) -> None:
    """Shutdown gives the client a 421 and ends its session, and the filter's without a word."""
    with bed.filter({stage: [mp.Shutdown()]}) as filter_, bed.client(helo=b"") as client:
        if stage is mp.Connect:
            assert client.greeting[:4] == b"421 "
        else:
            ehlo = client.command(b"EHLO client.test")
            last = ehlo if stage is mp.Helo else list(client.walk().values())[-1]
            assert last == b"421 4.7.0 Server closing connection"
        assert client.reply() == b""
    assert filter_.session.kinds == [
        *[*START, *MESSAGE][: [*START, *MESSAGE].index(stage.__name__) + 1],
        "ConnectionClosed",
    ]


@pytest.mark.parametrize(
    ("verdict", "reply"),
    [
        (mp.Continue(), b"500 5.5.2 Error: command not recognized"),
        *REFUSALS,
    ],
    ids=name,
)
@pytest.mark.parametrize("within", [False, True], ids=["outside", "within a message"])
def test_unknown_command(bed: Bed, verdict: mp.Verdict, reply: bytes, within: bool) -> None:
    """The verdict on an unknown command makes its reply, and hurts no message."""
    with bed.filter({mp.Unknown: [verdict]}) as filter_, bed.client() as client:
        if within:
            client.must(b"250", b"MAIL FROM:<a@example.org>")
        # From Postfix 3.10 on only a 4xx takes the place of its own reply.
        assert client.command(b"FROBNICATE now") == reply
        if within:
            client.must(b"250", b"RCPT TO:<b@example.test>")
            client.must(b"354", b"DATA")
            assert client.content(b"Subject: hello\r\n\r\nbody\r\n").startswith(b"250 ")
        else:
            assert client.walk()["content"].startswith(b"250 ")
        client.quit()
    assert bed.delivery().body == b"body\r\n"
    session = filter_.session
    (unknown,) = session.of(mp.Unknown)
    assert isinstance(unknown.event, mp.Unknown)
    # The whole line from 3.10 on.
    assert unknown.event.command.split()[0] == b"FROBNICATE"
    assert unknown.transaction == (1 if within else 0)
    message = ["MailFrom", "Unknown", *MESSAGE[1:]] if within else ["Unknown", *MESSAGE]
    assert [kind for kind in session.kinds if kind != "Abort"] == [
        *START,
        *message,
        "Quit",
        "ConnectionClosed",
    ]


def test_shutdown_at_unknown_command(bed: Bed) -> None:
    """Shutdown ends the session here, too."""
    with bed.filter({mp.Unknown: [mp.Shutdown()]}) as filter_, bed.client() as client:
        assert client.command(b"FROBNICATE") == b"421 4.7.0 Server closing connection"
        assert client.reply() == b""
    assert filter_.session.kinds == [*START, "Unknown", "ConnectionClosed"]


@pytest.mark.parametrize(("verdict", "reply"), REFUSALS, ids=name)
def test_refused_data_leaves_the_transaction_open(
    bed: Bed, verdict: mp.Verdict, reply: bytes
) -> None:
    """After a refused DATA the client may add a recipient and try again, in the same message."""
    refusals = [verdict]

    def handle(conn: mp.FilterConnection, event: Event) -> Sequence[mp.Response] | None:
        return [refusals.pop()] if isinstance(event, mp.Data) and refusals else None

    with bed.filter(handle) as filter_, bed.client() as client:
        assert list(client.walk().items())[-1] == ("DATA", reply)
        client.must(b"250", b"RCPT TO:<c@example.test>")
        client.must(b"354", b"DATA")
        assert client.content(b"Subject: hello\r\n\r\nbody\r\n").startswith(b"250 ")
        client.quit()
    assert bed.delivery().addresses == [b"<b@example.test>", b"<c@example.test>"]
    session = filter_.session
    assert [kind for kind in session.kinds if kind != "Abort"] == [
        *START,
        *["MailFrom", "RcptTo", "Data", "RcptTo", "Data"],
        *CONTENT,
        "Quit",
        "ConnectionClosed",
    ]
    assert {one.transaction for one in session.of(mp.Data)} == {1}


def test_one_of_several_recipients_refused(bed: Bed) -> None:
    """A refused recipient is left out, and the message goes to the others."""

    def handle(conn: mp.FilterConnection, event: Event) -> Sequence[mp.Response] | None:
        return [mp.Reject()] if event == mp.RcptTo(b"<c@example.test>") else None

    with bed.filter(handle), bed.client() as client:
        client.envelope(recipients=[b"<b@example.test>"])
        assert client.command(b"RCPT TO:<c@example.test>") == REFUSALS[0][1]
        client.must(b"250", b"RCPT TO:<d@example.test>")
        client.must(b"354", b"DATA")
        assert client.content(b"Subject: hello\r\n\r\nbody\r\n").startswith(b"250 ")
        client.quit()
    assert bed.delivery().addresses == [b"<b@example.test>", b"<d@example.test>"]


def test_all_recipients_refused(bed: Bed) -> None:
    """Without a recipient Postfix refuses DATA by itself, and the filter is told by Abort."""
    with bed.filter({mp.RcptTo: [mp.Reject()]}) as filter_, bed.client() as client:
        assert list(client.walk()) == ["MAIL", "RCPT"]
        assert client.command(b"DATA") == b"554 5.5.1 Error: no valid recipients"
        client.quit()
    assert filter_.session.kinds[:6] == [*START, "MailFrom", "RcptTo", "Abort"]
