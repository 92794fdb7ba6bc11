import pytest
from hypothesis import given
from hypothesis import strategies as st

import tcptable as tt
from tcptable._netstring import NetstringBuffer, encode_netstring

from .strategies import pieces


def payloads_of(buffer: NetstringBuffer) -> list[bytes]:
    """All that are there."""
    payloads = []
    while (payload := buffer.next()) is not None:
        payloads.append(payload)
    return payloads


@given(st.lists(st.binary(max_size=20)), st.booleans(), st.data())
def test_any_chunking_gives_the_same_payloads(
    payloads: list[bytes], lenient: bool, data: st.DataObject
) -> None:
    """However the bytes come, and whether payloads are fetched between them or not."""
    stream = b"".join(map(encode_netstring, payloads)) + b"4:res"
    buffer = NetstringBuffer(100, lenient=lenient)
    got = []
    for piece in data.draw(pieces(stream)):
        buffer.feed(piece)
        if data.draw(st.booleans()):
            got += payloads_of(buffer)
    got += payloads_of(buffer)
    assert got == payloads
    assert buffer
    buffer.feed(b"t,")
    assert buffer.next() == b"rest"
    assert not buffer


@pytest.mark.parametrize(
    ("stream", "complaint"),
    [
        (b"101:", "a netstring longer than 100 bytes"),
        (b"999", "a netstring longer than 100 bytes"),
        (b"0100:", "it begins with no length"),
        (b"+4:", "it begins with no length"),
        (b"x", "it begins with no length"),
        (b"4 :", "it begins with no length"),
        (b"\xb2:", "it begins with no length"),
        (b"1_0:", "it begins with no length"),
        (b"04:abcd,", "or with leading zeros"),
        (b":,", "a length without digits"),
        (b"3:abcd", "no comma at its end"),
        (b"\x16\x03\x01", "it looks like a TLS handshake"),
        (b"EHLO a.test", "it looks like an SMTP client"),
    ],
)
@pytest.mark.parametrize("by_byte", [False, True])
def test_what_is_none_is_refused(stream: bytes, complaint: str, by_byte: bool) -> None:
    """As soon as that is clear."""
    buffer = NetstringBuffer(100, lenient=False)
    pieces = [bytes([byte]) for byte in stream] if by_byte else [stream]

    def read() -> None:
        for piece in pieces:
            buffer.feed(piece)
            assert buffer.next() is None or not by_byte

    with pytest.raises(tt.RemoteProtocolError, match="netstring") as caught:
        read()
    assert by_byte or complaint in str(caught.value)


@pytest.mark.parametrize(
    ("stream", "payload"),
    [(b"04:abcd,", b"abcd"), (b":,", b""), (b"0" * 19 + b"4:abcd,", b"abcd")],
)
def test_a_lenient_reader_takes_what_postfix_takes(stream: bytes, payload: bytes) -> None:
    """Leading zeros, and no digits at all; but not any number of them."""
    buffer = NetstringBuffer(100, lenient=True)
    buffer.feed(stream)
    assert buffer.next() == payload
    buffer.feed(b"0" * 21)
    with pytest.raises(tt.RemoteProtocolError, match="it begins with no length"):
        buffer.next()


def test_the_longest_payload() -> None:
    """The limit is inclusive, and nothing is waited for beyond it."""
    buffer = NetstringBuffer(100, lenient=False)
    buffer.feed(encode_netstring(b"x" * 100) + b"10")
    assert buffer.next() == b"x" * 100
    assert buffer.next() is None
    buffer.feed(b"0")
    assert buffer.next() is None  # as many digits as there may be, and still no colon
    buffer.feed(b":" + b"y" * 100 + b",101:")
    assert buffer.next() == b"y" * 100
    with pytest.raises(tt.RemoteProtocolError, match="longer than 100"):
        buffer.next()


def test_clear_forgets() -> None:
    """Nothing of a broken connection is kept."""
    buffer = NetstringBuffer(100, lenient=False)
    buffer.feed(b"1:a,1:")
    buffer.next()
    buffer.clear()
    assert not buffer
    assert buffer.next() is None
