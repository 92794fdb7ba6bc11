"""A milter filter that notes what is known of the client, and marks mail from outside.

Each message gets a header like this one; such headers that it brought along are removed:

    X-Client: mx.example.test; client=mail.example.org [192.0.2.17]; helo=mail.example.org;
        connections=2;
        tls=TLSv1.3;
        login=ann

and, unless the client has logged in, the Subject begins with the tag.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

from adapters.run import arguments, serve
from adapters.services import MilterEvent, MilterReplies, milter

import milterproto as mp

HEADER = b"X-Client"
WANTS = mp.Wants(
    # The end of a message always comes. Nothing before it needs an answer.
    events={mp.Connect, mp.Helo, mp.MailFrom, mp.Header},
    replies=(),
    actions=mp.Actions.ADDHDRS | mp.Actions.CHGHDRS,
    # Postfix does not send client_connections unless asked. (Sendmail sends what it is
    # configured to, and these names are known there, too.)
    macros={
        mp.Stage.CONNECT: (b"j", b"{client_connections}"),
        mp.Stage.MAIL: (b"{auth_authen}", b"{tls_version}"),
    },
)


class Session:
    """What is kept of one connection, and of its message of the moment."""

    def __init__(self, conn: mp.FilterConnection, tag: bytes) -> None:
        self.conn = conn
        self.tag = tag
        self.client = b"unknown"
        self.helo = b"unknown"
        self.forged = 0
        self.subject: bytes | None = None

    def handle(self, event: MilterEvent) -> MilterReplies:
        """One event."""
        match event:
            case mp.Connect(hostname, _, _, address):
                # A client without a name is called by its address in brackets.
                in_brackets = b"[%b]" % harmless(address)
                named = hostname != in_brackets
                # The MTA may use the connection for one client after the other.
                self.helo = b"unknown"
                self.client = b"%b %b" % (harmless(hostname), in_brackets) if named else in_brackets
            case mp.Helo(name):
                self.helo = harmless(name)
            case mp.MailFrom():
                self.forged = 0
                self.subject = None
            case mp.Header(name, value):
                self.note_header(name.lower(), value)
            case mp.EndOfMessage():
                return [*self.edits(), mp.Accept()]
            case _:
                pass
        return None

    def note_header(self, name: bytes, value: bytes) -> None:
        """Keep of a header what is needed at the end of the message."""
        if name == HEADER.lower():
            self.forged += 1
        elif name == b"subject" and self.subject is None:
            self.subject = value

    def edits(self) -> Iterator[mp.Edit]:
        """What becomes of the message."""
        # From the last to the first, for Postfix counts anew after each, and Sendmail doesn't.
        for index in range(self.forged, 0, -1):
            yield mp.ChangeHeader(index, HEADER, b"")
        # Above everything, the MTA's own Received too, like all that a host says of a message.
        yield mp.InsertHeader(0, HEADER, self.results())
        if self.conn.macros.get(b"{auth_authen}"):
            return
        if self.subject is None:
            yield mp.AddHeader(b"Subject", self.tag)
        elif not self.subject.startswith(self.tag):
            # The tag is plain ASCII, so it may stand before words in any encoding.
            tagged = mp.ChangeHeader(1, b"Subject", self.tag + b" " + self.subject)
            if sendable(tagged):
                yield tagged

    def results(self) -> bytes:
        """The new header's value; what is not known is left out."""
        macros = self.conn.macros
        where = harmless(macros.get(b"j", b"unknown"))
        value = b"%b; client=%b; helo=%b" % (where, self.client, self.helo)
        for name, macro in (
            (b"connections", b"{client_connections}"),
            (b"tls", b"{tls_version}"),
            (b"login", b"{auth_authen}"),
        ):
            if known := macros.get(macro):
                value += b";\n\t%b=%b" % (name, harmless(known))
        return value


def sendable(edit: mp.Edit) -> bool:
    """Whether an MTA takes it. A client may send what none does: a bare CR, 64 KiB of Subject."""
    try:
        mp.encode_response(edit)
    except mp.LocalProtocolError:
        return False
    return True


def harmless(value: bytes) -> bytes:
    """A client chooses its HELO, and must not write the rest of this header with it."""
    return re.sub(rb"[^!-:<>-~]", b"?", value[:255])


def ascii_text(text: str) -> bytes:
    """What may stand in a header as it is."""
    if not (text.isascii() and text.isprintable()):
        raise argparse.ArgumentTypeError(f"{text!r} is not printable ASCII")
    return text.encode()


def main() -> None:
    """Read the command line, and serve."""
    parser = arguments(__doc__)
    parser.add_argument("--tag", type=ascii_text, default=b"[external]", help="default: [external]")
    options = parser.parse_args()
    serve(milter(lambda conn: Session(conn, options.tag).handle, WANTS), options)


if __name__ == "__main__":
    main()
