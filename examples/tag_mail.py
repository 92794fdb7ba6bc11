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
import functools
import re

from adapters.run import arguments, serve
from adapters.services import messages

import milterproto as mp
from milterproto.message import Field, Message, MessageFilter, expressible

HEADER = "X-Client"
# Nobody has a good reason to bring along even one; and Postfix can't take away any number.
MAX_FORGED = 100
# Postfix does not send client_connections unless asked. (Sendmail sends what it is configured to,
# and these names are known there, too.)
MACROS = {
    mp.Stage.CONNECT: (b"j", b"{client_connections}"),
    mp.Stage.MAIL: (b"{auth_authen}", b"{tls_version}"),
}


def judge(message: Message, tag: bytes) -> mp.Verdict | None:
    """What becomes of a message."""
    if message.headers.delete(HEADER) > MAX_FORGED:
        return mp.ReplyCode.text(550, "5.6.0", f"Too many {HEADER} header fields")
    # Above everything, the MTA's own Received too, like all that a host says of a message.
    message.headers.insert(0, HEADER, results(message))
    if message.client.login:
        return None
    tagged = message.copy()
    for at, field in enumerate(tagged.headers):
        if field.name.lower() == b"subject":
            if not field.value.startswith(tag):
                # The tag is plain ASCII, so it may stand before words in any encoding.
                tagged.headers[at] = Field(field.name, b" %b %b" % (tag, field.raw.lstrip(b" ")))
            break
    else:
        tagged.headers.append("Subject", tag)
    # A client may send what no MTA takes back, and must not be refused for it for ever.
    if expressible(message, tagged):
        message.headers = tagged.headers
    return None


def results(message: Message) -> bytes:
    """The new header's value; what is not known is left out."""
    macros, client = message.macros, message.client
    where = harmless(macros.get(b"j", b"unknown"))
    address = b"[%b]" % harmless(client.address)
    # A client without a name is called by its address in brackets.
    name = b"" if client.hostname == address else harmless(client.hostname) + b" "
    helo = harmless(client.helo or b"unknown")
    value = b"%b; client=%b%b; helo=%b" % (where, name, address, helo)
    for what, known in (
        (b"connections", macros.get(b"{client_connections}")),
        (b"tls", client.tls),
        (b"login", client.login),
    ):
        if known:
            value += b";\n\t%b=%b" % (what, harmless(known))
    return value


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
    tagging = functools.partial(judge, tag=options.tag)
    serve(messages(MessageFilter(tagging, body=False, macros=MACROS)), options)


if __name__ == "__main__":
    main()
