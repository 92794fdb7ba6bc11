"""The milter's side of it, with MTAs that are no Postfix of today; no socket on their side."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import threading
from collections.abc import Awaitable, Iterator
from typing import Any, TypeVar

import attrs
import pytest
from smtp_milter import _conversation as conversation
from smtp_milter._config import Config, GatewayConfig, OnFailure, SinkConfig, Timeouts
from smtp_milter._gateways import Gateway, Gateways
from smtp_milter._services import Services
from smtp_milter._session import Session
from smtp_milter._sink import Sink
from smtp_milter._spool import Spool
from smtp_milter._tokens import Tokens

import milterproto as mp
from milterproto.message import Message, Recipient
from milterproto.testing import MTA, Habits
from tests.interop._postfix import free_port
from tests.interop._smtp_gateway import Script, ScriptedGateway

Outcome = TypeVar("Outcome")

MESSAGE = Message.parse(
    b"From: a@example.org\r\nSubject: hi\r\nX-A: 1\r\n\r\nbody\r\n",
    sender=b"<a@example.org>",
    recipients=[b"<b@example.test>", b"<c@example.test>"],
)


@attrs.define
class Daemon:
    """All of it but the listening socket of the milter."""

    runner: asyncio.Runner
    services: Services

    @property
    def wants(self) -> mp.Wants:
        return self.services.wants

    def session(self, connection: mp.FilterConnection) -> Any:
        return Session(self.services, connection).handle

    def run(self, work: Awaitable[Outcome]) -> Outcome:
        async def main() -> Outcome:
            return await work

        return self.runner.run(main())

    def mta(self, habits: Habits = Habits.POSTFIX, version: int = 6) -> MTA:
        return MTA(self, habits=habits, version=version, run=self.run)


@contextlib.contextmanager
def daemon(
    script: Script, *, connections: int = 20, end: float = 10, **settings: Any
) -> Iterator[tuple[Daemon, ScriptedGateway]]:
    with ScriptedGateway(script) as scripted, asyncio.Runner() as runner:
        address = f"inet:127.0.0.1:{scripted.port}"
        config = Config(
            gateway=[GatewayConfig(address=address, connections=connections)],
            sink=SinkConfig(listen=f"inet:127.0.0.1:{script.sink}") if script.sink else None,
            name="milter.test",
            timeouts=Timeouts(connect=2, command=2, before_end=4, end=end),
            **settings,
        )
        gateways = [Gateway(one, config.timeouts, b"milter.test") for one in config.gateway]
        services = Services(
            config=config,
            gateways=Gateways(gateways, config.timeouts),
            tokens=Tokens(b"k" * 16),
            sink=Sink(config.sink, config.name, config.max_size) if config.sink else None,
        )

        async def start() -> None:
            if services.sink is not None:
                await services.sink.start(0o600)

        async def stop() -> None:
            await services.gateways.close()
            if services.sink is not None:
                await services.sink.stop()
            await asyncio.sleep(0)

        runner.run(start())
        yield Daemon(runner, services), scripted
        runner.run(stop())


every_mta = pytest.mark.parametrize(
    ("habits", "version"),
    [(Habits.POSTFIX, 6), (Habits.POSTFIX, 2), (Habits.SENDMAIL, 6)],
    ids=["postfix-6", "postfix-2", "sendmail-6"],
)


@every_mta
def test_a_message_that_is_changed(habits: Habits, version: int) -> None:
    """As each MTA wants its edits."""
    script = Script(sink=free_port())
    script.change = lambda content: b"X-G: 1\r\n" + content.replace(b"hi", b"[x] hi") + b"foot\r\n"
    with daemon(script) as (tested, scripted):
        mta = tested.mta(habits, version)
        result = mta.deliver(MESSAGE)
        assert result.message is not None, result
        assert result.message.content == (
            b"X-G: 1\r\nFrom: a@example.org\r\nSubject: [x] hi\r\nX-A: 1\r\n\r\nbody\r\nfoot\r\n"
        )
        mta.quit()
    assert scripted.commands.count(b"DATA") == 1


@every_mta
def test_a_refusal_at_each_stage(habits: Habits, version: int) -> None:
    """Where the gateway refuses, there the MTA does."""
    for verb in (b"MAIL", b"RCPT TO:<c@", b"DATA", b"."):
        with daemon(Script({verb: b"550 5.7.1 No"})) as (tested, _):
            mta = tested.mta(habits, version)
            result = mta.deliver(MESSAGE)
            mta.quit()
        if verb.startswith(b"RCPT"):
            assert result.message is not None
            assert [one.address for one in result.message.recipients] == [b"<b@example.test>"]
        else:
            assert not result.accepted, result
            assert b"550" in repr(result).encode()


def test_a_field_in_the_midst() -> None:
    """Sendmail's positions are not known: rather another attempt than a field out of its place."""
    script = Script(sink=free_port())
    script.change = lambda content: content.replace(b"X-A", b"X-M: 1\r\nX-A")
    with daemon(script) as (tested, _):
        mta = tested.mta(Habits.SENDMAIL)
        result = mta.deliver(MESSAGE)
        mta.quit()
    assert not result.accepted
    assert b"451" in repr(result).encode()


