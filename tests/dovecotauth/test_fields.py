import contextlib
import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dovecotauth as da
from dovecotauth._fields import (
    decode_base64,
    decode_number,
    decode_parameters,
    encode_base64,
    encode_number,
    encode_parameters,
    encode_text,
    escape,
    unescape,
)

from .strategies import parameters, text

# Dovecot's table.
TABLE = {0: b"\x010", 1: b"\x011", 9: b"\x01t", 10: b"\x01n", 13: b"\x01r"}


def test_each_byte_is_escaped_as_dovecot_does() -> None:
    """Five, and no others."""
    for byte in range(256):
        assert escape(bytes([byte])) == TABLE.get(byte, bytes([byte]))


@given(st.binary() | text)
def test_what_is_escaped_comes_back(data: bytes) -> None:
    """Any bytes; and nothing that separates is left."""
    escaped = escape(data)
    assert unescape(escaped) == data
    assert not set(escaped) & {0, 9, 10, 13}


@pytest.mark.parametrize(
    ("wire", "means"),
    [
        (b"\x01x", b"x"),
        (b"\x01l", b"l"),  # the document's LF, which never was one
        (b"\x01\x01t", b"\x01t"),
        (b"\x011t", b"\x01t"),
        (b"\x01\x01", b"\x01"),
        (b"a\x01", b"a"),
        (b"\x01\t", b"\t"),
        (b"\x01\n", b"\n"),
        (b"a\x01tb\x011c\x01r\x01n\x010", b"a\tb\x01c\r\n\0"),
    ],
)
def test_odd_escapes(wire: bytes, means: bytes) -> None:
    """In one pass from left to right."""
    assert unescape(wire) == means


@given(parameters)
def test_parameters_come_back(pairs: da.Parameters) -> None:
    """With their order, their doubles, and None apart from empty."""
    words = encode_parameters(pairs)
    assert decode_parameters(words) == pairs
    assert da.split_fields(da.join_fields(pairs)) == pairs


@given(st.binary())
def test_any_words_are_parameters_or_refused(data: bytes) -> None:
    """And nothing else is raised."""
    with contextlib.suppress(da.RemoteProtocolError):
        decode_parameters(data.split(b"\t"))
    with contextlib.suppress(da.RemoteProtocolError):
        da.split_fields(data)


def test_forward_fields_are_escaped_twice() -> None:
    """Each within, and all together as one value."""
    inner = da.join_fields(((b"a", b"b"), (b"c", b"d\te")))
    assert inner == b"a=b\tc=d\x01te"
    assert encode_parameters(((b"forward_fields", inner),)) == [
        b"forward_fields=a=b\x01tc=d\x011te"
    ]


def test_empty_words_mean_nothing() -> None:
    """Nor does a name that is empty; only the first "=" divides."""
    assert decode_parameters([b"", b"a", b"", b"=x", b"b=", b"c=d=e", b"x\x01t=\x01n"]) == (
        (b"a", None),
        (b"b", b""),
        (b"c", b"d=e"),
        (b"x\t", b"\n"),
    )


@pytest.mark.parametrize("word", [b"a=\x010", b"a\x010b", b"\0"])
def test_nul_is_refused(word: bytes) -> None:
    """Dovecot would take "root" out of "root NUL x"."""
    with pytest.raises(da.RemoteProtocolError, match="NUL"):
        decode_parameters([b"ok", word])


@pytest.mark.parametrize(
    ("pairs", "complaint"),
    [
        (((b"a", b"x\0"),), "NUL"),
        (((b"", b"x"),), "a parameter's name"),
        (((b"a=b", b"x"),), "a parameter's name"),
        (((b"a b", None),), "a parameter's name"),
        (((b"a\tb", None),), "a parameter's name"),
        (((b"\xe9", None),), "a parameter's name"),
        (((b"resp", b"x"),), "'resp' is no parameter"),
        (((b"ReSp", None),), "'ReSp' is no parameter"),
        (((b"a", "x"),), "in bytes"),
        ((("a", b"x"),), "pairs"),
        (((b"a",),), "pairs"),
        ((5,), "pairs"),
        (None, "pairs"),
    ],
)
def test_what_is_no_parameter(pairs: da.Parameters, complaint: str) -> None:
    """Is said."""
    with pytest.raises(da.LocalProtocolError, match=complaint):
        encode_parameters(pairs, frozenset({b"resp"}))


