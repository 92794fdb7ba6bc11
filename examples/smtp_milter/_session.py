"""The milter's events -> what the gateway is asked -> the milter's verdicts."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias, cast, final

import attrs

import milterproto as mp
from milterproto.message import Dialect, Field, Message, Recipient
from smtp_milter import _dialogue as dialogue
from smtp_milter import _metrics as metrics
from smtp_milter._client import Client
from smtp_milter._commands import UnwritableError
from smtp_milter._config import Config, Missing, OnFailure
from smtp_milter._correlator import DisagreementError, Way
from smtp_milter._edits import NoEditsError, Rules, find_edits
from smtp_milter._errors import GatewayError, Refused
from smtp_milter._gateways import Gateways, Lease
from smtp_milter._offer import Offer
from smtp_milter._outgoing import Outgoing
from smtp_milter._replies import Reply
from smtp_milter._returned import Returned, UnreadableError
from smtp_milter._sink import Sink
from smtp_milter._spool import IN_MEMORY
from smtp_milter._tokens import Tokens
from smtp_milter._verdicts import Stage, summary, verdict

logger = logging.getLogger("smtp_milter")

Event: TypeAlias = mp.Command | mp.ConnectionClosed
Responses: TypeAlias = Sequence[mp.Response] | None

UNAVAILABLE: Final = mp.ReplyCode.text(451, "4.3.2", "The mail filter is not available")
REFUSED: Final = mp.ReplyCode.text(554, "5.3.0", "The mail filter is not available")
APART: Final = mp.ReplyCode.text(452, "4.5.3", "Send this in a transaction of its own")
NO_DATABASE: Final = mp.ReplyCode.text(451, "4.3.0", "The user database can't be asked")
BAD_SENDER: Final = mp.ReplyCode.text(553, "5.1.7", "The mail filter can't take this address")
BAD_RECIPIENT: Final = mp.ReplyCode.text(553, "5.1.3", "The mail filter can't take this address")
NO_UTF8: Final = mp.ReplyCode.text(550, "5.6.7", "The mail filter takes no SMTPUTF8")
NO_8BIT: Final = mp.ReplyCode.text(451, "4.6.3", "The mail filter takes no 8-bit text for now")
TOO_LARGE: Final = mp.ReplyCode.text(552, "5.3.4", "Message too large for the mail filter")
NOT_RETURNED: Final = mp.ReplyCode.text(451, "4.3.0", "The mail filter has lost the message")
NO_EDITS: Final = mp.ReplyCode.text(451, "4.3.5", "What the mail filter made can't be told")

GO_ON: Final = (mp.Continue(),)


class AllowList(Protocol):
    """Who takes mail from whom, whatever the gateway says; `_allow` has one in the database."""

    async def has(self, recipient: bytes, sender: bytes) -> bool:
        """Whether the recipient has listed the sender. What it raises means: nobody can say."""


@final
@attrs.frozen(kw_only=True)
class Services:
    """What all sessions have in common."""

    config: Config
    gateways: Gateways
    tokens: Tokens
    sink: Sink | None = None
    allow_list: AllowList | None = None

    @property
    def wants(self) -> mp.Wants:
        """What to negotiate: no reply that decides nothing, and all of the content."""
        eager = self.config.connect == "connect"
        actions = mp.Actions(0)
        if self.sink is not None:
            actions |= mp.Actions.CHGHDRS | mp.Actions.ADDHDRS | mp.Actions.CHGBODY
            actions |= mp.Actions.ADDRCPT | mp.Actions.DELRCPT | mp.Actions.CHGFROM
        elif self.config.unscanned_header:
            actions = mp.Actions.ADDHDRS
        asked = [mp.MailFrom, mp.RcptTo, *((mp.Connect, mp.Helo) if eager else ())]
        return mp.Wants(
            events=[
                *(mp.Connect, mp.Helo, mp.MailFrom, mp.RcptTo),
                *(mp.Header, mp.EndOfHeaders, mp.Body),
            ],
            replies=asked,
            actions=actions,
            macros=MACROS,
            leading_space=True,
        )


MACROS: Final[Mapping[mp.Stage, Sequence[bytes]]] = {
    mp.Stage.CONNECT: [
        *(b"j", b"v", b"_", b"{client_addr}", b"{client_name}", b"{client_port}"),
        *(b"{client_ptr}", b"{client_resolve}", b"{daemon_addr}", b"{daemon_port}"),
    ],
    mp.Stage.HELO: [b"{tls_version}", b"{cipher}"],
    mp.Stage.MAIL: [b"i", b"{auth_type}", b"{auth_authen}"],
    mp.Stage.RCPT: [b"i"],
    mp.Stage.EOM: [b"i"],
}


class _Decided(Exception):  # noqa: N818 - no error
    """A verdict, from within; with None, the message goes on unscanned."""

    def __init__(self, verdict: mp.Verdict | None) -> None:
        self.verdict = verdict


@attrs.define(eq=False)
class _Transaction:
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
    refusal: mp.Verdict | None = None
    on_top: list[Field] = attrs.field(factory=list)  # what was sent above the message's own fields

    @property
    def is_utf8(self) -> bool:
        return b"SMTPUTF8" in (one.upper() for one in self.parameters)


@final
class Session:
    """One connection from the MTA."""

    def __init__(self, services: Services, connection: mp.FilterConnection) -> None:
        self._services = services
        self._config = services.config
        self._conn = connection
        self._client = Client()
        self._lease: Lease | None = None  # a connection that is bound to this client
        self._transaction: _Transaction | None = None

    def __del__(self) -> None:
        # An adapter that is cut short gives no last event.
        leases = [self._lease, self._transaction.lease if self._transaction else None]
        for lease in filter(None, leases):
            lease.drop()

    def handle(self, event: Event) -> Responses | Awaitable[Responses]:
        """What is to be sent for an event, at once or later."""
        step = _STEPS.get(type(event))
        return None if step is None else step(self, event)

    # --- the client ------------------------------------------------------------------------

    async def connect(self, event: mp.Connect) -> Responses:
        await self._end()
        self._client = Client(event.hostname, event.ip, event.port)
        if self._config.connect != "connect":
            return None
        self._identify()
        return await self._early(self._greet())

    async def helo(self, event: mp.Helo) -> Responses:
        await self._reset()
        self._client = attrs.evolve(self._client, helo=event.name)
        self._identify()
        if self._lease is None:
            return None
        return await self._early(self._say_hello(self._lease))

    async def _early(self, work: Awaitable[None]) -> Responses:
        """Before there is any mail: only a refusal counts, and mail will find out the rest."""
        try:
            async with self._in_time():
                await work
        except Refused as refused:
            await self._let_go()
            if self._conn.our_turn:
                return self._tell(verdict(refused.reply, Stage.SESSION), Stage.SESSION)
        except GatewayError as error:
            logger.warning("no gateway at the beginning of a session: %s", error)
            await self._let_go()
        return None

    async def _greet(self) -> None:
        lease = await self._services.gateways.begin(self._client)
        self._lease = lease
        if not lease.session.is_bound:
            await self._let_go()

    async def _say_hello(self, lease: Lease) -> None:
        name = self._config.name.encode("ascii", "replace")
        offer = await lease.link.run(
            dialogue.hello(self._client.helo, name), self._config.timeouts.command
        )
        lease.session = attrs.evolve(lease.session, offer=offer)
        lease.client = attrs.evolve(lease.client, helo=self._client.helo)

    def _identify(self) -> None:
        macros = self._conn.macros
        login = macros.get(b"{auth_authen}", b"")
        self._client = attrs.evolve(self._client, login=login, macros=dict(macros))

    # --- the envelope ----------------------------------------------------------------------

    async def mail(self, event: mp.MailFrom) -> Responses:
        await self._reset()
        self._identify()
        token = self._services.tokens.make(int(time.time()), secrets.token_bytes(16))
        transaction = _Transaction(event.sender, event.parameters, self._client, token)
        self._transaction = transaction
        if self._services.allow_list is not None:
            return GO_ON  # a gateway may refuse this client or sender, but not for everybody
        refusal = await self._open(transaction)
        return GO_ON if refusal is None else self._tell(refusal, Stage.SENDER)

    async def rcpt(self, event: mp.RcptTo) -> Responses:
        transaction = self._transaction
        if transaction is None:
            return GO_ON
        listed = False
        if self._services.allow_list is not None:
            try:
                listed = await self._services.allow_list.has(event.recipient, transaction.sender)
            except Exception as error:
                # Whatever it is, it does not mean that he is not listed.
                logger.error("the user database can't be asked: %s", type(error).__name__)  # noqa: TRY400
                return self._tell(NO_DATABASE, Stage.RECIPIENT)
        if transaction.listed not in (None, listed):
            # One verdict is for all of a message, and these want different ones.
            return self._tell(APART, Stage.RECIPIENT)
        if not listed:
            refusal = await self._ask_recipient(transaction, event)
            if refusal is not None:
                return self._tell(refusal, Stage.RECIPIENT)
        transaction.listed = listed
        return GO_ON

    async def _ask_recipient(
        self, transaction: _Transaction, event: mp.RcptTo
    ) -> mp.Verdict | None:
        refusal = await self._open(transaction)
        if refusal is not None or transaction.unscanned:
            return refusal
        recipient = Recipient(event.recipient, event.parameters)
        try:
            async with self._in_time():
                await self._ask(transaction, recipient)
        except Refused as refused:
            return verdict(refused.reply, Stage.RECIPIENT)
        except UnwritableError:
            return BAD_RECIPIENT
        except GatewayError as error:
            return self._failed(transaction, error)
        transaction.recipients.append(recipient)
        return None

    async def _open(self, transaction: _Transaction) -> mp.Verdict | None:
        """Let the gateway know of the message so far, if it does not; a verdict, if it refuses."""
        if transaction.refusal is None and not (transaction.unscanned or transaction.is_begun):
            try:
                async with self._in_time():
                    await self._begin(transaction)
            except _Decided as decided:
                transaction.refusal = decided.verdict
                transaction.unscanned = decided.verdict is None
            except Refused as refused:
                transaction.refusal = verdict(refused.reply, Stage.SENDER)
            except UnwritableError:
                transaction.refusal = BAD_SENDER
            except GatewayError as error:
                return self._failed(transaction, error)
            if transaction.refusal is not None or transaction.unscanned:
                await self._give_back(transaction)
        return transaction.refusal

    async def _begin(self, transaction: _Transaction) -> None:
        """A session with a gateway, MAIL, and all recipients that were accepted before."""
        lease = self._bound_lease(transaction.client)
        while True:
            if lease is None:
                try:
                    lease = await self._services.gateways.begin(transaction.client)
                except Refused as refused:
                    raise _Decided(verdict(refused.reply, Stage.SESSION)) from None
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
                await self._ask(transaction, one)
            except Refused:
                self._drop(transaction)
                raise GatewayError("it refuses a recipient that was accepted before") from None
        transaction.is_begun = True

    async def _ask(self, transaction: _Transaction, one: Recipient) -> None:
        """RCPT."""
        assert transaction.lease is not None
        session = transaction.lease.session
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

    def _check_offer(self, transaction: _Transaction, offer: Offer) -> None:
        if transaction.is_utf8 and b"SMTPUTF8" not in offer:
            match self._config.smtputf8:
                case OnFailure.ACCEPT:
                    raise _Decided(None)
                case OnFailure.TEMPFAIL:
                    raise _Decided(attrs.evolve(NO_UTF8, code=b"451", enhanced=b"4.6.7"))
                case OnFailure.REJECT:
                    raise _Decided(NO_UTF8)
        is_8bit = any(one.upper().startswith(b"BODY=8") for one in transaction.parameters)
        if is_8bit and b"8BITMIME" not in offer and self._config.eight_bit == "tempfail":
            raise _Decided(NO_8BIT)

    # --- the content -----------------------------------------------------------------------

    @property
    def _collecting(self) -> Outgoing | None:
        """Where the content goes, as long as it is of use."""
        transaction = self._transaction
        if transaction is None or transaction.listed or transaction.unscanned:
            return None
        too_large = transaction.outgoing.size > self._config.max_size
        return None if too_large else transaction.outgoing

    def header(self, event: mp.Header) -> Responses:
        if (outgoing := self._collecting) is not None:
            blank = b"" if self._leading_space else b" "
            outgoing.add_field(event.name, blank + event.value)
        return None

    def body(self, event: mp.Body) -> Responses:
        if (outgoing := self._collecting) is not None:
            outgoing.add_body(event.data)
        return None

    async def end_of_message(self, event: mp.EndOfMessage) -> Responses:
        transaction = self._transaction
        if transaction is None:
            return GO_ON
        if event.data:
            self.body(mp.Body(event.data))
        transaction.outgoing.end()
        try:
            return await self._judge(transaction)
        finally:
            await self._reset()

    async def _judge(self, transaction: _Transaction) -> Responses:
        if transaction.unscanned:
            return self._no_verdict(None)
        if not transaction.recipients:
            return self._passed("listed" if transaction.listed else "no recipient")
        if transaction.outgoing.size > self._config.max_size:
            return self._tell(TOO_LARGE, Stage.CONTENT)
        if self._is_loop(transaction):
            logger.warning("%s: has been here before, and passes", self._queue_id)
            return self._passed("loop")
        try:
            async with self._in_time(self._config.timeouts.end):
                await self._data(transaction)
                reply, returned = await self._send(transaction)
        except Refused as refused:
            return self._tell(verdict(refused.reply, Stage.CONTENT), Stage.CONTENT)
        except DisagreementError as error:
            return self._puzzled(error)
        except _Decided as decided:
            return self._no_verdict(decided.verdict)
        except GatewayError as error:
            return self._no_verdict(self._failed(transaction, error))
        logger.info("%s: %s", self._queue_id, summary(reply))
        return await self._edited(transaction, returned)

    def _no_verdict(self, instead: mp.Verdict | None) -> Responses:
        """No gateway could be asked."""
        if instead is None:
            return self._passed("unscanned", self._unscanned_edits())
        return self._tell(instead, Stage.CONTENT)

    async def _data(self, transaction: _Transaction) -> None:
        """DATA; at another connection, or gateway, if this one has gone meanwhile."""
        has_failed = False
        while True:
            if not transaction.is_begun:
                await self._begin(transaction)
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

    async def _send(self, transaction: _Transaction) -> tuple[Reply, list[Returned] | None]:
        """The content; the reply to it, and what has come back, None if nothing can."""
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
                reply = await lease.link.content(chunks, self._config.timeouts.end)
            dialogue.accepted(reply)
            if sink is None:
                return reply, None
            return reply, sink.correlator.claim(transaction.token, reply.lines)
        except GatewayError as error:
            self._services.gateways.note_failure(lease.gateway, error)
            raise
        finally:
            if sink is not None:
                sink.correlator.forget(transaction.token)

    def _on_top(self, transaction: _Transaction) -> list[Field]:
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

    def _is_loop(self, transaction: _Transaction) -> bool:
        sink = self._services.sink
        # From a gateway only. To others a mark may get known, in a report that quotes a message.
        if sink is None or str(transaction.client.ip) not in sink.config.allow:
            return False
        marks = transaction.outgoing.headers.all(sink.config.mark)
        now = int(time.time())
        return any(self._services.tokens.is_ours(mark, now) for mark in marks)

    # --- what the MTA is told --------------------------------------------------------------

    async def _edited(
        self, transaction: _Transaction, returned: list[Returned] | None
    ) -> Responses:
        sink = self._services.sink
        if returned is None or sink is None:
            return self._passed("accepted")
        if not returned:
            match sink.config.missing:
                case Missing.ACCEPT:
                    return self._passed("accepted")
                case Missing.TEMPFAIL:
                    logger.error("%s: accepted, but not handed on", self._queue_id)
                    return self._tell(NOT_RETURNED, Stage.CONTENT)
                case Missing.DISCARD:
                    logger.warning("%s: accepted, not handed on, discarded", self._queue_id)
                    metrics.MESSAGES.labels("discarded").inc()
                    return GO_ON if self._config.dry_run else (mp.Discard(),)
        rules = Rules(
            dialect=self._dialect,
            leading_space=self._leading_space,
            keep_trace=sink.config.keep_trace,
            remove_recipients=sink.config.remove_recipients,
        )
        envelope = Message(
            transaction.sender,
            transaction.recipients,
            sender_parameters=transaction.parameters,
        )
        find = functools.partial(
            find_edits, envelope, transaction.outgoing, transaction.on_top, returned, rules
        )
        try:
            # What is large is on a disk, and takes its time.
            is_large = transaction.outgoing.size > IN_MEMORY
            edits = await asyncio.to_thread(find) if is_large else find()
        except (NoEditsError, UnreadableError) as error:
            return self._puzzled(error)
        except mp.LocalProtocolError as error:
            # Its text has a value of the message in it.
            return self._puzzled(NoEditsError(str(error).partition(":")[0] + " can't be edited so"))
        for edit in edits:
            metrics.EDITS.labels(type(edit).__name__).inc()
        return self._passed("edited" if edits else "accepted", edits)

    def _puzzled(self, error: Exception) -> Responses:
        logger.error("%s: %s", self._queue_id, error)
        return self._tell(NO_EDITS, Stage.CONTENT)

    def _passed(self, fate: str, edits: Sequence[mp.Edit] = ()) -> Responses:
        metrics.MESSAGES.labels(fate).inc()
        kinds = ", ".join(sorted({type(edit).__name__ for edit in edits})) or "no edits"
        logger.info("%s: %s, %s", self._queue_id, fate, kinds)
        return GO_ON if self._config.dry_run else [*edits, mp.Continue()]

    def _unscanned_edits(self) -> list[mp.Edit]:
        name, colon, value = self._config.unscanned_header.partition(":")
        if not colon:
            return []
        text = value.strip().encode("ascii", "replace")
        blank = b" " if self._leading_space else b""
        return [mp.InsertHeader(0, name.encode("ascii", "replace"), blank + text)]

    def _tell(self, told: mp.Verdict, stage: Stage) -> Sequence[mp.Response]:
        code = told.code.decode() if isinstance(told, mp.ReplyCode) else "none"
        text = told.lines[0].decode() if isinstance(told, mp.ReplyCode) else ""
        would_be = "would be " if self._config.dry_run else ""
        where = stage.name.lower()
        logger.info("%s: %srefused: %s: %s %s", self._queue_id, would_be, where, code, text[:100])
        metrics.VERDICTS.labels(where, code).inc()
        if self._config.dry_run:
            return GO_ON
        if self._config.hide_replies and isinstance(told, mp.ReplyCode):
            return (mp.TempFail() if told.code.startswith(b"4") else mp.Reject(),)
        return (told,)

    def _failed(self, transaction: _Transaction, error: GatewayError) -> mp.Verdict | None:
        """No gateway has judged: what the policy says; None lets it pass."""
        logger.error("%s: no verdict: %s", self._queue_id, error)
        match self._config.on_failure:
            case OnFailure.TEMPFAIL:
                return UNAVAILABLE
            case OnFailure.REJECT:
                return REFUSED
            case OnFailure.ACCEPT:
                transaction.unscanned = True
                return None

    @property
    def _queue_id(self) -> str:
        return self._conn.macros.get(b"i", b"NOQUEUE").decode("ascii", "replace")

    @property
    def _leading_space(self) -> bool:
        answer = cast("mp.Negotiate", self._conn.negotiated)
        return bool(answer.steps & mp.Steps.HDR_LEADSPC)

    @property
    def _dialect(self) -> Dialect | None:
        is_postfix = self._client.macros.get(b"v", b"").startswith(b"Postfix")
        return Dialect.POSTFIX if is_postfix else None

    # --- connections -----------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _in_time(self, seconds: float | None = None) -> AsyncIterator[None]:
        """The MTA does not wait for ever."""
        seconds = self._config.timeouts.before_end if seconds is None else seconds
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError:
            raise GatewayError(f"no verdict within {seconds:g} s") from None

    async def _run(
        self,
        transaction: _Transaction,
        talk: dialogue.Dialogue[None],
        *,
        is_failure: bool = True,
    ) -> None:
        """Say something to the transaction's gateway; when that fails, the connection is gone."""
        lease = transaction.lease
        assert lease is not None
        try:
            await lease.link.run(talk, self._config.timeouts.command)
        except GatewayError as error:
            self._drop(transaction)
            if is_failure:
                self._services.gateways.note_failure(lease.gateway, error)
            raise
        finally:
            if lease.link.is_closed:
                self._drop(transaction)

    def _drop(self, transaction: _Transaction) -> None:
        if transaction.lease is not None:
            transaction.lease.drop()
        transaction.lease = None
        transaction.is_begun = False

    async def _give_back(self, transaction: _Transaction) -> None:
        """The gateway is to forget the message; its connection may serve the next one."""
        if transaction.is_begun and transaction.lease is not None:
            with contextlib.suppress(GatewayError, Refused):
                await self._run(transaction, dialogue.must(b"RSET\r\n"))
        lease, transaction.lease, transaction.is_begun = transaction.lease, None, False
        if lease is None:
            return
        if lease.session.is_bound and not lease.link.is_closed:
            lease.is_used = True
            self._lease = lease
        else:
            await lease.gateway.end(lease)

    async def _reset(self) -> None:
        """There is no message any more."""
        transaction, self._transaction = self._transaction, None
        if transaction is not None:
            await self._give_back(transaction)

    async def _let_go(self) -> None:
        lease, self._lease = self._lease, None
        if lease is not None:
            await lease.gateway.end(lease)

    async def abort(self, _event: object) -> Responses:
        await self._reset()
        return None

    async def _end(self) -> None:
        await self._reset()
        await self._let_go()

    async def end(self, _event: object) -> Responses:
        await self._end()
        return None


_STEPS: Final[Mapping[type[Event], Callable[[Session, Any], Responses | Awaitable[Responses]]]] = {
    mp.Connect: Session.connect,
    mp.Helo: Session.helo,
    mp.MailFrom: Session.mail,
    mp.RcptTo: Session.rcpt,
    mp.Header: Session.header,
    mp.Body: Session.body,
    mp.EndOfMessage: Session.end_of_message,
    mp.Abort: Session.abort,
    mp.Quit: Session.end,
    mp.QuitNewConnection: Session.end,
    mp.ConnectionClosed: Session.end,
}
