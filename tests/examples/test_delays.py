"""Who guesses passwords waits, longer each time."""

from __future__ import annotations

import pytest
from mailfront._delays import Delays


def test_each_failure_takes_longer_up_to_a_limit() -> None:
    """For its client alone."""
    delays = Delays()
    assert delays.failures(b"192.0.2.1") == 0
    assert [delays.after_failure(b"192.0.2.1") for _ in range(5)] == [0.5, 1, 2, 4, 4]
    assert delays.failures(b"192.0.2.1") == 5
    assert delays.after_failure(b"192.0.2.2") == 0.5


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (b"2001:db8::1", b"2001:DB8:0:0:ffff::9", True),
        (b"2001:db8::1", b"2001:db8:0:1::1", False),
        (b"192.0.2.1", b"::ffff:192.0.2.1", True),
        (b"::ffff:192.0.2.1", b"::ffff:192.0.2.2", False),
        (b"", b"", True),
        (b"", b"unix:", False),
        (b"\xff", b"\xff", True),
    ],
)
def test_who_is_one_client(one: bytes, other: bytes, same: bool) -> None:
    """A home has a whole /64 of IPv6; what is no address, as it stands."""
    delays = Delays()
    delays.after_failure(one)
    assert delays.failures(other) == same
