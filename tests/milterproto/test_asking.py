from collections.abc import Mapping
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

import milterproto as mp
from milterproto._asking import asks, refusal
from milterproto._events import COMMAND_CODES
from milterproto._state import VERDICTS, State, transition

NONE = mp.Steps(0)
STEPS = st.integers(0, int(mp.ALL_STEPS)).map(mp.Steps)
VERSIONS = st.sampled_from([2, 3, 4, 6])
# What the session's history, too, decides about.
REMEMBERED = {mp.Abort, mp.Quit, mp.QuitNewConnection, mp.Unknown, mp.Negotiate, mp.Macros}


@given(STEPS, VERSIONS)
def test_what_has_a_row_may_be_sent_and_leads_where_the_table_says(
    steps: mp.Steps, version: int
) -> None:
    """And whatever has none is refused with a reason."""
    rows = asks(steps, version)
    for state in State:
        for kind in set(COMMAND_CODES) - REMEMBERED:
            ask = rows[state].get(kind)
            assert (ask is None) is (refusal(kind, state, steps, version) is not None)
            if ask is not None:
                assert (ask.state, ask.verdicts is not None) == transition(state, kind, steps)
                assert ask.row is rows[ask.state]
        assert not (REMEMBERED - {mp.Macros}) & set(rows[state])


@given(STEPS, VERSIONS)
def test_a_verdict_leads_where_the_table_says(steps: mp.Steps, version: int) -> None:
    """But for those that the connection has to remember."""
    rows = asks(steps, version)
    for row in rows.values():
        for kind, ask in row.items():
            for verdict, taken in (ask.verdicts or {}).items():
                assert verdict is not mp.Skip
                after = cast("Mapping[object, State | None]", VERDICTS[kind])[verdict]
                assert taken.state is (after or ask.state)
                assert taken.row is rows[taken.state]


def test_a_refused_data_and_a_skip_are_remembered() -> None:
    """So they are no business of a table."""
    rows = asks(NONE, 6)
    data, body = rows[State.RCPT][mp.Data].verdicts, rows[State.BODY][mp.Body].verdicts
    assert data is not None
    assert body is not None
    assert set(VERDICTS[mp.Data]) - set(data) == {mp.Reject, mp.TempFail, mp.ReplyCode}
    assert set(VERDICTS[mp.Body]) - set(body) == {mp.Skip}


@pytest.mark.parametrize(
    ("steps", "version", "state", "there"),
    [
        (NONE, 6, State.RCPT, True),
        (NONE, None, State.OPENING, False),
        (mp.Steps.NOMAIL, 6, State.RCPT, False),
        (mp.Steps.NOMAIL, 6, State.CONNECTED, True),
    ],
)
def test_macros_where_they_can_only_be_macros(
    steps: mp.Steps, version: int | None, state: State, there: bool
) -> None:
    """Not before the negotiation, and not where they would end a message that was not seen."""
    assert (mp.Macros in asks(steps, version)[state]) is there


@pytest.mark.parametrize(
    ("kind", "state", "steps", "version", "reason"),
    [
        (mp.Macros, State.OPENING, NONE, None, "nothing was negotiated"),
        (mp.Negotiate, State.OPENING, NONE, None, None),
        (mp.Body, State.EOH, mp.Steps.NOBODY, 6, "negotiated NOBODY"),
        (mp.Data, State.RCPT, NONE, 3, "unknown in milter version 3"),
        (mp.Header, State.RELEASED, NONE, 6, "the whole connection"),
        (mp.Header, State.DONE, NONE, 6, "about the message"),
        (mp.Header, State.CONNECTED, NONE, 6, "can't follow in state CONNECTED"),
        (mp.RcptTo, State.DATA, NONE, 6, "after DATA"),
        (mp.Body, State.DATA, mp.Steps.NOEOH, 6, "without a header before"),
        (mp.Body, State.DATA, mp.Steps.NOEOH | mp.Steps.NOHDRS, 6, None),
        (mp.EndOfMessage, State.HEADERS, NONE, 6, "EndOfHeaders must come first"),
        (mp.EndOfMessage, State.BODY, NONE, 6, None),
        (mp.Unknown, State.NEGOTIATED, NONE, 6, "would not answer what follows"),
        (mp.Unknown, State.HEADERS, NONE, 6, "would not answer what follows"),
        (mp.Unknown, State.RCPT, NONE, 6, None),
        (mp.Unknown, State.RCPT, NONE, 3, "would not answer what follows"),
        (mp.Abort, State.NEGOTIATED, NONE, 6, "nothing to abort"),
        (mp.Abort, State.NEGOTIATED, mp.Steps.NOCONNECT, 6, None),
        (mp.Abort, State.RELEASED, NONE, 6, None),
    ],
)
def test_each_reason(
    kind: type[mp.Command],
    state: State,
    steps: mp.Steps,
    version: int | None,
    reason: str | None,
) -> None:
    """Told in words that help."""
    told = refusal(kind, state, steps, version)
    assert told is None if reason is None else told is not None and reason in told
