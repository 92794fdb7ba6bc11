import pytest
from hypothesis import given
from hypothesis import strategies as st

import nginxauth as ng
from nginxauth._answer import Answer, AnswerBuffer

from .strategies import pieces

OK = b"HTTP/1.0 200 OK\r\n"


def read(*chunks: bytes) -> Answer | str | None:
    """What is read of these chunks, one after the other, until there is something."""
    buffer = AnswerBuffer()
    for chunk in chunks:
        buffer.feed(chunk)
        try:
            answer = buffer.next()
        except ng.RemoteProtocolError as error:
            return str(error)
        if answer is not None:
            return answer
    return None


def headers(data: bytes) -> tuple[tuple[bytes, bytes | None], ...]:
    answer = read(data)
    assert isinstance(answer, Answer), answer
    return answer.headers


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"HTTP/1.0 200 OK\r\n", b"HTTP/1.0 200 OK"),
        (b"HTTP/1.0 200 OK\n", b"HTTP/1.0 200 OK"),
        (b"HTTP/\n", b"HTTP/"),
        (b"HTTP/X\r\n", b"HTTP/X"),
        (b"HTTP/\xff\x00 \r\n", b"HTTP/\xff\x00 "),
        (b"", None),
        (b"HTTP\n", None),
        (b"http:/1.0 200 OK\n", None),
    ],
)
def test_the_status_line(line: bytes, status: bytes | None) -> None:
    """May have anything in it, or be missing; then the first line is a header."""
    answer = read(line + b"A: b\r\n\r\n")
    assert isinstance(answer, Answer)
    assert answer.status == status
    assert answer.headers[-1] == (b"a", b"b")
    assert answer.size == len(line) + 8
    assert len(answer.headers) == (2 if status is None and line else 1)


def test_a_status_line_is_the_first_line_only() -> None:
    """Later it is a header, and no good one."""
    assert read(b"A: b\r\n" + OK + b"\r\n") == (
        "a header name with something else than letters, digits and -"
    )


@pytest.mark.parametrize(
    ("line", "header"),
    [
        (b"Auth-Status: OK\r\n", (b"auth-status", b"OK")),
        (b"aUTH-sTATUS:OK\n", (b"auth-status", b"OK")),
        (b"0-9:   a  b  \r\n", (b"0-9", b"a  b")),
        (b"A:\tb\t\r\n", (b"a", b"\tb\t")),
        (b"A: \x00\xff:\r\n", (b"a", b"\x00\xff:")),
        (b"A: X \r\n", (b"a", b"X")),
        (b"A:\r\n", (b"a", b"")),
        (b"A:  \r\n", (b"a", b"")),
        (b"A\r\n", (b"a", None)),
        (b"A\n", (b"a", None)),
    ],
)
def test_headers(line: bytes, header: tuple[bytes, bytes | None]) -> None:
    """Blanks are trimmed, and nothing else is done."""
    assert headers(OK + line + b"\n") == (header,)


@pytest.mark.parametrize("data", [b"\n", b"\r\n"])
def test_an_answer_with_nothing_in_it(data: bytes) -> None:
    """Ends where it begins."""
    assert read(data + b"\x16") == Answer(None, (), len(data))


FOLDED = "a folded header"
NAME = "a header name with something else than letters, digits and -"
CR = "a CR that ends no line"
TLS = "this is TLS, and nginx speaks HTTP only"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b" A: b", FOLDED),
        (b"A: b\r\n c", FOLDED),
        (b"A: b\n\tc", FOLDED),
        (b"A_b: c", NAME),
        (b"A b: c", NAME),
        (b"A : c", NAME),
        (b": c", NAME),
        (b"-A: c", NAME),
        (b"A\xe9: c", NAME),
        (b"A\x00: c", NAME),
        (b"\x00", NAME),
        (b"<html>", NAME),
        (b"A\r:", CR),
        (b"A: b\rc", CR),
        (b"A: b\r\r\n", CR),
        (b"A: b\r\n\r\r\n", CR),
        (b"HTTP/1.0 200\rOK\r\n", CR),
        (b"\x15\x03\x03\x00\x02", TLS),
        (b"\x16\x03\x01", TLS),
        (b"A\x16: b", NAME),
    ],
)
def test_what_nginx_does_not_read(data: bytes, reason: str) -> None:
    """It is told as soon as the first bad byte is there."""
    assert read(data) == reason
    assert read(*(data[at : at + 1] for at in range(len(data)))) == reason


def test_how_long_a_head_may_be() -> None:
    """1024 bytes, with its empty line; what comes behind that does not count."""
    good = OK + b"X: " + b"x" * (1024 - len(OK) - 7) + b"\r\n\r\n"
    assert len(good) == 1024
    answer = read(good)
    assert isinstance(answer, Answer)
    assert answer.size == 1024
    assert read(good + b"y" * 5000) == answer
    too_long = "a head of more than 1024 bytes"
    assert read(good.replace(b"X", b"XX")) == too_long
    assert read(good[:-2] + b"\r", b"\n") == answer
    # As long as there is no more, the end may still come.
    assert read(b"X" * 1024) is None
    assert read(b"X" * 1024, b"\n") == too_long
    assert read(b"HTTP/" + b"X" * 1020) == too_long


def test_what_is_kept_is_bounded() -> None:
    """Whatever comes."""
    buffer = AnswerBuffer()
    assert not buffer
    for _ in range(100):
        buffer.feed(b"x" * 1000)
    assert buffer
    assert len(buffer._data) == 1025
    buffer.clear()
    assert not buffer


def test_no_value_is_shown() -> None:
    """A password may be among them."""
    assert "secret" not in repr(read(OK + b"Auth-Pass: secret\r\n\r\n"))


lines = st.one_of(
    st.sampled_from(
        [OK, b"\r\n", b"\n", b"A: b\r\n", b"A\n", b"A_:\r\n", b"A:\r\r\n", b" \n", b"\x16"]
    ),
    st.binary(max_size=6),
    st.integers(990, 1100).map(lambda size: b"x" * size),
)


@given(st.lists(lines, max_size=6).map(b"".join), st.data())
def test_any_bytes_in_any_chunking(stream: bytes, data: st.DataObject) -> None:
    """The same answer, or the same reason."""
    assert read(*data.draw(pieces(stream))) == read(stream)
