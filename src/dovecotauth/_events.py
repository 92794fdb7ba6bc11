"""The events, in both directions. All text is bytes, neither escaped nor in base64.

Making an event never fails; what may not be sent is found out by ``send()``. Field order is
wire order. The layouts are in the manual's wire-format page.
"""

from __future__ import annotations

import enum
from typing import Final, TypeAlias, final

import attrs

Parameters: TypeAlias = tuple[tuple[bytes, bytes | None], ...]
"""Names with their values: ``(b"rip", b"192.0.2.1")``, and ``(b"nologin", None)`` for a flag."""

# As Dovecot masks what it logs, and more. A name's value is shown if none of these is in it.
_SECRET_NAMES: Final = (b"pass", b"resp", b"cookie", b"token", b"secret", b"key", b"forward")


def hide(value: bytes | None) -> str:
    """A secret for ``repr``: whether there is one, and not even how long."""
    return "None" if value is None else "***"


def hide_some(parameters: Parameters) -> str:
    """Parameters for ``repr``, without the values that may be secret. Never fails."""
    try:
        return f"({', '.join(_shown(name, value) for name, value in parameters)})"
    except Exception:  # noqa: BLE001 - whatever was put there in place of parameters
        return "<no parameters>"


def _shown(name: bytes, value: bytes | None) -> str:
    low = name.lower()
    secret = value is not None and any(part in low for part in _SECRET_NAMES)
    return f"({name!r}, {'***' if secret else repr(value)})"


def has(parameters: Parameters, name: bytes) -> bool:
    """Whether a flag is set: ``nologin`` (up to Dovecot 2.3) and ``nologin=yes`` (2.4) alike."""
    return any(one == name for one, _ in parameters)


def value_of(parameters: Parameters, name: bytes) -> bytes | None:
    """A parameter's value; None if it is not there, or has none. The last of several counts."""
    return dict(parameters).get(name)


# --- the handshake -------------------------------------------------------------------------


class Flags(enum.Flag):
    """What a mechanism is like; in the order in which Dovecot writes them."""

    PRIVATE = enum.auto()
    """Not to be advertised to mail clients."""
    ANONYMOUS = enum.auto()
    PLAINTEXT = enum.auto()
    DICTIONARY = enum.auto()
    ACTIVE = enum.auto()
    FORWARD_SECRECY = enum.auto()
    MUTUAL_AUTH = enum.auto()
    CHANNEL_BINDING = enum.auto()
    """From 1.3 on; such a mechanism is offered only to a client that announced 1.3."""


NO_FLAGS: Final = Flags(0)


@final
@attrs.frozen
class Mechanism:
    """A SASL mechanism that the server offers: ``name`` in upper case, such as ``b"PLAIN"``."""

    name: bytes
    flags: Flags = NO_FLAGS


@final
@attrs.frozen
class Connected:
    """A server's first event, which no byte brought about: the client waits to be greeted.

    Send a `ServerHello`; or a `Version` alone, and the `ServerHello` when the client's has come.
    """


@final
@attrs.frozen
class Version:
    """The version that a side speaks (``VERSION``). ``major`` is 1; we know minors 0 to 4."""

    major: int
    minor: int


@final
@attrs.frozen
class ClientHello:
    """The client's process id (``CPID``), from 1 to 4294967295; any number unique to it will do.

    Sending it sends the newest `Version` before it, if none was sent.
    """

    pid: int


@final
@attrs.frozen
class ServerHello:
    """All that a server says of itself, ended by ``DONE``.

    ``cookie`` is 32 hexadecimal digits from a good source of randomness, new for each
    connection: whoever knows it can ask who logged in. A 1.0 server has none (empty).
    ``pid`` and ``connection_id`` are numbers up to 4294967295; 0 if a server gave none.

    Sending it sends the newest `Version` before it, if none was sent.
    """

    mechanisms: tuple[Mechanism, ...]
    pid: int
    connection_id: int
    cookie: bytes = attrs.field(repr=hide)


