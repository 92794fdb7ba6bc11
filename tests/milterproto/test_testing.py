"""The test kit's front door."""

from __future__ import annotations

import asyncio

import pytest

import milterproto as mp
from milterproto import testing as face
from milterproto.message import Message, MessageFilter
from milterproto.testing import EventFilter, Habits, deliver

MESSAGE = Message.parse(b"Subject: hi\n\nbody\n")


def tag(message: Message) -> None:
    message.headers.set("Subject", b"[x] " + message.headers.get("Subject"))


def test_one_line() -> None:
    """Such as it stands in a filter author's own tests."""
    result = deliver(tag, MESSAGE)
    assert result.message
    assert result.message.headers.get("subject") == b"[x] hi"
    assert deliver(lambda _: mp.Reject(), MESSAGE).verdict == mp.Reject()
    assert deliver(MessageFilter(tag), MESSAGE).edits == result.edits


@pytest.mark.parametrize("habits", Habits)
@pytest.mark.parametrize("version", [2, 6])
def test_habits_and_versions(habits: Habits, version: int) -> None:
    """The session is whole: from the negotiation to the end."""
    result = deliver(tag, MESSAGE, habits=habits, version=version)
    assert result.accepted
    first, last = result.transcript[0], result.transcript[-1]
    assert first == (">", mp.offer(version))
    assert last == (">", mp.Abort() if habits is Habits.HOSTILE else mp.Quit())


def test_event_filters() -> None:
    """The other kind of filter of ours."""
    tested = EventFilter(lambda _conn: lambda _event: mp.TempFail(), mp.Wants(events=()))
    # Events that need no reply get none.
    tested = EventFilter(
        lambda conn: lambda _event: mp.TempFail() if conn.our_turn else None, mp.Wants(events=())
    )
    assert deliver(tested, MESSAGE).verdict == mp.TempFail()


def test_coroutines_that_wait() -> None:
    """Run where the test says."""

    async def judge(_message: Message) -> mp.Verdict:
        await asyncio.sleep(0)
        return mp.Discard()

    assert deliver(judge, MESSAGE, run=asyncio.run).verdict == mp.Discard()
    with pytest.raises(mp.LocalProtocolError, match="run="):
        deliver(judge, MESSAGE)


def test_the_public_names() -> None:
    """All there."""
    assert all(hasattr(face, name) for name in face.__all__)