def test_limits() -> None:
    """A message that is too long for us is not sent to the gateway, and is no failure of it."""
    with daemon(Script(), max_size=100) as (tested, scripted):
        mta = tested.mta()
        result = mta.deliver(attrs.evolve(MESSAGE, body=b"x" * 200 + b"\r\n"))
        assert not result.accepted
        assert mta.deliver(attrs.evolve(MESSAGE, body=b"x\r\n")).accepted
        mta.quit()
    assert len(scripted.contents) == 1


def test_a_header_without_end() -> None:
    """It is kept in memory, and each field takes more there than its bytes."""
    with daemon(Script()) as (tested, scripted):
        mta = tested.mta()
        many = Message.parse(b"A: b\r\n" * 15_000 + b"\r\nx\r\n")
        result = mta.deliver(attrs.evolve(MESSAGE, headers=many.headers))
        assert isinstance(result.verdict, mp.ReplyCode)
        assert result.verdict.code == b"552"
        assert mta.deliver(MESSAGE).accepted
        mta.quit()
    assert len(scripted.contents) == 1


@pytest.mark.parametrize("failing", [2, 4], ids=["in the midst", "at its end"])
@pytest.mark.parametrize("policy", [OnFailure.TEMPFAIL, OnFailure.ACCEPT])
def test_a_content_that_can_not_be_kept(
    monkeypatch: pytest.MonkeyPatch, failing: int, policy: OnFailure
) -> None:
    """The disk is full: what the gateway could see but a part of is not taken for scanned."""
    calls = 0
    write = Spool.write

    def full(self: Spool, data: bytes) -> None:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, data)

    monkeypatch.setattr(Spool, "write", full)
    script = Script(sink=free_port())
    with daemon(script, on_failure=policy, unscanned_header="X-Unscanned: yes") as (tested, gate):
        mta = tested.mta()
        result = mta.deliver(attrs.evolve(MESSAGE, body=b"0123456789abcd\r\n" * 10_000))
        mta.quit()
    assert gate.contents == []
    if policy is OnFailure.ACCEPT:
        assert result.message is not None
        assert result.message.headers.all(b"X-Unscanned") == [b"yes"]
    else:
        assert isinstance(result.verdict, mp.ReplyCode)
        assert result.verdict.code == b"451"


def test_an_address_that_can_not_be_written() -> None:
    """Neither is, nor is anything else of it."""
    with daemon(Script()) as (tested, scripted):
        mta = tested.mta()
        result = mta.deliver(attrs.evolve(MESSAGE, sender=b"<a b> SIZE=1"))
        assert not result.accepted
        mta.quit()
    assert not [line for line in scripted.commands if line.startswith(b"MAIL")]


def test_hidden_replies() -> None:
    """The MTA's words, of the same class."""
    for code, verdict in ((b"450", mp.TempFail()), (b"550", mp.Reject())):
        with daemon(Script({b".": code + b" 5.7.1 x"}), hide_replies=True) as (tested, _):
            mta = tested.mta()
            result = mta.deliver(MESSAGE)
            assert result.verdict == verdict
            mta.quit()


def test_a_connection_that_is_cut_leaves_nothing() -> None:
    """An adapter that is cut short gives no last event; the place is free all the same."""
    with daemon(Script()) as (tested, scripted):
        gateway = tested.services.gateways._gateways[0]
        free = gateway._free._value

        async def begin() -> Session:
            conn = mp.FilterConnection()
            session = Session(tested.services, conn)
            client = mp.MTAConnection()
            conn.receive_data(client.send(mp.offer()))
            offer = conn.next_event()
            assert isinstance(offer, mp.Negotiate)
            conn.send(mp.negotiate(offer, tested.wants))
            await session.mail(mp.MailFrom(b"<a@b>"))
            return session

        session = tested.run(begin())
        assert gateway._free._value == free - 1
        del session
        assert gateway._free._value == free
        tested.run(asyncio.sleep(0))
    assert scripted.commands[-1] == b"MAIL FROM:<a@b>"


def test_no_recipient_is_no_reason_to_let_it_pass() -> None:
    """An MTA that goes on though all were refused, or that has some of its own."""

    async def deliver(tested: Daemon, recipient: bytes) -> Any:
        conn = mp.FilterConnection()
        conn.receive_data(mp.MTAConnection().send(mp.offer()))
        offer = conn.next_event()
        assert isinstance(offer, mp.Negotiate)
        conn.send(mp.negotiate(offer, tested.wants))
        session = Session(tested.services, conn)
        if recipient:
            await session.mail(mp.MailFrom(b"<a@b>"))
            await session.rcpt(mp.RcptTo(recipient))
        told = await session.end_of_message(mp.EndOfMessage())
        await session.end(None)
        return told

    with daemon(Script({b"RCPT TO:<no@": b"550 5.1.1 No"})) as (tested, _):
        for recipient in (b"<no@b>", b""):
            (told,) = tested.run(deliver(tested, recipient))
            assert isinstance(told, mp.ReplyCode)
            assert told.code == b"451"


