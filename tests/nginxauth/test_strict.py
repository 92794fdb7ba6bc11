import attrs
import pytest

import nginxauth as ng
from nginxauth._answer import AnswerBuffer
from nginxauth._judge import judge
from nginxauth._strict import WARNINGS, warnings_of

from .strategies import REQUEST

OK = b"HTTP/1.0 200 OK\r\n"
TO = b"Auth-Server: 192.0.2.7\r\nAuth-Port: 25\r\n"
GOOD = OK + b"Auth-Status: OK\r\n" + TO
NO = OK + b"Auth-Status: no\r\n"

# The wire of answers that get the warning, and of some that are near to it and do not.
CASES: dict[str, tuple[list[bytes], list[bytes]]] = {
    "no HTTP status line": ([b"Auth-Status: OK\r\n" + TO, b"Auth-Status: no\r\n", b""], [GOOD]),
    "an HTTP status other than 2xx with a login, which nginx lets in": (
        [b"HTTP/1.1 500 \r\n" + TO, b"HTTP/1.1 401\r\n" + TO, b"HTTP/\r\n" + TO],
        [b"HTTP/1.1 204 No Content\r\n" + TO, b"HTTP/1.1 403 \r\nAuth-Status: no\r\n", TO],
    ),
    "an interim HTTP status (1xx), which nginx takes for the answer": (
        [b"HTTP/1.1 100 Continue\r\n"],
        [b"HTTP/1.1 200 100\r\n", b"HTTP/1.1 503\r\n"],
    ),
    "no Auth-Status, which is OK to nginx": ([OK + TO], [GOOD, OK]),
    "an empty Auth-Status, which is OK with SMTP and a refusal with POP3 and IMAP": (
        [OK + b"Auth-Status:\r\n" + TO, OK + b"Auth-Status\r\n", NO + b"Auth-Status: \r\n"],
        [GOOD, NO],
    ),
    "an Auth-Status that is OK or WAIT but for case or a TAB, and so a refusal": (
        [OK + b"Auth-Status: %b\r\n" % status for status in (b"ok", b"Wait", b"\tOK", b"OK\t")],
        [
            *(GOOD, NO),
            *(OK + b"Auth-Status: %b\r\n" % status for status in (b"OKAY", b"XOK", b"OK\v")),
        ],
    ),
    "a header that nginx reads, more than once": (
        [GOOD + b"auth-port: 26\r\n", NO + b"Auth-Wait: 1\r\nAuth-Wait: 1\r\n"],
        [GOOD + b"X: 1\r\nX: 1\r\nAuth-Error-SASL: e30=\r\n"],
    ),
    "a header without a colon": ([GOOD + b"X\r\n"], [GOOD + b"X:\r\n"]),
    "fewer than 128 bytes left of the 1024": (
        [(GOOD + b"X: ").ljust(893, b"x") + b"\r\n"],
        [(GOOD + b"X: ").ljust(892, b"x") + b"\r\n"],
    ),
    "WAIT without an Auth-Wait: nginx asks again at once, and then takes OK for WAIT": (
        [OK + b"Auth-Status: WAIT\r\n", OK + b"Auth-Status: WAIT\r\nAuth-Wait: 0\r\n"],
        [OK + b"Auth-Status: WAIT\r\nAuth-Wait: 1\r\n", NO],
    ),
    "WAIT and a refusal: nginx waits, and forgets the refusal": (
        [NO + b"Auth-Status: WAIT\r\nAuth-Wait: 1\r\n"],
        [
            NO + b"Auth-Status: WAIT\r\n",
            OK + b"Auth-Status: WAIT\r\nAuth-Wait: 1\r\n",
            OK + b"Auth-Status: WAIT\r\nAuth-Status:\r\nAuth-Wait: 1\r\n",
        ],
    ),
    "WAIT with Auth-User or Auth-Pass: nginx asks again with those": (
        [
            OK + b"Auth-Status: WAIT\r\nAuth-Wait: 1\r\nAuth-User: a\r\n",
            OK + b"Auth-Status: WAIT\r\nAuth-Wait: 1\r\nAuth-Pass:\r\n",
        ],
        [GOOD + b"Auth-User: a\r\n", OK + b"Auth-Status: WAIT\r\nAuth-Wait: 1\r\n" + TO],
    ),
    "an Auth-Wait that is no number, which nginx passes over": (
        [NO + b"Auth-Wait: -1\r\n", NO + b"Auth-Wait: 1\r\nAuth-Wait: x\r\n"],
        [NO + b"Auth-Wait: 1\r\n", NO],
    ),
    "an Auth-Wait of more than 300 seconds: the client will have gone": (
        [NO + b"Auth-Wait: 301\r\n", OK + b"Auth-Status: WAIT\r\nAuth-Wait: 999\r\n"],
        [NO + b"Auth-Wait: 300\r\n", GOOD + b"Auth-Wait: 301\r\n"],
    ),
    "Auth-Server or Auth-Port with a refusal: with the status lost, it lets in": (
        [NO + TO, NO + b"Auth-Port: 25\r\n", NO + b"Auth-Server\r\n"],
        [NO, GOOD],
    ),
    "an Auth-Error-Code that is none, and nginx sends it": (
        [
            NO + b"Auth-Error-Code: %b\r\n" % code
            for code in (b"250 2.0.0", b"5", b"535 5.7", b"-ERR", b"535-5.7.8", b"5355")
        ],
        [
            NO,
            NO + b"Auth-Error-Code:\r\n",
            NO + b"Auth-Error-Code: 550\r\n",
            NO + b"Auth-Error-Code: 451 4.3.0\r\n",
            GOOD + b"Auth-Error-Code: 5\r\n",
        ],
    ),
    "a refusal that begins like a reply of the mail protocol: nginx puts one before it": (
        [
            OK + b"Auth-Status: %b\r\n" % text
            for text in (b"535 no", b"535-no", b"-ERR no", b"+OK", b"NO no", b"BAD no", b"OK no")
        ],
        [NO, OK + b"Auth-Status: No such user\r\n", OK + b"Auth-Status: 5355 no\r\n", GOOD],
    ),
    "a refusal with bytes that are not printable ASCII": (
        [OK + b"Auth-Status: n%bo\r\n" % byte for byte in (b"\xe9", b"\0", b"\x7f", b"\t")],
        [NO, GOOD + b"X: \xe9\r\n"],
    ),
    "an Auth-Server that is not written as an address should be": (
        [
            OK + b"Auth-Status: OK\r\nAuth-Server: %b\r\nAuth-Port: 25\r\n" % server
            for server in (b"127..0.1", b"0127.0.0.1", b":0:0:0:0:0:0:0:1")
        ],
        [GOOD, NO + b"Auth-Server: 127..0.1\r\n"],
    ),
    "a % escape in Auth-User or Auth-Pass, which nginx does not undo": (
        [GOOD + b"Auth-User: a%20b\r\n", GOOD + b"Auth-Pass: %c3\r\n"],
        [GOOD + b"Auth-User: 50%\r\n", GOOD + b"X: %20\r\n"],
    ),
}  # fmt: skip


