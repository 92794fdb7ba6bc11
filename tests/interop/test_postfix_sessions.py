"""Sessions as a real Postfix holds them: many messages, odd orders, sudden ends."""

from __future__ import annotations

import smtplib
import socket
from collections.abc import Sequence

import pytest

import milterproto as mp

from ._filters import Answers, Event, Filter
from ._postfix import PATIENCE
from ._postfix_bed import Bed

pytestmark = pytest.mark.interop

START = ["Negotiate", "Connect", "Helo"]
END = ["Abort", "Abort", "Quit", "ConnectionClosed"]
# A message that Postfix adds no header to.
HEADER = (
    b"Subject: hello\r\nFrom: a@example.org\r\nDate: Tue, 24 Nov 2026 04:00:00 +0000\r\n"
    b"Message-Id: <1@example.org>\r\n"
)
MESSAGE = ["MailFrom", "RcptTo", "Data", *["Header"] * 4, "EndOfHeaders", "Body", "EndOfMessage"]


def one_message(bed: Bed, filter_: Filter, content: bytes) -> list[Event]:
    """Send this content; the filter's events between DATA and the end of the message."""
    with bed.client() as client:
        assert client.message(content).startswith(b"250 ")
        client.quit()
    session = filter_.sessions[-1]
    kinds = session.kinds
    return session.events[kinds.index("Data") + 1 : kinds.index("EndOfMessage") + 1]


def test_what_a_filter_sees(bed: Bed) -> None:
    """Every event of a plain message has the content that the client sent."""
    with bed.filter() as filter_, bed.client() as client:
        client.must(b"250", b"MAIL FROM:<a@example.org> SIZE=100 BODY=8BITMIME")
        client.must(b"250", b"RCPT TO:b@example.test NOTIFY=NEVER")
        client.must(b"354", b"DATA")
        folded = b"X-Folded: one\r\n\ttwo\r\nX-Tight:none\r\nX-Wide:  two\r\n"
        assert client.content(HEADER + folded + b"\r\n.dot\r\n").startswith(b"250 ")
        client.quit()
    negotiate, connect, *events = filter_.session.events
    assert negotiate == mp.offer(6)
    assert isinstance(connect, mp.Connect)
    assert connect.hostname == b"[127.0.0.1]"
    assert (connect.family, connect.address) == (mp.Family.INET, b"127.0.0.1")
    assert str(connect.ip) == "127.0.0.1"
    assert connect.port > 0
    assert events == [
        mp.Helo(b"client.test"),
        mp.MailFrom(b"<a@example.org>", (b"SIZE=100", b"BODY=8BITMIME")),
        mp.RcptTo(b"b@example.test", (b"NOTIFY=NEVER",)),
        mp.Data(),
        mp.Header(b"Subject", b"hello"),
        mp.Header(b"From", b"a@example.org"),
        mp.Header(b"Date", b"Tue, 24 Nov 2026 04:00:00 +0000"),
        mp.Header(b"Message-Id", b"<1@example.org>"),
        mp.Header(b"X-Folded", b"one\n\ttwo"),
        mp.Header(b"X-Tight", b"none"),
        mp.Header(b"X-Wide", b" two"),
        mp.EndOfHeaders(),
        mp.Body(b".dot\r\n"),
        mp.EndOfMessage(),
        mp.Abort(),
        mp.Abort(),
        mp.Quit(),
        mp.ConnectionClosed(),
    ]
    assert bed.delivery().body == b".dot\r\n"


def test_leading_space(bed: Bed) -> None:
    """With HDR_LEADSPC, header values are all that stands after the colon."""
    with bed.filter(wants=mp.Wants(leading_space=True)) as filter_:
        fields = b"X-One: one\r\nX-Tight:none\r\nX-Wide:  two\r\nX-Tab:\ttab\r\n"
        events = one_message(bed, filter_, HEADER + fields + b"\r\nbody\r\n")
    assert events[0] == mp.Header(b"Subject", b" hello")
    assert events[4:8] == [
        mp.Header(b"X-One", b" one"),
        mp.Header(b"X-Tight", b"none"),
        mp.Header(b"X-Wide", b"  two"),
        mp.Header(b"X-Tab", b"\ttab"),
    ]
    bed.delivery()


