"""The milter's events -> what the gateway is asked -> the milter's verdicts."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias, cast, final

import attrs

import milterproto as mp
from milterproto.message import Dialect, Message, Recipient
from smtp_milter import _metrics as metrics
from smtp_milter._answers import (
    APART,
    ASTRAY,
    BAD_RECIPIENT,
    BAD_SENDER,
    NO_DATABASE,
    NO_EDITS,
    NOT_RETURNED,
    REFUSED,
    TOO_LARGE,
    UNAVAILABLE,
)
from smtp_milter._client import Client
from smtp_milter._commands import UnwritableError
from smtp_milter._config import Missing, OnFailure
from smtp_milter._conversation import Conversation, Decided, Transaction
from smtp_milter._correlator import DisagreementError
from smtp_milter._edits import NoEditsError, Rules, find_edits
from smtp_milter._errors import GatewayError, Refused
from smtp_milter._outgoing import Outgoing
from smtp_milter._returned import Returned, UnreadableError
from smtp_milter._services import Services
from smtp_milter._spool import IN_MEMORY
from smtp_milter._verdicts import Stage, summary, verdict

logger = logging.getLogger("smtp_milter")

Event: TypeAlias = mp.Command | mp.ConnectionClosed
Responses: TypeAlias = Sequence[mp.Response] | None

GO_ON: Final = (mp.Continue(),)


@final
class Session:
    """One connection from the MTA."""

    def __init__(self, services: Services, connection: mp.FilterConnection) -> None:
        self._services = services
        self._config = services.config
        self._conn = connection
        self._client = Client()
        self._gateway = Conversation(services)
        self._transaction: Transaction | None = None

    def __del__(self) -> None:
        # An adapter that is cut short gives no last event.
        self._gateway.drop(self._transaction)

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
        return await self._early(self._gateway.greet(self._client))

    async def helo(self, event: mp.Helo) -> Responses:
        await self._reset()
        self._client = attrs.evolve(self._client, helo=event.name)
        self._identify()
        if not self._gateway.is_open:
            return None
        return await self._early(self._gateway.say_hello(self._client))

    async def _early(self, work: Awaitable[None]) -> Responses:
        """Before there is any mail: only a refusal counts, and mail will find out the rest."""
        try:
            async with self._in_time():
                await work
        except Refused as refused:
            await self._gateway.let_go()
            if self._conn.our_turn:
                return self._tell(verdict(refused.reply, Stage.SESSION), Stage.SESSION)
        except GatewayError as error:
            logger.warning("no gateway at the beginning of a session: %s", error)
            await self._gateway.let_go()
        return None

    def _identify(self) -> None:
        macros = self._conn.macros
        login = macros.get(b"{auth_authen}", b"")
        self._client = attrs.evolve(self._client, login=login, macros=dict(macros))

    # --- the envelope ----------------------------------------------------------------------

    async def mail(self, event: mp.MailFrom) -> Responses:
        await self._reset()
        self._identify()
        token = self._services.tokens.make(int(time.time()), secrets.token_bytes(16))
        transaction = Transaction(event.sender, event.parameters, self._client, token)
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

    async def _ask_recipient(self, transaction: Transaction, event: mp.RcptTo) -> mp.Verdict | None:
        refusal = await self._open(transaction)
        if refusal is not None or transaction.unscanned:
            return refusal
        recipient = Recipient(event.recipient, event.parameters)
        try:
            async with self._in_time():
                await self._gateway.ask(transaction, recipient)
        except Decided as decided:
            transaction.unscanned = decided.verdict is None
            return decided.verdict
        except Refused as refused:
            return verdict(refused.reply, Stage.RECIPIENT)
        except UnwritableError:
            return BAD_RECIPIENT
        except GatewayError as error:
            return self._failed(transaction, error)
        transaction.recipients.append(recipient)
        return None

    async def _open(self, transaction: Transaction) -> mp.Verdict | None:
        """Let the gateway know of the message so far, if it does not; a verdict, if it refuses."""
        if transaction.refusal is None and not (transaction.unscanned or transaction.is_begun):
            try:
                async with self._in_time():
                    await self._gateway.begin(transaction)
            except Decided as decided:
                transaction.refusal = decided.verdict
                transaction.unscanned = decided.verdict is None
            except Refused as refused:
                transaction.refusal = verdict(refused.reply, Stage.SENDER)
            except UnwritableError:
                transaction.refusal = BAD_SENDER
            except GatewayError as error:
                return self._failed(transaction, error)
            if transaction.refusal is not None or transaction.unscanned:
                await self._gateway.give_back(transaction)
        return transaction.refusal

    # --- the content -----------------------------------------------------------------------

    @property
    def _collecting(self) -> Outgoing | None:
        """Where the content goes, as long as it is of use."""
        transaction = self._transaction
        if transaction is None or transaction.listed or transaction.unscanned:
            return None
        if transaction.fault or transaction.outgoing.is_over(self._config.max_size):
            return None
        return transaction.outgoing

    def header(self, event: mp.Header) -> Responses:
        blank = b"" if self._leading_space else b" "
        self._collect(lambda outgoing: outgoing.add_field(event.name, blank + event.value))
        return None

    def body(self, event: mp.Body) -> Responses:
        self._collect(lambda outgoing: outgoing.add_body(event.data))
        return None

    def _collect(self, add: Callable[[Outgoing], None]) -> None:
        """Add to the content.

        When that fails, for want of room on the disk or of files, no reply is due in which it
        could be said. And a message of which the gateway sees but a part must not pass for one
        that it has seen.
        """
        transaction, outgoing = self._transaction, self._collecting
        if transaction is None or outgoing is None:
            return
        try:
            add(outgoing)
        except Exception as error:
            why = error.strerror if isinstance(error, OSError) else type(error).__name__
            transaction.fault = f"its content can't be kept: {why}"

    async def end_of_message(self, event: mp.EndOfMessage) -> Responses:
        transaction = self._transaction
        if transaction is None:
            return self._tell(UNAVAILABLE, Stage.CONTENT)
        if event.data:
            self.body(mp.Body(event.data))
        self._collect(Outgoing.end)
        try:
            return await self._judge(transaction)
        finally:
            await self._reset()

    async def _judge(self, transaction: Transaction) -> Responses:
        if transaction.unscanned:
            return self._no_verdict(None)
        if transaction.listed:
            return self._passed("listed")
        if not transaction.recipients:
            # The MTA has some that we don't know of, or asks although all were refused.
            return self._no_verdict(self._failed(transaction, "the gateway has taken no recipient"))
        if transaction.fault:
            return self._no_verdict(self._failed(transaction, transaction.fault))
        if transaction.outgoing.is_over(self._config.max_size):
            return self._tell(TOO_LARGE, Stage.CONTENT)
        if marks := self._marks_of_ours(transaction):
            return self._been_here(marks)
        seconds, start = self._config.timeouts.end, time.monotonic()
        try:
            async with self._in_time(seconds):
                await self._gateway.data(transaction)
            seconds -= time.monotonic() - start
            reply, returned = await self._gateway.send(transaction, seconds)
        except Refused as refused:
            return self._tell(verdict(refused.reply, Stage.CONTENT), Stage.CONTENT)
        except DisagreementError as error:
            return self._puzzled(error)
        except Decided as decided:
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

    def _marks_of_ours(self, transaction: Transaction) -> list[bytes]:
        sink = self._services.sink
        # From a gateway only. To others a mark may get known, in a report that quotes a message.
        if sink is None or str(transaction.client.ip) not in sink.config.allow:
            return []
        marks = transaction.outgoing.headers.all(sink.config.mark)
        now = int(time.time())
        return [mark for mark in marks if self._services.tokens.is_ours(mark, now)]

    def _been_here(self, marks: list[bytes]) -> Responses:
        """A message comes back by way of the MTA: out of a quarantine, or it would go round."""
        sink = self._services.sink
        assert sink is not None
        if sink.config.missing is Missing.TEMPFAIL and any(map(sink.correlator.awaits, marks)):
            # The client will be put off, for want of it at the sink, and come again: each time
            # there would be one more of it.
            logger.error("%s: the gateway hands on to the MTA, and not to the sink", self._queue_id)
            return self._tell(ASTRAY, Stage.CONTENT)
        logger.warning("%s: has been here before, and passes", self._queue_id)
        return self._passed("loop")

    # --- what the MTA is told --------------------------------------------------------------

    async def _edited(self, transaction: Transaction, returned: list[Returned] | None) -> Responses:
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

    def _failed(self, transaction: Transaction, why: object) -> mp.Verdict | None:
        """No gateway has judged: what the policy says; None lets it pass."""
        logger.error("%s: no verdict: %s", self._queue_id, why)
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

    async def _reset(self) -> None:
        """There is no message any more."""
        transaction, self._transaction = self._transaction, None
        if transaction is not None:
            await self._gateway.give_back(transaction)

    async def abort(self, _event: object) -> Responses:
        await self._reset()
        return None

    async def _end(self) -> None:
        await self._reset()
        await self._gateway.let_go()

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