def test_text() -> None:
    """Alone, as the user of a master request."""
    assert encode_text(b"a\tb") == b"a\x01tb"
    with pytest.raises(da.LocalProtocolError, match="NUL"):
        encode_text(b"a\0")


@pytest.mark.parametrize(
    ("word", "number"),
    [(b"1", 1), (b"007", 7), (b"4294967295", 4294967295), (b"0" * 16000 + b"9", 9)],
)
def test_numbers(word: bytes, number: int) -> None:
    """Leading zeros count for nothing, however many."""
    assert decode_number(word, "an id") == number


@pytest.mark.parametrize(
    "word",
    [
        b"0",
        b"00",
        b"0" * 11,
        b"4294967296",
        b"+7",
        b"-1",
        b"7 ",
        b" 7",
        b"0x7",
        b"",
        b"1_0",
        b"\xb2",
        b"7\n",
        b"9" * 5000,
        b"99999999999",
    ],
    ids=lambda word: repr(word[:12]),
)
def test_what_is_no_number(word: bytes) -> None:
    """Nor what int() would make one of, or would choke on."""
    with pytest.raises(da.RemoteProtocolError, match="an id that is"):
        decode_number(word, "an id")


def test_zero_where_it_may_be() -> None:
    """Minor versions begin there."""
    assert decode_number(b"0", "a version", 0) == 0
    assert encode_number(0, "x", 0) == b"0"


@pytest.mark.parametrize("number", [0, -1, 2**32, True, 1.0, "1", None])
def test_what_can_not_be_a_number(number: int) -> None:
    """Before anything is written."""
    with pytest.raises(da.LocalProtocolError, match="an id has to be a number from 1 to 42949"):
        encode_number(number, "an id")
    assert encode_number(2**32 - 1, "an id") == b"4294967295"


@given(st.binary())
def test_base64_comes_back(data: bytes) -> None:
    """Padded, and in one line."""
    encoded = encode_base64(data)
    assert decode_base64(encoded) == data
    assert len(encoded) % 4 == 0
    assert b"\n" not in encoded
    with pytest.raises(da.LocalProtocolError, match="bytes"):
        encode_base64("x")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "word",
    [
        b"AGFsaWNlAHNlY3JldA",
        b"====",
        b"=",
        b"A",
        b"AA=A",
        b"AA==AA==",
        b"AA=",
        b"YQ== ",
        b" YQ==",
        b"YWJj\n",
        b"YQ\t==",
        b"YQ-_",
        b"YQ==\r",
        b"AAA==",
        b"AAAA====",
        b"AAAA=",
        b"\xff\xff\xff\xff",
    ],
)
def test_what_is_no_base64(word: bytes) -> None:
    """In the strict sense: no white space, all of the padding."""
    assert decode_base64(word) is None


def test_base64_is_what_its_grammar_says() -> None:
    """For every word of a letter, padding and white space, of up to eight bytes.

    Python's own reader takes more, even where it is called strict.
    """
    grammar = re.compile(rb"(?:[A-Z]{4})*(?:[A-Z]{2}==|[A-Z]{3}=)?")
    for length in range(9):
        for letters in itertools.product(b"A= ", repeat=length):
            word = bytes(letters)
            assert (decode_base64(word) is not None) == bool(grammar.fullmatch(word)), word


def test_dovecots_own_base64() -> None:
    """Of a PLAIN response."""
    assert decode_base64(b"AGFsaWNlAHNlY3JldA==") == b"\0alice\0secret"
    assert decode_base64(b"") == b""


@pytest.mark.parametrize(
    "value",
    [b"\n", b"a\nb=c", b"a\x01tb=c", b"a\x01nb", b"a\x01rb", b"a\x010b", b"a=b\tc\nd=e"],
)
def test_forward_fields_that_kill_dovecot(value: bytes) -> None:
    """Seen with 2.3.19.1 for TAB and LF in a name: its process ends. The others are no names."""
    for name in (b"forward_fields", b"Forward_Fields"):
        with pytest.raises(da.LocalProtocolError, match="join_fields"):
            encode_parameters(((name, value),))
    assert encode_parameters(((b"forwards", value),))
    assert encode_parameters(((b"forward_fields", None), (b"forward_fields", b""), (b"x", b"y")))
    good = da.join_fields(((b"a", b"b\t\r\n\x01=c"), (b"d", None)))
    assert encode_parameters(((b"forward_fields", good),))


def test_only_a_tab_parts_fields() -> None:
    """A blank belongs to its value."""
    assert da.split_fields(b"a=b c\td") == ((b"a", b"b c"), (b"d", None))
