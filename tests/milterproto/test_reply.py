import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import milterproto as mp
from milterproto._reply import MAX_REPLY_LINE, MAX_REPLY_LINES, decode_reply, encode_reply

from .strategies import reply_codes


def reply(code: bytes = b"550", enhanced: bytes = b"5.7.1", *lines: bytes) -> mp.ReplyCode:
    return mp.ReplyCode(code, enhanced, lines or (b"no",))


@given(reply_codes())
def test_what_is_encoded_decodes_to_the_same(event: mp.ReplyCode) -> None:
    """Also lines that begin like the enhanced code itself."""
    assert decode_reply(encode_reply(event)) == event


# The acceptance tests of the MTAs, written after their sources and runs against them.


def sendmail_passes(text: bytes) -> bool:
    return bool(re.match(rb"[45][0-9][0-9]", text)) and not re.search(rb"(?<!%)(?:%%)*%(?!%)", text)


def postfix_3_11_passes(text: bytes) -> bool:
    return bool(re.match(rb"[45][0-9][0-9][ -]", text)) and not (
        text[4:5].isdigit() and text[4:5] != text[:1]
    )


def postfix_3_12_passes(text: bytes) -> bool:
    lines = text.split(b"\r\n")
    return all(not line[4:5].isdigit() or line[4:5] == line[:1] for line in lines) and (
        not re.search(rb"[\r\n\0]", b"".join(lines))
        and all(re.match(rb"[45][0-9][0-9]-", line) for line in lines[:-1])
        and bool(re.match(rb"[45][0-9][0-9] ", lines[-1]))
    )


@given(reply_codes())
def test_what_is_encoded_is_taken_by_every_mta(event: mp.ReplyCode) -> None:
    """Whatever the library sends, Sendmail and old and new Postfix accept."""
    text = encode_reply(event)
    assert sendmail_passes(text)
    assert postfix_3_11_passes(text)
    assert postfix_3_12_passes(text)


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (reply(), b"550 5.7.1 no"),
        (reply(b"550", b"5.7.1", b""), b"550 5.7.1"),
        (reply(b"450", b"4.2.0", b"100% full"), b"450 4.2.0 100%% full"),
        (reply(b"550", b"5.7.0", b"a", b"b", b""), b"550-5.7.0 a\r\n550-5.7.0 b\r\n550 5.7.0"),
        (reply(b"421", b"4.7.999"), b"421 4.7.999 no"),
    ],
)
def test_the_text_on_the_wire(event: mp.ReplyCode, text: bytes) -> None:
    """Codes on every line, a dash on all but the last, CRLF between and not behind."""
    assert encode_reply(event) == text
    assert decode_reply(text) == event


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (reply(b"250"), "no reply code"),
        (reply(b"560", b"5.0.0"), "no reply code"),
        (reply(b"5500"), "no reply code"),
        (reply(b"550\n"), "no reply code"),
        (reply(b""), "no reply code"),
        (reply(b"550", b""), "no enhanced status code"),
        (reply(b"550", b"5.7"), "no enhanced status code"),
        (reply(b"550", b"5.07.1"), "no enhanced status code"),
        (reply(b"550", b"5.7.1000"), "no enhanced status code"),
        (reply(b"550", b"5.7.1\n"), "no enhanced status code"),
        (reply(b"550", b"2.7.1"), "no enhanced status code"),
        (reply(b"450", b"5.7.1"), "not of the class"),
        (mp.ReplyCode(b"550", b"5.7.1", ()), "1 to 32 lines, not 0"),
        (mp.ReplyCode(b"550", b"5.7.1", (b"x",) * 33), "1 to 32 lines, not 33"),
        (reply(b"550", b"5.7.1", b"ok", b"two\nlines"), "line 2 .* not printable ASCII"),
        (reply(b"550", b"5.7.1", b"cr\r"), "line 1 .* not printable"),
        (reply(b"550", b"5.7.1", b"nul\0"), "not printable"),
        (reply(b"550", b"5.7.1", b"tab\t"), "not printable"),
        (reply(b"550", b"5.7.1", b"last\n"), "not printable"),
        (reply(b"550", b"5.7.1", "verrückt".encode()), "not printable"),
        (reply(b"550", b"5.7.1", b"x" * 981), "981 bytes .* more than 980"),
        (reply(b"550", b"5.7.1", b"%" * 491), "982 bytes"),
    ],
)
def test_what_some_mta_would_refuse_is_refused_here(event: mp.ReplyCode, reason: str) -> None:
    """Each row costs the filter its connection, or its text, on some MTA."""
    with pytest.raises(mp.LocalProtocolError, match=reason):
        encode_reply(event)


