from collections.abc import Mapping
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

import milterproto as mp
from milterproto._events import COMMAND_CODES
from milterproto._route import routes
from milterproto._state import SENDABLE, TRANSACTION, VERDICTS, transition
from milterproto._wire import COMMAND_DECODERS, encode_response

ALL_STEPS = st.integers(0, int(mp.ALL_STEPS)).map(mp.Steps)
# What `FilterConnection` looks at one by one.
ENDS = {mp.Negotiate, mp.Abort, mp.Quit, mp.QuitNewConnection}


@given(ALL_STEPS)
def test_a_route_leads_where_the_tables_say(steps: mp.Steps) -> None:
    """For each state and command: the same state, and the same question whether a reply is due."""
    rows = routes(steps)
    for state in mp.State:
        for kind in set(COMMAND_CODES) - ENDS - {mp.Macros}:
            expected = transition(state, kind, steps)
            route = rows[state].get(COMMAND_CODES[kind][0])
            if route is None:
                assert expected is None
            else:
                assert (route.state, route.due is kind) == expected
                assert route.due in (None, kind)
                assert route.decode is COMMAND_DECODERS[COMMAND_CODES[kind][0]]
                assert bool(route.answers) is (route.due is not None)
                assert route.row is rows[route.state]


@given(ALL_STEPS)
def test_a_verdict_does_what_the_tables_say(steps: mp.Steps) -> None:
    """Its bytes, the state after it, and whether the message is over; none that is not allowed."""
    rows = routes(steps)
    for row in rows.values():
        for route in row.values():
            for kind, answer in route.answers.items():
                due = cast("type[mp.Command]", route.due)
                assert kind in SENDABLE[due]
                after = cast("Mapping[object, mp.State | None]", VERDICTS[due])[kind]
                assert answer.state is (after or route.state)
                assert answer.row is rows[answer.state]
                over = route.state in TRANSACTION and answer.state not in TRANSACTION
                assert answer.ends_message is over
    answers = rows[mp.State.BODY][ord("E")].answers
    assert {kind: answer.data for kind, answer in answers.items()} == {
        type(event): encode_response(event)
        for event in (mp.Continue(), mp.Accept(), mp.Reject(), mp.TempFail(), mp.Discard())
    }


@pytest.mark.parametrize("kind", sorted(ENDS, key=repr))
def test_what_ends_something_has_no_route(kind: type[mp.Command]) -> None:
    """Each of these does more than to move to another state."""
    rows = routes(mp.Steps(0))
    assert not any(COMMAND_CODES[kind][0] in row for row in rows.values())


def test_a_message_begins_with_mail_or_out_of_nowhere() -> None:
    """MAIL in a message begins another one; without MAIL, the first recipient begins it."""
    usual, without = routes(mp.Steps(0)), routes(mp.Steps.NOMAIL)
    assert usual[mp.State.CONNECTED][ord("M")].begins_message
    assert usual[mp.State.RCPT][ord("M")].begins_message
    assert not usual[mp.State.MAIL][ord("R")].begins_message
    assert without[mp.State.CONNECTED][ord("R")].begins_message
    assert not without[mp.State.RCPT][ord("R")].begins_message
    assert not usual[mp.State.CONNECTED][ord("U")].begins_message


def test_macros_change_no_state() -> None:
    """They may come anywhere but at the very beginning and after the end."""
    rows = routes(mp.Steps(0))
    over = {mp.State.OPENING, mp.State.CLOSED, mp.State.FAILED}
    during = {mp.State.EOM, mp.State.REPLACING, mp.State.REPLACED}  # a reply is due
    for state in set(mp.State) - over - during:
        route = rows[state][ord("D")]
        assert (route.state, route.row) == (state, rows[state])
        assert (route.due, route.answers) == (None, {})
        assert not route.begins_message
    assert not any(ord("D") in rows[state] for state in over)


@pytest.mark.parametrize("state", [mp.State.CONNECTED, mp.State.RCPT])
def test_macros_that_may_end_an_unseen_message_are_looked_at(state: mp.State) -> None:
    """With NOMAIL, those of MAIL are all that parts one message from the next."""
    assert (ord("D") in routes(mp.Steps.NOMAIL)[state]) is (state is mp.State.CONNECTED)
