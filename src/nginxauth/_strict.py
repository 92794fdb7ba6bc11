"""What is wrong with an answer that nginx reads all the same: the rules of a strict reader."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Final

import attrs

from ._answer import Answer
from ._events import OAUTHBEARER, XOAUTH2, Allow, AuthRequest, Deny, Reply, Wait
from ._judge import SMTP, from_base64, number, statuses, values
from ._reply import MAX_REPLY, MAX_WAIT

# A web framework's next header (a cookie, a trace id) is of that size.
MARGIN: Final = 128

_READ: Final = (
    b"auth-status",
    b"auth-server",
    b"auth-port",
    b"auth-user",
    b"auth-pass",
    b"auth-wait",
    b"auth-error-code",
)
_EXACT: Final = (b"OK", b"WAIT")
_STATUS: Final = re.compile(rb"HTTP/[0-9.]+ +([0-9]{3})(?: .*)?", re.DOTALL)
_CODE: Final = re.compile(rb"[45][0-9]{2}( [45]\.[0-9]{1,3}\.[0-9]{1,3})?")
_OWN_WORDS: Final = re.compile(rb"[245][0-9]{2}[ -]|-ERR|\+OK|(?:NO|BAD|OK) ")
_PRINTABLE: Final = re.compile(rb"[ -~]*")
_ESCAPE: Final = re.compile(rb"%[0-9A-Fa-f]{2}")


@attrs.frozen
class Case:
    """An answer, what was asked, and what nginx makes of it; None is an internal error."""

    answer: Answer
    request: AuthRequest
    reply: Reply | None

    def values(self, name: bytes) -> list[bytes]:
        """Those of that header."""
        return values(self.answer, name)

    @property
    def status(self) -> bytes:
        """The HTTP status; empty if there is none."""
        match = _STATUS.fullmatch(self.answer.status or b"")
        return match[1] if match else b""

    @property
    def digest(self) -> bool:
        """Whether nginx has forgotten the password when it has sent it."""
        return bool(self.request.salt)


def _repeated(case: Case) -> bool:
    return any(len(case.values(name)) > 1 for name in _READ)


def _odd_address(case: Case) -> bool:
    if not isinstance(case.reply, Allow):
        return False
    try:
        ipaddress.ip_address(case.reply.server.decode("ascii"))
    except ValueError:
        return True
    return False


def _odd_code(case: Case) -> bool:
    code = case.reply.code if isinstance(case.reply, Deny) else b""
    return bool(code) and not _CODE.fullmatch(code)


def _nearly(case: Case) -> bool:
    return any(
        value not in _EXACT and value.strip(b" \t").upper() in _EXACT
        for value in case.values(b"auth-status")
    )


def _pauses(case: Case) -> int:
    match case.reply:
        case Deny(wait=seconds) | Wait(seconds):
            return seconds
        case _:
            return 0


def _forgotten_refusal(case: Case) -> bool:
    said = statuses(case.answer, case.request.protocol)
    return isinstance(case.reply, Wait) and said.refusal is not None


def _bad_sasl(case: Case) -> bool:
    data = case.values(b"auth-error-sasl")
    oauth = case.request.method in (XOAUTH2, OAUTHBEARER)
    return bool(data) and (not oauth or from_base64(data[-1]) is None)


WARNINGS: Final[Mapping[str, Callable[[Case], bool]]] = {
    "no HTTP status line": lambda case: case.answer.status is None,
    "an HTTP status other than 2xx with a login, which nginx lets in": lambda case: (
        isinstance(case.reply, Allow)
        and case.answer.status is not None
        and not case.status.startswith(b"2")
    ),
    "an interim HTTP status (1xx), which nginx takes for the answer": lambda case: (
        case.status.startswith(b"1")
    ),
    "no Auth-Status, which is OK to nginx": lambda case: (
        isinstance(case.reply, Allow) and not case.values(b"auth-status")
    ),
    "an empty Auth-Status, which is OK with SMTP and a refusal with POP3 and IMAP": lambda case: (
        b"" in case.values(b"auth-status")
    ),
    "an Auth-Status that is OK or WAIT but for case or a TAB, and so a refusal": _nearly,
    "a header that nginx reads, more than once": _repeated,
    "a header without a colon": lambda case: any(v is None for _, v in case.answer.headers),
    f"fewer than {MARGIN} bytes left of the {MAX_REPLY}": lambda case: (
        case.answer.size > MAX_REPLY - MARGIN
    ),
    "WAIT without an Auth-Wait: nginx asks again at once, and then takes OK for WAIT": (
        lambda case: isinstance(case.reply, Wait) and not case.reply.seconds
    ),
    "WAIT and a refusal: nginx waits, and forgets the refusal": _forgotten_refusal,
    "WAIT with Auth-User or Auth-Pass: nginx asks again with those": lambda case: (
        isinstance(case.reply, Wait)
        and bool(case.values(b"auth-user") or case.values(b"auth-pass"))
    ),
    "WAIT after APOP or CRAM-MD5: nginx asks again without the digest": lambda case: (
        isinstance(case.reply, Wait) and case.digest
    ),
    "Auth-Wait after APOP or CRAM-MD5: before 1.29.7 nginx may crash (CVE-2026-27651)": (
        lambda case: _pauses(case) > 0 and case.digest
    ),
    "an Auth-Wait that is no number, which nginx passes over": lambda case: any(
        number(value) is None for value in case.values(b"auth-wait")
    ),
    f"an Auth-Wait of more than {MAX_WAIT} seconds: the client will have gone": lambda case: (
        _pauses(case) > MAX_WAIT
    ),
    "Auth-Server or Auth-Port with a refusal: with the status lost, it lets in": lambda case: (
        isinstance(case.reply, Deny)
        and bool(case.values(b"auth-server") or case.values(b"auth-port"))
    ),
    "an Auth-Error-Code with POP3 or IMAP, which nginx passes over": lambda case: (
        case.request.protocol != SMTP and bool(case.values(b"auth-error-code"))
    ),
    "an Auth-Error-Code that is none, and nginx sends it": _odd_code,
    "a refusal that begins like a reply of the mail protocol: nginx puts one before it": (
        lambda case: isinstance(case.reply, Deny) and bool(_OWN_WORDS.match(case.reply.message))
    ),
    "a refusal with bytes that are not printable ASCII": lambda case: (
        isinstance(case.reply, Deny) and not _PRINTABLE.fullmatch(case.reply.message)
    ),
    "an Auth-Server that is not written as an address should be": _odd_address,
    "a % escape in Auth-User or Auth-Pass, which nginx does not undo": lambda case: any(
        _ESCAPE.search(value)
        for name in (b"auth-user", b"auth-pass")
        for value in case.values(name)
    ),
    "an Auth-Error-SASL that is not base64, or with another method than the two": _bad_sasl,
}
"""All that `ClientConnection.warnings` may say, each with when it does."""


def warnings_of(answer: Answer, request: AuthRequest, reply: Reply | None) -> tuple[str, ...]:
    """Those that are due, in the order above."""
    case = Case(answer, request, reply)
    return tuple(text for text, applies in WARNINGS.items() if applies(case))
