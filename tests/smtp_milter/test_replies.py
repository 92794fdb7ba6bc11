"""Replies are read to the byte, however they are cut; what is none is an error for good."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from smtp_milter._replies import Reply, ReplyError, ReplyReader

texts = st.binary(max_size=60).filter(lambda text: b"\n" not in text and not text.endswith(b"\r"))
replies = st.builds(
    Reply, st.integers(200, 599), st.lists(texts, min_size=1, max_size=4).map(tuple)
)


def written(reply: Reply) -> bytes:
    code = b"%d" % reply.code
    last = code + b" " + reply.lines[-1] + b"\r\n"
    return b"".join(code + b"-" + line + b"\r\n" for line in reply.lines[:-1]) + last


def read(chunks: list[bytes], reader: ReplyReader | None = None) -> tuple[list[Reply], str]:
    """All replies, and the error that ended them."""
    reader = reader or ReplyReader()
    found = []
    for chunk in chunks:
        reader.receive_data(chunk)
        try:
            while (reply := reader.next_reply()) is not None:
                found.append(reply)
        except ReplyError as error:
            return found, str(error)
    return found, ""


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted(place % (len(data) + 1) for place in places)
    return [data[a:b] for a, b in zip([0, *ends], [*ends, len(data)], strict=True)]


@given(st.lists(replies, max_size=4), st.lists(st.integers(0, 1000), max_size=5))
def test_what_is_written_is_read(sent: list[Reply], places: list[int]) -> None:
    """In any chunks, with all bytes of the text."""
    assert read(cut(b"".join(map(written, sent)), places)) == (sent, "")


@given(
    st.binary(max_size=80) | st.from_regex(rb"(250[- ]?[a-z]{0,9}\r?\n|x){0,9}"),
    st.lists(st.integers(0, 1000), max_size=5),
)
def test_any_bytes(data: bytes, places: list[int]) -> None:
    """Cut or not, the same comes of them, and never another error."""
    assert read(cut(data, places)) == read([data])


@pytest.mark.parametrize(
    "data",
    [
        b"hello\r\n",
        b"99 x\r\n",
        b"600 x\r\n",
        b"199 x\r\n",
        b"250x\r\n",
        b"\r\n",
        b"250-a\r\n251 b\r\n",
        b"\x16\x03\x01\n",
        b"x" * 2049,
        b"250 " + b"x" * 2048 + b"\r\n",
        b"250-" + b"-" * 10 + b"\r\n250-x\n" * 10_000,
    ],
)
def test_what_is_no_reply(data: bytes) -> None:
    """An error, which stays, and has nothing of it in its text."""
    reader = ReplyReader()
    reader.receive_data(data)
    with pytest.raises(ReplyError) as raised:
        reader.next_reply()
    assert "hello" not in str(raised.value)
    reader.receive_data(b"250 ok\r\n")
    with pytest.raises(ReplyError):
        reader.next_reply()


def test_sloppy_servers() -> None:
    """No text, no blank, LF alone: it is clear what is meant."""
    assert read([b"250\n354 \r\n250-\n250\r\n"]) == (
        [Reply(250, (b"",)), Reply(354, (b"",)), Reply(250, (b"", b""))],
        "",
    )


def test_nothing_is_left_unseen() -> None:
    """A reply that nobody asked for is not overlooked, nor the beginning of one."""
    reader = ReplyReader()
    told: list[tuple[Reply | None, bool]] = []
    for data in (b"", b"421-", b"bye\r\n", b"421 now\r\n"):
        reader.receive_data(data)
        told.append((reader.next_reply(), reader.is_empty))
    last = Reply(421, (b"bye", b"now"))
    assert told == [(None, True), (None, False), (None, False), (last, True)]


def test_classes() -> None:
    """2xx, 3xx, 4xx and 5xx."""
    told = [
        (Reply(code, (b"",)).is_positive, Reply(code, (b"",)).is_refusal)
        for code in (250, 354, 421, 554)
    ]
    assert told == [(True, False), (False, False), (False, True), (False, True)]
