"""Ask a real tcp_table server from the shell: ``python -m tcptable get HOST:PORT KEY...``.

Says of each key what Postfix would make of the answer. The exit status is 0 if all were found,
1 if one was not, 2 if there was a temporary error, or an answer that Postfix would not take.
"""

from __future__ import annotations

import argparse
import math
import os
import socket
import sys

from . import (
    ClientConnection,
    ConnectionClosed,
    Found,
    Get,
    LocalProtocolError,
    NotFound,
    RemoteProtocolError,
    Reply,
)

FOUND, NOT_FOUND, TROUBLE = 0, 1, 2
MAX_TIMEOUT = 86_400  # a day; the system's clock has an end, too


class Asker:
    """Holds the connection from key to key, as a Postfix process does."""

    def __init__(self, host: str, port: int, timeout: float) -> None:
        self._address = host, port
        self._timeout = timeout
        self._socket: socket.socket | None = None
        self._conn = ClientConnection()

    def ask(self, key: bytes) -> tuple[int, str]:
        """The status for a key, and what to say of it."""
        try:
            status, text = _judge(self._reply(key))
        except (LocalProtocolError, RemoteProtocolError, OSError) as error:
            status, text = TROUBLE, f"no answer that Postfix would take: {error}"
        if not self._conn.our_turn:
            self.close()
        return status, text

    def close(self) -> None:
        """The next key is asked on a new connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _reply(self, key: bytes) -> Reply | ConnectionClosed:
        if self._socket is None:
            self._conn = ClientConnection()
            self._socket = socket.create_connection(self._address, self._timeout)
        self._socket.sendall(self._conn.send(Get(key)))
        while (event := self._conn.next_event()) is None:
            self._conn.receive_data(self._socket.recv(65536))
        return event


def _judge(event: Reply | ConnectionClosed) -> tuple[int, str]:
    match event:
        case Found(value=b""):
            return TROUBLE, "found, but empty: Postfix takes the table for broken"
        case Found(value):
            try:
                value.decode()
            except UnicodeDecodeError:
                return TROUBLE, (
                    f"found: {_shown(value)}, which is not UTF-8: unless smtputf8_enable = no, "
                    "Postfix takes the table for broken"
                )
            return FOUND, f"found: {_shown(value)}"
        case NotFound(reason):
            return NOT_FOUND, f"not found ({_shown(reason)})"
        case ConnectionClosed():
            return TROUBLE, "the server closed without an answer: Postfix tries ten times"
        case _:
            return TROUBLE, f"temporary error ({_shown(event.reason)})"


def _shown(text: bytes) -> str:
    """Text for a terminal: nothing in it moves the cursor."""
    decoded = text.decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in decoded)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    try:
        # As the socket module will: empty labels, and those over 63 bytes, can't be looked up.
        encoded = host.encode("idna")
    except UnicodeError:
        encoded = b""
    if not encoded or not port.isdecimal() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host, int(port)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= MAX_TIMEOUT:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return seconds


def _say(text: str) -> None:
    """On a standard output of any encoding, and on one that is closed."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    text = text.encode(encoding, "backslashreplace").decode(encoding)
    print(text, flush=True)  # noqa: T201 - a command


def main(arguments: list[str] | None = None) -> int:
    """Ask, print, and give the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tcptable",
        description="Ask a tcp_table server what Postfix would ask it.",
        epilog="Exit status: 0 found, 1 not found, 2 temporary error or a broken answer.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    get = commands.add_parser("get", help="look keys up")
    get.add_argument("--timeout", type=_seconds, default=10.0, help="seconds (default: 10)")
    get.add_argument("address", type=_address, metavar="HOST:PORT")
    get.add_argument("keys", nargs="+", metavar="KEY")
    options = parser.parse_args(arguments)
    host, port = options.address
    asker = Asker(host, port, options.timeout)
    worst = FOUND
    try:
        for key in options.keys:
            status, text = asker.ask(os.fsencode(key))
            _say(f"{_shown(os.fsencode(key))}: {text}")
            worst = max(worst, status)
    finally:
        asker.close()
    return worst


if __name__ == "__main__":
    sys.exit(main())
