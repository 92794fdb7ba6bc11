"""What addresses and domains are called in the database."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mailfront._addresses import MAX_ADDRESS, address_name, domain_name, names_of


@pytest.mark.parametrize(
    ("domain", "name"),
    [
        ("Example.TEST", "example.test"),
        ("bücher.test", "bücher.test"),
        ("BÜCHER.test", "bücher.test"),
        ("xn--bcher-kva.test", "bücher.test"),
        ("XN--BCHER-KVA.test", "bücher.test"),
        ("straße.test", "strasse.test"),
        ("STRASSE.test", "strasse.test"),
        ("xn--strae-oqa.test", "strasse.test"),
        ("οδος.test", "οδοσ.test"),
        ("ΟΔΟΣ.test", "οδοσ.test"),
        ("xn--.test", "xn--.test"),
        ("xn--a.test", "xn--a.test"),
        ("a" * 255, "a" * 255),
    ],
)
def test_the_name_of_a_domain(domain: str, name: str) -> None:
    """As Postfix folds it, and whether it is written in ASCII or not."""
    assert domain_name(domain) == name


@pytest.mark.parametrize("domain", ["", "ann@example.test", "a\0.test", "a" * 256, "\ud800.test"])
def test_what_is_no_domain(domain: str) -> None:
    """Nothing is made of it."""
    with pytest.raises(ValueError):
        domain_name(domain)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("Jo@Example.test", "jo@example.test"),
        ('"a b"@example.test', "a b@example.test"),
        (r'"a\"b\\"@example.test', r'a"b\@example.test'),
        ('"a@b"@example.test', "a@b@example.test"),
        ('"\\\n"@example.test', "\n@example.test"),
        ('"@example.test', '"@example.test'),
        ("GROß@xn--bcher-kva.test", "gross@bücher.test"),
    ],
)
def test_the_name_of_an_address(address: str, name: str) -> None:
    """Without quotes, and folded."""
    assert address_name(address) == name


@pytest.mark.parametrize(
    "address",
    [
        "",
        "ann",
        "@a.test",
        "ann@",
        '""@a.test',
        "a\0@a.test",
        f"{'a' * 314}@a.test",
        "\ud800@a.test",
    ],
)
def test_what_is_no_address(address: str) -> None:
    """Nothing is made of it, and nothing is asked for."""
    with pytest.raises(ValueError):
        address_name(address)
    assert names_of(address.encode(errors="surrogatepass")) == []


@pytest.mark.parametrize(
    ("address", "names"),
    [
        (b"ann+lists@a.test", ["ann+lists@a.test", "ann@a.test"]),
        (b"ann+a+b@a.test", ["ann+a+b@a.test", "ann@a.test"]),
        (b"ann@a+b.test", ["ann@a+b.test"]),
        (b"+x@a.test", ["+x@a.test"]),
        (b'"ann+x y"@a.test', ["ann+x y@a.test", "ann@a.test"]),
        (b'"ann"@a.test', ["ann@a.test"]),
        (b"\xff@a.test", []),
        (b"a" * (MAX_ADDRESS - 2) + b"@x", ["a" * (MAX_ADDRESS - 2) + "@x"]),
        (b"a" * (MAX_ADDRESS - 1) + b"@x", []),
        (b"<>", []),
        (b"*", []),
    ],
)
def test_what_to_ask_for(address: bytes, names: list[str]) -> None:
    """The whole address, then without its extension; nothing if it is too long for one."""
    assert names_of(address) == names


@given(st.text(st.characters(exclude_characters='@"')))
@example("xn--strae-oqa")
@example("ὈΔΥΣΣΕΎΣ.ẞ")
def test_a_name_is_its_own_name(text: str) -> None:
    """And what Postfix has folded before it asks has the same."""
    try:
        name = address_name(f"{text}@{text}")
    except ValueError:
        return
    assert name == address_name(name) == address_name(f"{text}@{text}".casefold())


@given(st.binary(max_size=400))
def test_any_bytes_have_names_or_none(address: bytes) -> None:
    """Nothing is ever raised."""
    for name in names_of(address):
        assert name == name.casefold()
        assert "@" in name
