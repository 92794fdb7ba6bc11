from typing import Any

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import nginxauth as ng
from nginxauth._reply import STATUS

from .strategies import REQUEST, replies, requests

IMAP = attrs.evolve(REQUEST, protocol=b"imap", client_host=None)
POP3 = attrs.evolve(IMAP, protocol=b"pop3")
CRAM = attrs.evolve(REQUEST, method=ng.CRAM_MD5, salt=b"<1.2@mx.test>")
MALFORMED = ng.Malformed(b"", "broken", ng.Deny(b"no"))
BACKEND = ng.Allow(b"192.0.2.7", 10025)
NO = ng.Deny(b"no")


def size(headers: ng.Headers) -> int:
    """Of the whole head, as it goes out."""
    return len(STATUS + b"".join(b"%b: %b\r\n" % header for header in headers) + b"\r\n")


def refused(reply: Any, request: Any = REQUEST, reserve: int = 0) -> str:
    with pytest.raises(ng.LocalProtocolError) as caught:
        ng.reply_headers(reply, request, reserve)
    return str(caught.value)


def decoded(headers: ng.Headers) -> ng.Reply:
    """What nginx makes of a reply to an SMTP session, as the reference has it."""
    fields = dict(headers)
    assert len(fields) == len(headers)
    wait = int(fields.pop(b"Auth-Wait", b"0"))
    match fields.pop(b"Auth-Status"):
        case b"OK":
            server, port = fields.pop(b"Auth-Server"), int(fields.pop(b"Auth-Port"))
            user, password = fields.pop(b"Auth-User", None), fields.pop(b"Auth-Pass", None)
            reply: ng.Reply = ng.Allow(server, port, user, password)
            assert not wait
        case b"WAIT":
            reply = ng.Wait(wait)
        case message:
            reply = ng.Deny(message, fields.pop(b"Auth-Error-Code", b""), wait)
    assert not fields
    return reply


@given(replies)
def test_what_is_sent_is_what_was_meant(reply: ng.Reply) -> None:
    """By nginx's own reading."""
    try:
        headers = ng.reply_headers(reply, REQUEST)
    except ng.LocalProtocolError:
        # What was drawn may be one of the two words that are no refusal.
        assert reply.message in (b"OK", b"WAIT")  # type: ignore[union-attr]
        return
    assert decoded(headers) == reply


anything = st.none() | st.binary(max_size=8) | st.integers() | st.text(max_size=3)
wild = st.one_of(
    st.builds(ng.Allow, anything, anything, anything, anything),
    st.builds(ng.Deny, anything, anything, anything, anything),
    st.builds(ng.Wait, anything),
    st.just(ng.ConnectionClosed()),
)


@given(wild | replies, requests | st.just(MALFORMED))
def test_whatever_is_asked_for(reply: Any, request: Any) -> None:
    """It is sent in a form that nginx can take in one way only, or LocalProtocolError."""
    try:
        headers = ng.reply_headers(reply, request)
    except ng.LocalProtocolError:
        return
    assert size(headers) <= 1024
    fields = dict(headers)
    assert len(fields) == len(headers)
    for value in fields.values():
        assert not set(value) & {*range(0x20), 0x7F}
        assert value == value.strip()
    status = fields[b"Auth-Status"]
    assert status
    assert (status == b"OK") == (b"Auth-Server" in fields) == (b"Auth-Port" in fields)
    assert (status == b"OK") == isinstance(reply, ng.Allow)
    assert (status == b"WAIT") == isinstance(reply, ng.Wait)
    assert status != b"WAIT" or int(fields[b"Auth-Wait"]) > 0


# --- Allow


def test_allow() -> None:
    """In the order of the samples."""
    reply = attrs.evolve(BACKEND, user=b"b\xc3\xb6b 100%20", password=b"p%ss w")
    assert ng.reply_headers(BACKEND, REQUEST) == (
        (b"Auth-Status", b"OK"),
        (b"Auth-Server", b"192.0.2.7"),
        (b"Auth-Port", b"10025"),
    )
    assert ng.reply_headers(reply, REQUEST)[3:] == (
        (b"Auth-User", b"b\xc3\xb6b 100%20"),
        (b"Auth-Pass", b"p%ss w"),
    )


@pytest.mark.parametrize("server", [b"::1", b"2001:db8:0:0::9", b"::ffff:192.0.2.1", b"0.0.0.0"])
def test_addresses(server: bytes) -> None:
    """As nginx takes them."""
    assert ng.reply_headers(attrs.evolve(BACKEND, server=server), REQUEST)[1][1] == server


