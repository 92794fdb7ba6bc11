"""Header fields as a plain list, raw and decoded."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import milterproto as mp
from milterproto.message import Field, Headers

from . import strategies


def three() -> Headers:
    return Headers([Field(b"X-A", b" one"), Field(b"Subject", b" hi"), Field(b"x-a", b"\ttwo ")])


def test_what_came_is_kept() -> None:
    """Blank, folding, 8-bit text and case are those of the message."""
    field = Field(b"sUbJect", b"  gr\xc3\xbc\n\t\xe4 ")
    assert (field.name, field.raw) == (b"sUbJect", b"  gr\xc3\xbc\n\t\xe4 ")
    assert field.value == b"gr\xc3\xbc\t\xe4"


URL = "https://x.test/" + "a" * 200


@pytest.mark.parametrize(
    ("name", "value", "raw"),
    [
        (b"X-A", b"v", b" v"),
        ("X-A", b"", b" "),
        (b"X-A", b"one\r\n two\n\tthree", b" one\n two\n\tthree"),
        ("X-A", b" v", b"  v"),
        (b"X-A", b"\xff", b" \xff"),
        ("Subject", "plain", b" plain"),
        ("Subject", "", b" "),
        ("Subject", "Grüße", b" =?utf-8?b?R3LDvMOfZQ==?="),
        (b"Subject", "word " * 20, b" word" * 14 + b"\n" + b" word" * 6 + b" "),
        ("Subject", "a\nb\r\n\tc\0d\u2028e\x85f", b" a b   c d e f"),
        ("Subject", "\ud800", b" =?utf-8?q?=3F?="),
        ("Date", "yesterday", b" yesterday"),
        ("List-Unsubscribe", f"<{URL}>, <b>", f" <{URL}>,\n <b>".encode()),
        ("Content-Type", f'a/b; boundary="{URL}"', f' a/b;\n boundary="{URL}"'.encode()),
        ("Content-Type", "a/b; name=\xe4", b" a/b; name*=utf-8''%C3%A4"),
        ("To", f"{URL}@x.test, b@x.test", f" {URL}@x.test,\n b@x.test".encode()),
        ("X", "a" + "  " * 60 + "b" + " ", b" a\n" + b"  " * 60 + b"b "),
        ("To", "Bär <b@x.test>, c@x.test", b" =?utf-8?q?B=C3=A4r?= <b@x.test>, c@x.test"),
    ],
)
def test_a_new_field(name: bytes | str, value: bytes | str, raw: bytes) -> None:
    """Bytes are taken as they are, text is folded and encoded as mail wants it."""
    field = Field.of(name, value)
    assert isinstance(field.name, bytes)
    assert field.raw == raw


@pytest.mark.parametrize(
    ("name", "value"),
    [("Date", "gestärn"), ("Message-Id", "<ä@b>"), ("Größe", "1"), ("Länge", b"1")],
)
def test_what_can_not_be_a_field(name: str, value: str | bytes) -> None:
    """Nothing of a value is left out in silence."""
    with pytest.raises(mp.LocalProtocolError):
        Field.of(name, value)


def test_decoded() -> None:
    """The `email` package's own objects: str, and more."""
    assert Field(b"Subject", b" =?utf-8?q?Gr=C3=BC=C3=9Fe?=\n =?utf-8?q?!?=").decoded == "Grüße!"
    to = Field(b"to", b" =?utf-8?b?QsOkcg==?= <b@x.test>").decoded
    assert to == "Bär <b@x.test>"
    assert [(one.display_name, one.addr_spec) for one in to.addresses] == [("Bär", "b@x.test")]
    date = Field(b"Date", b" Tue, 24 Nov 2026 04:00:00 +0000").decoded
    assert date.datetime.year == 2026
    assert Field(b"Subject", " Grüße".encode()).decoded == "Grüße"
    assert Field(b"Subject", b" \xe4").decoded == "\N{REPLACEMENT CHARACTER}"


