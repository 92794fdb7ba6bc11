from typing import get_args

import tcptable as tt
from tcptable._state import REPLIES, REQUESTS, TRANSITIONS


def test_every_event_has_its_place() -> None:
    """Requests come when nothing is due, replies when one is, the end at any time."""
    assert set(REQUESTS) == {*get_args(tt.Request), tt.Malformed}
    assert set(REPLIES) == set(get_args(tt.Reply))
    assert set(TRANSITIONS[tt.State.IDLE]) == {*REQUESTS, tt.ConnectionClosed}
    assert set(TRANSITIONS[tt.State.BUSY]) == {*REPLIES, tt.ConnectionClosed}
    assert set(TRANSITIONS) == set(tt.State)


def test_a_request_and_its_reply_lead_back() -> None:
    """One at a time."""
    for request in REQUESTS:
        assert TRANSITIONS[tt.State.IDLE][request] is tt.State.BUSY
    for reply in REPLIES:
        assert TRANSITIONS[tt.State.BUSY][reply] is tt.State.IDLE
