import attrs
import pytest

import nginxauth as ng
from nginxauth._answer import Answer, AnswerBuffer
from nginxauth._judge import judge, needs_password, number

from .strategies import REQUEST

TO = b"Auth-Server: 192.0.2.7\r\nAuth-Port: 25\r\n"
ALLOW = ng.Allow(b"192.0.2.7", 25)


def answer(lines: bytes) -> Answer:
    buffer = AnswerBuffer()
    buffer.feed(lines + b"\r\n")
    read = buffer.next()
    assert read is not None
    return read


def verdict(lines: bytes, protocol: bytes = b"smtp", method: bytes = b"plain") -> ng.Reply | str:
    salt = b"<1.2@mx>" if method in (ng.APOP, ng.CRAM_MD5) else b""
    password = b"" if method in (ng.EXTERNAL, ng.NONE) else b"p"
    request = attrs.evolve(REQUEST, protocol=protocol, method=method, salt=salt, password=password)
    try:
        return judge(answer(lines), request)
    except ng.RemoteProtocolError as error:
        return str(error)


@pytest.mark.parametrize("protocol", [b"smtp", b"imap", b"pop3"])
@pytest.mark.parametrize(
    ("statuses", "reply"),
    [
        (b"", ALLOW),
        (b"Auth-Status: OK\r\n", ALLOW),
        (b"Auth-Status: ok\r\n", ng.Deny(b"ok")),
        (b"Auth-Status: \tOK\r\n", ng.Deny(b"\tOK")),
        (b"Auth-Status: no\r\nAuth-Status: OK\r\n", ng.Deny(b"no")),
        (b"Auth-Status: OK\r\nAuth-Status: no\r\n", ng.Deny(b"no")),
        (b"Auth-Status: no\r\nAuth-Status: nay\r\n", ng.Deny(b"nay")),
        (b"Auth-Status: WAIT\r\n", ng.Wait(0)),
        (b"Auth-Status: WAIT\r\nAuth-Status: OK\r\n", ng.Wait(0)),
        (b"Auth-Status: WAIT\r\nAuth-Wait: 7\r\n", ng.Wait(7)),
        (b"Auth-Status: WAIT\r\nAuth-Status: no\r\n", ng.Deny(b"no")),
        (b"Auth-Status: WAIT\r\nAuth-Status: no\r\nAuth-Wait: 7\r\n", ng.Wait(7)),
        (b"Auth-Status: no\r\nAuth-Wait: 7\r\n", ng.Deny(b"no", wait=7)),
    ],
)
def test_the_statuses(protocol: bytes, statuses: bytes, reply: ng.Reply) -> None:
    """A refusal wins over OK, and over WAIT unless there is a pause."""
    assert verdict(statuses + TO, protocol) == reply


@pytest.mark.parametrize(
    ("statuses", "smtp", "others"),
    [
        (b"Auth-Status:\r\n", ALLOW, ng.Deny(b"")),
        (b"Auth-Status\r\n", ALLOW, ng.Deny(b"")),
        (b"Auth-Status: no\r\nAuth-Status:\r\n", ALLOW, ng.Deny(b"")),
        (b"Auth-Status:\r\nAuth-Status: no\r\n", ng.Deny(b"no"), ng.Deny(b"no")),
        (b"Auth-Status: WAIT\r\nAuth-Status: no\r\nAuth-Status:\r\n", ng.Wait(0), ng.Deny(b"")),
    ],
)
def test_an_empty_status(statuses: bytes, smtp: ng.Reply, others: ng.Reply) -> None:
    """Is none to SMTP, and takes back what was said before."""
    assert verdict(statuses + TO) == smtp
    assert verdict(statuses + TO, b"imap") == verdict(statuses + TO, b"pop3") == others


@pytest.mark.parametrize(
    ("lines", "seconds"),
    [
        (b"Auth-Wait: 0\r\n", 0),
        (b"Auth-Wait: 007\r\n", 7),
        (b"Auth-Wait: -7\r\n", 0),
        (b"Auth-Wait: +7\r\n", 0),
        (b"Auth-Wait: 7s\r\n", 0),
        (b"Auth-Wait: 7 7\r\n", 0),
        (b"Auth-Wait:\r\n", 0),
        (b"Auth-Wait: 9223372036854775807\r\n", 2**63 - 1),
        (b"Auth-Wait: 9223372036854775808\r\n", 0),
        (b"Auth-Wait: 7\r\nAuth-Wait: x\r\n", 7),
        (b"Auth-Wait: 7\r\nAuth-Wait: 0\r\n", 0),
    ],
)
def test_the_pause(lines: bytes, seconds: int) -> None:
    """What is no number is passed over."""
    assert verdict(b"Auth-Status: no\r\n" + lines) == ng.Deny(b"no", wait=seconds)


def test_the_code() -> None:
    """As it stands, and with SMTP only; the last counts."""
    lines = b"Auth-Status: no\r\nAuth-Error-Code: 1\r\nAuth-Error-Code: 451 4.3.0\r\n"
    assert verdict(lines) == ng.Deny(b"no", b"451 4.3.0")
    assert verdict(lines, b"imap") == verdict(lines, b"pop3") == ng.Deny(b"no")