def test_no_body(bed: Bed) -> None:
    """A message that ends with its header, or with the empty line, has no Body event."""
    with bed.filter() as filter_:
        for content in (HEADER, HEADER + b"\r\n"):
            events = one_message(bed, filter_, content)
            assert [type(event) for event in events] == [
                *[mp.Header] * 4,
                mp.EndOfHeaders,
                mp.EndOfMessage,
            ]
            bed.delivery()


def test_no_header(bed: Bed) -> None:
    """Where the client sends only a body, the filter sees the header that Postfix adds."""
    with bed.filter() as filter_:
        events = one_message(bed, filter_, b"\r\nbody\r\n")
    assert {event.name for event in events if isinstance(event, mp.Header)} == {
        b"Message-Id",
        b"Date",
        b"From",
    }
    assert events[-3:] == [mp.EndOfHeaders(), mp.Body(b"body\r\n"), mp.EndOfMessage()]
    bed.delivery()


def test_no_byte_of_content(bed: Bed) -> None:
    """An empty message is one, too."""
    with bed.filter() as filter_:
        events = one_message(bed, filter_, b"")
    assert events[-2:] == [mp.EndOfHeaders(), mp.EndOfMessage()]
    bed.delivery()


def test_long_body_comes_in_pieces(bed: Bed) -> None:
    """The pieces have 65535 bytes, cut a CRLF in two, and make the body again."""
    body = b"".join(b"%061d.\r\n" % number for number in range(3000))
    with bed.filter() as filter_:
        events = one_message(bed, filter_, HEADER + b"\r\n" + body)
    pieces = [event.data for event in events if isinstance(event, mp.Body)]
    assert [len(piece) for piece in pieces] == [65535, 65535, len(body) - 2 * 65535]
    assert pieces[0].endswith(b"\r")
    assert b"".join(pieces) == body
    assert bed.delivery().body == body


def test_long_header(bed: Bed) -> None:
    """Postfix cuts a header so that it stays below 64 KiB."""
    value = b"".join(b"%060d\r\n\t" % number for number in range(1300))
    with bed.filter() as filter_:
        header, *_ = one_message(bed, filter_, b"X-Long: " + value + b"end\r\n" + HEADER)
    assert isinstance(header, mp.Header)
    assert 59000 < len(header.value) < 65535
    bed.delivery()


def test_skip(bed: Bed) -> None:
    """After Skip no more body comes, and the message goes on whole."""
    body = b"".join(b"%061d.\r\n" % number for number in range(4000))
    with bed.filter({mp.Body: [mp.Skip()]}) as filter_:
        events = one_message(bed, filter_, HEADER + b"\r\n" + body)
    assert [len(event.data) for event in events if isinstance(event, mp.Body)] == [65535]
    assert events[-1] == mp.EndOfMessage()
    assert bed.delivery().body == body


def test_several_transactions(bed: Bed) -> None:
    """Messages on one connection are counted, and each has its own events and macros."""
    with bed.filter() as filter_, bed.client() as client:
        for number in (1, 2, 3):
            content = HEADER + b"\r\nbody %d\r\n" % number
            assert client.message(content, b"<a%d@example.org>" % number).startswith(b"250 ")
        client.quit()
    session = filter_.session
    assert session.kinds == [
        *START,
        *[*MESSAGE, "Abort"] * 2,
        *MESSAGE,
        *END,
    ]
    assert [one.transaction for one in session.of(mp.EndOfMessage)] == [1, 2, 3]
    assert {one.transaction for one in session.of(mp.Abort)} == {0}
    assert len({one.macros[b"i"] for one in session.of(mp.EndOfMessage)}) == 3
    assert [one.macros[b"{mail_addr}"] for one in session.of(mp.RcptTo)] == [
        b"a1@example.org",
        b"a2@example.org",
        b"a3@example.org",
    ]
    bodies = {bed.delivery().body for _ in range(3)}
    assert bodies == {b"body %d\r\n" % number for number in (1, 2, 3)}


