"""What a good peer of `long_soak` does on a connection, one method for each protocol.

Each checks all that it is told. Nearly every answer depends on what was asked, so that one that
was meant for another connection does not pass.
"""

from __future__ import annotations

import random
import time
from array import array
from collections import Counter
from collections.abc import Awaitable, Mapping
from typing import Any, Final, TypeVar

import attrs

import dovecotauth as da
import milterproto as mp
import nginxauth as ng
import tcptable as tt

from ._soak_answers import Filter, let_in, look_up
from ._soak_wire import DisturbedError, Wire

PROTOCOLS: Final = ("milter", "tcp_table", "dovecot_auth", "auth_http")
BUG: Final = 40  # one request of so many makes the daemon's handler fail

T = TypeVar("T")


@attrs.define
class Tally:
    """What the peers have seen."""

    sessions: Counter[str] = attrs.field(factory=Counter)  # by kind
    answers: int = 0
    # Seconds that good peers have waited for an answer, by protocol.
    latencies: Mapping[str, array[float]] = attrs.field(
        factory=lambda: {name: array("f") for name in PROTOCOLS}
    )
    faults: Counter[str] = attrs.field(factory=Counter)
    _recent: list[float] = attrs.field(factory=list)

    def waited(self, protocol: str, seconds: float) -> None:
        """A good peer has got an answer."""
        self.latencies[protocol].append(seconds)
        self._recent.append(seconds)

    def recent(self) -> float:
        """How long one has waited on the average, since this was called last."""
        many, self._recent = self._recent, []
        return sum(many) / max(len(many), 1)