def test_the_error_data() -> None:
    """With the methods of nginx's forks only, and if it is base64."""
    lines = b"Auth-Status: no\r\nAuth-Error-SASL: "
    assert verdict(lines + b"e30=\r\n") == ng.Deny(b"no")
    for method in (ng.XOAUTH2, ng.OAUTHBEARER):
        assert verdict(lines + b"e30=\r\n", b"imap", method) == ng.Deny(b"no", challenge=b"{}")
        assert verdict(lines + b"\r\n", b"imap", method) == ng.Deny(b"no", challenge=b"")
        assert verdict(lines + b"e30\r\n", b"imap", method) == ng.Deny(b"no")
        assert verdict(lines + b"{}\r\n", b"imap", method) == ng.Deny(b"no")
        assert verdict(b"Auth-Status: no\r\n", b"imap", method) == ng.Deny(b"no")


NO_SERVER = "no Auth-Server or no Auth-Port, and no refusal"
NO_PASSWORD = "no Auth-Pass, and nginx has no password to log in with"
BAD_SERVER = "an Auth-Server that is no IP address to nginx"
BAD_PORT = "an Auth-Port that is no number from 1 to 65535"


@pytest.mark.parametrize(
    ("lines", "reply"),
    [
        (b"", NO_SERVER),
        (b"Auth-Server: 192.0.2.7\r\n", NO_SERVER),
        (b"Auth-Port: 25\r\n", NO_SERVER),
        (b"Auth-Server:\r\nAuth-Port: 25\r\n", NO_SERVER),
        (b"Auth-Server: 192.0.2.7\r\nAuth-Port:\r\n", NO_SERVER),
        (TO + b"Auth-Port:\r\n", NO_SERVER),
        (TO + b"Auth-Server: mx\r\n", BAD_SERVER),
        (b"Auth-Server: mx\r\nAuth-Port: x\r\n", BAD_SERVER),
        (b"Auth-Server: mx\r\n" + TO, ALLOW),
        (TO + b"Auth-Port: 0\r\n", BAD_PORT),
        (TO + b"Auth-Port: 65536\r\n", BAD_PORT),
        (TO + b"Auth-Port: -1\r\n", BAD_PORT),
        (TO + b"Auth-Port: 9223372036854775833\r\n", BAD_PORT),
        (TO + b"Auth-Port: 1\r\n", ng.Allow(b"192.0.2.7", 1)),
        (TO + b"Auth-Port: 065535\r\n", ng.Allow(b"192.0.2.7", 65535)),
        (TO + b"Auth-User: a%20\r\n", ng.Allow(b"192.0.2.7", 25, b"a%20")),
        (TO + b"Auth-User\r\nAuth-Pass: b c\r\n", ng.Allow(b"192.0.2.7", 25, b"", b"b c")),
        (TO + b"Auth-Pass: b\r\nAuth-Pass:\r\n", ng.Allow(b"192.0.2.7", 25, None, b"")),
    ],
)
def test_a_login(lines: bytes, reply: ng.Reply | str) -> None:
    """The last of each header counts, and without server and port there is none."""
    assert verdict(lines) == reply


@pytest.mark.parametrize("method", [ng.PLAIN, ng.XOAUTH2, b"new"])
@pytest.mark.parametrize("protocol", [b"smtp", b"imap", b"pop3"])
def test_nginx_has_the_password(protocol: bytes, method: bytes) -> None:
    """And needs no other."""
    assert verdict(TO, protocol, method) == ALLOW


@pytest.mark.parametrize("method", [ng.APOP, ng.CRAM_MD5, ng.EXTERNAL, ng.NONE])
def test_nginx_has_no_password(method: bytes) -> None:
    """It needs one for POP3 and IMAP; an empty one will do."""
    assert verdict(TO, b"smtp", method) == ALLOW
    for protocol in (b"imap", b"pop3"):
        assert verdict(TO, protocol, method) == NO_PASSWORD
        assert verdict(TO + b"Auth-Pass:\r\n", protocol, method) == attrs.evolve(
            ALLOW, password=b""
        )


@pytest.mark.parametrize("method", [ng.APOP, ng.CRAM_MD5, ng.EXTERNAL, ng.NONE])
def test_a_protocol_of_somebodys_own(method: bytes) -> None:
    """Nobody knows what it needs: what our server may answer is taken."""
    assert verdict(TO, b"sieve", method) == ALLOW


def test_nginx_has_the_password_of_an_earlier_attempt() -> None:
    """Unless there was a challenge since: that makes it forget it."""
    request = attrs.evolve(REQUEST, protocol=b"imap", method=ng.EXTERNAL)
    assert not needs_password(request)
    assert needs_password(attrs.evolve(request, salt=b"<1.2@mx>"))
    assert needs_password(attrs.evolve(request, method=b"new", salt=b"<1.2@mx>"))


def test_a_number() -> None:
    """Of ASCII digits, that fits."""
    assert number(b"0012") == 12
    assert number(b"\xb2") is number(b"1\n") is number(b" 1") is number(b"9" * 1000) is None
