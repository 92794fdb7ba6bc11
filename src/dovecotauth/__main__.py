"""Ask a real server from the shell: ``python -m dovecotauth auth SOCKET USER``.

SOCKET is a unix socket's path, or HOST:PORT. The password is asked for, or read from standard
input; it is never an argument, which every user of the machine could see. ``mechanisms SOCKET``
says what the server offers. The exit status is 0 if the server said yes, 1 if it refused, 2 if it
could not say, or nobody answered as they should.
"""

from __future__ import annotations

import argparse
import getpass
import math
import os
import socket
import sys
import traceback
from typing import Any

from . import (
    Auth,
    ClientConnection,
    ClientHello,
    ConnectionClosed,
    Cont,
    Fail,
    Flags,
    LocalProtocolError,
    Ok,
    RemoteProtocolError,
    ServerHello,
)

YES, REFUSED, TROUBLE = 0, 1, 2


class BrokenServerError(Exception):
    """The server did not do what it should; the text says so."""


class Session:
    """A connection that has come through the handshake."""

    def __init__(self, address: str, timeout: float) -> None:
        self.conn = ClientConnection()
        self._socket = _connect(address, timeout)
        try:
            self._socket.sendall(self.conn.send(ClientHello(os.getpid())))
            while not isinstance(self._next(), ServerHello):
                pass
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Of no use any more."""
        self._socket.close()

    def ask(self, event: Auth | Cont) -> Any:
        """Send, and wait for what comes."""
        self._socket.sendall(self.conn.send(event))
        return self._next()

    def _next(self) -> Any:
        try:
            while (event := self.conn.next_event()) is None:
                self.conn.receive_data(self._socket.recv(65536))
        except OSError:
            self._refuse_a_master()
            raise
        if isinstance(event, ConnectionClosed):
            self._refuse_a_master()
            raise BrokenServerError("it has closed the connection")
        return event

    def _refuse_a_master(self) -> None:
        """Say so, if that is why nothing came: it waits for ever, or closes at our CPID."""
        if self.conn.spid_before_mech and not self.conn.mechanisms:
            raise BrokenServerError("it greets as a master socket does, which takes no passwords")


def _connect(address: str, timeout: float) -> socket.socket:
    host, colon, port = address.rpartition(":")
    if colon and "/" not in address:
        if not host or not port.isdecimal() or int(port) > 65535:
            raise BrokenServerError("that is neither a path nor HOST:PORT")
        try:
            return socket.create_connection((host.strip("[]"), int(port)), timeout)
        except UnicodeError:
            raise BrokenServerError("no such host can be") from None
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(timeout)
    try:
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


def _mechanisms(session: Session) -> int:
    for mechanism in session.conn.mechanisms:
        flags = [flag.name.lower().replace("_", "-") for flag in mechanism.flags if flag.name]
        _say(" ".join([_shown(mechanism.name), *flags]))
    if not session.conn.mechanisms:
        _say("none at all: Postfix would not start a session")
        return REFUSED
    if all(Flags.PRIVATE in one.flags for one in session.conn.mechanisms):
        _say("(all are private: Postfix would find none)")
    if session.conn.spid_before_mech:
        _say("(SPID came before MECH: Postfix and Exim would take this for another kind of socket)")
    return YES


def _auth(session: Session, user: bytes, password: bytes, mechanism: str, service: str) -> int:
    plain = mechanism == "PLAIN"
    response = b"\0" + user + b"\0" + password if plain else None
    parameters = ((b"service", os.fsencode(service)),)
    event = session.ask(Auth(1, mechanism.encode(), parameters, response))
    for answer in () if plain else (user, password):
        if isinstance(event, Cont):
            event = session.ask(Cont(1, answer))
    match event:
        case Ok():
            about = "".join(f", {_shown(name)}" for name, _ in event.fields)
            if event.nologin:
                _say(f"the password is right, but {_shown(event.user)} must not log in{about}")
                return REFUSED
            _say(f"yes: it is {_shown(event.user)}{about}")
            return YES
        case Fail(temporary=True):
            _say(f"no answer for now{_because(event)}")
            return TROUBLE
        case Fail():
            _say(f"no{_because(event)}")
            return REFUSED
        case _:
            raise BrokenServerError("it asks for more than a name and a password")


def _because(event: Fail) -> str:
    reasons = [_shown(text) for text in (event.code, event.reason) if text]
    return f" ({': '.join(reasons)})" if reasons else ""


def _shown(text: bytes) -> str:
    """Text for a terminal: nothing in it moves the cursor."""
    decoded = text.decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in decoded)


def _say(text: str) -> None:
    """On a standard output of any encoding, and on one that is closed."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    text = text.encode(encoding, "backslashreplace").decode(encoding)
    print(text, flush=True)  # noqa: T201 - a command


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


def _seconds(text: str) -> float:
    """A number that a socket takes; ValueError, of which argparse makes a usage error."""
    seconds = float(text)
    if not 0 < seconds < math.inf:
        raise ValueError(text)
    return seconds


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dovecotauth",
        description="Ask a server that speaks Dovecot's authentication protocol.",
        epilog="Exit status: 0 yes, 1 refused, 2 a temporary error or a broken answer.",
    )
    parser.add_argument("--timeout", type=_seconds, default=30.0, help="seconds (default: 30)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    mechanisms = commands.add_parser("mechanisms", help="what is offered")
    mechanisms.add_argument("socket", metavar="SOCKET", help="a path, or HOST:PORT")
    auth = commands.add_parser("auth", help="is this user's password right; it is read, not given")
    auth.add_argument("--mechanism", choices=("PLAIN", "LOGIN"), default="PLAIN")
    auth.add_argument("--service", default="smtp", help="on whose behalf (default: smtp)")
    auth.add_argument("socket", metavar="SOCKET", help="a path, or HOST:PORT")
    auth.add_argument("user", metavar="USER")
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
        user, password = b"", b""
        if options.command == "auth":
            user, password = os.fsencode(options.user), _password()
            if b"\0" in password:
                raise LocalProtocolError("a password with NUL can't be sent")  # noqa: TRY301
        session = Session(options.socket, options.timeout)
        try:
            if options.command == "mechanisms":
                return _mechanisms(session)
            return _auth(session, user, password, options.mechanism, options.service)
        finally:
            session.close()
    except (BrokenServerError, LocalProtocolError, RemoteProtocolError, OSError) as error:
        _say(f"no answer that could be used: {error}")
        return TROUBLE


if __name__ == "__main__":
    sys.exit(main())
