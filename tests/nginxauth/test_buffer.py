import pytest
from hypothesis import given
from hypothesis import strategies as st

import nginxauth as ng
from nginxauth._buffer import HeadBuffer, StrangerError

from .strategies import pieces

LINE = b"GET /a HTTP/1.0\r\n"


@given(st.binary(max_size=30), st.data())
def test_any_chunking_gives_the_same_head(body: bytes, data: st.DataObject) -> None:
    """And what follows it."""
    head = LINE + data.draw(st.sampled_from([b"A: b\r\n\r\n", b"A: b\n\n", b"\r\n", b"\n"]))
    buffer = HeadBuffer(100)
    got = None
    left = b""
    for piece in data.draw(pieces(head + body)):
        buffer.feed(piece)
        got = got or buffer.head()
        if got is not None:
            left += buffer.take(100)
    assert got == head
    assert left == body
    assert not buffer


@pytest.mark.parametrize("size", [1, 7, 100])
def test_the_longest_head_and_one_byte_more(size: int) -> None:
    """With its empty line; what is too long is refused before its end has come."""
    head = LINE + b"A: b\r\n\r\n"
    for limit in (len(head), len(head) - 1):
        buffer = HeadBuffer(limit)
        for start in range(0, len(head) - 1, size):
            buffer.feed(head[start : min(start + size, len(head) - 1)])
            if limit == len(head):
                assert buffer.head() is None
        if limit == len(head):
            buffer.feed(head[-1:])
            assert buffer.head() == head
        else:
            with pytest.raises(ng.RemoteProtocolError, match=f"more than {limit} bytes"):
                buffer.head()


def test_a_head_that_has_come_whole_and_is_too_long() -> None:
    """Its end lies beyond the limit."""
    buffer = HeadBuffer(len(LINE) + 1)
    buffer.feed(LINE + b"\r\n")
    with pytest.raises(ng.RemoteProtocolError, match="more than"):
        buffer.head()


def test_no_more_is_kept_than_is_needed() -> None:
    """Even if nobody asks for the head."""
    buffer = HeadBuffer(100)
    for _ in range(3):
        buffer.feed(LINE + b"x" * 1000)
    assert len(buffer.take(10000)) == 100


def test_a_request_line_that_is_too_long() -> None:
    """Whatever else is wrong with it: the same as if it had come in pieces."""
    buffer = HeadBuffer(20)
    buffer.feed(b"GET /aaaaaaaaaaaaaaaa FTP/1.0\r\n")
    with pytest.raises(ng.RemoteProtocolError, match="more than 20 bytes"):
        buffer.head()


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"\x16\x03\x01\x02\x00\x01", ": it looks like a TLS handshake"),
        (b"EHLO a.test\r", ": it looks like an SMTP client"),
        (b"HELO a.test\r", ": it looks like an SMTP client"),
        (b"SSH-2.0-OpenSSH", ": it looks like an SSH greeting"),
        (b"PROXY TCP4 ", ": it looks like a PROXY header"),
        (b"POST /x HTTP/1.0\r\n\r\n", ": it looks like an HTTP request of another kind"),
        (b"HEAD /x HTTP/1.0\r\n\r\n", ": it looks like an HTTP request of another kind"),
        (b"\r\n", ""),
        (b"g", ""),
        (b"GE ", ""),
        (b"GETX", ""),
    ],
)
def test_strangers_are_told_at_once(start: bytes, what: str) -> None:
    """What they wait for never comes."""
    whole, buffer = HeadBuffer(1000), HeadBuffer(1000)
    whole.feed(start)
    with pytest.raises(StrangerError, match=f"^no GET request{what}$"):
        whole.head()
    with pytest.raises(StrangerError, match=f"^no GET request{what}$"):  # noqa: PT012
        for number in range(len(start)):
            buffer.feed(start[number : number + 1])
            assert buffer.head() is None


@pytest.mark.parametrize("start", [b"P", b"PO", b"POST ", b"PR", b"\x16", b"HE", b"SSH"])
def test_what_may_yet_say_what_it_is(start: bytes) -> None:
    """One byte more, and it has."""
    buffer = HeadBuffer(1000)
    buffer.feed(start)
    assert buffer.head() is None
    buffer.feed(b"!")
    with pytest.raises(StrangerError, match=r"^no GET request$"):
        buffer.head()


@pytest.mark.parametrize(
    "line",
    [
        b"GET /\r\n", b"GET / HTTP/0.9\r\n", b"GET / HTTP/2.0\r\n", b"GET  HTTP/1.0\r\n",
        b"GET / x HTTP/1.0\r\n", b"GET / HTTP/1.0 \r\n", b"GET /\xff HTTP/1.0\r\n", b"GET \r\n",
        b"GET / HTTP/1.0\r\r\n",
    ],
)  # fmt: skip
def test_a_request_line_that_is_none(line: bytes) -> None:
    """Told when the line is there, and not when the head is."""
    buffer = HeadBuffer(1000)
    buffer.feed(line)
    with pytest.raises(ng.RemoteProtocolError, match="that is not of HTTP"):
        buffer.head()


def test_clear_forgets() -> None:
    """Nothing of a broken connection is kept."""
    buffer = HeadBuffer(100)
    assert buffer.head() is None
    buffer.feed(LINE)
    assert buffer
    buffer.clear()
    assert not buffer


def test_no_byte_is_looked_at_twice() -> None:
    """But the two that may belong to an empty line."""
    buffer = HeadBuffer(1000)
    buffer.feed(LINE[:-1])
    assert buffer.head() is None
    assert buffer._searched == len(LINE) - 1
    buffer.feed(b"\n\r")
    assert buffer.head() is None
    buffer.feed(b"\n")
    assert buffer.head() == LINE + b"\r\n"
