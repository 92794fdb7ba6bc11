from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nginxauth import xclient as xc

from .xclient_strategies import any_lines, xclients

LINE = b"XCLIENT NAME=a.example ADDR=192.0.2.1 LOGIN=ann HELO=a PROTO=ESMTP\r\n"
BASE = xc.Offer((b"NAME", b"ADDR", b"PORT", b"HELO", b"PROTO"), (b"NAME", b"SOURCE"))


def receive(receiver: xc.Receiver, line: bytes, **state: Any) -> Any:
    return receiver.receive(line, **{"in_transaction": False, **state})


def reply(receiver: xc.Receiver, line: bytes, **state: Any) -> bytes:
    """The reply to what must be refused, and must change nothing."""
    before = (receiver.offer, receiver.client, receiver.forwarded)
    refused = receive(receiver, line, **state)
    assert isinstance(refused, xc.Refused)
    assert refused.reason
    assert (receiver.offer, receiver.client, receiver.forwarded) == before
    return refused.reply


def test_a_client_is_told() -> None:
    """In one command; then there is nothing more to be offered."""
    receiver = xc.Receiver(xc.EVERYTHING)
    assert receiver.offer == xc.EVERYTHING
    assert receiver.client == xc.XClient()
    told = xc.XClient(name=b"a.example", addr=b"192.0.2.1", login=b"ann", helo=b"a", proto=b"ESMTP")
    assert receive(receiver, LINE) == told
    assert receiver.client == attrs.evolve(told, reverse_name=b"a.example")
    assert receiver.offer == xc.Offer()
    assert reply(receiver, LINE).startswith(b"550 ")
    assert reply(receiver, b"XFORWARD SOURCE=LOCAL").startswith(b"550 ")


def test_an_address_that_is_not_known_is_one_too() -> None:
    """The peer is its own client no more."""
    receiver = xc.Receiver(xc.EVERYTHING)
    receive(receiver, b"XCLIENT ADDR=[UNAVAILABLE]")
    assert receiver.client.addr is xc.UNAVAILABLE
    assert receiver.offer == xc.Offer()


def test_every_command_wipes_login_helo_and_proto() -> None:
    """And nothing else: as Postfix does it, and against its manual."""
    receiver = xc.Receiver(xc.EVERYTHING)
    receive(receiver, b"XCLIENT HELO=a PROTO=ESMTP LOGIN=ann PORT=7 DESTPORT=25")
    assert receiver.client.login == b"ann"
    receive(receiver, b"XCLIENT ADDR=192.0.2.1 NAME=[UNAVAILABLE]")
    assert receiver.client == xc.XClient(
        name=xc.UNAVAILABLE, addr=b"192.0.2.1", port=7, destport=25
    )


@given(st.lists(xclients, min_size=1, max_size=3))
def test_what_a_command_has_counts(clients: list[xc.XClient]) -> None:
    """From the last command that has it, but for what every command wipes."""
    receiver = xc.Receiver(xc.EVERYTHING)
    told: list[xc.XClient] = []
    for client in clients:
        for line in xc.plan(client, xc.EVERYTHING).commands:
            event = receive(receiver, line)
            if isinstance(event, xc.XClient):
                told.append(event)
    for field in ("name", "addr", "port", "destaddr", "destport"):
        values = [getattr(one, field) for one in told if getattr(one, field) is not None]
        assert getattr(receiver.client, field) == (values[-1] if values else None)
    for field in ("login", "helo", "proto"):
        assert getattr(receiver.client, field) == getattr(told[-1], field)


# Real Postfix is asked the same in tests/interop.
REVERSE_NAMES: list[tuple[list[bytes], object]] = [
    ([b"NAME=a.example"], b"a.example"),
    ([b"NAME=[UNAVAILABLE]"], None),
    ([b"REVERSE_NAME=b.example", b"NAME=a.example"], b"a.example"),
    ([b"REVERSE_NAME=b.example", b"NAME=[UNAVAILABLE]"], b"b.example"),
    ([b"REVERSE_NAME=b.example", b"NAME=[TEMPUNAVAIL] PORT=1"], b"b.example"),
    ([b"REVERSE_NAME=b.example", b"PORT=1"], b"b.example"),
    ([b"NAME=a.example", b"NAME=c.example"], b"c.example"),
    ([b"NAME=a.example", b"REVERSE_NAME=[TEMPUNAVAIL]"], xc.TEMPUNAVAIL),
    ([b"NAME=a.example REVERSE_NAME=b.example"], b"b.example"),
    ([b"NAME=a.example REVERSE_NAME=[UNAVAILABLE]"], xc.UNAVAILABLE),
]


@pytest.mark.parametrize(("commands", "expected"), REVERSE_NAMES)
def test_the_reverse_name(commands: list[bytes], expected: object) -> None:
    """A name that was found there and back is it, whatever was told before."""
    receiver = xc.Receiver(xc.EVERYTHING)
    for command in commands:
        receive(receiver, b"XCLIENT " + command)
    assert receiver.client.reverse_name == expected


def test_the_order_within_a_command_means_nothing() -> None:
    """To Postfix it does, which the manual says."""
    event = receive(xc.Receiver(xc.EVERYTHING), b"XCLIENT REVERSE_NAME=b.example NAME=a.example")
    assert event == xc.XClient(name=b"a.example", reverse_name=b"b.example")


