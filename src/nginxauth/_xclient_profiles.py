"""Servers, and what each makes of the two commands."""

from __future__ import annotations

from typing import Final, final

import attrs

from ._xclient_events import Offer


def _names(words: str) -> tuple[bytes, ...]:
    return tuple(words.encode().split())


@final
@attrs.frozen
class Profile:
    """What a server takes, and where it misreads.

    ``offer`` is what it says to EHLO, in its order, for a sender that does not wait for that.
    ``needs``: attributes that an XCLIENT must have. ``decodes``: it undoes xtext. ``folds``: it
    makes all values lower-case. ``ipv6``: it understands ``IPV6:``. ``utf8``: text may be more than
    ASCII. ``seen``: all this was seen by our tests; otherwise it is from the reference, and was not
    run.
    """

    name: str
    offer: Offer
    needs: tuple[bytes, ...] = ()
    decodes: bool = True
    folds: bool = False
    ipv6: bool = True
    utf8: bool = True
    seen: bool = False


POSTFIX: Final = Profile(
    "Postfix 3.2 and newer",
    Offer(
        _names("NAME ADDR PROTO HELO REVERSE_NAME PORT LOGIN DESTADDR DESTPORT"),
        _names("NAME ADDR PROTO HELO SOURCE PORT IDENT"),
    ),
    seen=True,
)
POSTFIX_2_8: Final = Profile(
    "Postfix 2.8",  # 2.5 to 2.7 had no IDENT
    Offer(
        _names("NAME ADDR PROTO HELO REVERSE_NAME PORT"),
        _names("NAME ADDR PROTO HELO SOURCE PORT IDENT"),
    ),
)
POSTFIX_2_2: Final = Profile(
    "Postfix 2.2",
    Offer(_names("NAME ADDR PROTO HELO"), _names("NAME ADDR PROTO HELO SOURCE")),
    decodes=False,
)
EXIM: Final = Profile(
    "Exim 4.97 and newer",  # built with EXPERIMENTAL_XCLIENT
    Offer(_names("ADDR NAME PORT LOGIN DESTADDR DESTPORT")),
    needs=_names("ADDR PORT"),
    ipv6=False,
)
HARAKA: Final = Profile(
    "Haraka 3",
    Offer(_names("NAME ADDR PROTO HELO LOGIN")),
    needs=_names("ADDR"),
    decodes=False,
    folds=True,
)
NODEMAILER: Final = Profile(
    "nodemailer's smtp-server",
    Offer(
        _names("NAME ADDR PORT PROTO HELO LOGIN"),
        _names("NAME ADDR PORT PROTO HELO IDENT SOURCE"),
    ),
    utf8=False,
)
DOVECOT: Final = Profile(
    "Dovecot 2.3, submission",
    Offer(_names("ADDR PORT PROTO HELO LOGIN SESSION TTL TIMEOUT FORWARD")),
    seen=True,
)
DOVECOT_2_4: Final = Profile(
    "Dovecot 2.4, submission and LMTP",
    Offer(
        _names(
            "ADDR PORT PROTO HELO LOGIN SESSION CLIENT-TRANSPORT TTL TIMEOUT "
            "DESTNAME DESTADDR DESTPORT"
        )
    ),
)

PROFILES: Final = (
    *(POSTFIX, POSTFIX_2_8, POSTFIX_2_2, EXIM, HARAKA, NODEMAILER),
    *(DOVECOT, DOVECOT_2_4),
)
"""All of them."""