def test_nothing_of_a_message_shows_in_the_next(bed: Bed) -> None:
    """A new message begins with the macros of connection and MAIL only."""
    with bed.filter() as filter_, bed.client() as client:
        client.message(HEADER + b"\r\nbody\r\n", recipients=[b"<b@example.test>"] * 2)
        client.envelope()
        client.must(b"250", b"RSET")
        client.envelope(b"<>")
        client.quit()
    first, second, third = filter_.session.of(mp.MailFrom)
    connection = {b"j", b"_", b"{daemon_name}", b"{daemon_addr}", b"v"}
    mail = {b"{mail_addr}", b"{mail_host}", b"{mail_mailer}"}
    for one in (first, second, third):
        assert set(one.macros) == connection | mail
    assert third.macros[b"{mail_addr}"] == b""
    for one in filter_.session.of(mp.Abort):
        assert set(one.macros) == connection
    bed.delivery()


def test_queue_id_is_late(bed: Bed) -> None:
    """Postfix knows ``i`` from the second recipient on, so that it is no key for a message."""
    with bed.filter() as filter_, bed.client() as client:
        client.message(recipients=[b"<b@example.test>", b"<c@example.test>"])
        client.quit()
    session = filter_.session
    assert b"i" not in session.of(mp.MailFrom)[0].macros
    first, second = session.of(mp.RcptTo)
    assert b"i" not in first.macros
    assert first.macros[b"{rcpt_addr}"] == b"b@example.test"
    assert second.macros[b"{rcpt_addr}"] == b"c@example.test"
    queue_id = second.macros[b"i"]
    for kind in (mp.Data, mp.Header, mp.EndOfHeaders, mp.Body, mp.EndOfMessage):
        assert session.of(kind)[0].macros[b"i"] == queue_id
    bed.delivery()


def test_rset_within_a_message(bed: Bed) -> None:
    """RSET drops the message; connection and HELO stand, and the next message is a new one."""
    with bed.filter() as filter_, bed.client() as client:
        client.envelope()
        client.must(b"250", b"RSET")
        client.must(b"250", b"RSET")
        client.message(HEADER + b"\r\nbody\r\n", b"<c@example.org>")
        client.quit()
    session = filter_.session
    assert session.kinds == [*START, "MailFrom", "RcptTo", "Abort", *MESSAGE, *END]
    assert [one.transaction for one in session.of(mp.MailFrom)] == [1, 2]
    assert bed.delivery().sender == b"<c@example.org>"


def test_ehlo_within_a_message(bed: Bed) -> None:
    """Postfix tells the new HELO first and then the end of the old message, twice."""
    with bed.filter() as filter_, bed.client() as client:
        client.envelope()
        client.must(b"250", b"EHLO again.test")
        client.message(HEADER + b"\r\nbody\r\n")
        client.quit()
    session = filter_.session
    assert session.kinds == [
        *START,
        *["MailFrom", "RcptTo", "Helo", "Abort", "Abort"],
        *MESSAGE,
        *END,
    ]
    assert [one.transaction for one in session.of(mp.Helo)] == [0, 0]
    assert [one.transaction for one in session.of(mp.MailFrom)] == [1, 2]
    bed.delivery()


def test_no_helo_at_all(bed: Bed) -> None:
    """A client may go straight to MAIL."""
    with bed.filter() as filter_, bed.client(helo=b"") as client:
        client.message(HEADER + b"\r\nbody\r\n")
        client.quit()
    kinds = filter_.session.kinds
    assert kinds[: len(MESSAGE) + 2] == ["Negotiate", "Connect", *MESSAGE]
    bed.delivery()


@pytest.mark.parametrize("commands", range(4), ids=["EHLO", "MAIL", "RCPT", "DATA"])
def test_client_vanishes(bed: Bed, commands: int) -> None:
    """However far the client had come, the filter's session ends in order."""
    with bed.filter() as filter_, bed.client() as client:
        lines = (b"MAIL FROM:<a@example.org>", b"RCPT TO:<b@example.test>", b"DATA")
        for line in lines[:commands]:
            client.command(line)
    kinds = filter_.session.kinds
    assert kinds[: 3 + commands] == [*START, *MESSAGE[:commands]]
    assert set(kinds[3 + commands : -2]) == {"Abort"}
    assert kinds[-2:] == ["Quit", "ConnectionClosed"]
    assert filter_.session.seen[-1].transaction == 0


