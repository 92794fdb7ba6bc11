"""A message is sent as it was shown, but for line ends that could be read in two ways."""

from __future__ import annotations

from smtp_milter._outgoing import Outgoing

from milterproto.message import Field


def content(made: Outgoing, on_top: list[Field] | None = None) -> bytes:
    return b"".join(made.content(on_top or []))


def test_to_the_byte() -> None:
    """Folding, blanks after the colon or none, 8-bit text; and what is put on top."""
    made = Outgoing()
    made.add_field(b"Subject", b" a\n\tb")
    made.add_field(b"X-A", b"\xe4")
    made.add_body(b"one\r")
    made.add_body(b"\n.two")
    made.end()
    assert content(made, [Field(b"T", b" 1\n 2")]) == (
        b"T: 1\r\n 2\r\nSubject: a\r\n\tb\r\nX-A:\xe4\r\n\r\none\r\n.two\r\n"
    )
    assert made.size == len(b"Subject: a\n\tb\r\n") + len(b"X-A:\xe4\r\n") + len(b"one\r\n.two")


def test_no_field_can_be_two_or_end_the_header() -> None:
    """Not by a bare CR, nor by a line end without a blank behind it."""
    made = Outgoing()
    made.add_field(b"A", b" 1\r2\nB: 3\n\nbody\r\n\r\n.\n 4")
    made.end()
    assert content(made) == b"A: 1 2 B: 3  body  .\r\n 4\r\n\r\n"
    assert made.headers[0].raw == b" 1\r2\nB: 3\n\nbody\r\n\r\n.\n 4"
