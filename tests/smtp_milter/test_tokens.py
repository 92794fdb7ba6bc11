"""Marks: ours are known again for a day, and nobody else's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from smtp_milter._tokens import Tokens, nonce, nonces_in

NOW = 1_800_000_000
DAY = 24 * 3600


def test_ours() -> None:
    """With the same key, until a day has passed."""
    token = Tokens(b"k" * 16).make(NOW, b"r" * 16)
    assert Tokens(b"k" * 16).is_ours(token, NOW)
    assert Tokens(b"k" * 16).is_ours(token, NOW + DAY)
    assert not Tokens(b"k" * 16).is_ours(token, NOW + DAY + 1)
    assert not Tokens(b"k" * 16).is_ours(token, NOW - 1)
    assert not Tokens(b"K" * 16).is_ours(token, NOW)


@given(st.binary(max_size=90), st.integers(0, 79))
def test_no_other(other: bytes, place: int) -> None:
    """One byte changed, or anything."""
    tokens = Tokens(b"k" * 16)
    token = tokens.make(NOW, b"r" * 16)
    assert not tokens.is_ours(other, NOW)
    place %= len(token)
    swapped = b"0" if token[place : place + 1] != b"0" else b"1"
    assert not tokens.is_ours(token[:place] + swapped + token[place + 1 :], NOW)


def test_the_sinks_marks() -> None:
    """Found wherever a gateway puts them in its reply."""
    one, two = nonce(b"\1" * 16), nonce(b"\2" * 16)
    reply = b"2.0.0 from MTA(smtp:[127.0.0.1]:10026): 250 2.0.0 " + one + b" taken"
    assert nonces_in((reply, b"x", two)) == {one, two}
    assert nonces_in((b"2.0.0 queued as mw12", b"z" + one, one + b"0")) == frozenset()