def test_client_vanishes_within_the_content(bed: Bed) -> None:
    """A message that was cut off is not delivered, and ends by Abort."""
    with bed.filter() as filter_, bed.client() as client:
        client.envelope()
        client.must(b"354", b"DATA")
        client.send(HEADER + b"\r\nfirst line\r\n")
    kinds = filter_.session.kinds
    assert "EndOfMessage" not in kinds
    assert kinds[-3:] == ["Abort", "Quit", "ConnectionClosed"]


def test_bdat(bed: Bed) -> None:
    """A message sent in chunks looks like any other, with one Data event."""
    with bed.filter() as filter_, bed.client() as client:
        client.envelope()
        content = HEADER + b"\r\nbody\r\n"
        client.send(b"BDAT %d\r\n" % len(content) + content)
        assert client.reply()[:4] == b"250 "
        assert client.command(b"BDAT 0 LAST").startswith(b"250 ")
        client.quit()
    assert filter_.session.kinds == [*START, *MESSAGE, *END]
    assert bed.delivery().content.endswith(content)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        (
            b"NAME=mail.example.org ADDR=192.0.2.1 PORT=4321",
            mp.Connect(b"mail.example.org", mp.Family.INET, 4321, b"192.0.2.1"),
        ),
        (
            b"NAME=[UNAVAILABLE] ADDR=IPV6:2001:db8::1 PORT=[UNAVAILABLE]",
            mp.Connect(b"[2001:db8::1]", mp.Family.INET6, 0, b"2001:db8::1"),
        ),
        (
            # Postfix calls this an IPv4 address all the same.
            b"NAME=[UNAVAILABLE] ADDR=[UNAVAILABLE] PORT=[UNAVAILABLE]",
            mp.Connect(b"unknown", mp.Family.INET, 0, b"unknown"),
        ),
    ],
    ids=["IPv4", "IPv6", "unknown"],
)
def test_xclient(bed: Bed, attributes: bytes, expected: mp.Connect) -> None:
    """XCLIENT ends the filter's connection, and a new one has the new client's address."""
    if expected.family is mp.Family.INET6:
        try:
            socket.socket(socket.AF_INET6).close()
        except OSError:
            pytest.skip("this machine has no IPv6, so Postfix takes no such address")
    with bed.filter() as filter_, bed.client("xclient") as client:
        client.must(b"220", b"XCLIENT " + attributes)
        client.must(b"250", b"EHLO other.test")
        client.message(HEADER + b"\r\nbody\r\n")
        client.quit()
    old, new = filter_.sessions
    assert old.kinds == [*START, "Abort", "Quit", "ConnectionClosed"]
    assert new.kinds == [*START, *MESSAGE, *END]
    assert new.events[1] == expected
    bed.delivery()


def test_starttls(bed: Bed) -> None:
    """After STARTTLS there is a second HELO, with the TLS macros, and then all goes on."""
    with bed.filter() as filter_, bed.client("tls") as client:
        client.start_tls()
        client.must(b"250", b"EHLO secret.test")
        client.message(HEADER + b"\r\nbody\r\n")
        client.quit()
    session = filter_.session
    assert session.kinds == [*START, "Abort", "Helo", *MESSAGE, *END]
    plain, secret = session.of(mp.Helo)
    assert plain.event == mp.Helo(b"client.test")
    assert secret.event == mp.Helo(b"secret.test")
    names = {b"{tls_version}", b"{cipher}", b"{cipher_bits}"}
    assert names.isdisjoint(plain.macros)
    for one in (secret, *session.of(mp.MailFrom), *session.of(mp.EndOfMessage)):
        assert names <= set(one.macros)
        assert one.macros[b"{tls_version}"].startswith(b"TLSv1.")
    bed.delivery()


