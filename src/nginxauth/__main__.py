"""Ask a real service from the shell: ``python -m nginxauth ask URL --user NAME``.

URL is what stands in nginx's ``auth_http``: ``http://HOST:PORT/URI``, or ``unix:PATH:/URI``. The
password is asked for, or read from standard input; it is never an argument, which every user of
the machine could see. Says what nginx would make of the answer, and what a strict reader has
against it. The exit status is 0 if the user is let in, 1 if he is refused, 2 if nginx is told to
wait or to say that the error is temporary, if the answer is of no use to it, and for whatever else
goes wrong.
"""

from __future__ import annotations

import argparse
import codecs
import getpass
import hashlib
import hmac
import math
import os
import re
import secrets
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Final, cast

import attrs

from . import (
    APOP,
    CRAM_MD5,
    EXTERNAL,
    NONE,
    TLS,
    Allow,
    AuthRequest,
    ClientConnection,
    Envelope,
    Headers,
    LocalProtocolError,
    RemoteProtocolError,
    Reply,
    Wait,
    mail_reply,
)

LET_IN, REFUSED, TROUBLE = 0, 1, 2
MAX_TIMEOUT = 86_400  # a day; the system's clock has an end, too

# A refusal that says itself that it is temporary, in the words of the three protocols.
_TEMPORARY: Final = re.compile(rb"4[0-9]{2}[ -]|-ERR \[SYS/TEMP\]|A1 NO \[UNAVAILABLE\]")
_HTTP: Final = re.compile(
    r"(?:http://)?(\[[^]/]*\]|[^:/?#\s\[\]]+)(?::([0-9]{1,5}))?(/.*)?", re.DOTALL
)
_UNIX: Final = re.compile(r"unix:([^:]+)(?::(/.*))?", re.DOTALL)


@attrs.frozen
class Target:
    """Where to connect to (a path, or host and port), and what the request says of it."""

    address: str | tuple[str, int]
    host: bytes
    uri: bytes


def _target(text: str) -> Target:
    """As nginx reads it."""
    if match := _UNIX.fullmatch(text):
        return Target(match[1], b"localhost", os.fsencode(match[2] or "/"))
    match = _HTTP.fullmatch(text)
    host = match[1].strip("[]") if match else ""
    try:
        # As the socket module will: empty labels, and those over 63 bytes, can't be looked up.
        encoded = host.encode("idna")
    except UnicodeError:
        encoded = b""
    if match is None or not encoded or int(match[2] or "80") > 65535:
        # https among them: nginx speaks no TLS to the service.
        raise argparse.ArgumentTypeError(
            f"{text!r} is not http://HOST:PORT/URI, nor unix:PATH:/URI"
        )
    address = host, int(match[2] or "80")
    return Target(address, os.fsencode(match[1]), os.fsencode(match[3] or "/"))


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= MAX_TIMEOUT:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return seconds


def _connect(target: Target, timeout: float) -> socket.socket:
    if isinstance(target.address, tuple):
        return socket.create_connection(target.address, timeout)
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(timeout)
    try:
        sock.connect(target.address)
    except BaseException:
        sock.close()
        raise
    return sock


def _ask(conn: ClientConnection, target: Target, data: bytes, timeout: float) -> Reply:
    """The reply; the time is for all of it, as nginx's is."""
    deadline = time.monotonic() + timeout
    with _connect(target, timeout) as sock:
        sock.sendall(data)
        while (event := conn.next_event()) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("timed out")
            sock.settimeout(left)
            conn.receive_data(sock.recv(65536))
    # Never ConnectionClosed: an end before the reply is an error.
    return cast("Reply", event)


# --- what is asked -------------------------------------------------------------------------


def _request(options: argparse.Namespace) -> AuthRequest:
    method = os.fsencode(options.method)
    protocol = os.fsencode(options.protocol)
    password, salt = b"", b""
    if method not in (EXTERNAL, NONE):
        password = _password()
    if method in (APOP, CRAM_MD5):
        salt = b"<%d.%d@localhost>" % (secrets.randbelow(2**31), int(time.time()))
        password = _digest(method, password, salt)
    host = options.client_host
    if host is None and protocol == b"smtp":
        host = "[UNAVAILABLE]"
    envelope = None
    if method == NONE:
        mail, rcpt = (os.fsencode(text) for text in (options.sender, options.recipient))
        envelope = Envelope(
            os.fsencode(options.helo), b"MAIL FROM:<%b>" % mail, b"RCPT TO:<%b>" % rcpt
        )
    tls = None
    if options.subject is not None:
        tls = TLS(verify=b"SUCCESS", subject=os.fsencode(options.subject))
    return AuthRequest(
        method=method,
        user=os.fsencode(options.user),
        password=password,
        protocol=protocol,
        attempt=options.attempt,
        client_ip=os.fsencode(options.client_ip),
        client_host=None if host is None else os.fsencode(host),
        salt=salt,
        envelope=envelope,
        tls=tls,
        headers=tuple(header for text in options.header for header in _headers(text)),
    )


def _digest(method: bytes, password: bytes, salt: bytes) -> bytes:
    if method == APOP:
        return hashlib.md5(salt + password, usedforsecurity=False).hexdigest().encode()
    return hmac.new(password, salt, "md5").hexdigest().encode()


