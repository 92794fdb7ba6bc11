"""The events: what a client asks, what a server answers. All text is bytes, not encoded.

The same events serve tcp_table and socketmap, so that one look-up function serves both.
"""

from __future__ import annotations

from typing import TypeAlias, final

import attrs


@final
@attrs.frozen
class Get:
    """Look a key up.

    ``key`` is what Postfix asks for, decoded, in the case in which it was asked: tcp_table and
    socketmap fold nothing. It may be empty, and may hold any byte but NUL, LF included.
    ``table`` is socketmap's map name; empty in tcp_table, which has none.
    """

    key: bytes
    table: bytes = b""


@final
@attrs.frozen
class Put:
    """Store a value under a key. tcp_table only.

    Reserved in the protocol since 2003 and sent by no Postfix; the reply to it is `Found` if it
    was done, else `NotFound`, which here means "rejected", or `TempError`.
    """

    key: bytes
    value: bytes


@final
@attrs.frozen
class Malformed:
    """A request that can't be understood, though it is clear where it ends.

    ``data`` is the request without its end, ``reason`` says what is wrong with it (no part of
    ``data`` is in it), ``reply`` is what to send if you have no better idea.
    """

    data: bytes
    reason: str
    reply: TempError


@final
@attrs.frozen
class Found:
    """The key's value (200, ``OK``). Empty can't be sent: Postfix takes it for a broken map."""

    value: bytes


@final
@attrs.frozen
class NotFound:
    """There is no such key (500, ``NOTFOUND``). ``reason`` shows in Postfix's verbose log only."""

    reason: bytes = b""


@final
@attrs.frozen
class TempError:
    """No answer for now (400, ``TEMP``): Postfix defers the mail, and logs or drops the reason."""

    reason: bytes = b""


@final
@attrs.frozen
class PermError:
    """The map is broken (``PERM``): Postfix defers the mail all the same. socketmap only."""

    reason: bytes = b""


@final
@attrs.frozen
class ConnectionClosed:
    """The peer has closed, between a request and the next or while a reply was due. The last."""


Request: TypeAlias = Get | Put
"""What a client sends."""

Reply: TypeAlias = Found | NotFound | TempError | PermError
"""What a server sends."""
