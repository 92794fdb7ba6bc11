"""The list of what `check` looks at: what real MTAs do, and what comes by mistake.

The manual's page has this list, and a test holds the two together.
"""

from __future__ import annotations

from typing import Final

from milterproto._events import Abort, Helo, Unknown
from milterproto._habits import Habits
from milterproto._headers import Headers
from milterproto._message import Recipient
from milterproto._shell import plays
from milterproto._shell.bench import Check

_VERSION: Final = "answer with the version that is offered or a lower one, and no bits beyond"
_FORGET: Final = "forget the message, and keep what is known of the client"

CHECKS: Final[tuple[Check, ...]] = (
    Check(
        "postfix",
        "two messages, as Postfix sends them",
        "answer each event once, unless it was negotiated that it has no reply",
        plays.as_mta(Habits.POSTFIX),
    ),
    Check(
        "version-4", "the same, with milter_protocol = 4", _VERSION, plays.as_mta(Habits.POSTFIX, 4)
    ),
    Check(
        "version-3", "the same, with milter_protocol = 3", _VERSION, plays.as_mta(Habits.POSTFIX, 3)
    ),
    Check(
        "version-2", "the same, with milter_protocol = 2", _VERSION, plays.as_mta(Habits.POSTFIX, 2)
    ),
    Check(
        "sendmail",
        "two messages, as Sendmail sends them: no ABORT between them",
        "let MAIL begin another message wherever it comes",
        plays.as_mta(Habits.SENDMAIL),
    ),
    Check(
        "hostile",
        "two messages in single bytes, with HELO and ABORT twice, other messages between them",
        "cut the stream at the length words, whatever pieces it comes in",
        plays.as_mta(Habits.HOSTILE),
    ),
    Check(
        "few-actions",
        "an MTA that allows new header fields, and no other edits",
        "close the connection if the filter is of no use then, or do without",
        plays.few_actions,
    ),
    Check(
        "same-again",
        "a message alone, and after others that were given up",
        "keep nothing of a message that ended with ABORT",
        plays.same_again,
    ),
    Check("no-helo", "MAIL without HELO", "do without its name", plays.no_helo),
    Check(
        "helo-again",
        "HELO, and EHLO once more, as after STARTTLS",
        _FORGET,
        plays.after_hello(Helo(b"x")),
    ),
    Check(
        "rset",
        "messages that are given up, with ABORT once or several times",
        _FORGET,
        plays.given_up(Abort(), Abort(), Abort()),
    ),
    Check(
        "helo-in-message",
        "EHLO within a message: Postfix says HELO first, and ABORT after it",
        "let HELO end the message, and ABORT do no harm",
        plays.given_up(Helo(b"x"), Abort(), Abort()),
    ),
    Check("mail-in-message", "MAIL within a message, without ABORT", _FORGET, plays.given_up()),
    Check(
        "vanish",
        "the connection ends within a message, without QUIT",
        "take an end of file anywhere, and close",
        plays.vanish,
    ),
    Check(
        "two-at-once",
        "a second connection while a message is open on the first",
        "serve connections side by side: an MTA opens one for each of its clients",
        plays.two_at_once,
    ),
    Check(
        "clients",
        "clients without an address, on a unix socket, with IPv6 as each MTA writes it",
        "expect no port and no address behind U, and perhaps IPv6: before an address",
        plays.clients,
    ),
    Check(
        "local-mail",
        "mail from this machine: no brackets, no ESMTP, port 0, an empty sender",
        "compare addresses without their brackets",
        plays.local_mail,
    ),
    Check(
        "null-sender",
        "a bounce, from <>",
        "take it as it is",
        plays.each(plays.altered(sender=b"<>")),
    ),
    Check(
        "many-recipients",
        "two hundred recipients with parameters",
        "keep each, or none",
        plays.each(
            plays.altered(
                recipients=[
                    Recipient(b"<r%d@example.test>" % number, (b"NOTIFY=NEVER",))
                    for number in range(200)
                ]
            )
        ),
    ),
    Check(
        "empty",
        "a message without a body, one without a header, one with neither",
        "wait for none of them: EOH and the end of the message still come",
        plays.each(
            plays.altered(body=b""),
            plays.altered(headers=Headers()),
            plays.altered(headers=Headers(), body=b""),
        ),
    ),
    Check(
        "eight-bit",
        "bytes that are no UTF-8, NUL in the body, in whatever may have them",
        "treat as bytes what comes from outside, or decode it with replacements",
        plays.each(
            plays.plus((b"X-Eight", b" \xff\xfe\xe4"), (b"Subject", b" =?utf-8?q?=ff?= =?x?b?!?=")),
            plays.altered(body=b"\0\xff\r\r\n\n\x80\r\n"),
            plays.altered(sender=b"<\xffa@\xe4.test>"),
            plays.altered(recipients=[Recipient(b'<"\xff b"@example.test>')]),
        ),
    ),
    Check(
        "odd-fields",
        "header fields that are empty, folded, without a blank, or twice there",
        "expect nothing of a field but a name and a value",
        plays.each(
            plays.plus(
                *((b"X-Empty", b""), (b"X-Blank", b" "), (b"X-Folded", b" a\n\tb\n c")),
                *((b"X-Tight", b"tight"), (b"From", b" <>"), (b"From", b" a, b, c:;")),
                *((b"To", b" " + b"<" * 300), (b"Content-Type", b" x/y; boundary="), (b"!", b" !")),
                *((b"Date", b" never"), (b"Message-Id", b" <"), (b"Received", b" from")),
            )
        ),
    ),
    Check(
        "large",
        "a header field of 60,000 bytes, a thousand fields, and a body of four pieces",
        "read on until a packet is whole; payloads have up to 65535 bytes",
        plays.each(
            plays.plus((b"X-Long", b" " + b"long " * 12_000)),
            plays.plus(*((b"X-%d" % number, b" x") for number in range(1000))),
            plays.altered(body=(b"x" * 70 + b"\r\n") * 3000),
        ),
    ),
    Check(
        "split-line-end",
        "a CR ends one piece of the body, and its LF begins the next",
        "put the pieces together before looking for lines",
        plays.each(plays.altered(body=b"x" * 65534 + b"\r\n" + b"y" * 65534 + b"\r\n")),
    ),
    Check(
        "body-at-end",
        "the last piece of the body comes with the end of the message",
        "take it for a last Body; no MTA is known to do so, but libmilter's header file allows it",
        plays.body_at_end,
        serious=False,
    ),
    Check(
        "macros",
        "no macros at all, macros before a header field or a piece of the body, as from Postfix",
        "answer none of them, and keep those of any command",
        plays.macros(b"M", b"M{x}\0\0", b"L", b"Li\0004F2Q\0", b"N", b"Bi\0004F2Q\0", b"U", b"E"),
    ),
    Check(
        "broken-macros",
        "a macro without a value, one without an end, and one of no command",
        "keep what can be read, and answer none of them",
        plays.macros(b"Mi\0", b"Mi\0004F2Q\0{auth_authen", b"Z{x}\0y\0"),
        serious=False,
    ),
    Check(
        "unknown",
        "commands that no MTA knows, before a message",
        "answer with Continue, or leave them out: NOUNKNOWN",
        plays.after_hello(Unknown(b"XJUNK"), Unknown(b"")),
    ),
    Check(
        "unknown-in-message",
        "a command that no MTA knows, between RCPT and DATA",
        "leave them out: NOUNKNOWN; libmilter loses the message over it if there is no DATA event",
        plays.unknown_in_message,
    ),
    Check(
        "data-again",
        "RCPT and DATA after DATA, which somebody else has refused",
        "let them come again; a filter on libmilter can't, but may leave DATA out: NODATA",
        plays.data_again,
    ),
    Check(
        "zero-length",
        "a packet of no bytes at all",
        "close: what follows can't be told from the rest",
        plays.junk(b"\0\0\0\0" + plays.frame(b"M", b"<a@example.org>\0")),
        serious=False,
    ),
    Check(
        "huge-length",
        "the beginning of a packet of 2 GiB",
        "close as soon as the length is there, and wait for none of it",
        plays.junk(b"\x7f\xff\xff\xffB"),
        serious=False,
    ),
    Check(
        "unknown-code",
        "a packet with a code that none is",
        "close",
        plays.junk(plays.frame(b"\x01", b"x")),
        serious=False,
    ),
    Check(
        "short-offer",
        "an offer that ends too early",
        "close",
        plays.junk(plays.frame(b"O", bytes(8)), greeted=False),
        serious=False,
    ),
    Check(
        "no-terminator",
        "an address without the NUL at its end",
        "close, and do not read beyond the packet",
        plays.junk(plays.frame(b"M", b"<a@example.org>")),
        serious=False,
    ),
    Check(
        "web-browser",
        "an HTTP request",
        "close",
        plays.junk(b"GET / HTTP/1.0\r\n\r\n", greeted=False),
        serious=False,
    ),
)
