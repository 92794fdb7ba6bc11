"""Ask an SMTP server what it would say to another client. No message is sent.

    python examples/xclient_send.py 127.0.0.1:25 --addr 192.0.2.1 --to bob@example.test

The server has to take XCLIENT from here: in Postfix, smtpd_authorized_xclient_hosts.
"""

from __future__ import annotations

import argparse
import smtplib
import sys

from nginxauth import xclient as xc

# The last two: a host name or a port that no socket takes.
TROUBLE = (
    *(xc.LocalProtocolError, xc.RemoteProtocolError, smtplib.SMTPException, OSError),
    *(UnicodeError, OverflowError),
)


def word(text: str) -> str:
    """What may stand in a command; argparse makes a usage error of the rest."""
    if not (text.isascii() and text.isprintable()):
        raise argparse.ArgumentTypeError(f"{text!a} is not printable ASCII")
    return text


def shown(reply: bytes) -> str:
    """A reply for a terminal: nothing in it moves the cursor, and it may be empty."""
    lines = [line.decode("ascii", "backslashreplace") for line in reply.splitlines()]
    return " / ".join("".join(c if c.isprintable() else repr(c)[1:-1] for c in x) for x in lines)


def ask(smtp: smtplib.SMTP, client: xc.XClient, helo: str, commands: list[str]) -> bool:
    """Be that client, and say these commands, until one is refused; whether none was."""
    smtp.ehlo_or_helo_if_needed()
    plan = xc.plan(client, xc.parse_ehlo(smtp.ehlo_resp or b""))
    for one in plan.omitted:
        print(f"not told: {one.attribute.decode()}, for {one.reason}")
    for line in plan.commands:
        code, text = smtp.docmd(line.decode().rstrip())
        print(f"{line.decode().rstrip()}\n    {code} {shown(text)}")
        outcome = plan.outcome(code)
        if outcome is not xc.Outcome.ACCEPTED:
            print(f"    {outcome.name}")
            return False
    # The session has begun again, and it is the client who speaks.
    for command in (f"EHLO {helo}", *commands):
        code, text = smtp.docmd(command)
        print(f"{command}\n    {code} {shown(text)}")
        if not 200 <= code <= 299:  # -1 from smtplib, for what is no reply
            return False
    return True


def main() -> int:
    """Read the command line, and ask."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("server", help="host:port")
    parser.add_argument("--addr", required=True, help="the client's IP address")
    parser.add_argument("--name", help="what its address resolves to; default: it can't be known")
    parser.add_argument("--port", type=int)
    parser.add_argument("--helo", type=word, default="client.example")
    parser.add_argument("--login", help="the user, as if he had given his password")
    parser.add_argument("--from", type=word, dest="sender", default="")
    parser.add_argument("--to", type=word, action="append", default=[])
    options = parser.parse_args()
    client = xc.XClient(
        name=options.name.encode() if options.name else xc.UNAVAILABLE,
        addr=options.addr.encode(),
        port=options.port,
        login=options.login.encode() if options.login else None,
    )
    commands = [f"MAIL FROM:<{options.sender}>", *(f"RCPT TO:<{one}>" for one in options.to)]
    try:
        with smtplib.SMTP(options.server, timeout=60) as smtp:
            return 0 if ask(smtp, client, options.helo, commands) else 1
    except TROUBLE as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
