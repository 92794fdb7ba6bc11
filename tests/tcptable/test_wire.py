import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tcptable as tt
from tcptable._wire import (
    decode_reply,
    decode_request,
    encode_reply,
    encode_request,
    quote,
    unquote,
)

from .strategies import gets, puts, replies, text

# What Postfix's own encoder leaves as it is (observed for all of 0x01 to 0x7F).
RAW = bytes(byte for byte in range(0x21, 0x7F) if byte != 0x25)


def test_each_byte_is_encoded_as_postfix_does() -> None:
    """Upper-case digits, and only where they are needed."""
    for number in range(256):
        byte = bytes([number])
        assert quote(byte) == (byte if byte in RAW else f"%{number:02X}".encode())


@given(st.binary())
def test_what_is_encoded_decodes(data: bytes) -> None:
    """Any bytes; once, and not twice."""
    assert unquote(quote(data)) == data


@given(st.binary())
def test_any_bytes_are_decoded_or_refused(data: bytes) -> None:
    """And nothing else is raised."""
    decoded = unquote(data)
    assert decoded is None or len(decoded) <= len(data)


@given(st.one_of(gets, puts))
def test_requests_come_back(event: tt.Request) -> None:
    """decode(encode(e)) == e."""
    line = encode_request(event)
    assert line.endswith(b"\n")
    assert decode_request(line[:-1]) == event


@given(replies)
def test_replies_come_back(event: tt.Reply) -> None:
    """decode(encode(e)) == e."""
    line = encode_reply(event)
    assert line.endswith(b"\n")
    assert decode_reply(line[:-1]) == event


@given(st.binary())
def test_any_line_is_an_event_or_an_error(line: bytes) -> None:
    """And what is understood can be said again."""
    request = decode_request(line)
    if not isinstance(request, tt.Malformed):
        assert decode_request(encode_request(request)[:-1]) == request
    else:
        assert decode_reply(encode_reply(request.reply)[:-1]) == request.reply
        assert request.data == line
    with contextlib.suppress(tt.RemoteProtocolError):
        decode_reply(line)


@given(text, st.sampled_from([b"2", b"4", b"5"]), st.sampled_from(b" \t\r\v\f"))
def test_only_the_first_digit_counts(value: bytes, digit: bytes, blank: int) -> None:
    """As in Postfix; the others may be any."""
    kinds = {b"2": tt.Found, b"4": tt.TempError, b"5": tt.NotFound}
    line = digit + b"73" + bytes([blank]) + quote(value)
    assert decode_reply(line) == kinds[digit](value)


@pytest.mark.parametrize(
    ("event", "complaint"),
    [
        (tt.Get(b"a\0b"), "NUL"),
        (tt.Get(b"a", b"map"), "no names of tables"),
        (tt.Put(b"a\0b", b"v"), "NUL"),
        (tt.Put(b"a", b""), "can't be empty"),
        (tt.Put(b"a", b"\0"), "NUL"),
        (tt.Get("a"), "no request of tcp_table"),  # type: ignore[arg-type]
        (tt.Get(None), "no request of tcp_table"),  # type: ignore[arg-type]
        (tt.Put(b"a", "b"), "no request of tcp_table"),  # type: ignore[arg-type]
        (tt.Found(b"a"), "no request of tcp_table"),
        (tt.Get, "no request of tcp_table"),
    ],
)
def test_requests_that_can_not_be_sent(event: tt.Request, complaint: str) -> None:
    """The reason is said, and nothing of what was asked for."""
    with pytest.raises(tt.LocalProtocolError, match=complaint):
        encode_request(event)


@pytest.mark.parametrize(
    ("event", "complaint"),
    [
        (tt.Found(b""), "send NotFound"),
        (tt.Found(b"a\0b"), "NUL"),
        (tt.NotFound(b"\0"), "NUL"),
        (tt.PermError(b"x"), "send TempError"),
        (tt.Found(b"x" * 4092), "4097 bytes when encoded, and Postfix takes 4096"),
        (tt.Found(b" " * 1364), "4097 bytes when encoded"),
        (tt.TempError(b"x" * 5000), "when encoded"),
        (tt.Found("a"), "no reply with its text in bytes"),  # type: ignore[arg-type]
        (tt.NotFound(7), "no reply with its text in bytes"),  # type: ignore[arg-type]
        (tt.Get(b"a"), "no reply with its text in bytes"),
        (tt.Found, "no reply with its text in bytes"),
    ],
)
def test_replies_that_can_not_be_sent(event: tt.Reply, complaint: str) -> None:
    """The reason is said."""
    with pytest.raises(tt.LocalProtocolError, match=complaint):
        encode_reply(event)


def test_the_longest_reply() -> None:
    """4096 bytes with the LF; a value that must be encoded has room for a third."""
    assert len(encode_reply(tt.Found(b"x" * 4091))) == tt.MAX_REPLY == 4096
    assert len(encode_reply(tt.Found(b" " * 1363))) == 4094


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"get", "not of the form"),
        (b"set a b", "not of the form"),
        (b"get a b", "white space"),
        (b"get a%", "without two hexadecimal digits"),
        (b"get %00", "NUL"),
        (b"put a%zz b", "without two hexadecimal digits"),
        (b"put a", "not of the form 'put key value'"),
        (b"put a ", "not of the form 'put key value'"),
        (b"put a b c", "not of the form 'put key value'"),
        (b"put a %z", "not of the form 'put key value'"),
        (b"put a %00", "not of the form 'put key value'"),
    ],
)
def test_what_is_wrong_with_a_request(line: bytes, reason: str) -> None:
    """In the event, and in the reply that it proposes: a temporary one, for it is our fault."""
    event = decode_request(line)
    assert isinstance(event, tt.Malformed)
    assert event.data == line
    assert reason in event.reason
    assert event.reply == tt.TempError(event.reason.encode())


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"500", "not of the form '200 text'"),
        (b"500 50%", "without two hexadecimal digits"),
        (b"600 x", "begins with none of 2, 4 and 5"),
        (b"200 a%00b", "NUL"),
    ],
)
def test_what_is_wrong_with_a_reply(line: bytes, complaint: str) -> None:
    """Postfix would disconnect, too."""
    with pytest.raises(tt.RemoteProtocolError, match=complaint):
        decode_reply(line)