@pytest.mark.parametrize(
    "server",
    [
        b"", b"localhost", b"mail.example", b"[::1]", b"127.1", b"2130706433", b"fe80::1%eth0",
        b"unix:/x", b"127.0.0.1:25", b" 127.0.0.1", b"127.0.0.1\n", b"127.000.0.1", b"\xff", b"x",
        "127.0.0.1", 2130706433, None, b"\x7f\0\0\1", b"192.0.2.0/24", b"::1%",
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_address(server: Any) -> None:
    """nginx resolves nothing."""
    assert "Allow.server" in refused(attrs.evolve(BACKEND, server=server))


@pytest.mark.parametrize(
    "server",
    [b"255.255.255.255", b"::ffff:255.255.255.255", b"1:2:3:4:5:6:7::", b"1:2:3:4:5:6:7::%1"],
)
def test_addresses_that_nginx_does_not_take(server: bytes) -> None:
    """However good they look to others."""
    assert "Allow.server" in refused(attrs.evolve(BACKEND, server=server))


servers = st.one_of(
    st.ip_addresses().flatmap(
        lambda address: st.sampled_from([str(address), address.exploded]).map(str.encode)
    ),
    # Nearly one.
    st.lists(st.sampled_from([b"", b"1", b"0af", b"1.2.3.4", b"255.255.255.255"]), max_size=9).map(
        b":".join
    ),
    st.lists(st.sampled_from([b"", b"0", b"255", b"256", b"00"]), max_size=5).map(b".".join),
    st.text("0127.:afg%", max_size=24).map(str.encode),
)


@given(servers, requests)
@example(b"1:2:3:4:5:6:7::", REQUEST)
@example(b"255.255.255.255", REQUEST)
def test_where_we_send_him_is_where_nginx_goes(server: bytes, request: ng.AuthRequest) -> None:
    """By the rules of our client's side, which are nginx's: any address that we let pass."""
    reply = ng.Allow(server, 25, None, b"x")
    try:
        headers = ng.reply_headers(reply, request)
    except ng.LocalProtocolError:
        return
    conn = ng.ClientConnection()
    conn.send(attrs.evolve(REQUEST, protocol=request.protocol))
    conn.receive_data(STATUS + b"".join(b"%b: %b\r\n" % header for header in headers) + b"\r\n")
    assert conn.next_event() == reply


@pytest.mark.parametrize("port", [1, 65535], ids=repr)
def test_ports(port: int) -> None:
    """The first and the last."""
    headers = ng.reply_headers(attrs.evolve(BACKEND, port=port), REQUEST)
    assert headers[2] == (b"Auth-Port", str(port).encode())


@pytest.mark.parametrize("port", [0, -1, 65536, "25", b"25", 25.0, True, None], ids=repr)
def test_what_is_no_port(port: Any) -> None:
    """To nginx it would be an internal error."""
    assert "Allow.port" in refused(attrs.evolve(BACKEND, port=port))


@pytest.mark.parametrize("field", ["user", "password"])
@pytest.mark.parametrize(
    "value", [b" s3cret", b"s3cret ", b"s3\tcret", b"s3cret\r\nX", b"s3cret\0", b"s3cret\x7f"]
)
def test_credentials_that_can_not_be_expressed(field: str, value: bytes) -> None:
    """Replies have no escapes; the error does not show them."""
    changes: dict[str, Any] = {field: value}
    complaint = refused(attrs.evolve(BACKEND, **changes))
    assert f"Allow.{field}" in complaint
    assert "s3" not in complaint


@pytest.mark.parametrize("field", ["user", "password"])
@pytest.mark.parametrize("value", ["s3cret", 5], ids=repr)
def test_credentials_that_are_not_bytes(field: str, value: Any) -> None:
    """Nobody knows in which encoding they would be."""
    complaint = refused(attrs.evolve(BACKEND, **{field: value}))
    assert complaint == f"Allow.{field} has to be bytes"


def test_an_empty_user() -> None:
    """With it nginx leaves the login out of XCLIENT; elsewhere it would be a broken command."""
    reply = attrs.evolve(BACKEND, user=b"")
    assert (b"Auth-User", b"") in ng.reply_headers(reply, REQUEST)
    for request in (IMAP, POP3):
        assert "Allow.user is empty" in refused(reply, request)


@pytest.mark.parametrize("method", [ng.APOP, ng.CRAM_MD5, ng.EXTERNAL, ng.NONE])
@pytest.mark.parametrize("request_", [IMAP, POP3], ids=["imap", "pop3"])
def test_where_nginx_needs_a_password(method: bytes, request_: ng.AuthRequest) -> None:
    """It has none of the client's. SMTP needs none."""
    request = attrs.evolve(request_, method=method)
    assert "Allow.password is missing" in refused(BACKEND, request)
    assert "Allow.password is missing" in refused(attrs.evolve(BACKEND, password=b""), request)
    ng.reply_headers(attrs.evolve(BACKEND, password=b"x"), request)
    ng.reply_headers(BACKEND, attrs.evolve(request, protocol=b"smtp"))


def test_where_nginx_has_the_password() -> None:
    """But with a salt it has thrown it away, whatever the method."""
    for method in (ng.PLAIN, ng.XOAUTH2, ng.OAUTHBEARER):
        request = attrs.evolve(IMAP, method=method)
        ng.reply_headers(BACKEND, request)
        request = attrs.evolve(request, salt=b"<x>")
        assert "Allow.password is missing" in refused(BACKEND, request)


# --- Deny


def test_deny() -> None:
    """In the order of the samples."""
    reply = ng.Deny(b"Temporary server problem", b"451 4.3.0", 3)
    assert ng.reply_headers(reply, REQUEST) == (
        (b"Auth-Status", b"Temporary server problem"),
        (b"Auth-Error-Code", b"451 4.3.0"),
        (b"Auth-Wait", b"3"),
    )
    assert ng.reply_headers(NO, REQUEST) == ((b"Auth-Status", b"no"),)


@pytest.mark.parametrize("message", [b"OK", b"WAIT"], ids=repr)
@pytest.mark.parametrize("request_", [REQUEST, IMAP, POP3, MALFORMED], ids=repr)
def test_messages_that_nginx_takes_for_another_status(message: bytes, request_: Any) -> None:
    """For itself only."""
    assert "Deny.message" in refused(ng.Deny(message), request_)
    for other in (b"OK.", b"Ok", b"wait", b"OK WAIT", b"X"):
        ng.reply_headers(ng.Deny(other), request_)


@pytest.mark.parametrize(
    "message",
    [b"", b" ", b" OK", b"OK ", b"a\r\nAuth-Status: OK", b"a\0", b"\tOK", b"a\tb", b"\xc3\xa4"],
)
def test_messages_that_can_not_be_sent(message: bytes) -> None:
    """An empty one would let him in."""
    assert "Deny.message has to be printable ASCII" in refused(ng.Deny(message))


@pytest.mark.parametrize("message", ["no", None], ids=repr)
def test_a_message_that_is_not_bytes(message: Any) -> None:
    """It is said which field."""
    assert refused(ng.Deny(message)) == "Deny.message has to be bytes"


@pytest.mark.parametrize("code", [b"451", b"535 5.7.8", b"459 4.0.999", b"550 5.1.10"], ids=repr)
def test_codes(code: bytes) -> None:
    """With an enhanced one or without."""
    assert ng.reply_headers(ng.Deny(b"no", code), REQUEST)[1] == (b"Auth-Error-Code", code)


@pytest.mark.parametrize(
    "code",
    [
        b"250", b"354", b"560", b"45", b"4510", b"451 ", b"451 5.3.0", b"550 4.1.1", b"451 4.3",
        b"451 4.03.0", b"451 4.3.0 text", b"451-4.3.0", b"451  4.3.0", b"451\t4.3.0", b" 451",
        b"451 4.3.1000", b"x",
    ],
)  # fmt: skip
def test_what_is_no_code(code: bytes) -> None:
    """nginx would put anything before the message; 250, too."""
    assert "Deny.code is none of the form" in refused(ng.Deny(b"no", code))
    assert refused(ng.Deny(b"no", code), IMAP)


@pytest.mark.parametrize("code", ["451", None], ids=repr)
def test_a_code_that_is_not_bytes(code: Any) -> None:
    """Empty is the word for none."""
    assert refused(ng.Deny(b"no", code)) == "Deny.code has to be bytes"


@pytest.mark.parametrize(
    ("code", "imap", "pop3"),
    [
        (b"", b"no", b"no"),
        (b"451 4.3.0", b"[UNAVAILABLE] no", b"[SYS/TEMP] no"),
        (b"454", b"[UNAVAILABLE] no", b"[SYS/TEMP] no"),
        (b"535 5.7.8", b"[AUTHENTICATIONFAILED] no", b"[AUTH] no"),
        (b"550 5.7.1", b"no", b"no"),
    ],
)
def test_codes_in_the_words_of_other_protocols(code: bytes, imap: bytes, pop3: bytes) -> None:
    """Auth-Error-Code is nothing to them, and what is temporary must not look like a refusal."""
    reply = ng.Deny(b"no", code)
    assert ng.reply_headers(reply, IMAP) == ((b"Auth-Status", imap),)
    assert ng.reply_headers(reply, POP3) == ((b"Auth-Status", pop3),)


def test_a_message_that_has_its_word_already() -> None:
    """The user knows best."""
    reply = ng.Deny(b"[EXPIRED] change it", b"535 5.7.8")
    assert ng.reply_headers(reply, IMAP) == ((b"Auth-Status", b"[EXPIRED] change it"),)


@pytest.mark.parametrize("protocol", [b"submission", b"sieve"])
def test_protocols_that_nginx_does_not_have(protocol: bytes) -> None:
    """Dovecot's Lua scripts do; the code is theirs to use or not."""
    request = attrs.evolve(REQUEST, protocol=protocol)
    assert (b"Auth-Error-Code", b"451") in ng.reply_headers(ng.Deny(b"no", b"451"), request)
    ng.reply_headers(BACKEND, attrs.evolve(request, method=ng.EXTERNAL))


@pytest.mark.parametrize(("attempt", "waits"), [(1, True), (19, True), (20, False), (99, False)])
def test_a_wait_ends_after_some_attempts(attempt: int, waits: bool) -> None:
    """Without it nginx closes; it has no limit of its own."""
    request = attrs.evolve(REQUEST, attempt=attempt)
    headers = ng.reply_headers(ng.Deny(b"no", wait=3), request)
    assert (dict(headers).get(b"Auth-Wait") == b"3") is waits
    headers = ng.reply_headers(ng.Deny(b"no", wait=3), request, max_attempts=attempt + 1)
    assert (b"Auth-Wait", b"3") in headers


def test_no_wait_where_no_attempts_are_counted() -> None:
    """It would never end."""
    request = attrs.evolve(REQUEST, attempt=0)
    assert ng.reply_headers(ng.Deny(b"no", wait=3), request) == ((b"Auth-Status", b"no"),)


@pytest.mark.parametrize("method", [ng.APOP, ng.CRAM_MD5, ng.EXTERNAL, ng.NONE])
def test_no_wait_where_nginx_would_crash(method: bytes) -> None:
    """CVE-2026-27651: with a salt; nginx sends one with other methods, too."""
    request = attrs.evolve(CRAM, method=method)
    assert ng.reply_headers(ng.Deny(b"no", wait=3), request) == ((b"Auth-Status", b"no"),)


@pytest.mark.parametrize("method", [ng.APOP, ng.CRAM_MD5])
def test_no_wait_after_a_digest_without_its_salt(method: bytes) -> None:
    """Which only a request of one's own can be."""
    request = attrs.evolve(REQUEST, method=method)
    assert ng.reply_headers(ng.Deny(b"no", wait=3), request) == ((b"Auth-Status", b"no"),)
    assert "APOP and CRAM-MD5" in refused(ng.Wait(3), request)


@pytest.mark.parametrize("wait", [-1, 301, 1.5, "3", None, True], ids=repr)
def test_what_is_no_wait(wait: Any) -> None:
    """Whole seconds, and none is longer than a client waits."""
    assert "Deny.wait has to be from 1 to 300" in refused(ng.Deny(b"no", wait=wait))
    assert "Deny.wait" in refused(ng.Deny(b"no", wait=wait), CRAM)


@pytest.mark.parametrize("method", [ng.XOAUTH2, ng.OAUTHBEARER])
def test_a_challenge(method: bytes) -> None:
    """In base64, and last."""
    request = attrs.evolve(REQUEST, method=method)
    headers = ng.reply_headers(ng.Deny(b"no", b"", 1, b'{"status":"401"}'), request)
    assert headers[1:] == ((b"Auth-Wait", b"1"), (b"Auth-Error-SASL", b"eyJzdGF0dXMiOiI0MDEifQ=="))


@pytest.mark.parametrize("request_", [REQUEST, CRAM, MALFORMED], ids=["plain", "cram", "malformed"])
def test_a_challenge_for_others(request_: Any) -> None:
    """They have none to give."""
    complaint = refused(ng.Deny(b"no", challenge=b"{}"), request_)
    assert complaint == "Deny.challenge is for XOAUTH2 and OAUTHBEARER"


def test_a_challenge_that_is_not_bytes() -> None:
    """It is said which field."""
    assert refused(ng.Deny(b"no", challenge="{}")) == "Deny.challenge has to be bytes"  # type: ignore[arg-type]


class Sly(bytes):
    """Says of itself what one wants to hear."""

    def strip(self, _chars: object = None) -> "Sly":
        return self

    def __eq__(self, _other: object) -> bool:
        return False

    __hash__ = bytes.__hash__


@pytest.mark.parametrize(
    "reply",
    [
        ng.Deny(Sly(b"OK")),
        ng.Deny(b"no", Sly(b"451")),
        ng.Deny(b"no", challenge=Sly(b"{}")),
        ng.Allow(Sly(b"::1"), 25),
        ng.Allow(b"::1", 25, Sly(b"ann ")),
        ng.Allow(b"::1", 25, None, Sly(b" x")),
    ],
    ids=repr,
)
def test_what_is_nearly_bytes(reply: ng.Reply) -> None:
    """Is not trusted to be what it says."""
    request = attrs.evolve(REQUEST, method=ng.XOAUTH2)
    assert refused(reply, request).endswith(" has to be bytes")


# --- Wait


def test_wait() -> None:
    """Never without its seconds."""
    assert ng.reply_headers(ng.Wait(5), REQUEST) == (
        (b"Auth-Status", b"WAIT"),
        (b"Auth-Wait", b"5"),
    )


@pytest.mark.parametrize("seconds", [0, -1, 301, 0.5, "5", None, True], ids=repr)
def test_what_can_not_be_waited(seconds: Any) -> None:
    """With 0, nginx asks for ever, and takes OK for WAIT."""
    assert "Wait.seconds has to be from 1 to 300" in refused(ng.Wait(seconds))


def test_no_wait_with_a_salt() -> None:
    """nginx has forgotten the digest by then."""
    assert "with a salt" in refused(ng.Wait(5), CRAM)


# --- all of them


@pytest.mark.parametrize("reply", [BACKEND, ng.Wait(1)], ids=repr)
def test_nothing_but_a_refusal_for_what_is_malformed(reply: ng.Reply) -> None:
    """Its own reply, or another Deny; never with a wait."""
    assert "Malformed" in refused(reply, MALFORMED)
    reply = ng.Deny(b"no", b"451 4.3.0", 5)
    assert ng.reply_headers(reply, MALFORMED) == (
        (b"Auth-Status", b"no"),
        (b"Auth-Error-Code", b"451 4.3.0"),
    )
    imap = attrs.evolve(MALFORMED, protocol=b"imap")
    assert ng.reply_headers(reply, imap) == ((b"Auth-Status", b"[UNAVAILABLE] no"),)


@pytest.mark.parametrize(
    "reply", [REQUEST, MALFORMED, ng.ConnectionClosed(), None, b"OK", ng.Deny], ids=repr
)
def test_what_is_no_reply(reply: Any) -> None:
    """It is said what is."""
    assert "is no reply: Allow, Deny or Wait are" in refused(reply)


@pytest.mark.parametrize("request_", [None, NO, {}, ng.AuthRequest], ids=repr)
def test_what_is_no_request(request_: Any) -> None:
    """It decides what may be said."""
    assert "is no request" in refused(NO, request_)


@pytest.mark.parametrize("reserve", [-1, "100", None, 1.0], ids=repr)
def test_what_can_not_be_reserved(reserve: Any) -> None:
    """Whole bytes."""
    assert "reserve has to be" in refused(NO, reserve=reserve)


@pytest.mark.parametrize("attempts", [None, "20", 1.0], ids=repr)
@pytest.mark.parametrize("reply", [NO, BACKEND], ids=repr)
def test_attempts_that_are_no_number(attempts: Any, reply: ng.Reply) -> None:
    """Told whether or not they matter."""
    with pytest.raises(ng.LocalProtocolError, match="max_attempts has to be a number"):
        ng.reply_headers(reply, REQUEST, max_attempts=attempts)


@pytest.mark.parametrize("given_", [(), (0,), (100,)], ids=repr)
def test_nginx_reads_1024_bytes(given_: tuple[int, ...]) -> None:
    """Status line and empty line included, and what the framework adds."""
    reserve = sum(given_)
    room = 1024 - reserve - size(ng.reply_headers(ng.Deny(b"x"), REQUEST)) + 1
    headers = ng.reply_headers(ng.Deny(b"x" * room), REQUEST, *given_)
    assert size(headers) + reserve == 1024
    complaint = refused(ng.Deny(b"x" * (room + 1)), REQUEST, reserve)
    assert "1025 bytes" in complaint
    assert f"the {reserve} reserved" in complaint
