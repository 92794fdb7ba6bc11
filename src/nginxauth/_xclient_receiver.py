"""What a server does with the commands in the course of a session."""

from __future__ import annotations

from typing import Any, Final

import attrs

from ._xclient_events import Offer, Refused, XClient, XForward
from ._xclient_wire import (
    DEFAULT_MAX_LINE,
    NOT_AUTHORISED,
    PIPELINED,
    TRANSACTION,
    parse_line,
    split_line,
)
from ._xtext import Xtext

# Every XCLIENT wipes these, unless it has them itself.
_WIPED: Final[dict[str, Any]] = {"login": None, "helo": None, "proto": None}


def _merged(old: XClient, new: XClient) -> XClient:
    told = _WIPED | _told(new)
    if isinstance(new.name, bytes):
        # It has been found by way of the other, so that an earlier one is of another client.
        told.setdefault("reverse_name", new.name)
    return attrs.evolve(old, **told)


def _told(command: XClient | XForward) -> dict[str, Any]:
    fields = attrs.asdict(command)
    return {name: value for name, value in fields.items() if value is not None}


class Receiver:
    """One SMTP session's XCLIENT and XFORWARD, on the server's side.

    ``offer`` is what this peer may use: nothing, unless it is one of your own proxies. Whoever
    may use XCLIENT can be anybody; LOGIN makes him any user, so offer that to a peer which has
    checked passwords, and to no other. (nginx sends LOGIN without looking at the offer.)
    ``xtext``, ``lenient`` and ``max_line`` are those of `parse_command`.
    """

    def __init__(
        self,
        offer: Offer,
        *,
        xtext: Xtext = Xtext.STRICT,
        lenient: bool = False,
        max_line: int = DEFAULT_MAX_LINE,
    ) -> None:
        self._offer = offer
        self._xtext = xtext
        self._lenient = lenient
        self._max_line = max_line
        self._client = XClient()
        self._forwarded = XForward()

    @property
    def offer(self) -> Offer:
        """What to say to EHLO now; see `ehlo_lines`. Nothing more once a client has an address."""
        return self._offer

    @property
    def client(self) -> XClient:
        """What the XCLIENT commands so far come to.

        Each one wipes LOGIN, HELO and PROTO; a NAME that is one is the REVERSE_NAME, too, unless
        its command has another.
        """
        return self._client

    @property
    def forwarded(self) -> XForward:
        """What the XFORWARD commands for the next message come to."""
        return self._forwarded

    def end_transaction(self) -> None:
        """After a message's end and after RSET: what was forwarded counts no more."""
        self._forwarded = XForward()

    def receive(
        self, line: bytes, *, in_transaction: bool, pipelined: bool = False
    ) -> XClient | XForward | Refused:
        """What a command line, whose verb is XCLIENT or XFORWARD, does to the session.

        `Refused`: give its reply; nothing has changed. `XForward`: reply ``250 2.0.0 Ok``.
        `XClient`: begin the session anew. Forget HELO, AUTH, the mail transaction, and whatever
        else the peer was trusted for; judge `client` as if it had just connected; greet with 220,
        or refuse with 554 or 421. TLS stays, and its client certificate is the proxy's.

        ``in_transaction``: between MAIL and the message's end. ``pipelined``: more has already
        come behind this line. It was meant for who the peer was before, so that XCLIENT is
        refused, as Postfix does from 3.9.
        """
        cut = split_line(line, self._max_line)
        if type(cut) is Refused:
            return cut
        xclient = cut.keyword == b"XCLIENT"
        if in_transaction:
            return cut.refused(TRANSACTION, "in a mail transaction")
        if cut.words and not (self._offer.xclient if xclient else self._offer.xforward):
            return cut.refused(NOT_AUTHORISED, "not offered to this peer")
        command = parse_line(cut, self._offer, xtext=self._xtext, lenient=self._lenient)
        if type(command) is XClient:
            if pipelined:
                return cut.refused(PIPELINED, "pipelined", close=True)
            self._client = _merged(self._client, command)
            self._forwarded = XForward()
            if command.addr is not None:
                # He is no proxy of ours. Postfix goes on taking XFORWARD, and so lets the clients
                # of a proxy that passes their bytes on write into its log.
                self._offer = Offer()
        elif type(command) is XForward:
            self._forwarded = attrs.evolve(self._forwarded, **_told(command))
        return command
