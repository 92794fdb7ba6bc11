"""How checks are run, and what may become of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

import milterproto as mp
from milterproto._shell.bench import Bench, Check, Outcome, run
from milterproto._shell.talk import DecidedError

from .peers import MESSAGE, Scripted, frame


def of(play: Callable[[Bench], Iterator[str]]) -> Check:
    return Check("name", "what", "advice", play)


def test_findings_and_faults() -> None:
    """What the check says, what the answers say, and nothing twice."""
    peers: list[Scripted] = []

    def connect() -> Scripted:
        peers.append(Scripted({mp.Helo: frame(b"d")}))
        return peers[-1]

    def play(bench: Bench) -> Iterator[str]:
        assert bench.message is MESSAGE
        for _ in range(2):
            yield "one"
            with pytest.raises(DecidedError):
                bench.greeted()
        assert bench.last == "Helo"

    check = of(play)
    fault = "Discard as a reply to Helo: Sendmail then lets this client's mail through unfiltered"
    assert run(check, connect, MESSAGE) == Outcome(check, ("one", fault))
    assert [peer.closed for peer in peers] == [True, True]


def test_nothing_found() -> None:
    """A greeting is no fault."""

    def play(bench: Bench) -> Iterator[str]:
        talk, wire = bench.greeted()
        talk.tell(mp.Abort())
        assert wire.last == "Abort"
        yield from ()

    check = of(play)
    assert run(check, Scripted, MESSAGE) == Outcome(check)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (DecidedError("Reject to Helo"), ((), "the filter said Reject to Helo")),
        (mp.LocalProtocolError("no"), ((), "not gone through: no")),
        (mp.RemoteProtocolError("bad"), (("first", "after the connection: bad"), "")),
        (TimeoutError("x"), (("first", "no answer to the connection"), "")),
        (
            ConnectionResetError("reset"),
            (("first", "after the connection: the connection is broken (reset)"), ""),
        ),
    ],
)
def test_errors(error: Exception, outcome: tuple[tuple[str, ...], str]) -> None:
    """What was found before them counts."""

    def play(bench: Bench) -> Iterator[str]:
        bench.wire()
        if outcome[0]:
            yield "first"
        raise error

    check = of(play)
    assert run(check, Scripted, MESSAGE) == Outcome(check, *outcome)


def test_nobody_there() -> None:
    """Any more."""

    def connect() -> Scripted:
        raise ConnectionRefusedError("Connection refused")

    def play(bench: Bench) -> Iterator[str]:
        yield "first"
        bench.wire()

    outcome = run(of(play), connect, MESSAGE)
    assert outcome.gone
    assert outcome.findings == ("first", "takes no connections any more: Connection refused")
