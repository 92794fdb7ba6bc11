"""A message, and what is said of it to a gateway: with whatever may happen to the connection."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Final, final

import attrs

import milterproto as mp
from milterproto.message import Field, Recipient
from smtp_milter import _dialogue as dialogue
from smtp_milter import _metrics as metrics
from smtp_milter._answers import NO_8BIT, NO_UTF8
from smtp_milter._client import Client
from smtp_milter._config import OnFailure
from smtp_milter._correlator import Way
from smtp_milter._errors import GatewayError, Refused
from smtp_milter._gateways import KEEP, Lease
from smtp_milter._offer import Offer
from smtp_milter._outgoing import Outgoing
from smtp_milter._replies import Reply
from smtp_milter._returned import Returned
from smtp_milter._services import Services
from smtp_milter._verdicts import Stage, verdict

# Seconds for RSET. No mail depends on it; with who takes longer a new connection costs less.
FORGET: Final = 2.0


class Decided(Exception):  # noqa: N818 - no error
    """A verdict, from within; with None, the message goes on unscanned."""

    def __init__(self, verdict: mp.Verdict | None) -> None:
        self.verdict = verdict


@final
@attrs.define(eq=False)
class Transaction:
    """A message on its way; ``token`` is our mark of it."""

    sender: bytes
    parameters: tuple[bytes, ...]
    client: Client
    token: bytes
    outgoing: Outgoing = attrs.field(factory=Outgoing)
    # Those that the gateway has accepted.
    recipients: list[Recipient] = attrs.field(factory=list)
    lease: Lease | None = None
    is_begun: bool = False  # the gateway has accepted MAIL, and no content yet
    listed: bool | None = None  # whether its recipients want no filter; None: there is none yet
    unscanned: bool = False  # no gateway could be asked, and the policy is to accept
    fault: str = ""  # why its content is not all there
    refusal: mp.Verdict | None = None
    on_top: list[Field] = attrs.field(factory=list)  # what was sent above the message's own fields

    @property
    def is_utf8(self) -> bool:
        """Whether it needs SMTPUTF8; Postfix takes other addresses without a word of it, too."""
        said = b"SMTPUTF8" in (one.upper() for one in self.parameters)
        return said or not self.sender.isascii()


@final
class Conversation:
    """The gateway's side of one connection from the MTA.

    Where a gateway refuses, these raise `Refused`, or `Decided` if that is for us to put in
    words; where there is none, GatewayError.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._config = services.config
        self._lease: Lease | None = None  # a connection that is bound to this client

    @property
    def is_open(self) -> bool:
        """Whether there is a connection that knows the client, and no message."""
        return self._lease is not None

    async def greet(self, client: Client) -> None:
        """Let a gateway see the client, before there is any mail."""
        lease = await self._services.gateways.begin(client)
        self._lease = lease
        if not lease.session.is_bound:
            await self.let_go()

    async def say_hello(self, client: Client) -> None:
        """The client has said EHLO, perhaps anew."""
        lease, self._lease = self._lease, None
        if lease is None:
            return
        name = self._config.name.encode("ascii", "replace")
        try:
            offer = await lease.link.run(
                dialogue.hello(client.helo, name), self._config.timeouts.command
            )
        finally:
            self._hold(lease)
        lease.session = attrs.evolve(lease.session, offer=offer)
        lease.client = attrs.evolve(lease.client, helo=client.helo)

    async def begin(self, transaction: Transaction) -> None:
        """A session with a gateway, MAIL, and all recipients that were accepted before."""
        lease = self._bound_lease(transaction.client)
        while True:
            if lease is None:
                try:
                    lease = await self._services.gateways.begin(transaction.client)
                except Refused as refused:
                    raise Decided(verdict(refused.reply, Stage.SESSION)) from None
            transaction.lease, self._lease = lease, None
            self._check_offer(transaction, lease.session.offer)
            try:
                mail = dialogue.mail(
                    lease.session,
                    transaction.client,
                    transaction.token,
                    transaction.sender,
                    transaction.parameters,
                )
                await self._run(transaction, mail, is_failure=not lease.is_used)
                break
            except GatewayError:
                if not lease.is_used:
                    raise
            except Refused as refused:
                if not lease.is_used or refused.reply.code != 421:
                    raise
            # It had been used before, and was closed just now; that is nobody's fault.
            lease = None
        for one in transaction.recipients:
            try:
                await self.ask(transaction, one)
            except Refused:
                self._drop(transaction)
                raise GatewayError("it refuses a recipient that was accepted before") from None
        transaction.is_begun = True

    async def ask(self, transaction: Transaction, one: Recipient) -> None:
        """RCPT. Raises `Decided`, too."""
        assert transaction.lease is not None
        session = transaction.lease.session
        if not one.address.isascii():
            self._check_utf8(session.offer)
        await self._run(transaction, dialogue.rcpt(session, one.address, one.parameters))

    def _bound_lease(self, client: Client) -> Lease | None:
        """The connection of the message before, if it was told of this very client."""
        lease, self._lease = self._lease, None
        if lease is None:
            return None
        told = attrs.evolve(lease.client, macros={})
        if told == attrs.evolve(client, macros={}) and not lease.link.is_closed:
            return lease
        lease.drop()
        return None

    def _check_offer(self, transaction: Transaction, offer: Offer) -> None:
        if transaction.is_utf8:
            self._check_utf8(offer)
        is_8bit = any(one.upper().startswith(b"BODY=8") for one in transaction.parameters)
        if is_8bit and b"8BITMIME" not in offer and self._config.eight_bit == "tempfail":
            raise Decided(NO_8BIT)

    def _check_utf8(self, offer: Offer) -> None:
        if b"SMTPUTF8" in offer:
            return
        match self._config.smtputf8:
            case OnFailure.ACCEPT:
                raise Decided(None)
            case OnFailure.TEMPFAIL:
                raise Decided(attrs.evolve(NO_UTF8, code=b"451", enhanced=b"4.6.7"))
            case OnFailure.REJECT:
                raise Decided(NO_UTF8)

    async def data(self, transaction: Transaction) -> None:
        """DATA; at another connection, or gateway, if this one has gone meanwhile."""
        has_failed = False
        while True:
            if not transaction.is_begun:
                await self.begin(transaction)
            assert transaction.lease is not None
            limit = transaction.lease.session.offer.max_size
            if limit and transaction.outgoing.size > limit:
                raise Refused(Reply(552, (b"5.3.4 Message too large for the mail filter",)))
            try:
                await self._run(transaction, dialogue.data())
            except GatewayError:
                if has_failed:
                    raise
                has_failed = True
            else:
                return

    async def send(
        self, transaction: Transaction, patience: float
    ) -> tuple[Reply, list[Returned] | None]:
        """The content; the reply to it, and what has come back, None if nothing can.

        ``patience`` in seconds for all of it: a gateway that is out of it has failed.
        """
        lease = transaction.lease
        assert lease is not None
        transaction.is_begun = False  # whatever comes of it, this message is no more at the gateway
        sink = self._services.sink
        transaction.on_top = self._on_top(transaction)
        chunks = transaction.outgoing.content(transaction.on_top)
        if sink is not None:
            sink.correlator.expect(transaction.token, transaction.sender)
        try:
            with metrics.SECONDS.labels(lease.gateway.name).time():
                reply = await lease.link.content(chunks, patience)
            dialogue.accepted(reply)
            lease.gateway.breaker.succeeded()
            if sink is None:
                return reply, None
            return reply, sink.correlator.claim(transaction.token, reply.lines)
        except Refused:
            lease.gateway.breaker.succeeded()
            raise
        except GatewayError as error:
            self._services.gateways.note_failure(lease.gateway, error)
            raise
        finally:
            if sink is not None:
                sink.correlator.forget(transaction.token)

    def _on_top(self, transaction: Transaction) -> list[Field]:
        """Fields of our own above the message's."""
        fields = []
        sink, lease = self._services.sink, transaction.lease
        assert lease is not None
        if sink is not None and Way.HEADER in sink.config.known_by:
            fields.append(Field(sink.config.mark.encode(), b" " + transaction.token))
        if lease.session.tell is dialogue.Tell.RECEIVED or lease.gateway.config.received_line:
            line = transaction.client.received(time.time())
            name, _, raw = line.replace(b"\r\n", b"\n").partition(b":")
            fields.append(Field(name, raw))
        return fields

    async def _run(
        self,
        transaction: Transaction,
        talk: dialogue.Dialogue[None],
        *,
        patience: float | None = None,
        is_failure: bool = True,
    ) -> None:
        """Say something to the transaction's gateway; when that fails, the connection is gone."""
        lease = transaction.lease
        assert lease is not None
        try:
            await lease.link.run(talk, patience or self._config.timeouts.command)
        except GatewayError as error:
            self._drop(transaction)
            if is_failure:
                self._services.gateways.note_failure(lease.gateway, error)
            raise
        finally:
            if lease.link.is_closed:
                self._drop(transaction)

    def _drop(self, transaction: Transaction) -> None:
        if transaction.lease is not None:
            transaction.lease.drop()
        transaction.lease = None
        transaction.is_begun = False

    async def give_back(self, transaction: Transaction) -> None:
        """The gateway is to forget the message; its connection may serve the next one."""
        if transaction.is_begun and transaction.lease is not None:
            with contextlib.suppress(GatewayError, Refused):
                await self._run(transaction, dialogue.must(b"RSET\r\n"), patience=FORGET)
        lease, transaction.lease, transaction.is_begun = transaction.lease, None, False
        if lease is None:
            return
        if lease.session.is_bound and not lease.link.is_closed:
            lease.is_used = True
            self._hold(lease)
        else:
            await lease.gateway.end(lease)

    def _hold(self, lease: Lease) -> None:
        """For the client's next message."""
        lease.at = time.monotonic()
        self._lease = lease
        asyncio.get_running_loop().call_later(KEEP, self._tidy)

    def _tidy(self) -> None:
        # A client may say nothing for minutes, and would keep the place of another.
        lease = self._lease
        if lease is not None and lease.is_used and time.monotonic() - lease.at >= KEEP - 0.1:
            self._lease = None
            lease.gateway.end_soon(lease)

    def drop(self, transaction: Transaction | None) -> None:
        """End all connections without a word."""
        for lease in (self._lease, transaction.lease if transaction else None):
            if lease is not None:
                lease.drop()

    async def let_go(self) -> None:
        """The client has gone."""
        lease, self._lease = self._lease, None
        if lease is not None:
            await lease.gateway.end(lease)
