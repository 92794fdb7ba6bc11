import dovecotauth as da
from dovecotauth._state import CLIENTS_MOVE, GREETING, REQUESTS, Greeting, OutOfBand, kind

REQUEST_KINDS = {da.Auth, da.Cont, OutOfBand, da.Cancel, da.Malformed}
REPLY_KINDS = {da.Cont, OutOfBand, da.Ok, da.Fail, da.Cancelled}


def test_every_phase_can_be_left_and_ends() -> None:
    """From each there is a way to the end, and a reply or a response on it."""
    ends: set[da.Phase | None] = {None}
    for _ in da.Phase:
        ends |= {start for (start, event), to in REQUESTS.items()
                 if to in ends and event is not da.Cancel}  # fmt: skip
    assert ends == {None, *da.Phase}


def test_a_result_ends_a_request() -> None:
    """And nothing else does, below 1.4 but a Cancel."""
    for (_, event), to in REQUESTS.items():
        assert (to is None) == (event in (da.Ok, da.Fail, da.Cancelled))


def test_what_is_owed_is_all_that_can_come() -> None:
    """A request that was refused can't succeed, nor can a cancelled one."""
    for phase, owed in ((da.Phase.REFUSED, da.Fail), (da.Phase.CANCELLED, da.Cancelled)):
        assert {event for (start, event) in REQUESTS if start is phase} == {owed, da.Cancel}


def test_the_client_answers_in_kind() -> None:
    """A challenge with data, channel binding with channel binding."""
    moves = {(phase, event) for phase, event in REQUESTS if phase in CLIENTS_MOVE}
    assert (da.Phase.CHALLENGED, da.Cont) in moves
    assert (da.Phase.BINDING, OutOfBand) in moves
    assert (da.Phase.CHALLENGED, OutOfBand) not in moves
    assert (da.Phase.BINDING, da.Cont) not in moves


def test_the_kinds() -> None:
    """A Cont without data is of its own kind."""
    assert kind(da.Cont(1, b"")) is da.Cont
    assert kind(da.Cont(1, None, b"x")) is OutOfBand
    assert kind(da.Ok(1, b"x")) is da.Ok


def test_a_greeting_begins_with_its_version_and_ends() -> None:
    """On either side."""
    assert {event for step, event in GREETING if step is Greeting.NOTHING} == {da.Version}
    assert not [step for step, _ in GREETING if step is Greeting.DONE]
