"""The events, in both directions. All text is bytes, decoded where nginx encodes it.

Making an event never fails; what may not be sent is found out by ``send()``. Field order is
wire order. The layouts are in the manual's wire-format page.
"""

from __future__ import annotations

from typing import Final, TypeAlias, final

import attrs

from ._envelope import split_command

Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]
"""Header names with their values, in order: ``(b"X-Auth-Key", b"s3cret")``."""

# nginx's own, and those of its forks. What else a front sends is passed on as it is.
PLAIN: Final = b"plain"
APOP: Final = b"apop"
CRAM_MD5: Final = b"cram-md5"
EXTERNAL: Final = b"external"
NONE: Final = b"none"
XOAUTH2: Final = b"xoauth2"
OAUTHBEARER: Final = b"oauthbearer"


def hide(value: bytes | None) -> str:
    """A secret for ``repr``: whether there is one, and not even how long."""
    return "***" if value else repr(value)


def hide_values(headers: Headers) -> str:
    """Headers for ``repr``, by name only: one of them is the shared secret. Never fails."""
    try:
        return f"({', '.join(f'({name!r}, ***)' for name, _ in headers)})"
    except Exception:  # noqa: BLE001 - whatever was put there in place of headers
        return "<no headers>"


# --- the request ---------------------------------------------------------------------------


@final
@attrs.frozen
class ProxyProtocol:
    """Who connected, as a PROXY header that nginx was sent says (``Proxy-Protocol-*``)."""

    address: bytes
    port: int
    server_address: bytes
    server_port: int


@final
@attrs.frozen
class Envelope:
    """A mail that nobody logged in for (method ``none``), by its first recipient.

    ``mail`` and ``rcpt`` are the client's commands as it wrote them, verb, letter case and
    parameters included, and nobody has looked whether they are right; the properties take them
    apart. ``helo`` is empty if it said none.
    """

    helo: bytes
    mail: bytes
    rcpt: bytes

    @property
    def sender(self) -> bytes | None:
        """With its angle brackets, ``b"<>"`` for a bounce; None if ``mail`` can't be read.

        Quotes and source routes are left as they are. None is for ``MAIL FROM:a@b`` too: what
        has no brackets is for each receiver to guess at.
        """
        command = split_command(self.mail, b"MAIL FROM")
        return command and command[0]

    @property
    def sender_parameters(self) -> tuple[bytes, ...]:
        """Such as ``b"SIZE=1000"``, as written; empty, too, if ``mail`` can't be read."""
        command = split_command(self.mail, b"MAIL FROM")
        return command[1] if command else ()

    @property
    def recipient(self) -> bytes | None:
        """With its angle brackets; None if ``rcpt`` can't be read."""
        command = split_command(self.rcpt, b"RCPT TO")
        return command and command[0]

    @property
    def recipient_parameters(self) -> tuple[bytes, ...]:
        """Such as ``b"NOTIFY=NEVER"``, as written; empty, too, if ``rcpt`` can't be read."""
        command = split_command(self.rcpt, b"RCPT TO")
        return command[1] if command else ()


@final
@attrs.frozen
class TLS:
    """The client's TLS, as nginx tells it (``Auth-SSL-*``); empty is what it did not tell.

    ``verify`` is ``b"NONE"`` (no certificate), ``b"SUCCESS"`` or ``b"FAILED:reason"``; empty
    where nginx asks for no certificates. The next four describe a certificate that the client
    *showed*: they prove nothing unless ``verify`` is ``b"SUCCESS"``. ``certificate`` is PEM.
    """

    protocol: bytes = b""
    cipher: bytes = b""
    verify: bytes = b""
    subject: bytes = b""
    issuer: bytes = b""
    serial: bytes = b""
    fingerprint: bytes = b""
    certificate: bytes = b""


@final
@attrs.frozen
class AuthRequest:
    """The question whether this user may log in, and where to.

    ``method``: one of the constants above, or another that a fork has. ``user`` and ``password``
    are decoded; the password is a digest for ``apop`` and ``cram-md5`` (with ``salt``), a token
    for the two OAuth methods, and always empty for ``external`` and ``none``, for which nginx
    may send that of an earlier attempt; ``user`` is empty for ``none``. ``protocol``:
    ``b"smtp"``, ``b"imap"`` or ``b"pop3"``. ``attempt`` counts from 1 in each mail session,
    and is 0 if that was not told, which nginx never leaves out.
    ``client_ip`` has no brackets, or is ``b"unix:"``. ``client_host`` is there with SMTP only:
    a name, ``b"[UNAVAILABLE]"`` or ``b"[TEMPUNAVAIL]"``. ``salt`` has its angle brackets.
    ``headers`` is all the rest but Host, such as what ``auth_http_header`` sets.
    """

    method: bytes
    user: bytes
    password: bytes = attrs.field(repr=hide)
    protocol: bytes
    attempt: int
    client_ip: bytes
    client_host: bytes | None = None
    salt: bytes = b""
    proxy_protocol: ProxyProtocol | None = None
    envelope: Envelope | None = None
    tls: TLS | None = None
    headers: Headers = attrs.field(default=(), repr=hide_values)


# --- the replies ---------------------------------------------------------------------------


@final
@attrs.frozen
class Allow:
    """Let him in, and go on at this server (``Auth-Status: OK``).

    ``server`` is an IP address as text, without brackets: nginx resolves no names. ``user`` and
    ``password`` replace what the client said, on the way to that server. With POP3 and IMAP a
    clear ``password`` is needed where the client gave none: after APOP, CRAM-MD5 and EXTERNAL.
    An empty ``user``, SMTP only, keeps the login out of XCLIENT.
    """

    server: bytes
    port: int
    user: bytes | None = None
    password: bytes | None = attrs.field(default=None, repr=hide)


@final
@attrs.frozen
class Deny:
    """Refuse him (any other ``Auth-Status``).

    ``message`` is what the mail client is shown, behind its protocol's own words; printable
    ASCII. ``code`` is an SMTP reply code, with or without an enhanced one: ``b"451 4.3.0"``;
    empty means nginx's ``535 5.7.0``. To IMAP and POP3 clients it is said in their own way: 4xx
    as ``[UNAVAILABLE]`` and ``[SYS/TEMP]``, 535 as ``[AUTHENTICATIONFAILED]`` and ``[AUTH]``,
    before a message that does not begin with a bracket itself. ``wait``: nginx holds the refusal
    back for so many seconds, and then lets the client try again; with 0 it closes. It is left
    out where it would do harm, see `reply_headers`. ``challenge`` is the error data of the OAuth
    methods, not yet in base64.
    """

    message: bytes
    code: bytes = b""
    wait: int = 0
    challenge: bytes | None = None


@final
@attrs.frozen
class Wait:
    """Let nginx ask the same again, after so many seconds (``Auth-Status: WAIT``); at least 1.

    Not for a request with a salt, nor for ``apop`` and ``cram-md5``: nginx would ask again
    without the digest, or crash.
    """

    seconds: int


@final
@attrs.frozen
class Malformed:
    """A request that can't be used, though it is clear where it ends.

    ``data`` is its header lines, ``reason`` says what is wrong (no part of ``data`` is in it),
    ``reply`` is what to answer; ``protocol`` as in `AuthRequest`, or empty if that can't be told.
    """

    data: bytes = attrs.field(repr=hide)
    reason: str
    reply: Deny
    protocol: bytes = b""


@final
@attrs.frozen
class ConnectionClosed:
    """The peer has closed, or the one request of this connection has been answered."""


Reply: TypeAlias = Allow | Deny | Wait
"""What a server sends."""
