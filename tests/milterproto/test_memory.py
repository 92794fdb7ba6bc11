"""A filter at the end of a wire that is not there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

import milterproto as mp
from milterproto._memory import EventFilter, MemoryWire, run_alone
from milterproto._wire import encode_command

ALL = mp.Wants(actions=mp.ALL_ACTIONS)


def wire(handle: Any, wants: mp.Wants = ALL, **options: Any) -> MemoryWire:
    """With what handles events, and past the negotiation."""
    made = MemoryWire(EventFilter(lambda _conn: handle, wants), **options)
    made.sendall(encode_command(mp.offer()))
    made.recv(1)
    return made


def test_the_negotiation_is_done() -> None:
    """The handler does not hear of it."""
    heard: list[object] = []
    one = MemoryWire(EventFilter(lambda _conn: heard.append, ALL))
    one.sendall(encode_command(mp.offer())[:3])
    assert one.recv(100) == b""
    one.sendall(encode_command(mp.offer())[3:])
    assert one.recv(100) == mp.encode_response(mp.negotiate(mp.offer(), ALL))
    assert one.recv(100) == b""
    assert heard == []


def test_macros_are_looked_up() -> None:
    """The connection has them, and the handler does not hear of them by themselves."""
    heard: list[tuple[object, bytes]] = []

    def session(conn: mp.FilterConnection) -> Any:
        return lambda event: heard.append((event, conn.macros[b"i"]))

    one = MemoryWire(EventFilter(session, ALL))
    sender = mp.MailFrom(b"<>")
    for event in (mp.offer(), mp.Macros.of(mp.MailFrom, {b"i": b"Q1"}), sender):
        one.sendall(encode_command(event))
    assert heard == [(sender, b"Q1")]


@pytest.mark.parametrize(
    ("returned", "sent"),
    [
        (None, [mp.Continue()]),
        (mp.Reject(), [mp.Reject()]),
        ([mp.Accept()], [mp.Accept()]),
        (iter((mp.Accept(),)), [mp.Accept()]),
    ],
    ids=["nothing", "one", "list", "iterator"],
)
def test_what_a_handler_returns(returned: Any, sent: Sequence[mp.Response]) -> None:
    """Nothing means Continue, if anything is due."""
    one = wire(lambda _event: returned)
    one.sendall(encode_command(mp.MailFrom(b"<>")))
    assert one.recv(100) == b"".join(mp.encode_response(response) for response in sent)


def test_nothing_is_sent_where_nothing_is_due() -> None:
    """And the end of the connection is an event, too."""
    heard: list[object] = []
    one = wire(heard.append, mp.Wants(replies=()))
    one.sendall(encode_command(mp.MailFrom(b"<>")))
    one.shutdown(1)
    assert one.recv(100) == b""
    assert heard == [mp.MailFrom(b"<>"), mp.ConnectionClosed()]


def test_wrong_replies() -> None:
    """What the codec says of them comes out, and what the filter raises."""
    with pytest.raises(mp.LocalProtocolError, match="no reply is due"):
        wire(lambda _: [mp.Continue(), mp.Accept()]).sendall(encode_command(mp.MailFrom(b"<>")))
    with pytest.raises(mp.LocalProtocolError, match=r"no verdict on MailFrom\(sender=b'<>'"):
        wire(lambda _: []).sendall(encode_command(mp.MailFrom(b"<>")))
    with pytest.raises(mp.LocalProtocolError, match="allow_shutdown=True"):
        wire(lambda _: mp.Shutdown()).sendall(encode_command(mp.MailFrom(b"<>")))
    with pytest.raises(ZeroDivisionError):
        wire(lambda _: 1 / 0).sendall(encode_command(mp.MailFrom(b"<>")))


def test_coroutines() -> None:
    """They run where they are, or in the loop that a test chooses."""

    async def refuse(_event: object) -> mp.Verdict:
        return mp.Reject()

    async def wait(_event: object) -> mp.Verdict:
        await asyncio.sleep(0)
        return mp.TempFail()

    one = wire(refuse)
    one.sendall(encode_command(mp.MailFrom(b"<>")))
    assert one.recv(1) == mp.encode_response(mp.Reject())
    one = wire(wait, run=asyncio.run)
    one.sendall(encode_command(mp.MailFrom(b"<>")))
    assert one.recv(1) == mp.encode_response(mp.TempFail())
    with pytest.raises(mp.LocalProtocolError, match=r"pass run=asyncio\.run"):
        wire(wait).sendall(encode_command(mp.MailFrom(b"<>")))


def test_run_alone() -> None:
    """Gives what the coroutine returns or raises, and lets one that waits tidy up."""
    tidied: list[bool] = []

    async def wait() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            tidied.append(True)

    async def fail() -> None:
        raise ZeroDivisionError

    async def one() -> int:
        return 1

    assert run_alone(one()) == 1
    with pytest.raises(ZeroDivisionError):
        run_alone(fail())
    with pytest.raises(mp.LocalProtocolError):
        run_alone(wait())
    assert tidied == [True]
