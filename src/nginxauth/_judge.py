"""What nginx does with an answer that it could read, in the order in which it decides."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

import attrs

from ._address import is_address
from ._answer import Answer
from ._errors import RemoteProtocolError
from ._events import (
    APOP,
    CRAM_MD5,
    EXTERNAL,
    NONE,
    OAUTHBEARER,
    XOAUTH2,
    Allow,
    AuthRequest,
    Deny,
    Reply,
    Wait,
)

SMTP: Final = b"smtp"
_WITH_PASSWORD: Final = (b"imap", b"pop3")

_NUMBER: Final = re.compile(rb"[0-9]+")
_MAX_NUMBER: Final = 2**63 - 1


@attrs.frozen
class Statuses:
    """All that the ``Auth-Status`` headers say together.

    ``refusal`` is the text of the last that is neither OK nor WAIT, or None. With SMTP an empty
    one takes the refusals before it back.
    """

    waits: bool
    refusal: bytes | None


def statuses(answer: Answer, protocol: bytes) -> Statuses:
    """What they say to nginx; none at all is OK."""
    waits, refusal = False, None
    for value in values(answer, b"auth-status"):
        if value == b"WAIT":
            waits = True
        elif value != b"OK":
            refusal = value or (None if protocol == SMTP else b"")
    return Statuses(waits, refusal)


def values(answer: Answer, name: bytes) -> list[bytes]:
    """Those of all headers of that name, given in lower case."""
    return [value or b"" for other, value in answer.headers if other == name]


def number(text: bytes) -> int | None:
    """A number as nginx reads it: digits only, in 64 bits."""
    if not _NUMBER.fullmatch(text):
        return None
    value = int(text)
    return value if value <= _MAX_NUMBER else None


def needs_password(request: AuthRequest) -> bool:
    """Whether nginx has none that it could log in with, unless the answer brings one.

    It forgets the digest when it has sent it, and needs no password for SMTP. What a protocol of
    somebody's own needs, nobody knows.
    """
    if request.protocol not in _WITH_PASSWORD:
        return False
    if request.method in (EXTERNAL, NONE):
        return bool(request.salt) or not request.password
    return bool(request.salt) or request.method in (APOP, CRAM_MD5)


def judge(answer: Answer, request: AuthRequest) -> Reply:
    """What the answer is to nginx; RemoteProtocolError if that is an internal error."""
    said = statuses(answer, request.protocol)
    seconds = ([0] + [n for n in map(number, values(answer, b"auth-wait")) if n is not None])[-1]
    # A WAIT is remembered through the pause, and goes before the refusal then.
    if said.waits and (said.refusal is None or seconds):
        return Wait(seconds)
    if said.refusal is not None:
        code = _last(answer, b"auth-error-code") if request.protocol == SMTP else None
        return Deny(said.refusal, code or b"", seconds, _challenge(answer, request))
    return _allow(answer, request)


def _allow(answer: Answer, request: AuthRequest) -> Allow:
    server, port = _last(answer, b"auth-server"), _last(answer, b"auth-port")
    password = _last(answer, b"auth-pass")
    if not server or not port:
        raise RemoteProtocolError("no Auth-Server or no Auth-Port, and no refusal")
    if password is None and needs_password(request):
        raise RemoteProtocolError("no Auth-Pass, and nginx has no password to log in with")
    if not is_address(server):
        raise RemoteProtocolError("an Auth-Server that is no IP address to nginx")
    port_number = number(port) or 0
    if not 1 <= port_number <= 65535:
        raise RemoteProtocolError("an Auth-Port that is no number from 1 to 65535")
    return Allow(server, port_number, _last(answer, b"auth-user"), password)


def _challenge(answer: Answer, request: AuthRequest) -> bytes | None:
    """Of nginx's forks, from their sources, not run. They look at it with two methods only."""
    data = _last(answer, b"auth-error-sasl")
    if data is None or request.method not in (XOAUTH2, OAUTHBEARER):
        return None
    return from_base64(data)


def from_base64(text: bytes) -> bytes | None:
    """None if it is something else."""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return None


def _last(answer: Answer, name: bytes) -> bytes | None:
    found = values(answer, name)
    return found[-1] if found else None
