"""The sink takes what gateways send, in any chunks, and waits for what becomes of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from smtp_milter._returned import Returned
from smtp_milter._sink_protocol import MAX_ERRORS, SinkConnection

from .test_replies import cut


def talk(chunks: list[bytes], max_size: int = 1000) -> tuple[list[bytes], list[Returned], bool]:
    """Replies, messages, and whether it is over."""
    sink = SinkConnection("sink.test", max_size=max_size, nonce=lambda: b"n")
    messages = []
    said = sink.data_to_send()
    for chunk in chunks:
        sink.receive_data(chunk)
        while (message := sink.next_message()) is not None:
            messages.append(message)
            assert sink.next_message() is None
            sink.answer(b"250 2.0.0 taken")
        said += sink.data_to_send()
    return said.split(b"\r\n")[1:-1], messages, sink.is_over


SESSION = (
    b"EHLO gateway\r\nXFORWARD NAME=x.test IDENT=mark\r\nMAIL FROM:<a@b> SIZE=9 RET=FULL\r\n"
    b"RCPT TO:<c@d> NOTIFY=NEVER ORCPT=rfc822;c@d\r\nrcpt to: e@f\r\nDATA\r\nA: 1\r\n\r\n..x\r\n"
    b".\r\nMAIL FROM:<>\r\nRCPT TO:<g@h>\r\nDATA\r\n.\r\nQUIT\r\n"
)


@given(st.lists(st.integers(0, 1000), max_size=8))
def test_a_session(places: list[int]) -> None:
    """Two messages, with all that ESMTP may add; pipelined, in any chunks."""
    replies, messages, is_over = talk(cut(SESSION, places))
    assert [line[:4] for line in replies] == [
        *([b"250-"] * 7),
        *(b"250 ", b"250 ", b"250 ", b"250 ", b"250 ", b"354 ", b"250 "),
        *(b"250 ", b"250 ", b"354 ", b"250 ", b"221 "),
    ]
    one, two = messages
    assert (one.sender, one.recipients) == (b"<a@b>", (b"<c@d>", b"e@f"))
    assert (one.ident, one.nonce) == (b"mark", b"n")
    assert b"".join(one.content.chunks()) == b"A: 1\r\n\r\n.x\r\n"
    assert (two.sender, two.recipients, two.ident) == (b"<>", (b"<g@h>",), b"")
    assert two.content.size == 0
    assert is_over


@given(
    st.binary(max_size=80)
    | st.lists(st.sampled_from([*SESSION.splitlines(keepends=True), b"x\n"]), max_size=9).map(
        b"".join
    ),
    st.lists(st.integers(0, 1000), max_size=5),
)
def test_any_bytes(data: bytes, places: list[int]) -> None:
    """Cut or not, the same comes of them, and no error."""
    whole, pieces = talk([data]), talk(cut(data, places))
    assert whole[0] == pieces[0]
    assert whole[2] == pieces[2]
    assert len(whole[1]) == len(pieces[1])


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (b"HELO x", b"250 sink.test"),
        (b"XCLIENT ADDR=192.0.2.1", b"220 sink.test"),
        (b"NOOP", b"250 2.0.0 Ok"),
        (b"RSET", b"250 2.0.0 Ok"),
        (b"VRFY x", b"252 2.0.0 Perhaps"),
        (b"DATA", b"503 5.5.1 No recipient"),
        (b"RCPT TO:<a@b>", b"503 5.5.1 RCPT TO:<address> comes after MAIL"),
        (b"MAIL FROM:a b <c>", b"250 2.1.0 Ok"),
        (b"MAIL FROM:", b"501 5.5.4 Syntax: MAIL FROM:<address>"),
        (b"MAIL", b"501 5.5.4 Syntax: MAIL FROM:<address>"),
        (b"STARTTLS", b"502 5.5.2 No such command here"),
        (b"", b"502 5.5.2 No such command here"),
        (b"XFORWARD FOO=1", b"501 5.5.4 Bad XFORWARD attribute name"),
    ],
)
def test_single_commands(line: bytes, reply: bytes) -> None:
    """With a line end of either kind."""
    for end in (b"\r\n", b"\n"):
        assert talk([line + end])[0] == [reply]


def test_a_second_mail() -> None:
    """Only after RSET."""
    lines = b"MAIL FROM:<a@b>\r\nMAIL FROM:<a@b>\r\nRSET\r\nMAIL FROM:<a@b>\r\n"
    assert [line[:3] for line in talk([lines])[0]] == [b"250", b"503", b"250", b"250"]


def test_limits() -> None:
    """Of a message, a line, and patience; the session goes on after the first."""
    big = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n" + b"x" * 1001 + b"\r\n.\r\nNOOP\r\n"
    replies, messages, is_over = talk([big])
    assert replies[-2:] == [b"552 5.3.4 Message too large", b"250 2.0.0 Ok"]
    assert (messages, is_over) == ([], False)
    replies, _, is_over = talk([b"x" * 3000])
    assert (replies, is_over) == ([b"500 5.5.2 Line too long"], True)
    replies, _, is_over = talk([b"X\r\n" * 100])
    assert len(replies) == MAX_ERRORS + 1
    assert replies[-1].startswith(b"421 ")
    assert is_over


def test_smuggling() -> None:
    """A dot between bare line ends is content, and what comes of it has no bare line ends."""
    content = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nx\n.\nMAIL FROM:<e@f>\r\n.\r\n"
    replies, messages, _ = talk([content])
    assert len(replies) == 4
    assert b"".join(messages[0].content.chunks()) == b"x\r\n.\r\nMAIL FROM:<e@f>\r\n"
