"""Targets: both roles of nginx's auth_http, what each makes of the other, and XCLIENT."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import attrs

import nginxauth as na
from nginxauth import xclient as xc

from .source import Source, taken_apart
from .stream import buffered, check, refused

SMALL: Final = 400

REPLIES: Final[Sequence[na.Reply]] = (
    na.Deny(b"no"),
    na.Allow(b"192.0.2.7", 10025),
    na.Allow(b"::1", 1, b"other", b"secret"),
    na.Wait(1),
    na.Deny(b"later", b"451 4.3.0", 3),
    na.Deny(b"no", b"550", 0, b'{"status":"401"}'),
    na.Allow(b"localhost", 1),
    na.Allow(b"192.0.2.7", 0),
    na.Deny(b"caf\xc3\xa9"),
    na.Wait(0),
    na.Deny(b"x" * 1100),
    na.Allow(b"192.0.2.7", 1, b"", b""),
    na.Allow(b"192.0.2.7", 1, b" x"),
)
PLAIN: Final = na.AuthRequest(b"plain", b"u", b"p w%", b"smtp", 1, b"192.0.2.1", b"[UNAVAILABLE]")
REQUESTS: Final[Sequence[na.AuthRequest]] = (
    PLAIN,
    attrs.evolve(PLAIN, protocol=b"imap", client_host=None),
    attrs.evolve(PLAIN, method=b"cram-md5", salt=b"<1@x>", protocol=b"pop3", client_host=None),
    attrs.evolve(PLAIN, method=b"apop", salt=b"<1@x>", protocol=b"pop3", client_host=None),
    attrs.evolve(PLAIN, method=b"xoauth2"),
    attrs.evolve(
        PLAIN,
        method=b"none",
        user=b"",
        password=b"",
        envelope=na.Envelope(b"h", b"MAIL FROM:<a@b>", b"RCPT TO:<c@d>"),
    ),
    attrs.evolve(PLAIN, method=b"external", password=b"", tls=na.TLS(verify=b"SUCCESS")),
    attrs.evolve(PLAIN, protocol=b"imap", method=b"external", tls=na.TLS(verify=b"SUCCESS")),
    attrs.evolve(PLAIN, user=b"\0\xff\r\n", headers=((b"X-A", b"b"),)),
    attrs.evolve(PLAIN, client_ip=b"a\nb"),
)


def linked(request: na.AuthRequest, replies: Sequence[na.Reply]) -> None:
    """What our client sends for a request, our server understands; and the other way round."""
    client = na.ClientConnection(b"h", b"/a")
    data = refused(client, na.LocalProtocolError, request)
    assert client.our_turn is (data is None)
    if data is None:
        return
    server = na.ServerConnection(allow_controls=True)
    server.receive_data(data)
    try:
        again = server.next_event()
    except na.RemoteProtocolError:
        # h11 takes neither, and says so.
        assert any(byte in data for byte in b"\v\f")
        return
    assert server.our_turn
    if type(again) is na.AuthRequest:
        # Of an earlier attempt, and dropped; nginx sends them all the same.
        user = b"" if request.method == b"none" else request.user
        password = b"" if request.method in (b"none", b"external") else request.password
        assert again == attrs.evolve(request, user=user, password=password)
        for reply in replies:
            judged(again, reply)
    else:
        assert type(again) is na.Malformed


def judged(request: na.AuthRequest, reply: na.Reply) -> None:
    """A reply that may be sent is to nginx what it says."""
    client = na.ClientConnection(b"h", b"/a")
    server = na.ServerConnection(allow_controls=True)
    server.receive_data(client.send(request))
    server.next_event()
    data = refused(server, na.LocalProtocolError, reply)
    assert server.our_turn is (data is None)
    assert not client.our_turn
    if data is None:
        return
    client.receive_data(data)
    event = client.next_event()
    assert client.state is server.state is na.State.CLOSED
    # Of another protocol nobody knows what its replies look like; nor is it wrong to refuse with
    # somebody else's "ok", only odd.
    known = request.protocol in (b"smtp", b"imap", b"pop3") and reply in REPLIES
    assert client.warnings == () or not known
    if type(reply) is na.Deny and type(event) is na.Deny:
        # The message gains its bracket, the wait may be left out; only SMTP has codes.
        assert event.wait in (0, reply.wait)
        assert event.message.endswith(reply.message)
        assert event.code == (reply.code if request.protocol == b"smtp" else b"")
        assert event.challenge == reply.challenge
    else:
        assert event == reply, f"{reply!r} was sent, and is {event!r}"


class Server:
    """Answers the one request."""

    remote_error: type[Exception] = na.RemoteProtocolError

    def __init__(self, source: Source) -> None:
        self.source = source
        options = source.byte()
        self.limit = SMALL if options & 1 else na.DEFAULT_MAX_REQUEST
        self.conn = na.ServerConnection(max_request=self.limit, allow_controls=bool(options & 2))

    def held(self) -> int:
        # What h11 has got, a body's pieces for one, is no longer held, but it counts.
        assert self.conn._room >= 0
        return buffered(self.conn._buffer)

    def ask(self) -> Any:
        return None

    def answer(self, event: Any) -> Any:
        conn, seen = self.conn, []
        if type(event) is na.ConnectionClosed:
            return None
        if type(event) is na.AuthRequest:
            linked(event, REPLIES)
        for reply in [self.source.choice(REPLIES) for _ in range(3)]:
            sent = refused(conn, na.LocalProtocolError, reply) if conn.our_turn else b""
            seen.append(sent)
        if conn.our_turn:
            reply = event.reply if type(event) is na.Malformed else na.Deny(b"no")
            seen.append(conn.send(reply))
        return seen


class Client:
    """Asks one thing."""

    remote_error: type[Exception] = na.RemoteProtocolError
    limit = na.MAX_REPLY + 1

    def __init__(self, source: Source) -> None:
        self.source = source
        self.conn = na.ClientConnection()
        self.request: na.AuthRequest | None = None

    def held(self) -> int:
        return buffered(self.conn._buffer)

    def ask(self) -> Any:
        if self.request is not None:
            return None
        request = self.source.choice(REQUESTS)
        data = refused(self.conn, na.LocalProtocolError, request)
        if data is not None:
            self.request = request
        return data

    def answer(self, event: Any) -> Any:
        if self.request is not None and type(event) is not na.ConnectionClosed:
            linked(self.request, [event])
        if self.request is not None and type(event) is na.Deny:
            return [na.mail_reply(event, self.request.protocol), self.conn.warnings]
        return self.conn.warnings


def server(data: bytes) -> None:
    check(Server, data)


def client(data: bytes) -> None:
    check(Client, data)


# --- XCLIENT -------------------------------------------------------------------------------

OFFERS: Final = (
    xc.EVERYTHING,
    xc.Offer((b"NAME", b"ADDR"), ()),
    xc.Offer((b"NAME", b"ADDR", b"PROTO", b"HELO"), (b"NAME", b"ADDR", b"IDENT", b"SOURCE")),
    xc.Offer(),
)
WAYS: Final = (xc.Xtext.STRICT, xc.Xtext.POSTFIX, xc.Xtext.RAW)


def xclient(data: bytes) -> None:
    """Every line is a command, and all of them together the reply to an EHLO."""
    script, stream = taken_apart(data)
    source = Source(script)
    offer = xc.parse_ehlo(stream)
    try:
        lines = xc.ehlo_lines(offer)
    except xc.LocalProtocolError:
        pass
    else:
        assert xc.parse_ehlo(b"250-mx\r\n" + b"\r\n".join(lines)) == offer
    for how in WAYS:
        value = xc.decode_xtext(stream, how)
        if value is not None:
            assert xc.decode_xtext(xc.encode_xtext(value)) == value
    how, lenient = source.choice(WAYS), bool(source.byte() & 1)
    receiver = xc.Receiver(
        source.choice(OFFERS), xtext=how, lenient=lenient, max_line=source.choice((2048, 60))
    )
    for line in stream.split(b"\n"):
        options = source.byte()
        before = receiver.client, receiver.forwarded, receiver.offer
        done = receiver.receive(line, in_transaction=options & 6 == 6, pipelined=options & 24 == 24)
        if type(done) is xc.Refused:
            assert (receiver.client, receiver.forwarded, receiver.offer) == before
            assert done.reply[:1] in (b"4", b"5")
            assert not any(byte < 0x20 for byte in done.reply)
        if options & 32:
            receiver.end_transaction()
        command = xc.parse_command(line, xtext=how, lenient=lenient)
        if type(command) is not xc.Refused:
            planned(command, source.choice((xc.POSTFIX, *xc.PROFILES)))


def planned(command: xc.Command, profile: xc.Profile) -> None:
    """What is sent for a command means that command, once it has been written our way."""
    try:
        plan = xc.plan(command, xc.EVERYTHING, profile)
    except xc.LocalProtocolError:
        return
    told: dict[str, Any] = {}
    for line in plan.commands:
        assert len(line) <= xc.MAX_COMMAND
        part = xc.parse_command(line)
        assert type(part) is type(command), f"{line!r} is {part!r}"
        told |= {
            name: value
            for name, value in attrs.asdict(part, recurse=False).items()
            if value is not None
        }
    again = type(command)(**told)
    assert xc.plan(again, xc.EVERYTHING, profile).commands == plan.commands if told else True
    left_out = {one.attribute.decode().lower() for one in plan.omitted}
    names = {
        name for name, value in attrs.asdict(command, recurse=False).items() if value is not None
    }
    assert names == set(told) | left_out
