from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nginxauth._errors import LocalProtocolError
from nginxauth._xtext import Xtext, decode_xtext, encode_xtext


def test_each_byte() -> None:
    """What a blank-separated word may hold stands for itself, but for what means something."""
    raw = set(range(0x21, 0x7F)) - set(b'+="<\\')
    for byte in range(256):
        expected = bytes([byte]) if byte in raw else f"+{byte:02X}".encode()
        assert encode_xtext(bytes([byte])) == expected


@given(st.binary(), st.sampled_from([Xtext.STRICT, Xtext.POSTFIX]))
def test_what_is_encoded_decodes(data: bytes, how: Xtext) -> None:
    """Any bytes."""
    assert decode_xtext(encode_xtext(data), how) == data


@given(st.binary(), st.sampled_from(Xtext))
def test_any_bytes_are_decoded_or_refused(data: bytes, how: Xtext) -> None:
    """Only the strict way refuses, and where it does not, Postfix reads the same."""
    decoded = decode_xtext(data, how)
    if how is not Xtext.STRICT:
        assert decoded is not None
    elif decoded is not None:
        assert decode_xtext(data, Xtext.POSTFIX) == decoded


@pytest.mark.parametrize(
    ("text", "strict", "postfix"),
    [
        (b"+2b", b"+", b"+"),
        (b"a=b", b"a=b", b"a=b"),
        (b"a+", None, b"a+"),
        (b"a+2", None, b"a+2"),
        (b"a+2G", None, b"a+2G"),
        (b"++1", None, b"++1"),
        (b"+41+", None, b"+41+"),
        (b"a b", None, b"a b"),
        (b"\xe9", None, b"\xe9"),
        (b"bob+ab@x", b"bob\xab@x", b"bob\xab@x"),
    ],
)
def test_sloppy_text(text: bytes, strict: bytes | None, postfix: bytes) -> None:
    """What is no xtext as a whole stands for itself to Postfix, and for nothing to us."""
    assert decode_xtext(text) == strict
    assert decode_xtext(text, Xtext.POSTFIX) == postfix
    assert decode_xtext(text, Xtext.RAW) == text


@pytest.mark.parametrize("text", ["a", None, bytearray(b"a")], ids=repr)
@pytest.mark.parametrize("how", Xtext)
def test_what_is_not_bytes(text: Any, how: Xtext) -> None:
    """Is not taken as it is, either."""
    with pytest.raises(LocalProtocolError, match="has to be bytes"):
        encode_xtext(text)
    with pytest.raises(LocalProtocolError, match="has to be bytes"):
        decode_xtext(text, how)
