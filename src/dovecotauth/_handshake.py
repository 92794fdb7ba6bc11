"""The lines of the handshake, and how a client puts the server's together."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from ._errors import LocalProtocolError, RemoteProtocolError
from ._events import NO_FLAGS, ClientHello, Flags, Mechanism, ServerHello, Version
from ._fields import decode_number, encode_number

MAJOR: Final = 1
NEWEST: Final = Version(MAJOR, 4)

# From which minor version on there is what. Each is 0 to whoever announced less.
COOKIE: Final = 1
FAIL_CODES: Final = 2
EMPTY_RESPONSE: Final = 2
CHANNEL_BINDING: Final = 3
CANCELLED: Final = 4

# RFC 4422, section 3.1.
_MECHANISM_NAME: Final = re.compile(rb"[A-Z0-9_-]{1,20}")
_COOKIE: Final = re.compile(rb"[0-9a-f]{32}")
_FLAGS: Final = {flag.name.lower().replace("_", "-").encode(): flag for flag in Flags if flag.name}


def encode_version(event: Version) -> bytes:
    """The line for a version that we can speak."""
    if event.major != MAJOR or event.minor not in range(NEWEST.minor + 1):
        raise LocalProtocolError(f"no version that we speak: 1.0 to 1.{NEWEST.minor}")
    return b"VERSION\t%d\t%d\n" % (event.major, event.minor)


def decode_version(words: list[bytes]) -> Version:
    """The words of a VERSION line; any minor will do, for it only says what the peer knows."""
    if len(words) != 3 or words[0] != b"VERSION":
        raise RemoteProtocolError("no line of the form 'VERSION major minor' at the beginning")
    major, minor = (decode_number(word, "a version", 0) for word in words[1:])
    if major != MAJOR:
        raise RemoteProtocolError("a major version that is not 1")
    return Version(major, minor)


def encode_client_hello(event: ClientHello) -> bytes:
    """The CPID line."""
    return b"CPID\t%b\n" % encode_number(event.pid, "the pid")


def decode_client_hello(words: list[bytes]) -> ClientHello:
    """The words of a CPID line."""
    if len(words) != 2 or words[0] != b"CPID":
        raise RemoteProtocolError("no line of the form 'CPID pid' after the client's VERSION")
    return ClientHello(decode_number(words[1], "a pid"))


def encode_server_hello(event: ServerHello, minor: int, offered: tuple[Mechanism, ...]) -> bytes:
    """All lines from MECH to DONE, of which `offered` are the mechanisms.

    MECH comes before SPID: Postfix and Exim take a socket for another kind if it doesn't,
    though Dovecot's document has them the other way round.
    """
    lines = [_encode_mechanism(mechanism) for mechanism in offered]
    lines.append(b"SPID\t%b\n" % encode_number(event.pid, "the pid"))
    lines.append(b"CUID\t%b\n" % encode_number(event.connection_id, "the connection's id"))
    if minor >= COOKIE:
        if not _COOKIE.fullmatch(event.cookie):
            raise LocalProtocolError("a cookie is 32 hexadecimal digits, in lower case")
        lines.append(b"COOKIE\t%b\n" % event.cookie)
    elif event.cookie:
        raise LocalProtocolError("a server of version 1.0 has no cookie")
    lines.append(b"DONE\n")
    return b"".join(lines)


# The same few in every request: 0.3 us less for each.
@functools.lru_cache(maxsize=32)
def check_mechanism(name: bytes) -> None:
    """Raise LocalProtocolError for what is no mechanism's name."""
    if not _MECHANISM_NAME.fullmatch(name):
        raise LocalProtocolError("a mechanism's name is up to 20 of A to Z, 0 to 9, '-' and '_'")


def _encode_mechanism(mechanism: Mechanism) -> bytes:
    check_mechanism(mechanism.name)
    flags = [b"\t" + name for name, flag in _FLAGS.items() if flag in mechanism.flags]
    return b"MECH\t%b%b\n" % (mechanism.name, b"".join(flags))


class HelloReader:
    """Puts a `ServerHello` together, of lines in any order; unknown ones mean nothing.

    ``spid_before_mech``: the order in Dovecot's document, in which Postfix and Exim find an
    auth-master socket, and give up.
    """

    def __init__(self) -> None:
        self._mechanisms: dict[bytes, Mechanism] = {}
        self._values: dict[bytes, Any] = {}
        self.spid_before_mech = False

    def read(self, words: list[bytes]) -> ServerHello | None:
        """Take a line in; the event, if it was the last."""
        verb, *arguments = words
        if verb == b"DONE":
            return ServerHello(
                tuple(self._mechanisms.values()),
                self._values.get(b"SPID", 0),
                self._values.get(b"CUID", 0),
                self._values.get(b"COOKIE", b""),
            )
        if verb == b"MECH":
            self._read_mechanism(arguments)
        elif verb in _VALUES:
            if verb in self._values or len(arguments) != 1:
                raise RemoteProtocolError("a second SPID, CUID or COOKIE, or one that has no value")
            self._values[verb] = _VALUES[verb](arguments[0])
            self.spid_before_mech |= verb == b"SPID" and not self._mechanisms
        return None

    def _read_mechanism(self, arguments: list[bytes]) -> None:
        name = b"".join(arguments[:1]).upper()
        # One without a name, or with an impossible one, can't be asked for; Postfix skips it.
        if _MECHANISM_NAME.fullmatch(name):
            flags = NO_FLAGS
            for argument in arguments[1:]:
                flags |= _FLAGS.get(argument, NO_FLAGS)
            self._mechanisms[name] = Mechanism(name, flags)


_VALUES: Final[Mapping[bytes, Callable[[bytes], Any]]] = {
    b"SPID": lambda word: decode_number(word, "a pid", 0),
    b"CUID": lambda word: decode_number(word, "a connection's id", 0),
    b"COOKIE": bytes,
}