def test_what_is_not_offered_is_refused() -> None:
    """To a stranger, all; to a proxy that has checked no passwords, LOGIN."""
    stranger = xc.Receiver(xc.Offer())
    for line in (LINE, b"XFORWARD NAME=a.example", b"XCLIENT FOO=x"):
        assert reply(stranger, line) == b"550 5.7.0 Error: insufficient authorization"
    assert reply(stranger, b"XCLIENT").startswith(b"501 5.5.4 Syntax")
    assert reply(xc.Receiver(BASE), LINE) == b"501 5.5.4 Bad XCLIENT attribute name"
    assert reply(xc.Receiver(xc.Offer((b"ADDR",))), b"XFORWARD NAME=a.example")[:3] == b"550"
    assert reply(xc.Receiver(xc.Offer((), (b"NAME",))), LINE)[:3] == b"550"


def test_nothing_is_applied_of_a_command_with_a_fault() -> None:
    """Not what stands before the fault either, which Postfix applies."""
    receiver = xc.Receiver(xc.EVERYTHING)
    assert reply(receiver, LINE.strip() + b" PORT=x") == b"501 5.5.4 Bad PORT syntax"
    line = b"XFORWARD NAME=a.example SOURCE=x"
    assert reply(receiver, line) == b"501 5.5.4 Bad SOURCE syntax"


@pytest.mark.parametrize("line", [LINE, b"XCLIENT", b"XCLIENT FOO", b"XFORWARD NAME=a.example"])
@pytest.mark.parametrize("offer", [xc.EVERYTHING, xc.Offer()])
def test_not_in_a_transaction(line: bytes, offer: xc.Offer) -> None:
    """Whatever it says, and whoever says it."""
    answer = reply(xc.Receiver(offer), line, in_transaction=True)
    assert answer == b"503 5.5.1 Error: MAIL transaction in progress"


def test_nothing_may_stand_behind_xclient() -> None:
    """What does was meant by, or smuggled in for, the one who spoke before."""
    receiver = xc.Receiver(xc.EVERYTHING)
    refused = receive(receiver, LINE, pipelined=True)
    assert refused == xc.Refused(
        LINE.strip(), "pipelined", b"554 5.5.0 Error: SMTP protocol synchronization", close=True
    )
    assert receiver.client == xc.XClient()
    assert isinstance(receive(receiver, b"XFORWARD NAME=a.example", pipelined=True), xc.XForward)
    assert not receive(receiver, b"XCLIENT", pipelined=True).close


def test_forwarded_attributes_add_up_until_the_message_ends() -> None:
    """Then they are gone; XCLIENT ends them, too."""
    receiver = xc.Receiver(xc.EVERYTHING)
    event = receive(receiver, b"XFORWARD NAME=a.example SOURCE=LOCAL IDENT=x")
    assert event == xc.XForward(name=b"a.example", source=b"LOCAL", ident=b"x")
    receive(receiver, b"XFORWARD SOURCE=REMOTE PORT=9")
    assert receiver.forwarded == xc.XForward(
        name=b"a.example", source=b"REMOTE", ident=b"x", port=9
    )
    assert receiver.client == xc.XClient()
    receiver.end_transaction()
    assert receiver.forwarded == xc.XForward()
    receive(receiver, b"XFORWARD NAME=a.example")
    receive(receiver, b"XCLIENT PORT=9")
    assert receiver.forwarded == xc.XForward()
    assert receiver.offer == xc.EVERYTHING


def test_it_reads_as_it_was_told_to() -> None:
    """xtext, leniency, length; and strictly if it was not."""
    strict = xc.Receiver(xc.EVERYTHING)
    assert reply(strict, b"XCLIENT ADDR=2001:db8::1") == b"501 5.5.4 Bad ADDR syntax"
    receiver = xc.Receiver(xc.EVERYTHING, xtext=xc.Xtext.RAW, lenient=True, max_line=60)
    event = receive(receiver, b"XCLIENT ADDR=2001:db8::1 LOGIN=a+20b")
    assert event == xc.XClient(addr=b"2001:db8::1", login=b"a+20b")
    assert reply(receiver, b"XCLIENT HELO=" + b"x" * 60) == b"500 5.5.2 Error: command too long"


@given(st.lists(st.tuples(any_lines, st.booleans(), st.booleans()), max_size=6), st.booleans())
def test_any_lines(lines: list[tuple[bytes, bool, bool]], lenient: bool) -> None:
    """Each changes what it is meant to change, or nothing."""
    receiver = xc.Receiver(xc.EVERYTHING, lenient=lenient)
    for line, in_transaction, pipelined in lines:
        before = (receiver.offer, receiver.client, receiver.forwarded)
        event = receiver.receive(line, in_transaction=in_transaction, pipelined=pipelined)
        if isinstance(event, xc.Refused):
            assert (receiver.offer, receiver.client, receiver.forwarded) == before
        elif isinstance(event, xc.XForward):
            assert (receiver.offer, receiver.client) == before[:2]
        else:
            assert not pipelined
            assert (receiver.offer == xc.Offer()) == (event.addr is not None)
