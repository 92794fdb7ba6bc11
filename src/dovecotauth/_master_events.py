"""What is asked on a master socket, and what is answered. All text is bytes, not escaped."""

from __future__ import annotations

from typing import TypeAlias, final

import attrs

from ._events import Fail, Parameters, Version, hide, hide_some


@final
@attrs.frozen
class MasterHello:
    """The server's process id (``SPID``), which ends its greeting. A master sends its `Version`."""

    pid: int


@final
@attrs.frozen
class GetUser:
    """Where does this user's mail live (``USER``). ``service`` has to be among the parameters."""

    id: int
    user: bytes
    parameters: Parameters = attrs.field(default=(), repr=hide_some)


@final
@attrs.frozen
class GetPass:
    """What does the password database say of this user (``PASS``); parameters as in `GetUser`."""

    id: int
    user: bytes
    parameters: Parameters = attrs.field(default=(), repr=hide_some)


@final
@attrs.frozen
class ListUsers:
    """All users there are (``LIST``). One at a time on a connection.

    With a ``user`` parameter Dovecot 2.3 was seen to list all of them all the same.
    """

    id: int
    parameters: Parameters = attrs.field(default=(), repr=hide_some)


@final
@attrs.frozen
class Request:
    """Who logged in on another connection (``REQUEST``): what a login process hands over.

    ``client_pid`` and ``request_id`` are those of the client's `ClientHello` and `Auth`,
    ``cookie`` that of the `ServerHello` there, 32 hexadecimal digits. Compare it in
    constant time. The answer is a `UserFound` or a `Fail`, and given once only.
    """

    id: int
    client_pid: int
    request_id: int
    cookie: bytes = attrs.field(repr=hide)
    parameters: Parameters = attrs.field(default=(), repr=hide_some)


@final
@attrs.frozen
class UserFound:
    """A user with his fields, such as ``uid``, ``gid`` and ``home`` (``USER``)."""

    id: int
    user: bytes
    fields: Parameters = attrs.field(default=(), repr=hide_some)


@final
@attrs.frozen
class PassFound:
    """A user with the fields of the password database (``PASS``)."""

    id: int
    user: bytes
    fields: Parameters = attrs.field(default=(), repr=hide_some)


@final
@attrs.frozen
class NotFound:
    """There is no such user (``NOTFOUND``)."""

    id: int


@final
@attrs.frozen
class Listed:
    """One user of a list (``LIST``)."""

    id: int
    user: bytes


@final
@attrs.frozen
class ListEnd:
    """The end of a list (``DONE``); ``failed`` if there might have been more."""

    id: int
    failed: bool = False


Query: TypeAlias = GetUser | GetPass | ListUsers | Request
"""What a master asks."""

Answer: TypeAlias = UserFound | PassFound | NotFound | Fail | Listed | ListEnd
"""What a server answers."""

FromMaster: TypeAlias = Version | Query
"""What a master sends."""

FromServer: TypeAlias = Version | MasterHello | Answer
"""What a server sends."""
