"""What is wrong with a filter's answers, beyond what keeps a session from going on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, cast

import attrs

from milterproto._connection import FilterConnection
from milterproto._errors import LocalProtocolError, ProtocolError
from milterproto._events import (
    Accept,
    Body,
    Command,
    Connect,
    ConnectionClosed,
    Continue,
    Data,
    Discard,
    EndOfHeaders,
    Header,
    Helo,
    MailFrom,
    Negotiate,
    Progress,
    RcptTo,
    ReplyCode,
    Response,
    Shutdown,
    Skip,
    Unknown,
)
from milterproto._negotiation import macros_fault
from milterproto._shell.transcript import FROM_MTA, Entry
from milterproto._state import EDITS
from milterproto._wire import MAX_PACKET

_CRASHES: Final = "before MAIL this crashes Postfix's smtpd"
_UNFILTERED: Final = "Sendmail then lets this client's mail through unfiltered"
_SKIPPED: Final = "Sendmail then asks the filter nothing more for the whole SMTP session"
_LOST: Final = "Postfix 3.7 then says 250 and loses the message"
_WHY: Final[dict[tuple[type[Command], type[Response]], str]] = {
    (Unknown, Accept): _CRASHES,
    (Unknown, Discard): _CRASHES,
    (Connect, Discard): _UNFILTERED,
    (Helo, Discard): _UNFILTERED,
    **dict.fromkeys([(MailFrom, Skip), (RcptTo, Skip), (Data, Skip)], _SKIPPED),
    **dict.fromkeys([(kind, Shutdown) for kind in (Header, EndOfHeaders, Body)], _LOST),
}


def faults(session: Iterable[Entry]) -> Iterator[str]:
    """Why the filter should not have said what it said: what an MTA would make of it.

    ``session`` is all of one connection, or its beginning.
    """
    # The side that our own filters have: it takes only what no MTA refuses or misreads.
    own = FilterConnection(allow_shutdown=True)
    due: type[Command] = Negotiate
    for entry in session:
        seen = entry.seen
        if isinstance(seen, str | ConnectionClosed):
            return
        if entry.way == FROM_MTA:
            command = cast("Command", seen)
            due = type(command)
            try:
                own.receive_data(entry.raw)
                own.next_event()
            except ProtocolError:
                return  # a session that no filter of ours would be in
            continue
        if len(entry.payload) > MAX_PACKET:
            yield f"a packet of {len(entry.raw)} bytes; Sendmail takes up to {MAX_PACKET + 5}"
        if not own.our_turn:
            return  # nobody has asked, and what follows is out of step
        response = cast("Response", seen)
        if isinstance(response, Negotiate):
            if fault := macros_fault(response):
                yield fault
            response = attrs.evolve(response, macros=())
        try:
            own.send(_lenient(response))
        except LocalProtocolError as error:
            if due is Negotiate:
                return  # no MTA takes such an answer, and the session is over
            yield _text(due, response, error)
            _get_on(own, response)


def _lenient(response: Response) -> Response:
    # No MTA asks for an enhanced code, though ours writes one always.
    if isinstance(response, ReplyCode) and not response.enhanced:
        return attrs.evolve(response, enhanced=response.code[:1] + b".0.0")
    return response


def _text(due: type[Command], response: Response, error: LocalProtocolError) -> str:
    kind = type(response)
    if kind is Progress:
        return f"Progress as a reply to {due.__name__}: to Sendmail that is an error"
    why = _WHY.get((due, kind))
    return f"{kind.__name__} as a reply to {due.__name__}: {why}" if why else str(error)


def _get_on(own: FilterConnection, response: Response) -> None:
    """Let the session go on, as it did with the MTA."""
    if type(response) not in EDITS and not isinstance(response, Progress):
        # After any other verdict, too, comes nothing that could not follow this one.
        own.send(Continue())
