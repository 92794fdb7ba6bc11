"""How a check of a filter is run: its connections, and what may become of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias, final

import attrs

from milterproto._errors import LocalProtocolError, RemoteProtocolError
from milterproto._message import Message
from milterproto._shell.judge import faults
from milterproto._shell.talk import DecidedError, Peer, Talk, Tap, hello

Findings: TypeAlias = Iterator[str]


@final
class Bench:
    """What a check works with: a message, and as many connections as it likes."""

    def __init__(self, connect: Callable[[], Peer], message: Message) -> None:
        self._connect = connect
        self._wires: list[Tap] = []
        self.message = message

    def wire(self) -> Tap:
        """A new connection."""
        try:
            wire = Tap(self._connect())
        except OSError as error:
            raise _GoneError(str(error)) from error
        self._wires.append(wire)
        return wire

    def greeted(self) -> tuple[Talk, Tap]:
        """A new connection that keeps to no order, with a client that has said EHLO."""
        wire = self.wire()
        talk = Talk(wire)
        talk.tell(*hello(self.message.client))
        return talk, wire

    @property
    def last(self) -> str:
        """What was said last to the filter."""
        return self._wires[-1].last

    def finish(self) -> list[str]:
        """Close all; what was wrong with the answers."""
        found: list[str] = []
        for wire in self._wires:
            wire.close()
            found += faults(wire.entries)
        return found


class _GoneError(Exception):
    """No connection to be had."""


@final
@attrs.frozen
class Check:
    """One kind of session: what happens in it, and what to do if the filter does not like it.

    ``serious``: real MTAs do so. The others are strangers, or somebody who means harm.
    """

    name: str
    what: str
    advice: str
    play: Callable[[Bench], Findings]
    serious: bool = True


@final
@attrs.frozen
class Outcome:
    """What has come of a check.

    ``decided`` says why it was cut short. ``gone``: it has ended, or hangs.
    """

    check: Check
    findings: tuple[str, ...] = ()
    decided: str = ""
    gone: bool = False


def run(check: Check, connect: Callable[[], Peer], message: Message) -> Outcome:
    """Hold the session. ``connect`` raises OSError if nobody is there any more."""
    bench = Bench(connect, message)
    found: list[str] = []
    decided = ""
    gone = False
    try:
        # Not at once: what was found before an error counts, too.
        found.extend(check.play(bench))
    except _GoneError as error:
        found.append(f"takes no connections any more: {error}")
        gone = True
    except DecidedError as error:
        decided = f"the filter said {error}"
    except LocalProtocolError as error:
        # What our own MTA's side does not do, for libmilter would not answer.
        decided = f"not gone through: {error}"
    except RemoteProtocolError as error:
        found.append(f"after {bench.last}: {error}")
    except TimeoutError:
        found.append(f"no answer to {bench.last}")
    except OSError as error:
        found.append(f"after {bench.last}: the connection is broken ({error})")
    finally:
        found += bench.finish()
    # The same fault is often made again and again.
    return Outcome(check, tuple(dict.fromkeys(found)), decided, gone=gone)