@pytest.mark.parametrize("wanted", [False, True], ids=["unwanted", "wanted"])
def test_recipient_that_postfix_refuses(bed: Bed, wanted: bool) -> None:
    """Such a recipient is shown on request only, and then with the mailer ``error``."""
    with bed.filter(wants=mp.Wants(rejected_recipients=wanted)) as filter_, bed.client() as client:
        client.must(b"250", b"MAIL FROM:<a@example.org>")
        client.must(b"550 5.7.1", b"RCPT TO:<unwanted@example.test>")
        client.must(b"250", b"RCPT TO:<b@example.test>")
        client.must(b"354", b"DATA")
        client.content(HEADER + b"\r\nbody\r\n")
        client.quit()
    recipients = filter_.session.of(mp.RcptTo)
    assert [one.macros[b"{rcpt_mailer}"] for one in recipients] == [
        *([b"error"] if wanted else []),
        b"smtp",
    ]
    assert bed.delivery().addresses == [b"<b@example.test>"]


@pytest.mark.parametrize("version", [2, 3, 4, 6])
def test_versions(bed: Bed, version: int) -> None:
    """Each milter_protocol brings the events of its version, and edits reach the message."""
    answers: Answers = {mp.EndOfMessage: [mp.AddHeader(b"X-F", b"yes"), mp.Accept()]}
    with bed.filter(answers) as filter_, bed.client(f"v{version}") as client:
        client.command(b"FROBNICATE")
        client.message(HEADER + b"\r\nbody\r\n")
        client.quit()
    session = filter_.session
    assert session.events[0] == mp.offer(version)
    expected = [*START, *(["Unknown"] if version > 2 else []), *MESSAGE]
    if version < 4:
        expected.remove("Data")
    assert session.kinds == [*expected, *END]
    assert bed.delivery().values(b"X-F") == [b" yes"]


@pytest.mark.parametrize("version", [2, 3, 4])
def test_wishes_that_an_old_version_lacks(bed: Bed, version: int) -> None:
    """A filter that wants silence, skipping and lists is told by our_turn to answer all."""
    wants = mp.Wants(replies=(), macros={mp.Stage.EOM: [b"i"]}, leading_space=True)
    with bed.filter(wants=wants) as filter_, bed.client(f"v{version}") as client:
        client.message(HEADER + b"\r\nbody\r\n")
        client.quit()
    session = filter_.session
    silent = {mp.Negotiate, mp.Macros, mp.Abort, mp.Quit, mp.ConnectionClosed}
    for one in session.seen:
        assert one.due == (type(one.event) not in silent - {mp.Negotiate})
    assert session.of(mp.Header)[0].event == mp.Header(b"Subject", b"hello")
    bed.delivery()


@pytest.mark.parametrize("older", [2, 3, 4])
def test_filter_that_is_older_than_postfix(bed: Bed, older: int) -> None:
    """Postfix takes an answer with an older version, and keeps back that version's later events."""

    def handle(conn: mp.FilterConnection, event: Event) -> Sequence[mp.Response] | None:
        if isinstance(event, mp.Negotiate):
            offer = mp.offer(older)
            return [mp.Negotiate(older, mp.Actions(0), mp.Steps(0) & offer.steps)]
        return None

    with bed.filter(handle) as filter_, bed.client() as client:
        client.command(b"FROBNICATE")
        client.message(HEADER + b"\r\nbody\r\n")
        client.quit()
    expected = [*START, *(["Unknown"] if older > 2 else []), *MESSAGE]
    if older < 4:
        expected.remove("Data")
    assert filter_.session.kinds == [*expected, *END]
    bed.delivery()


EVENTS: list[mp.OptionalEvent] = [
    mp.Connect,
    mp.Helo,
    mp.MailFrom,
    mp.RcptTo,
    mp.Data,
    mp.Header,
    mp.EndOfHeaders,
    mp.Body,
    mp.Unknown,
]
ALL = ["Negotiate", "Connect", "Helo", "Unknown", *MESSAGE]


