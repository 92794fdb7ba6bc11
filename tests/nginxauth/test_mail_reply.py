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
    reply = ng.Deny(b"no such user", wait=3)
    assert mail_reply(reply, protocol, tag=b"t1") == MailReply(data, 3, closes=False)


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


def test_other_protocols() -> None:
    """nginx has none."""
    with pytest.raises(ng.LocalProtocolError, match="smtp, imap and pop3"):
        mail_reply(None, b"sieve")
