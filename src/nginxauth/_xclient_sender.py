"""What a client sends, after a server's EHLO reply, and what the replies mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, final

import attrs

from ._errors import LocalProtocolError, RemoteProtocolError
from ._xclient_events import Command, Offer, Outcome, XClient, XForward
from ._xclient_profiles import POSTFIX, Profile
from ._xclient_values import LAST_COMMAND, XCLIENT_ATTRIBUTES, XFORWARD_ATTRIBUTES
from ._xclient_wire import check_offer

# RFC 5321, 4.5.3.1.4, with the CR LF.
MAX_COMMAND: Final = 512

_TABLES: Final = {
    XClient: (b"XCLIENT", XCLIENT_ATTRIBUTES),
    XForward: (b"XFORWARD", XFORWARD_ATTRIBUTES),
}

_MEANS: Final[Mapping[int, Outcome]] = {
    421: Outcome.CLOSING,
    500: Outcome.UNKNOWN_COMMAND,
    501: Outcome.SYNTAX,
    502: Outcome.UNKNOWN_COMMAND,
    503: Outcome.IN_TRANSACTION,
    550: Outcome.NOT_AUTHORISED,
}


@final
@attrs.frozen
class Omitted:
    """An attribute that is not sent, by its name on the wire, and why."""

    attribute: bytes
    reason: str


@final
@attrs.frozen
class Plan:
    """What to send.

    ``commands``, each with its CR LF, in their order. ``omitted``: what is left out.
    ``resets``: it is XCLIENT. Then send each command alone, **with nothing behind it** until its
    reply is there; and after the last, say EHLO again, with the client's own name, and look again
    at what is offered. The connection stays with this client: for another one, open another.

    XFORWARD commands may be pipelined, also with the MAIL that follows; they count for
    one message.
    """

    commands: tuple[bytes, ...]
    omitted: tuple[Omitted, ...]
    resets: bool

    def outcome(self, code: int) -> Outcome:
        """What the reply to one of the commands means.

        After XCLIENT, go on with `Outcome.ACCEPTED` only: in every other case the server still
        takes you for the client. Without XFORWARD only the log is poorer. Raises
        RemoteProtocolError for a code that can't be one of these replies.
        """
        # Postfix before 2.3 says 250 to XCLIENT; nginx takes both, too.
        if code == 250 or (code == 220 and self.resets):
            return Outcome.ACCEPTED
        if type(code) is not int or not 400 <= code <= 599:
            raise RemoteProtocolError("a reply that is neither 220, 250 nor a refusal")
        return _MEANS.get(code, Outcome.REJECTED)


def plan(command: Command, offer: Offer, receiver: Profile = POSTFIX) -> Plan:
    """How to tell a server that.

    ``offer`` is what it said to EHLO, see `parse_ehlo`. What it does not take is left out, and
    LOGIN is the one to look at: Postfix before 2.9 would answer 501 to it. ``receiver``, if you
    know it, leaves out what it would misread.

    Raises LocalProtocolError for a value that can't be sent, for an address without a name, for
    a client that can't be told within 512 bytes, and if XCLIENT or its ADDR is not offered, or
    nothing that an `XClient` has: whoever goes on then is himself the client, with all that
    a proxy is trusted for.
    """
    if type(command) not in _TABLES:
        raise LocalProtocolError(f"{type(command).__name__}(...) is neither XClient nor XForward")
    check_offer(offer)
    if type(command) is XClient and command.addr is not None and command.name is None:
        raise LocalProtocolError(
            "an address without a name, and so with the proxy's; tell UNAVAILABLE if it has none"
        )
    keyword, attributes = _TABLES[type(command)]
    offered = offer.xclient if type(command) is XClient else offer.xforward
    words: dict[bytes, bytes] = {}
    omitted = []
    for name, attribute in attributes.items():
        value = getattr(command, attribute.field)
        if value is None:
            continue
        text = attribute.encode(value)
        reason = "" if name in offered else f"the server does not offer {name.decode()}"
        reason = reason or _misread(name, value, text, receiver)
        if reason:
            omitted.append(Omitted(name, reason))
        else:
            words[name] = name + b"=" + text
    if not words and not omitted:
        raise LocalProtocolError(f"{type(command).__name__}() with nothing in it")
    if type(command) is XForward:
        return Plan(_pack(keyword, list(words.values())), tuple(omitted), resets=False)
    if not offered:
        raise LocalProtocolError("the server offers no XCLIENT, and would take you for the client")
    for one in omitted:
        if one.attribute == b"ADDR":
            raise LocalProtocolError(f"the client's address can't be told: {one.reason}")
    if not words:
        raise LocalProtocolError(f"nothing of it can be told: {omitted[0].reason}")
    commands = _split(keyword, words)
    for name in receiver.needs:
        # In each command: the first can't have ADDR if there are two.
        if len(commands) > 1 or name not in words:
            raise LocalProtocolError(
                f"{receiver.name} takes no XCLIENT without {name.decode()}, in one command"
            )
    return Plan(commands, tuple(omitted), resets=True)


def _misread(name: bytes, value: object, text: bytes, receiver: Profile) -> str:
    """How a server would misread a value; empty if it would not."""
    if isinstance(value, bytes):
        if not receiver.decodes and b"+" in text:
            return f"{receiver.name} does not decode it, and would take it as it is encoded"
        if receiver.folds and name == b"LOGIN" and value != value.lower():
            return f"{receiver.name} makes it lower-case, which may be another user"
        if not receiver.utf8 and not value.isascii():
            return f"{receiver.name} takes each byte for a character"
        if not receiver.ipv6 and text.startswith(b"IPV6:"):
            return f"{receiver.name} takes IPV6: for a part of the address"
    return ""


def _split(keyword: bytes, words: Mapping[bytes, bytes]) -> tuple[bytes, ...]:
    """One command if it can be; what must be in the last is, or it is an error."""
    all_in_one = _pack(keyword, list(words.values()))
    if len(all_in_one) < 2:
        return all_in_one
    last = [word for name, word in words.items() if name in LAST_COMMAND]
    first = [word for name, word in words.items() if name not in LAST_COMMAND]
    closing = _pack(keyword, last)
    if len(closing) > 1:
        raise LocalProtocolError(
            f"ADDR, LOGIN, HELO and PROTO have to go in one command, and take over {MAX_COMMAND} "
            "bytes; tell UNAVAILABLE for HELO"
        )
    return _pack(keyword, first) + closing


def _pack(keyword: bytes, words: list[bytes]) -> tuple[bytes, ...]:
    """As few commands as will hold the words in this order; each word fits into one."""
    commands: list[bytes] = []
    for word in words:
        if commands and len(commands[-1]) + 1 + len(word) + 2 <= MAX_COMMAND:
            commands[-1] += b" " + word
        else:
            commands.append(keyword + b" " + word)
    return tuple(command + b"\r\n" for command in commands)