def two_messages(bed: Bed, wants: mp.Wants) -> Filter:
    """A session with an unknown command and two messages; both must be delivered."""
    with bed.filter(wants=wants) as filter_, bed.client() as client:
        client.command(b"FROBNICATE")
        for _ in range(2):
            assert client.message(HEADER + b"\r\nbody\r\n").startswith(b"250 ")
        client.quit()
    assert [bed.delivery().body for _ in range(2)] == [b"body\r\n"] * 2
    return filter_


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
def test_an_event_that_is_not_wanted(bed: Bed, kind: mp.OptionalEvent) -> None:
    """It does not come, and all others do, in both messages."""
    wants = mp.Wants(events=[event for event in EVENTS if event is not kind])
    session = two_messages(bed, wants).session
    message = [name for name in MESSAGE if name != kind.__name__]
    start = [name for name in [*START, "Unknown"] if name != kind.__name__]
    assert [name for name in session.kinds if name != "Abort"] == [
        *start,
        *message,
        *message,
        *END[2:],
    ]
    assert [one.transaction for one in session.of(mp.EndOfMessage)] == [1, 2]


def test_no_event_is_wanted(bed: Bed) -> None:
    """A filter that wants nothing still gets the end of each message, and counts them."""
    session = two_messages(bed, mp.Wants(events=())).session
    kinds = [name for name in session.kinds if name != "Abort"]
    assert kinds == ["Negotiate", "EndOfMessage", "EndOfMessage", "Quit", "ConnectionClosed"]
    assert [one.transaction for one in session.of(mp.EndOfMessage)] == [1, 2]
    first, second = (one.macros[b"i"] for one in session.of(mp.EndOfMessage))
    assert first != second


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
def test_an_event_that_is_not_answered(bed: Bed, kind: mp.OptionalEvent) -> None:
    """It comes, is never our turn, and all others are answered."""
    wants = mp.Wants(replies=[event for event in EVENTS if event is not kind])
    session = two_messages(bed, wants).session
    assert [name for name in session.kinds if name != "Abort"] == [*ALL, *MESSAGE, *END[2:]]
    assert {one.due for one in session.of(kind)} == {False}
    for other in EVENTS:
        if other is not kind:
            assert {one.due for one in session.of(other)} == {True}


def test_no_event_is_answered(bed: Bed) -> None:
    """Only the negotiation and the ends of the messages are answered."""
    session = two_messages(bed, mp.Wants(replies=())).session
    assert [name for name in session.kinds if name != "Abort"] == [*ALL, *MESSAGE, *END[2:]]
    answered = [type(one.event) for one in session.seen if one.due]
    assert answered == [mp.Negotiate, mp.EndOfMessage, mp.EndOfMessage]
    # Postfix then writes many frames at once.
    assert len([chunk for way, chunk in session.chunks if way == ">"]) < len(session.seen) / 2


def test_macro_lists(bed: Bed) -> None:
    """At the stages of a list just the macros in it come; the others keep their own."""
    lists = {
        mp.Stage.CONNECT: [b"{client_addr}", b"j"],
        mp.Stage.MAIL: [b"mail_addr"],
        mp.Stage.RCPT: [b"{rcpt_addr}", b"{client_name}"],
        mp.Stage.DATA: [b"i", b"{daemon_name}"],
        mp.Stage.EOM: [b"v", b"i"],
        mp.Stage.EOH: [b"j"],
    }
    with bed.filter(wants=mp.Wants(macros=lists)) as filter_, bed.client() as client:
        client.message(HEADER + b"\r\nbody\r\n")
        client.quit()
    sent = {
        macros.command: set(macros.values)
        for one in filter_.session.of(mp.Macros)
        if isinstance(macros := one.event, mp.Macros)
    }
    assert sent == {
        b"C": {b"{client_addr}", b"j"},
        b"H": set(),
        b"M": {b"{mail_addr}"},
        b"R": {b"{rcpt_addr}", b"{client_name}"},
        b"T": {b"i", b"{daemon_name}"},
        b"L": {b"j"},
        b"N": {b"j"},
        b"B": {b"v", b"i"},
        b"E": {b"v", b"i"},
    }
    bed.delivery()