def test_what_the_email_package_can_not_parse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its errors are not for whoever only wants to read a Subject."""

    def fail(*_: object) -> None:
        raise IndexError

    monkeypatch.setattr("email.headerregistry.UniqueAddressHeader.parse", fail)
    assert Field(b"To", b" =?utf-8?q?x?= <a@b>").decoded == "= ?utf-8?q?x?= <a@b>"


@given(name=strategies.header_names, raw=st.binary(max_size=60))
def test_reading_never_fails(name: bytes, raw: bytes) -> None:
    """Whatever a client has sent."""
    field = Field(name, raw)
    assert isinstance(field.decoded, str)
    assert b"\n" not in field.value


FREE = st.sampled_from([b"Subject", b"X-A", b"Comments", b"x" * 80])
odd_text = st.lists(st.sampled_from(["\n", "\x0b", "\x85", "\u2028", "\0", " ", "a", "=?", "é"]))


@given(
    FREE,
    st.one_of(
        st.binary(max_size=60),
        st.binary(max_size=20).map(
            lambda text: b" =?utf-8?q?" + b"".join(b"=%02X" % one for one in text) + b"?="
        ),
    ),
)
def test_what_was_read_can_be_written(name: bytes, raw: bytes) -> None:
    """Whatever a client makes of its Subject; else a filter would refuse it for ever."""
    field = Field.of(name, f"[external] {Field(name, raw).decoded}")
    assert field.raw.isascii()
    assert field.decoded.startswith("[external]")


@given(FREE, st.one_of(st.text(max_size=200), odd_text.map("".join)))
def test_text_is_kept(name: bytes, text: str) -> None:
    """But for the number of blanks, and what is none."""
    field = Field.of(name, text)
    if "=?" not in text:  # in ASCII, that is an encoded word already
        printable = "".join(" " if unicodedata.category(one) == "Cc" else one for one in text)
        words = printable.encode("utf-8", "replace").decode().split()
        assert field.decoded.split() == words
    for line in field.raw.split(b"\n")[1:]:
        assert line[:1] == b" "
        assert line.strip()


@given(name=strategies.header_names, value=st.text(max_size=120))
def test_text_makes_a_field_that_can_be_sent_or_none(name: bytes, value: str) -> None:
    """Nothing leaves but LocalProtocolError, and no text breaks out of its field."""
    try:
        field = Field.of(name, value)
    except mp.LocalProtocolError:
        return
    assert field.raw.startswith(b" ")
    assert field.raw.isascii()
    for line in field.raw.split(b"\n")[1:]:
        assert line[:1] in (b" ", b"\t")


@pytest.mark.parametrize("wrong", [None, "a: b", b"a: b", ("a", "b")], ids=repr)
def test_what_is_no_field(wrong: Any) -> None:
    """Is said where it is written."""
    headers = three()
    with pytest.raises(mp.LocalProtocolError, match=r"^headers: .* is no Field"):
        headers[0] = wrong
    with pytest.raises(mp.LocalProtocolError, match=r"^headers: .* is no Field"):
        Headers([wrong])
    with pytest.raises(mp.LocalProtocolError, match=r"^headers: .* is no (Field|list)"):
        Headers(wrong)
    with pytest.raises(mp.LocalProtocolError, match=r"^headers: .* is no bytes"):
        Field(b"a", "a")
    with pytest.raises(mp.LocalProtocolError, match=r"^headers: 'a' is no bytes"):
        Field("a", b"a")
    assert headers == three()


def test_look_ups() -> None:
    """By name without regard to case, as str or bytes."""
    headers = three()
    assert b"x-A" in headers
    assert "subject" in headers
    assert "To" not in headers
    assert 1 not in headers
    assert headers.fields("X-a") == [Field(b"X-A", b" one"), Field(b"x-a", b"\ttwo ")]
    assert headers.all(b"x-a") == [b"one", b"two"]
    assert headers.get("x-a") == b"one"
    assert headers.get("To") == b""
    assert headers.get("To", b"?") == b"?"
    assert headers.text("x-a") == "one"
    assert headers.text("To") == ""
    assert headers.text("To", "?") == "?"


def test_as_a_list() -> None:
    """Positions, length and comparison."""
    headers = three()
    assert len(headers) == 3
    assert headers[1] == Field(b"Subject", b" hi")
    headers[1] = Field(b"Subject", b"tight")
    assert [field.raw for field in headers] == [b" one", b"tight", b"\ttwo "]
    assert headers != three()
    del headers[1]
    assert headers == Headers([Field(b"X-A", b" one"), Field(b"x-a", b"\ttwo ")])
    assert headers != [Field(b"X-A", b" one"), Field(b"x-a", b"\ttwo ")]
    assert repr(Headers([Field(b"A", b"")])) == "Headers([Field(name=b'A', raw=b'')])"


def test_set() -> None:
    """One is left, where the first was and with its spelling."""
    headers = three()
    headers.set("X-a", b"new")
    assert headers == Headers([Field(b"X-A", b" new"), Field(b"Subject", b" hi")])
    headers.set("To", "you")
    assert headers[2] == Field(b"To", b" you")


def test_append_insert_delete() -> None:
    """The three other ways to edit, and a copy that is not touched by them."""
    headers = three()
    copy = headers.copy()
    headers.append("X-Z", b"z")
    headers.insert(0, "X-Y", b"y")
    assert [field.name for field in headers] == [b"X-Y", b"X-A", b"Subject", b"x-a", b"X-Z"]
    assert headers.delete(b"x-a") == 2
    assert headers.delete("x-a") == 0
    assert [field.name for field in headers] == [b"X-Y", b"Subject", b"X-Z"]
    assert headers.delete("SUBJECT") == 1
    assert copy == three()