def test_a_gateway_that_never_answers_the_content() -> None:
    """That is a failure of it, and three of them are enough, as of any other."""
    over = threading.Event()
    script = Script({b".": lambda: b"" if over.wait(10) else b"250 ok"})
    with daemon(script, end=0.2) as (tested, scripted):
        mta = tested.mta()
        for _ in range(4):
            assert not mta.deliver(MESSAGE).accepted
        mta.quit()
        over.set()
    assert len(scripted.told) == 3


def test_a_client_that_goes_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a message it keeps no connection from others, though XCLIENT has made it its own."""
    monkeypatch.setattr(conversation, "KEEP", 0.1)
    script = Script(extensions=(b"XCLIENT NAME ADDR",))
    with daemon(script, connections=1) as (tested, scripted):
        mta = tested.mta()
        for _ in range(2):
            assert mta.deliver(MESSAGE).accepted
            free = tested.services.gateways._gateways[0]._free
            tested.run(asyncio.wait_for(free.acquire(), 10))
            free.release()
        mta.quit()
    assert len(scripted.told) == 2


def test_what_a_gateway_can_not_take() -> None:
    """Its size limit, 8-bit text, addresses that are not ASCII: by the policy."""
    eight_bit = attrs.evolve(MESSAGE, sender_parameters=(b"BODY=8BITMIME",))
    utf8 = attrs.evolve(MESSAGE, sender_parameters=(b"SMTPUTF8",))
    large = attrs.evolve(MESSAGE, body=b"x" * 1000 + b"\r\n")
    tempfail, accept = OnFailure.TEMPFAIL, OnFailure.ACCEPT
    cases: list[tuple[Message, dict[str, Any], bytes]] = [
        (large, {}, b"552"),
        (eight_bit, {}, b""),
        (eight_bit, {"eight_bit": "tempfail"}, b"451"),
        (utf8, {}, b"550"),
        (utf8, {"smtputf8": tempfail}, b"451"),
        (utf8, {"smtputf8": accept}, b""),
        # Postfix takes these without SMTPUTF8.
        (attrs.evolve(MESSAGE, sender="<ä@example.org>".encode()), {}, b"550"),
        (attrs.evolve(MESSAGE, sender="<ä@example.org>".encode()), {"smtputf8": accept}, b""),
    ]
    for message, settings, code in cases:
        with daemon(Script(extensions=(b"SIZE 500",)), **settings) as (tested, scripted):
            mta = tested.mta()
            result = mta.deliver(message)
            mta.quit()
        verdict = result.verdict
        assert (verdict.code if isinstance(verdict, mp.ReplyCode) else b"") == code, result
        assert len(scripted.contents) == (message is eight_bit and not code)


@pytest.mark.parametrize("policy", [OnFailure.REJECT, OnFailure.ACCEPT])
def test_a_recipient_that_a_gateway_can_not_take(policy: OnFailure) -> None:
    """He alone is refused; or the message passes as a whole, for it has one verdict."""
    extra = "<ü@example.test>".encode()
    message = attrs.evolve(MESSAGE, recipients=[*MESSAGE.recipients, Recipient(extra)])
    with daemon(Script(extensions=(b"DSN",)), smtputf8=policy) as (tested, scripted):
        mta = tested.mta()
        result = mta.deliver(message)
        mta.quit()
    assert result.message is not None
    passes = policy is OnFailure.ACCEPT
    assert (extra in [one.address for one in result.message.recipients]) is passes
    assert len(scripted.contents) == (not passes)
    assert not [line for line in scripted.commands if not line.isascii()]


def test_a_connection_with_xclient_is_for_one_client() -> None:
    """Another one gets his own; else the gateway would take him for the first."""
    script = Script(extensions=(b"XCLIENT NAME ADDR HELO LOGIN",))
    with daemon(script) as (tested, scripted):
        for address in (b"192.0.2.1", b"192.0.2.2"):
            mta = tested.mta()
            client = attrs.evolve(MESSAGE.client, family=mp.Family.INET, address=address)
            for _ in range(2):
                assert mta.deliver(attrs.evolve(MESSAGE, client=client)).accepted
            mta.quit()
    told = [
        [line.partition(b"ADDR=")[2].split(b" ")[0] for line in one.commands if b"ADDR=" in line]
        for one in scripted.told
    ]
    assert told == [[b"192.0.2.1"], [b"192.0.2.2"]]
    assert [one.commands.count(b"DATA") for one in scripted.told] == [2, 2]
