from typing import get_args

import nginxauth as ng
from nginxauth._state import AFTER, REPLIES, REQUESTS


def test_every_event_has_its_place() -> None:
    """A request makes the reply due, and after the reply nothing more comes."""
    assert set(REQUESTS) == {ng.AuthRequest, ng.Malformed}
    assert set(REPLIES) == set(get_args(ng.Reply))
    assert set(AFTER) == {*REQUESTS, *REPLIES, ng.ConnectionClosed}
    assert {AFTER[kind] for kind in REQUESTS} == {ng.State.BUSY}
    assert {AFTER[kind] for kind in REPLIES} == {ng.State.CLOSED}
    assert AFTER[ng.ConnectionClosed] is ng.State.CLOSED
