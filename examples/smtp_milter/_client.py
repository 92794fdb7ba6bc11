"""Who the client is, and the four ways to tell a gateway."""

from __future__ import annotations

import email.utils
import ipaddress
import re
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias, final

import attrs

from nginxauth import LocalProtocolError
from nginxauth import xclient as xc

_PORT: Final = re.compile(rb"[0-9]{1,5}")
# What may stand in a Received field as a word of its own, without quotes and comments.
_UNPLAIN: Final = re.compile(rb"[^!#-'*+./-9:=?A-Z\[\]^-~_]")
_V2: Final = b"\r\n\r\n\0\r\nQUIT\n"

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


@final
@attrs.frozen
class Client:
    """``ip`` is None for mail that came by no network; ``macros`` are the MTA's of that moment."""

    hostname: bytes = b"unknown"
    ip: Address | None = None
    port: int = 0
    helo: bytes = b""
    login: bytes = b""
    macros: Mapping[bytes, bytes] = attrs.field(factory=dict, repr=False)

    def xclient(self) -> xc.XClient:
        """For a gateway that takes XCLIENT: from then on it sees this client, and not us."""
        return xc.XClient(
            name=self._name(self.hostname),
            reverse_name=self._name(self.macros.get(b"{client_ptr}", b"")),
            port=self.port or xc.UNAVAILABLE,
            destaddr=self._destination(b"{daemon_addr}"),
            destport=self._destination_port,
            addr=_text(self.ip),
            login=self.login or xc.UNAVAILABLE,
            helo=_sendable(self.helo, b"HELO"),
            proto=b"ESMTP",
        )

    def xforward(self, ident: bytes) -> xc.XForward:
        """For one message, and for the log. ``ident`` is what the gateway may call it."""
        name = self._name(self.hostname)
        return xc.XForward(
            name=xc.UNAVAILABLE if name is xc.TEMPUNAVAIL else name,
            addr=_text(self.ip),
            port=self.port or xc.UNAVAILABLE,
            proto=b"ESMTP",
            helo=_sendable(self.helo, b"HELO"),
            ident=ident,
            source=b"REMOTE",
        )

    def proxy_v1(self) -> bytes:
        """A line of the PROXY protocol, before the gateway's greeting."""
        ends = self._ends()
        if ends is None:
            return b"PROXY UNKNOWN\r\n"
        source, destination, ports = ends
        return (
            f"PROXY TCP{source.version} {source} {destination} {ports[0]} {ports[1]}\r\n".encode()
        )

    def proxy_v2(self) -> bytes:
        """The same in version 2."""
        ends = self._ends()
        if ends is None:
            return _V2 + b"\x20\x00\x00\x00"  # LOCAL: as if there were no proxy
        source, destination, ports = ends
        family = b"\x11" if source.version == 4 else b"\x21"
        body = source.packed + destination.packed
        body += b"".join(port.to_bytes(2, "big") for port in ports)
        return _V2 + b"\x21" + family + len(body).to_bytes(2, "big") + body

    def received(self, now: float) -> bytes:
        """A Received field, without line end, as the MTA would write it; seconds since 1970."""
        # Postfix tells an address in brackets where there is no name.
        name = b"unknown" if self.hostname.startswith(b"[") else _plain(self.hostname)
        helo, host = _plain(self.helo), _plain(self.macros.get(b"j", b"localhost"))
        ip = b"unknown" if self.ip is None else str(self.ip).encode()
        literal = b"IPv6:" + ip if self.ip is not None and self.ip.version == 6 else ip
        lines = [b"Received: from %b (%b [%b])" % (helo or literal, name, literal)]
        protocol = b"ESMTP"
        if tls := self.macros.get(b"{tls_version}"):
            cipher = self.macros.get(b"{cipher}", b"")
            lines.append(b"(using %b with cipher %b)" % (_plain(tls), _plain(cipher)))
            protocol += b"S"
        if self.login:
            lines.append(b"(Authenticated sender: %b)" % _plain(self.login))
            protocol += b"A"
        lines.append(b"by %b with %b; " % (host, protocol) + email.utils.formatdate(now).encode())
        return b"\r\n\t".join(lines)

    # --- pieces ----------------------------------------------------------------------------

    def _name(self, name: bytes) -> xc.Name:
        if name != b"unknown" and _sendable(name, b"NAME") is name:
            return name
        resolved = self.macros.get(b"{client_resolve}", b"")
        return xc.TEMPUNAVAIL if resolved == b"TEMP" else xc.UNAVAILABLE

    def _destination(self, name: bytes) -> xc.Text:
        try:
            return _text(ipaddress.ip_address(self.macros.get(name, b"").decode("ascii")))
        except ValueError:
            return None

    @property
    def _destination_port(self) -> int | None:
        port = self.macros.get(b"{daemon_port}", b"")
        return int(port) if _PORT.fullmatch(port) else None

    def _ends(self) -> tuple[Address, Address, tuple[int, int]] | None:
        """Both ends of the client's connection, of one family."""
        if self.ip is None:
            return None
        here = self._destination(b"{daemon_addr}")
        unspecified = "0.0.0.0" if self.ip.version == 4 else "::"
        destination = ipaddress.ip_address(
            here.decode() if isinstance(here, bytes) else unspecified
        )
        if destination.version != self.ip.version:
            destination = ipaddress.ip_address(unspecified)
        return self.ip, destination, (self.port, (self._destination_port or 0) & 0xFFFF)


def _text(ip: Address | None) -> xc.Text:
    return xc.UNAVAILABLE if ip is None else str(ip).encode()


def _plain(text: bytes) -> bytes:
    return _UNPLAIN.sub(b"?", text)


def _sendable(value: bytes, attribute: bytes) -> bytes | Literal[xc.Special.UNAVAILABLE]:
    """The value, or UNAVAILABLE for what Postfix would not take."""
    command = xc.XForward(name=value) if attribute == b"NAME" else xc.XForward(helo=value)
    try:
        xc.plan(command, xc.Offer(xforward=(attribute,)))
    except LocalProtocolError:
        return xc.UNAVAILABLE
    return value
