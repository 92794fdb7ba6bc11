import attrs
import pytest

import tcptable as tt


def test_events_are_frozen_and_compare_by_value() -> None:
    """An event in hand can't be changed by what handles it."""
    event = tt.Get(b"a")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        event.key = b"b"  # type: ignore[misc]
    assert event == tt.Get(b"a", b"")
    assert len({event, tt.Get(b"a")}) == 1
    other: tt.Reply = tt.NotFound(b"a")
    assert other != tt.TempError(b"a")


def test_reasons_may_be_left_out() -> None:
    """Nobody sees them but who reads a verbose log."""
    assert [kind().reason for kind in (tt.NotFound, tt.TempError, tt.PermError)] == [b"", b"", b""]
