"""The SASL mechanisms of the authentication daemon, as conversations.

Each is an asynchronous generator: it is given the client's first response (or None), yields
challenges, gets the responses, and yields at last who it is, or that he is not.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Final, Protocol, TypeAlias

import attrs
from scramp import ScramException, ScramMechanism

import dovecotauth as da
from mailfront.userdb import User

# Bytes. What a client says first comes back in the challenge, and Exim takes no line over 8191.
LONGEST_FIRST: Final = 1024

ScramInfo: TypeAlias = tuple[bytes, bytes, bytes, int]


@attrs.frozen
class Granted:
    """The password is right. ``data`` is the mechanism's last word to the client."""

    user: User
    data: bytes | None = None


@attrs.frozen
class Denied:
    """It is not, or he is unknown: which of them is said to nobody."""

    code: bytes = b""


class Directory(Protocol):
    """What the mechanisms ask; it raises where it has no answer, and then nobody is denied."""

    async def user(self, name: str) -> User | None:
        """The user of that name."""

    async def is_right(self, user: User | None, password: str) -> bool:
        """Whether it is that user's password; takes as long if there is no such user."""

    async def scram_info(self, name: str, user: User | None) -> ScramInfo:
        """The verifier; one that fits no password if there is no such user."""


Conversation: TypeAlias = AsyncGenerator[bytes | Granted | Denied, bytes]
Mechanism: TypeAlias = Callable[[Directory, bytes | None], Conversation]


async def plain(directory: Directory, response: bytes | None) -> Conversation:
    """RFC 4616: who to be (the same, or nothing), who, and the password."""
    if response is None:
        response = yield b""
    parts = response.split(b"\0")
    if len(parts) != 3 or not parts[1]:
        yield Denied()
    elif parts[0] not in (b"", parts[1]):
        yield Denied(da.AUTHZ_FAIL)
    else:
        yield await _by_password(directory, parts[1], parts[2])


async def login(directory: Directory, response: bytes | None) -> Conversation:
    """Two questions; nobody wrote it down, and everybody speaks it."""
    name = response or (yield b"Username:")
    password = yield b"Password:"
    yield await _by_password(directory, name, password)


async def scram_sha_256(directory: Directory, response: bytes | None) -> Conversation:
    """RFC 7677: neither side learns what the other could use elsewhere."""
    if response is None:
        response = yield b""
    if len(response) > LONGEST_FIRST:
        yield Denied()
        return
    try:
        first = response.decode()
        name = _scram_name(first)
    except ValueError:
        yield Denied()
        return
    # Outside of every `try`: what the database raises is no wrong password, of whatever type it is.
    user = await directory.user(name)
    info = await directory.scram_info(name, user)
    server = ScramMechanism("SCRAM-SHA-256").make_server(lambda _: info)
    try:
        server.set_client_first(first)
        challenge = server.get_server_first().encode()
    except (ScramException, ValueError):
        yield Denied()
        return
    final = yield challenge
    try:
        server.set_client_final(final.decode())
        proof = server.get_server_final().encode()
    except (ScramException, ValueError):  # a wrong password, too, is told by an exception
        yield Denied()
        return
    yield Granted(user, proof) if user is not None else Denied()


# CRAM-MD5 is not here: whoever checks it must keep the passwords themselves.
MECHANISMS: Final[Mapping[da.Mechanism, Mechanism]] = {
    da.Mechanism(b"SCRAM-SHA-256", da.Flags.MUTUAL_AUTH): scram_sha_256,
    da.Mechanism(b"PLAIN", da.Flags.PLAINTEXT): plain,
    da.Mechanism(b"LOGIN", da.Flags.PLAINTEXT): login,
}


async def _by_password(directory: Directory, name: bytes, password: bytes) -> Granted | Denied:
    try:
        name_text, password_text = name.decode(), password.decode()
    except UnicodeDecodeError:
        return Denied()
    user = await directory.user(name_text)
    right = await directory.is_right(user, password_text)
    return Granted(user) if user is not None and right else Denied()


def _scram_name(first: str) -> str:
    match = re.match(r"[nyp][^,]*,(?:a=([^,]*))?,n=([^,]*),", first)
    if match is None or match[1] not in (None, match[2]):
        raise ValueError("no name, or another one to act as")
    return match[2].replace("=2C", ",").replace("=3D", "=")