class Good:
    """A good peer; a slow one and a broken one are good ones whose `Wire` is like that."""

    def __init__(self, wire: Wire, rng: random.Random, tally: Tally, kind: str) -> None:
        self.wire = wire
        self.rng = rng
        self._tally = tally
        # A slow one says little, for it takes long over it; and how long is its own affair.
        self.slow = kind == "slow"
        self._protocol = ""

    async def play(self, protocol: str) -> None:
        """One connection's life. DisturbedError if anything is not as it should be."""
        self._protocol = protocol
        play = {
            "milter": self._milter,
            "tcp_table": self._tcp_table,
            "dovecot_auth": self._dovecot_auth,
            "auth_http": self._auth_http,
        }
        await play[protocol]()

    async def _timed(self, answer: Awaitable[T]) -> T:
        start = time.perf_counter()
        heard = await answer
        if not self.slow:
            self._tally.waited(self._protocol, time.perf_counter() - start)
        return heard

    def _check(self, heard: object, expected: object) -> None:
        if heard != expected:
            raise DisturbedError(f"{expected!r} was due, and {heard!r} came")
        self._tally.answers += 1

    def _name(self) -> bytes:
        return b"%x" % self.rng.getrandbits(64)

    # --- messages, one after the other

    async def _milter(self) -> None:
        conn = mp.MTAConnection()
        await self._ask(conn, mp.offer())
        client = mp.Connect(b"client.test", mp.Family.INET, 25, b"192.0.2.1")
        for command in (client, mp.Helo(b"client.test")):
            self._check(await self._ask(conn, command), [mp.Continue()])
        for _ in range(self.rng.randint(1, 4)):
            await self._message(conn)
            await self.wire.rest()
        await self.wire.say(conn.send(mp.Quit()))
        self._check(await self.wire.reader.read(), b"")

    async def _message(self, conn: mp.MTAConnection) -> None:
        rng, mirror = self.rng, Filter()
        bug = mp.RcptTo(b"<bug@soak.test>")
        sizes = [] if self.slow else rng.choices((10, 1000, 20000), k=rng.randrange(3))
        commands: list[mp.Command] = [
            mp.MailFrom(b"<%b@soak.test>" % self._name()),
            mp.RcptTo(b"<bob@soak.test>"),
            mp.Data(),
            mp.Header(b"Subject", self._name()),
            mp.EndOfHeaders(),
            *(mp.Body(rng.randbytes(size)) for size in sizes),
            mp.EndOfMessage(),
        ]
        if rng.random() < 0.2:
            commands.insert(1, mp.RcptTo(b"<nobody@soak.test>"))
        if rng.random() < 1 / BUG:
            commands.insert(1, bug)
        if rng.random() < 0.1:
            del commands[rng.randrange(1, len(commands)) :]
        for command in commands:
            expected = mp.TempFail() if command == bug else mirror(command) or mp.Continue()
            heard = await self._ask(conn, command)
            self._check(heard, expected if isinstance(expected, list) else [expected])
        if type(commands[-1]) is not mp.EndOfMessage:
            await self.wire.say(conn.send(mp.Abort()))

    async def _ask(self, conn: mp.MTAConnection, command: mp.Command) -> list[Any]:
        async def all_of_it() -> list[Any]:
            said = []
            while not conn.our_turn:
                said.append(await self.wire.hear(conn))
            # On a busy machine it may have to say that it is still at work.
            return [one for one in said if one != mp.Progress()]

        await self.wire.say(conn.send(command))
        if type(command) is mp.EndOfMessage:
            return await all_of_it()  # the handler takes its time over it
        return await self._timed(all_of_it())

    # --- look-ups

    async def _tcp_table(self) -> None:
        conn, rng = tt.ClientConnection(), self.rng
        for _ in range(rng.randint(1, 20)):
            get = tt.Get(rng.choice((b"", b"no", b"a b%")) + self._name())
            if not self.slow and rng.random() < 0.1:
                get = tt.Get(get.key + b"x" * 2000)
            expected: tt.Reply = look_up(get)
            if rng.random() < 1 / BUG:
                get, expected = tt.Get(b"bug"), tt.TempError(b"the look-up has failed")
            await self.wire.say(conn.send(get))
            self._check(await self._timed(self.wire.hear(conn)), expected)
            await self.wire.rest()
            if not conn.our_turn:
                break  # as Postfix does after a TempError

    # --- logins, several at a time

    async def _dovecot_auth(self) -> None:
        conn, rng, number = da.ClientConnection(), self.rng, 0
        await self.wire.say(conn.send(da.ClientHello(rng.randint(1, 10**9))))
        for due_now in (da.Version, da.ServerHello):
            self._check(type(await self._timed(self.wire.hear(conn))), due_now)
        for _ in range(rng.randint(1, 8)):
            due: dict[int, list[Any]] = {}
            for _ in range(rng.choice((1, 1, 1, 4))):
                number += 1
                asked, due[number] = self._a_login(number)
                for event in asked:
                    await self.wire.say(conn.send(event))
            # The handler takes its time over a login in two steps.
            timed = all(len(one) == 1 for one in due.values())
            while due:
                hearing = self.wire.hear(conn)
                heard = await (self._timed(hearing) if timed else hearing)
                rest = due.get(heard.id) or [None]
                self._check(heard, rest.pop(0))
                if type(heard) is da.Cont:
                    await self.wire.say(conn.send(rest.pop(0)))
                elif not rest:
                    del due[heard.id]
            await self.wire.rest()

    def _a_login(self, number: int) -> tuple[list[da.FromClient], list[Any]]:
        """What is asked, and what is then said in turn; a Cont by either side."""
        user = self._name()
        right = b"\0%b\0%b" % (user, user[::-1])
        auth = da.Auth(number, b"PLAIN", ((b"service", b"smtp"),), right)
        in_two = attrs.evolve(auth, response=None)
        match self.rng.randrange(BUG):
            case 0:
                bug = attrs.evolve(auth, response=b"\0bug\0x")
                return [bug], [da.Fail(number, code=da.TEMP_FAIL)]
            case 1 | 2 | 3 | 4:
                wrong = attrs.evolve(auth, response=b"\0%b\0x" % user)
                return [wrong], [da.Fail(number, user)]
            case 5 | 6 | 7 | 8:
                steps = da.Cont(number, b""), da.Cont(number, right), da.Ok(number, user)
                return [in_two], list(steps)
            case 9:
                return [in_two, da.Cancel(number)], [da.Cancelled(number)]
            case _:
                return [auth], [da.Ok(number, user)]

    # --- one request, as nginx makes them

    async def _auth_http(self) -> None:
        conn, user = ng.ClientConnection(), self._name()
        password = self.rng.choice((user[::-1], user[::-1], b"x"))
        request = ng.AuthRequest(ng.PLAIN, user, password, b"smtp", 1, b"192.0.2.7", b"x.test")
        expected = let_in(request)
        if self.rng.random() < 1 / BUG:
            request = attrs.evolve(request, user=b"bug")
            expected = ng.Deny(b"Temporary authentication failure", b"451 4.3.0")
        await self.wire.rest()
        await self.wire.say(conn.send(request))
        self._check(await self._timed(self.wire.hear(conn)), expected)
