"""What is said to a gateway, step by step: generators that give commands, and get replies.

They do no I/O. Whoever drives one writes what it yields, reads one reply and sends it in; an
empty command only reads. It returns what came of it, or raises `Refused` or `GatewayError`.
"""

from __future__ import annotations

import enum
from collections.abc import Generator
from typing import TypeAlias, TypeVar, final

import attrs

from nginxauth import LocalProtocolError, RemoteProtocolError
from nginxauth import xclient as xc
from smtp_milter import _commands as commands
from smtp_milter._client import Client
from smtp_milter._errors import GatewayError, Refused
from smtp_milter._offer import Offer
from smtp_milter._replies import Reply
from smtp_milter._verdicts import summary

Outcome = TypeVar("Outcome")
Dialogue: TypeAlias = Generator[bytes, Reply, Outcome]


class Tell(enum.Enum):
    """How a gateway is told of the client."""

    AUTO = "auto"  # XCLIENT, XFORWARD or a Received field, the first that there is
    XCLIENT = "xclient"
    XFORWARD = "xforward"
    PROXY = "proxy"  # the PROXY protocol, version 1
    PROXY_V2 = "proxy-v2"
    RECEIVED = "received"
    NOTHING = "nothing"


@final
@attrs.frozen
class Session:
    """A session that has begun: what the gateway offers, and how it was, or will be, told."""

    offer: Offer
    tell: Tell

    @property
    def is_bound(self) -> bool:
        """Whether it can serve no client but this one."""
        return self.tell in (Tell.XCLIENT, Tell.PROXY, Tell.PROXY_V2)


def preamble(client: Client, tell: Tell) -> bytes:
    """What goes before the greeting."""
    if tell is Tell.PROXY:
        return client.proxy_v1()
    return client.proxy_v2() if tell is Tell.PROXY_V2 else b""


def begin(own_name: bytes, client: Client, tell: Tell) -> Dialogue[Session]:
    """Greeting, EHLO, and XCLIENT where that is the way."""
    told_already = tell in (Tell.PROXY, Tell.PROXY_V2)
    # What is said to a proxy is no answer to the client.
    greeting = yield b""
    if not greeting.is_positive:
        if told_already and greeting.code != 421:
            raise Refused(greeting)
        raise GatewayError(f"it greets with {summary(greeting)}")
    if told_already:
        offer = yield from hello(client.helo, own_name)
        return Session(offer, tell)
    try:
        offer = yield from hello(own_name, own_name)
    except Refused as refused:
        raise GatewayError(f"it says to EHLO {summary(refused.reply)}") from None
    offers = offer.proxying
    if tell is Tell.AUTO:
        tell = (
            Tell.XCLIENT if offers.xclient else Tell.XFORWARD if offers.xforward else Tell.RECEIVED
        )
    if tell is Tell.XFORWARD and not offers.xforward:
        raise GatewayError("it offers no XFORWARD")
    if tell is Tell.XCLIENT:
        yield from introduce(client, offers)
        offer = yield from hello(client.helo, own_name)
    return Session(offer, tell)


def introduce(client: Client, offers: xc.Offer) -> Dialogue[None]:
    """XCLIENT: from then on, what the gateway says is for the client."""
    try:
        plan = xc.plan(client.xclient(), offers)
    except LocalProtocolError as error:
        raise GatewayError(f"XCLIENT: {error}") from None
    if client.login and any(one.attribute == b"LOGIN" for one in plan.omitted):
        raise GatewayError("XCLIENT: it offers no LOGIN, and the client has logged in")
    for command in plan.commands:
        reply = yield command
        try:
            outcome = plan.outcome(reply.code)
        except RemoteProtocolError as error:
            raise GatewayError(f"XCLIENT: {error}") from None
        if outcome in (xc.Outcome.REJECTED, xc.Outcome.CLOSING):
            raise Refused(reply)
        if outcome is not xc.Outcome.ACCEPTED:
            raise GatewayError(f"XCLIENT is answered with {summary(reply)}")


def hello(name: bytes, own_name: bytes) -> Dialogue[Offer]:
    """EHLO with a client's name, if it can be said, else with ours; or HELO, as it must be."""
    name = name if commands.is_helo(name) else own_name
    reply = yield commands.ehlo(name)
    if reply.is_positive:
        return Offer.parse(reply)
    if reply.code >= 500:
        again = yield commands.ehlo(name, b"HELO")
        if again.is_positive:
            return Offer()
    raise Refused(reply)


def mail(
    session: Session, client: Client, ident: bytes, sender: bytes, parameters: tuple[bytes, ...]
) -> Dialogue[None]:
    """XFORWARD where that is the way, and MAIL."""
    if session.tell is Tell.XFORWARD:
        for command in xc.plan(client.xforward(ident), session.offer.proxying).commands:
            reply = yield command
            if not reply.is_positive:
                raise GatewayError(f"XFORWARD is answered with {summary(reply)}")
    yield from must(commands.mail(sender, session.offer.parameters(parameters)))


def rcpt(session: Session, recipient: bytes, parameters: tuple[bytes, ...]) -> Dialogue[None]:
    """One recipient."""
    yield from must(commands.rcpt(recipient, session.offer.parameters(parameters)))


def must(command: bytes) -> Dialogue[None]:
    """A command to which 2xx is the answer, or a refusal."""
    reply = yield command
    if reply.is_refusal:
        raise Refused(reply)
    if not reply.is_positive:
        raise GatewayError(f"{command[:4].decode()} is answered with {summary(reply)}")


def data() -> Dialogue[None]:
    """DATA: whether the content may follow."""
    reply = yield b"DATA\r\n"
    if reply.is_refusal:
        raise Refused(reply)
    if reply.code != 354:
        raise GatewayError(f"DATA is answered with {summary(reply)}")


def accepted(reply: Reply) -> Reply:
    """The reply to the content, if it is one that takes it."""
    if reply.is_refusal:
        raise Refused(reply)
    if not reply.is_positive:
        raise GatewayError(f"the content is answered with {summary(reply)}")
    return reply
