"""The public module: XCLIENT and XFORWARD from end to end."""

import attrs
from hypothesis import given
from hypothesis import strategies as st

from nginxauth import xclient as xc

from .xclient_strategies import xclients, xforwards


def test_all_names_are_there() -> None:
    """Flat, once, and nothing else."""
    public = {name for name in vars(xc) if not name.startswith("_")}
    assert set(xc.__all__) == public
    assert len(xc.__all__) == len(set(xc.__all__))


@given(xclients | xforwards, st.booleans())
def test_what_one_sends_the_other_gets(command: xc.Command, lenient: bool) -> None:
    """All of it, in however many commands; a name is the reverse name, too."""
    receiver = xc.Receiver(xc.EVERYTHING, lenient=lenient)
    offer = xc.parse_ehlo(b"\n".join([b"mta.test", *xc.ehlo_lines(receiver.offer)]))
    plan = xc.plan(command, offer)
    assert plan.omitted == ()
    for line in plan.commands:
        assert type(receiver.receive(line, in_transaction=False)) is type(command)
    if isinstance(command, xc.XForward):
        assert receiver.forwarded == command
    elif command.reverse_name is None and isinstance(command.name, bytes):
        assert receiver.client == attrs.evolve(command, reverse_name=command.name)
    else:
        assert receiver.client == command
