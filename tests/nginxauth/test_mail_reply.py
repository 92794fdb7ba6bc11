from typing import Any

import pytest

import nginxauth as ng
from nginxauth import MailReply, mail_reply


@pytest.mark.parametrize(
    ("protocol", "data"),
    [
        (b"smtp", b"535 5.7.0 no such user\r\n"),
        (b"pop3", b"-ERR no such user\r\n"),
        (b"imap", b"t1 NO no such user\r\n"),
    ],
)
def test_a_refusal(protocol: bytes, data: bytes) -> None:
    """At once and for good, or after a pause; with the client's tag."""
    reply = ng.Deny(b"no such user")
    assert mail_reply(reply, protocol, tag=b"t1") == MailReply(data, 0, closes=True)
    for wait in (1, 300):
        reply = ng.Deny(b"no such user", wait=wait)
        assert mail_reply(reply, protocol, tag=b"t1") == MailReply(data, wait, closes=False)


def test_a_code() -> None:
    """Only SMTP has codes."""
    reply = ng.Deny(b"try again", b"451 4.3.0")
    assert mail_reply(reply, b"smtp").data == b"451 4.3.0 try again\r\n"
    assert mail_reply(reply, b"pop3").data == b"-ERR try again\r\n"
    assert mail_reply(reply, b"imap").data == b"A1 NO try again\r\n"


@pytest.mark.parametrize(
    ("protocol", "data"),
    [
        (b"smtp", b"451 4.3.2 Internal server error\r\n"),
        (b"pop3", b"-ERR internal server error\r\n"),
        (b"imap", b"* BAD internal server error\r\n"),
    ],
)
def test_no_answer(protocol: bytes, data: bytes) -> None:
    """None that nginx could use."""
    assert mail_reply(None, protocol) == MailReply(data, 0, closes=True)


def test_error_data_comes_first() -> None:
    """In base64, as a challenge of the protocol."""
    reply = ng.Deny(b"no", challenge=b"{}")
    assert mail_reply(reply, b"smtp").challenge == b"334 e30=\r\n"
    assert mail_reply(reply, b"imap").challenge == mail_reply(reply, b"pop3").challenge
    assert mail_reply(reply, b"imap").challenge == b"+ e30=\r\n"
    assert mail_reply(reply, b"imap").data == b"A1 NO no\r\n"
    assert mail_reply(ng.Deny(b"no"), b"imap").challenge == b""


@pytest.mark.parametrize(
    ("reply", "protocol", "tag", "text"),
    [
        (None, b"sieve", b"t", "smtp, imap and pop3"),
        (None, "smtp", b"t", "smtp, imap and pop3"),
        (None, [], b"t", "smtp, imap and pop3"),
        (ng.Allow(b"::1", 25), b"smtp", b"t", r"Allow\(\.\.\.\) is no refusal"),
        (ng.Wait(1), b"smtp", b"t", r"Wait\(\.\.\.\) is no refusal"),
        (ng.Deny("no"), b"smtp", b"t", "have to be bytes"),  # type: ignore[arg-type]
        (ng.Deny(b"no", 535), b"smtp", b"t", "have to be bytes"),  # type: ignore[arg-type]
        (ng.Deny(b"no"), b"imap", "t", "have to be bytes"),
        (ng.Deny(b"no", challenge="{}"), b"imap", b"t", "challenge"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_question(reply: Any, protocol: Any, tag: Any, text: str) -> None:
    """nginx has no such protocols, and says nothing then; and text is bytes."""
    with pytest.raises(ng.LocalProtocolError, match=text):
        mail_reply(reply, protocol, tag=tag)
