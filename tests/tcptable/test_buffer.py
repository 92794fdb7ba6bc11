import pytest
from hypothesis import given
from hypothesis import strategies as st

import tcptable as tt
from tcptable._buffer import LineBuffer, looks_like

from .strategies import pieces


def lines_of(buffer: LineBuffer) -> list[bytes]:
    """All that are there."""
    lines = []
    while (line := buffer.next()) is not None:
        lines.append(line)
    return lines


@given(st.lists(st.binary(max_size=20)), st.data())
def test_any_chunking_gives_the_same_lines(given_lines: list[bytes], data: st.DataObject) -> None:
    """However the bytes come, and whether lines are fetched between them or not."""
    lines = [b"." + line.replace(b"\n", b"") for line in given_lines]
    stream = b"".join(line + b"\n" for line in lines) + b"rest"
    buffer = LineBuffer(100)
    got = []
    for piece in data.draw(pieces(stream)):
        buffer.feed(piece)
        if data.draw(st.booleans()):
            got += lines_of(buffer)
    got += lines_of(buffer)
    assert got == lines
    assert buffer
    buffer.feed(b"\n")
    assert buffer.next() == b"rest"
    assert not buffer


@pytest.mark.parametrize("size", [1, 7, 100])
def test_the_longest_line_and_one_byte_more(size: int) -> None:
    """The limit counts the LF; what is too long is refused before its end has come."""
    buffer = LineBuffer(10)
    stream = b"x" * 9 + b"\n" + b"y" * 10
    for start in range(0, len(stream), size):
        buffer.feed(stream[start : start + size])
    assert buffer.next() == b"x" * 9
    with pytest.raises(tt.RemoteProtocolError, match="a line of more than 10 bytes"):
        buffer.next()


def test_a_whole_line_that_is_too_long() -> None:
    """Its end has come, too."""
    buffer = LineBuffer(10)
    buffer.feed(b"x" * 10 + b"\nget a\n")
    with pytest.raises(tt.RemoteProtocolError, match="a line of more than 10 bytes"):
        buffer.next()


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"\x16\x03\x01\x02\x00\x01", "a TLS handshake"),
        (b"EHLO a.test\r", "an SMTP client"),
        (b"HELO a.test\r", "an SMTP client"),
        (b"SSH-2.0-OpenSSH", "an SSH greeting"),
        (b"GET / HTTP/1.0\r\n", "an HTTP request"),
        (b"POST /x HTTP/1.0\r\n", "an HTTP request"),
    ],
)
def test_strangers_are_told_at_once(start: bytes, what: str) -> None:
    """What they wait for never comes."""
    buffer = LineBuffer(1000)
    buffer.feed(start)
    with pytest.raises(tt.RemoteProtocolError, match=f"it looks like {what}"):
        buffer.next()


def test_clear_forgets() -> None:
    """Nothing of a broken connection is kept."""
    buffer = LineBuffer(100)
    buffer.feed(b"get a\nget")
    buffer.next()
    buffer.clear()
    assert not buffer
    assert buffer.next() is None


def test_no_byte_is_looked_at_twice() -> None:
    """The search for a line's end goes on where it stopped, wherever the line is by then."""
    buffer = LineBuffer(1000)
    buffer.feed(b"one\ntw")
    assert buffer.next() == b"one"
    for size, piece in ((2, b"o"), (3, b"x"), (4, b"y")):
        assert buffer.next() is None
        assert buffer._searched - buffer._offset == size
        buffer.feed(piece)
    buffer.feed(b"\n")
    assert buffer.next() == b"twoxy"


def test_no_byte_is_copied_for_each_piece() -> None:
    """A line that comes in many pieces is put together in one place."""
    buffer = LineBuffer(1000)
    buffer.feed(b"o")
    buffer.feed(b"n")
    together = buffer._data
    buffer.feed(b"e")
    assert buffer._data is together


def test_an_empty_line_is_one() -> None:
    """It has no byte of its own, at the beginning neither."""
    buffer = LineBuffer(1000)
    buffer.feed(b"\nx\n")
    assert buffer.next() == b""
    assert buffer.next() == b"x"


@pytest.mark.parametrize("chunk", [b"one\nEHLO x.test\n", b"one\nEHLO x.test"])
def test_a_stranger_behind_a_line(chunk: bytes) -> None:
    """Each line is looked at where it begins."""
    buffer = LineBuffer(1000)
    buffer.feed(chunk)
    assert buffer.next() == b"one"
    with pytest.raises(tt.RemoteProtocolError, match="an SMTP client"):
        buffer.next()


def test_what_looks_like_nothing() -> None:
    """Then nothing is said of it."""
    assert looks_like(b"HTTP/1.1") == ""


def test_lines_are_bytes() -> None:
    """However they were put together: they are compared, and kept."""
    buffer = LineBuffer(1000)
    buffer.feed(b"o")
    buffer.feed(b"ne\n")
    assert type(buffer.next()) is bytes
