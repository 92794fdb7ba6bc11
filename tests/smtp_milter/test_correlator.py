"""What comes back is given to whom it belongs; what is nobody's is not taken."""

from __future__ import annotations

import pytest
from smtp_milter._correlator import Correlator, DisagreementError, Way
from smtp_milter._returned import Returned
from smtp_milter._tokens import nonce

from .helpers import returned

ALL = frozenset(Way)
SENDER = b"<a@example.org>"
ONE, TWO = nonce(b"1" * 16), nonce(b"2" * 16)


def correlator(ways: frozenset[Way] = ALL) -> tuple[Correlator, list[Returned]]:
    left: list[Returned] = []
    made = Correlator(ways, left.append)
    made.expect(b"t1", SENDER)
    made.expect(b"t2", b"<>")
    return made, left


def test_by_header_and_by_ident() -> None:
    """Either will do, both have to say the same."""
    made, left = correlator()
    by_header, by_ident = returned(b""), returned(b"", ident=b"t2")
    assert made.takes(by_header, [b"t1"])
    assert made.takes(by_ident, [])
    assert not made.takes(returned(b"", ident=b"t2"), [b"t1"])
    assert not made.takes(returned(b""), [b"t1", b"t2"])
    assert made.claim(b"t1", (b"ok",)) == [by_header]
    assert made.claim(b"t2", ()) == [by_ident]
    made.forget(b"t1")
    made.forget(b"t2")
    assert left == []


def test_what_is_nobodys() -> None:
    """No mark, an old one, somebody else's sender."""
    made, _ = correlator()
    made.forget(b"t1")
    assert not made.takes(returned(b"", sender=b"<postmaster@gateway>"), [])
    assert not made.takes(returned(b""), [b"t1"])
    assert not made.takes(returned(b"", ident=b"t3"), [])


def test_by_the_reply() -> None:
    """Only who could have sent it, and is told its mark, gets it."""
    made, left = correlator()
    back = returned(b"", nonce=ONE, sender=b"a@EXAMPLE.org")
    assert made.takes(back, [])
    assert made.claim(b"t2", (b"2.0.0 " + ONE,)) == []
    assert made.claim(b"t1", (b"2.0.0 " + TWO,)) == []
    assert made.claim(b"t1", (b"2.0.0 " + ONE + b" taken",)) == [back]
    made.forget(b"t1")
    assert left == []


def test_ways_that_must_agree() -> None:
    """A mark in the header of one, and the reply of another."""
    made, _ = correlator()
    back = returned(b"", nonce=ONE)
    made.takes(back, [b"t1"])
    assert made.claim(b"t1", (ONE,)) == [back]
    with pytest.raises(DisagreementError):
        made.claim(b"t1", (TWO,))


def test_what_was_taken_and_nobody_wanted() -> None:
    """It is handed over when the last who could have wanted it has gone."""
    made, left = correlator()
    made.expect(b"t3", SENDER)
    back = returned(b"x", nonce=ONE)
    assert made.takes(back, [])
    made.forget(b"t1")
    assert left == []
    made.forget(b"t3")
    assert left == [back]


def test_ways_that_are_switched_off() -> None:
    """They are not looked at."""
    made, _ = correlator(frozenset({Way.ECHO}))
    assert not made.takes(returned(b"", sender=b"<x@y>", ident=b"t1"), [b"t1"])
    made, _ = correlator(frozenset({Way.HEADER}))
    assert not made.takes(returned(b"", ident=b"t1"), [])
    back = returned(b"", nonce=ONE)
    made.takes(back, [b"t1"])
    assert made.claim(b"t1", (TWO,)) == [back]