def said(wire: bytes, request: ng.AuthRequest = REQUEST) -> tuple[str, ...]:
    buffer = AnswerBuffer()
    buffer.feed(wire + b"\r\n")
    answer = buffer.next()
    assert answer is not None
    try:
        reply = judge(answer, request)
    except ng.RemoteProtocolError:
        return warnings_of(answer, request, None)
    return warnings_of(answer, request, reply)


@pytest.mark.parametrize("text", CASES)
def test_a_warning(text: str) -> None:
    """Is said where it is due, and not where it is not."""
    due, not_due = CASES[text]
    for wire in due:
        assert text in said(wire), wire
    for wire in not_due:
        assert text not in said(wire), wire


def test_good_answers() -> None:
    """None is said."""
    for wire in (
        GOOD,
        NO,
        NO + b"Auth-Wait: 3\r\n",
        NO + b"Auth-Error-Code: 451 4.3.0\r\n",
        OK + b"Auth-Status: WAIT\r\nAuth-Wait: 3\r\n",
        OK + b"Auth-Status: [AUTHENTICATIONFAILED] no\r\n",
    ):
        assert said(wire) == ()


DIGEST = "WAIT after APOP or CRAM-MD5: nginx asks again without the digest"
CRASH = "Auth-Wait after APOP or CRAM-MD5: before 1.29.7 nginx may crash (CVE-2026-27651)"


def test_after_a_digest() -> None:
    """nginx has forgotten it, and may crash."""
    request = attrs.evolve(REQUEST, method=ng.CRAM_MD5, salt=b"<1.2@mx>")
    wait = OK + b"Auth-Status: WAIT\r\nAuth-Wait: 1\r\n"
    assert said(wait) == ()
    assert said(wait, request) == (DIGEST, CRASH)
    assert CRASH not in said(OK + b"Auth-Status: WAIT\r\n", request)
    assert said(NO + b"Auth-Wait: 1\r\n", request) == (CRASH,)
    assert said(NO, request) == said(GOOD, request) == said(OK, request) == ()


def test_codes_are_for_smtp() -> None:
    """nginx passes them over elsewhere."""
    text = "an Auth-Error-Code with POP3 or IMAP, which nginx passes over"
    wire = NO + b"Auth-Error-Code: 451 4.3.0\r\n"
    assert said(wire, attrs.evolve(REQUEST, protocol=b"imap")) == (text,)
    assert said(wire, attrs.evolve(REQUEST, protocol=b"pop3")) == (text,)
    assert said(NO, attrs.evolve(REQUEST, protocol=b"pop3")) == ()


def test_error_data() -> None:
    """Of the two methods that have it, in base64."""
    text = "an Auth-Error-SASL that is not base64, or with another method than the two"
    wire = NO + b"Auth-Error-SASL: e30=\r\n"
    assert said(wire) == (text,)
    for method in (ng.XOAUTH2, ng.OAUTHBEARER):
        request = attrs.evolve(REQUEST, method=method)
        assert said(wire, request) == said(NO, request) == ()
        assert said(NO + b"Auth-Error-SASL: {}\r\n", request) == (text,)


def test_they_come_in_order() -> None:
    """Of the table."""
    wire = b"HTTP/1.1 500 x\r\nX\r\nAuth-Port: 1\r\n" + TO
    texts = said(wire)
    assert list(texts) == [text for text in WARNINGS if text in texts]
    assert len(texts) == 4


def test_each_warning_is_tested() -> None:
    """Here."""
    assert len(WARNINGS) == len(CASES) + 4
