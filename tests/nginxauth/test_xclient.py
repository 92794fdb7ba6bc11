"""The public module: XCLIENT and XFORWARD from end to end."""

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
    """All of it, in however many commands."""
    receiver = xc.Receiver(xc.EVERYTHING, lenient=lenient)
    offer = xc.parse_ehlo(b"\n".join([b"mta.test", *xc.ehlo_lines(receiver.offer)]))
    plan = xc.plan(command, offer)
    assert plan.omitted == ()
    for line in plan.commands:
        assert type(receiver.receive(line, in_transaction=False)) is type(command)
    got = receiver.client if isinstance(command, xc.XClient) else receiver.forwarded
    assert got == command
