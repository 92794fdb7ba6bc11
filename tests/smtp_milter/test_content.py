"""Line ends are one kind only, dots are doubled, and what was doubled is found again."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from smtp_milter._content import DotReader, DotStuffer, Normalizer, normalized

from .test_replies import cut

tricky = st.lists(st.sampled_from([b"\r", b"\n", b".", b"a", b"\r\n", b"\r\n.\r\n"]), max_size=12)
contents = (tricky.map(b"".join)) | st.binary(max_size=40)
places = st.lists(st.integers(0, 1000), max_size=5)


def clean(chunks: list[bytes]) -> bytes:
    normalizer = Normalizer()
    return b"".join(map(normalizer.feed, chunks)) + normalizer.finish()


def stuffed(chunks: list[bytes]) -> bytes:
    stuffer = DotStuffer()
    return b"".join(map(stuffer.feed, chunks)) + stuffer.finish()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b""),
        (b"a", b"a\r\n"),
        (b"a\r\n", b"a\r\n"),
        (b"a\nb\rc\r\n", b"a\r\nb c\r\n"),
        (b"\r", b" \r\n"),
        (b"a\r\r\n", b"a \r\n"),
        (b"x\n.\nMAIL\r\n", b"x\r\n.\r\nMAIL\r\n"),
        (b"x\r.\r\n", b"x .\r\n"),
    ],
)
def test_line_ends(before: bytes, after: bytes) -> None:
    """Each case, whole and byte by byte."""
    assert clean([before]) == after
    assert clean([before[i : i + 1] for i in range(len(before))]) == after


@given(contents, places)
def test_no_bare_line_end_survives(content: bytes, where: list[int]) -> None:
    """In any chunks, and what is clean stays as it is."""
    made = clean(cut(content, where))
    assert made == clean([content])
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", made)
    assert made == b"" or made.endswith(b"\r\n")
    assert clean([made]) == made
    assert normalized(made) == made


@given(contents, places, places, st.binary(max_size=6))
def test_dots_there_and_back(
    content: bytes, where: list[int], where_too: list[int], behind: bytes
) -> None:
    """What is sent is read again, in any chunks, and ends where it ends."""
    made = clean([content])
    wire = stuffed(cut(made, where))
    assert wire == stuffed([made])
    assert wire.endswith(b".\r\n")
    assert (b"\r\n" + wire).index(b"\r\n.\r\n") + 5 == len(b"\r\n" + wire)
    reader, read = DotReader(), b""
    for chunk in cut(wire + behind, where_too):
        if reader.rest is None:
            read += reader.feed(chunk)
        else:
            reader.rest += chunk
    assert (read, reader.rest) == (made, behind)


def test_a_content_without_a_line_end() -> None:
    """The stuffer ends it, though nobody here gives it one."""
    assert stuffed([b"a"]) == b"a\r\n.\r\n"


def test_only_the_real_end_is_one() -> None:
    """Not a dot between bare line ends: that is how mail is smuggled."""
    reader = DotReader()
    assert (
        reader.feed(b"a\n.\nb\r.\rc\n.\r\nd\r\n.\nMAIL\r\n") == b"a\n.\nb\r.\rc\n.\r\nd\r\n\nMAIL"
    )
    assert reader.rest is None