def test_macro_list_for_one_stage(bed: Bed) -> None:
    """A list for EOM alone goes out with one for EOH, and leaves other stages alone."""
    wants = mp.Wants(macros={mp.Stage.EOM: [b"i", b"v"]})
    with bed.filter(wants=wants) as filter_, bed.client() as client:
        client.message(HEADER + b"\r\nbody\r\n")
        client.quit()
    sent = {
        macros.command: set(macros.values)
        for one in filter_.session.of(mp.Macros)
        if isinstance(macros := one.event, mp.Macros)
    }
    assert sent[b"E"] == sent[b"N"] == {b"i", b"v"}
    assert sent[b"M"] == {b"{mail_addr}", b"{mail_host}", b"{mail_mailer}"}
    bed.delivery()


def test_filter_over_tcp(bed: Bed) -> None:
    """A filter on a loopback port works as one on a unix socket does."""
    answers: Answers = {mp.EndOfMessage: [mp.AddHeader(b"X-F", b"yes"), mp.Continue()]}
    with bed.filter(answers) as filter_, bed.client("inet") as client:
        client.message(HEADER + b"\r\nbody\r\n")
        client.quit()
    assert filter_.session.kinds == [*START, *MESSAGE, *END]
    assert bed.delivery().values(b"X-F") == [b" yes"]


def test_two_clients_at_once(bed: Bed) -> None:
    """Sessions at the same time know nothing of one another."""
    with bed.filter() as filter_, bed.client() as one, bed.client() as two:
        one.envelope(b"<one@example.org>")
        two.envelope(b"<two@example.org>")
        for client in (two, one):
            client.must(b"354", b"DATA")
            assert client.content(HEADER + b"\r\nbody\r\n").startswith(b"250 ")
            client.quit()
    assert [session.kinds for session in filter_.sessions] == [[*START, *MESSAGE, *END]] * 2
    senders = [session.of(mp.EndOfMessage)[0].macros for session in filter_.sessions]
    assert senders[0][b"i"] != senders[1][b"i"]
    assert {bed.delivery().sender for _ in range(2)} == {
        b"<one@example.org>",
        b"<two@example.org>",
    }


def test_smtplib(bed: Bed) -> None:
    """Python's own SMTP client is told of a refusal just as the filter meant it."""

    def handle(conn: mp.FilterConnection, event: Event) -> Sequence[mp.Response] | None:
        if event == mp.RcptTo(b"<c@example.test>"):
            return [mp.ReplyCode.text(550, "5.1.1", "who?", "100% unknown")]
        return None

    port = bed.postfix.ports["v6"]
    recipients = ["b@example.test", "c@example.test"]
    with bed.filter(handle), smtplib.SMTP("127.0.0.1", port, "client.test", PATIENCE) as smtp:
        refused = smtp.sendmail("a@example.org", recipients, "Subject: hello\r\n\r\nbody\r\n")
    assert refused == {"c@example.test": (550, b"5.1.1 who?\n5.1.1 100% unknown")}
    assert bed.delivery().addresses == [b"<b@example.test>"]


def test_data_that_another_filter_refuses_may_come_again(bed: Bed) -> None:
    """The filter before it has taken DATA already, and nothing tells it of the refusal."""
    filters: list[mp.FilterConnection] = []
    refusals = 1

    def handle(conn: mp.FilterConnection, event: Event) -> list[mp.Response] | None:
        nonlocal refusals
        if isinstance(event, mp.Negotiate):
            filters.append(conn)
        if isinstance(event, mp.Data) and conn is filters[1] and refusals:
            refusals -= 1
            return [mp.TempFail()]
        return None

    with bed.filter(handle) as filter_, bed.client("two") as client:
        client.envelope()
        client.must(b"451", b"DATA")
        client.must(b"250", b"RCPT TO:<c@example.test>")
        client.must(b"354", b"DATA")
        client.must(b"250", b"Subject: hello\r\n\r\nbody\r\n.")
        client.quit()
    first, second = filter_.sessions
    envelope = ["MailFrom", "RcptTo", "Data", "RcptTo", "Data"]
    for session in (first, second):
        at = session.kinds.index("MailFrom")
        assert session.kinds[at : at + len(envelope)] == envelope
    assert bed.delivery().addresses == [b"<b@example.test>", b"<c@example.test>"]