def test_the_longest_reply() -> None:
    """libmilter's limits are allowed in full, and fit a packet."""
    longest = mp.ReplyCode(b"550", b"5.999.999", (b"x" * MAX_REPLY_LINE,) * MAX_REPLY_LINES)
    assert len(encode_reply(longest)) < 65535


@pytest.mark.parametrize(
    ("text", "event"),
    [
        (b"450 slow", reply(b"450", b"", b"slow")),
        (b"550 ", reply(b"550", b"", b"")),
        (b"550 5.7.1 ", reply(b"550", b"5.7.1", b"")),
        (b"599 5.07.1 x", reply(b"599", b"5.07.1", b"x")),
        (b"550 5 things", reply(b"550", b"", b"5 things")),
        (b"550 5.7.1x", reply(b"550", b"", b"5.7.1x")),
        (b"550 5.7.1  x", reply(b"550", b"5.7.1", b" x")),
        (b"550-5.7.0 a\r\n550 b", reply(b"550", b"5.7.0", b"a", b"b")),
        (b"550-5.7.0 a\r\n550 5.7.1 b", reply(b"550", b"5.7.0", b"a", b"5.7.1 b")),
        (b"550-a\r\n550 5.7.1 b", reply(b"550", b"", b"a", b"5.7.1 b")),
        (b"550 5.7.1 \xe9\t", reply(b"550", b"5.7.1", b"\xe9\t")),
        (b"550 5.7.1 %%%%", reply(b"550", b"5.7.1", b"%%")),
    ],
)
def test_looser_replies_are_understood(text: bytes, event: mp.ReplyCode) -> None:
    """Filters on libmilter send these, and both MTAs pass them on."""
    assert decode_reply(text) == event


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "form"),
        (b"550", "form"),
        (b"250 ok", "form"),
        (b"55x no", "form"),
        (b"550_no", "form"),
        (b" 550 no", "form"),
        (b"450 5.7.1 x", "another class"),
        (b"550 7 things", "another class"),
        (b"550-5.7.1 a\r\n550 7 things", "another class"),
        (b"550-a\r\n551 b", "different codes"),
        (b"550-5.0.0", "not joined"),
        (b"550 a\r\n550 b", "not joined"),
        (b"550-a\r\n550-b", "not joined"),
        (b"550-a\n550 b", "not joined|control"),
        (b"550 a\nb", "control characters"),
        (b"550 a\rb", "control characters"),
        (b"550 a\x7fb", "control characters"),
        (b"550 a\r\n", "not joined"),
        (b"550 5.7.1 100% bad", "not doubled"),
        (b"550 %s", "not doubled"),
        (b"550 %%%", "not doubled"),
    ],
)
def test_what_new_postfix_refuses_is_refused(text: bytes, reason: str) -> None:
    """A reply that would be misread on the way to the client is a protocol error."""
    with pytest.raises(mp.RemoteProtocolError, match=reason):
        decode_reply(text)


@given(st.binary(max_size=40) | st.from_regex(rb"([45][0-9][0-9][ -][ -~]{0,9}(\r\n)?)+"))
def test_any_text_is_a_reply_or_the_one_error(text: bytes) -> None:
    """And what has been understood once is understood the same again."""
    try:
        event = decode_reply(text)
    except mp.RemoteProtocolError:
        return
    try:
        again = encode_reply(event)
    except mp.LocalProtocolError:
        return
    assert decode_reply(again) == event