def _headers(text: str) -> Headers:
    """Of an option: one, or with @FILE those of the file's lines, so that no one sees a secret."""
    if not text.startswith("@"):
        return (_header("--header", os.fsencode(text)),)
    lines = Path(text[1:]).read_bytes().removeprefix(codecs.BOM_UTF8).splitlines()
    numbered = [(f"line {number} of {text[1:]!r}", line) for number, line in enumerate(lines, 1)]
    return tuple(_header(where, line) for where, line in numbered if line.strip(b" \t"))


def _header(where: str, line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    if not colon:
        # A secret alone would be sent as a name.
        raise LocalProtocolError(f"{where} is not of the form NAME: VALUE")
    return name, value.strip(b" \t")


def _password() -> bytes:
    line = b""
    if sys.stdin is not None and sys.stdin.isatty():
        try:
            return os.fsencode(getpass.getpass())
        except UnicodeError:
            # Its text has a byte of the password.
            raise LocalProtocolError("this terminal gives no such password") from None
        except EOFError:
            pass
    elif sys.stdin is not None:
        line = sys.stdin.buffer.readline()
    if not line:
        raise LocalProtocolError("there is no password to be read, not even an empty line")
    return line.rstrip(b"\r\n")


# --- what is said --------------------------------------------------------------------------


def _judge(reply: Reply, protocol: bytes) -> int:
    match reply:
        case Allow(server, port, user, password):
            also = "" if user is None else f", as {_shown(user)}"
            also += "" if password is None else ", with the password of the answer"
            _say(f"let in: nginx goes on at {_shown(server)} port {port}{also}")
            return LET_IN
        case Wait(seconds):
            _say(f"wait: nginx asks again {f'after {seconds} s' if seconds else 'at once'}")
            return TROUBLE
        case _:
            shown = mail_reply(reply, protocol)
            then = "then nginx closes" if shown.closes else "then it may try again"
            _say("refused")
            _say_client(shown.data, f" after {shown.delay} s" if shown.delay else "", then)
            return TROUBLE if _TEMPORARY.match(shown.data) else REFUSED


def _say_client(data: bytes, when: str, then: str) -> None:
    line = _shown(data.removesuffix(b"\r\n"))
    _say(f"the mail client gets{when}: {line} ({then})")


def _shown(text: bytes) -> str:
    """Text for a terminal: nothing in it moves the cursor."""
    decoded = text.decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in decoded)


def _say(text: str) -> None:
    """On a standard output of any encoding, and on one that is closed."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    text = text.encode(encoding, "backslashreplace").decode(encoding)
    print(text, flush=True)  # noqa: T201 - a command


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m nginxauth",
        description="Ask an authentication service what nginx's mail proxy would ask it.",
        epilog="Exit status: 0 let in, 1 refused, 2 wait, a temporary error or a broken answer.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    ask = commands.add_parser("ask", help="may this user log in; the password is read, not given")
    add = ask.add_argument
    add("url", type=_target, metavar="URL", help="http://HOST:PORT/URI, or unix:PATH:/URI")
    add("--user", default="", metavar="NAME")
    add("--protocol", choices=("smtp", "imap", "pop3"), default="smtp", help="(default: smtp)")
    methods = ("plain", "apop", "cram-md5", "external", "none")
    add("--method", choices=methods, default="plain", help="(default: plain)")
    add("--client-ip", default="127.0.0.1", metavar="IP", help="(default: 127.0.0.1)")
    add("--client-host", metavar="NAME", help="(default with smtp: [UNAVAILABLE])")
    add("--attempt", type=int, default=1, metavar="N", help="(default: 1)")
    add("--subject", metavar="DN", help="of a client certificate that nginx has verified")
    add("--helo", default="localhost", metavar="NAME", help="with none (default: localhost)")
    add("--sender", default="", metavar="ADDRESS", help="with none (default: the empty one)")
    add("--recipient", default="", metavar="ADDRESS", help="with none")
    add(
        "--header",
        action="append",
        default=[],
        metavar="'NAME: VALUE'",
        help="like auth_http_header, repeatable; @FILE reads lines, so that a secret is not seen",
    )
    add("--timeout", type=_seconds, default=60.0, help="seconds (default: 60, as in nginx)")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Ask, print, and give the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except Exception:  # noqa: BLE001 - with Python's status for it, it would be a refusal
        traceback.print_exc()
        return TROUBLE


def _run(options: argparse.Namespace) -> int:
    try:
        conn = ClientConnection(options.url.host, options.url.uri)
        data = conn.send(_request(options))
    except (LocalProtocolError, OSError) as error:
        _say(f"that can't be asked: {error}")
        return TROUBLE
    protocol = os.fsencode(options.protocol)
    try:
        reply = _ask(conn, options.url, data, options.timeout)
    except (RemoteProtocolError, OSError) as error:
        _say(f"no answer that nginx could use: {error}")
        _say_client(mail_reply(None, protocol).data, "", "then nginx closes")
        status = TROUBLE
    else:
        status = _judge(reply, protocol)
    for warning in conn.warnings:
        _say(f"warning: {warning}")
    return status


if __name__ == "__main__":
    sys.exit(main())