# --- requests ------------------------------------------------------------------------------


@final
@attrs.frozen
class Auth:
    """Begin an exchange (``AUTH``).

    ``id``: 1 to 4294967295, and that of no request that is still open. ``mechanism``: one of
    those offered, in upper case. ``parameters``: ``service`` has to be there; in what is received
    it may be ``protocol``, its new name, which Dovecot takes from 2.4 on only. ``response``: the
    initial response; None if there is none, which is not the same as empty.
    """

    id: int
    mechanism: bytes
    parameters: Parameters = attrs.field(default=(), repr=hide_some)
    response: bytes | None = attrs.field(default=None, repr=hide)

    @property
    def service(self) -> bytes:
        """Such as ``b"smtp"``, under its old name or its new one."""
        name = b"service" if has(self.parameters, b"service") else b"protocol"
        return value_of(self.parameters, name) or b""


@final
@attrs.frozen
class Cont:
    """A challenge from the server, or the client's response to it (``CONT``).

    With ``data`` None it goes beside the mechanism's own exchange (``#``, from 1.3 on), and is
    all about ``channel_binding``: from the server the type that it wants, such as
    ``b"tls-exporter"``; from the client the binding's data.
    """

    id: int
    data: bytes | None = attrs.field(repr=hide)
    channel_binding: bytes | None = attrs.field(default=None, repr=hide)


@final
@attrs.frozen
class Cancel:
    """Give a request up (``CANCEL``). Answered from 1.4 on, by `Cancelled`."""

    id: int


@final
@attrs.frozen
class Malformed:
    """A request that can't be used, though it is clear where it ends and whose it is.

    ``data`` is the line, ``reason`` says what is wrong with it (no part of ``data`` is in it),
    ``reply`` is what Dovecot answers. The request named in it is over but for that answer.
    """

    data: bytes = attrs.field(repr=hide)
    reason: str
    reply: Fail


# --- replies -------------------------------------------------------------------------------

TEMP_FAIL: Final = b"temp_fail"
AUTHZ_FAIL: Final = b"authz_fail"
USER_DISABLED: Final = b"user_disabled"
PASS_EXPIRED: Final = b"pass_expired"
INVALID_BASE64: Final = b"invalid_base64"


@final
@attrs.frozen
class Ok:
    """The user is who he says he is (``OK``).

    ``user`` is the identity to go by: it may differ from the name that was typed. ``response``
    is the mechanism's last word, for a request that allowed it by ``final-resp-ok``.
    """

    id: int
    user: bytes
    fields: Parameters = attrs.field(default=(), repr=hide_some)
    response: bytes | None = attrs.field(default=None, repr=hide)

    @property
    def nologin(self) -> bool:
        """The password is right, and yet the user must not be let in."""
        return has(self.fields, b"nologin")


@final
@attrs.frozen
class Fail:
    """He is not, or can't be asked for now (``FAIL``).

    ``code`` is empty for a wrong password or an unknown user. The names before 1.2 (``temp``,
    ``authz``) are read as the new ones, and written for clients that are as old.
    """

    id: int
    user: bytes = b""
    code: bytes = b""
    reason: bytes = b""
    fields: Parameters = attrs.field(default=(), repr=hide_some)
    response: bytes | None = attrs.field(default=None, repr=hide)

    @property
    def temporary(self) -> bool:
        """Nothing is said about the password: try again later."""
        return self.code == TEMP_FAIL


@final
@attrs.frozen
class Cancelled:
    """A `Cancel` was heard (``CANCELLED``): nothing more comes for that id, which is free."""

    id: int


@final
@attrs.frozen
class ConnectionClosed:
    """The peer has closed, between two lines. The last event; open requests have failed for now."""


FromClient: TypeAlias = Version | ClientHello | Auth | Cont | Cancel
"""What a client sends."""

FromServer: TypeAlias = Version | ServerHello | Cont | Ok | Fail | Cancelled
"""What a server sends."""
