from typing import get_args

import tcptable as tt
from tcptable._state import AFTER, REPLIES, REQUESTS


def test_every_event_has_its_place() -> None:
    """Requests make a reply due, replies let the next one come, and nothing follows the end."""
    assert set(REQUESTS) == {*get_args(tt.Request), tt.Malformed}
    assert set(REPLIES) == set(get_args(tt.Reply))
    assert set(AFTER) == {*REQUESTS, *REPLIES, tt.ConnectionClosed}
    assert {AFTER[kind] for kind in REQUESTS} == {tt.State.BUSY}
    assert {AFTER[kind] for kind in REPLIES} == {tt.State.IDLE}
    assert AFTER[tt.ConnectionClosed] is tt.State.CLOSED
