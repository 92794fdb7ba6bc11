"""Test a filter without an MTA: in memory, with no socket and no clock.

    result = deliver(filter, message)

`deliver` plays a whole session with one message; `MTA` takes several through one connection. What
is tested is

- a function of a `Message`, or a `MessageFilter`;
- an `EventFilter`, which handles events;
- a filter in any language: pass a connected, blocking ``socket.socket``, or whatever has its
  ``sendall``, ``recv`` and ``shutdown``. Give it a timeout, for here is no clock.
"""

from __future__ import annotations

import attrs

from ._flags import MAX_VERSION
from ._habits import Habits
from ._memory import EventFilter, Run, Wire, run_alone
from ._message import Message
from ._mta import MTA, Result, Tested

__all__ = [
    "MTA",
    "EventFilter",
    "Habits",
    "Result",
    "Wire",
    "deliver",
]


def deliver(
    tested: Tested,
    message: Message,
    *,
    habits: Habits = Habits.POSTFIX,
    version: int = MAX_VERSION,
    run: Run = run_alone,
) -> Result:
    """Play a session with one message, from the negotiation to the end; arguments as in `MTA`."""
    mta = MTA(tested, habits=habits, version=version, run=run)
    result = mta.deliver(message)
    mta.quit()
    return attrs.evolve(result, transcript=tuple(mta.transcript))
