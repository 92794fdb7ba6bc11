"""What has come back is taken apart; what is no message, is not."""

from __future__ import annotations

import pytest
from smtp_milter._returned import MAX_HEADER, UnreadableError

from .helpers import returned


@pytest.mark.parametrize(
    ("content", "names", "body"),
    [
        (b"A: 1\r\nB: 2\r\n 3\r\n\r\nbody\r\n", [b"A", b"B"], b"body\r\n"),
        (b"A: 1\r\n\r\n", [b"A"], b""),
        (b"A: 1\r\n", [b"A"], b""),
        (b"\r\nbody\r\n", [], b"body\r\n"),
        (b"", [], b""),
        (b"A: 1\r\n\r\n\r\n\r\n", [b"A"], b"\r\n\r\n"),
    ],
)
def test_header_and_body(content: bytes, names: list[bytes], body: bytes) -> None:
    """With and without either."""
    message = returned(content)
    headers, at = message.headers()
    assert [field.name for field in headers] == names
    assert b"".join(message.content.chunks(at)) == body


@pytest.mark.parametrize(
    "content",
    [b"From someone\r\nA: 1\r\n\r\n", b"A: 1\r\nno field\r\n\r\n", b"A: " + b"x" * MAX_HEADER],
)
def test_what_is_no_message(content: bytes) -> None:
    """An error, and no fields."""
    with pytest.raises(UnreadableError):
        returned(content).headers()
    assert returned(content).fields(b"A") == []


def test_nul_in_a_header() -> None:
    """No MTA takes it from a filter; in a body it may be."""
    message = returned(b"A: 1\0\r\n\r\n\0\r\n")
    headers, at = message.headers()
    assert headers.all(b"A") == [b"1"]
    assert b"".join(message.content.chunks(at)) == b"\0\r\n"


def test_fields() -> None:
    """The values of a name."""
    assert returned(b"a: 1\r\nB: 2\r\nA:  3\r\n\r\n").fields(b"A") == [b"1", b"3"]
