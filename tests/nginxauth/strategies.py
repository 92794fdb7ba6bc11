"""What hypothesis draws from, and the wire's side of a request, written from the reference."""

from __future__ import annotations

import itertools
import string

import attrs
from hypothesis import strategies as st

import nginxauth as ng

HEAD = b"GET /auth?a=b HTTP/1.0\r\nHost: 127.0.0.1\r\n"
FIELDS = (
    (b"Auth-Method", b"plain"),
    (b"Auth-User", b"user@ex.com"),
    (b"Auth-Pass", b"p%20a%25ss"),
    (b"Auth-Protocol", b"smtp"),
    (b"Auth-Login-Attempt", b"1"),
    (b"Client-IP", b"192.0.2.42"),
    (b"Client-Host", b"[UNAVAILABLE]"),
    (b"X-Auth-Key", b"s3cret value"),
)
REQUEST = ng.AuthRequest(
    b"plain",
    b"user@ex.com",
    b"p a%ss",
    b"smtp",
    1,
    b"192.0.2.42",
    b"[UNAVAILABLE]",
    headers=((b"X-Auth-Key", b"s3cret value"),),
)


def fields_with(**changes: bytes | None) -> list[tuple[bytes, bytes]]:
    """The fields above, changed, or without those that are None; ``Client_IP`` for Client-IP."""
    fields: dict[bytes, bytes | None] = dict(FIELDS)
    fields.update({name.replace("_", "-").encode(): value for name, value in changes.items()})
    return [(name, value) for name, value in fields.items() if value is not None]


def wire(fields: ng.Headers | list[tuple[bytes, bytes]]) -> bytes:
    """A whole request."""
    return HEAD + b"".join(b"%b: %b\r\n" % field for field in fields) + b"\r\n"


def escaped(text: bytes) -> bytes:
    """As nginx does it, byte by byte."""
    return b"".join(
        b"%%%02X" % byte if byte <= 0x20 or byte == 0x25 else bytes([byte]) for byte in text
    )


def encoded(request: ng.AuthRequest) -> list[tuple[bytes, bytes]]:
    """The fields of a request, in nginx's order."""
    fields = [
        (b"Auth-Method", request.method),
        (b"Auth-User", escaped(request.user)),
        (b"Auth-Pass", escaped(request.password)),
    ]
    if request.salt:
        fields.append((b"Auth-Salt", request.salt))
    fields += [
        (b"Auth-Protocol", request.protocol),
        (b"Auth-Login-Attempt", b"%d" % request.attempt),
        (b"Client-IP", request.client_ip),
    ]
    if request.client_host is not None:
        fields.append((b"Client-Host", request.client_host))
    if (proxy := request.proxy_protocol) is not None:
        fields += [
            (b"Proxy-Protocol-Addr", proxy.address),
            (b"Proxy-Protocol-Port", b"%d" % proxy.port),
            (b"Proxy-Protocol-Server-Addr", proxy.server_address),
            (b"Proxy-Protocol-Server-Port", b"%d" % proxy.server_port),
        ]
    if (envelope := request.envelope) is not None:
        fields += [
            (b"Auth-SMTP-Helo", envelope.helo),
            (b"Auth-SMTP-From", envelope.mail),
            (b"Auth-SMTP-To", envelope.rcpt),
        ]
    if (tls := request.tls) is not None:
        fields.append((b"Auth-SSL", b"on"))
        names = (b"Protocol", b"Cipher", b"Verify", b"Subject", b"Issuer", b"Serial")
        values = attrs.astuple(tls)
        for name, value in zip((*names, b"Fingerprint"), values, strict=False):
            if value:
                fields.append((b"Auth-SSL-" + name, value))
        if tls.certificate:
            fields.append((b"Auth-SSL-Cert", escaped(tls.certificate)))
    return fields + list(request.headers)


words = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=12).map(str.encode)
# What a header's value may hold, for h11: no NUL, VT, FF, CR, LF, and no blank at its edges.
values = st.binary(max_size=20).map(
    lambda data: bytes(byte for byte in data if byte not in b"\0\n\v\f\r").strip(b" \t")
)
credentials = st.binary(max_size=20)
clean = credentials.map(lambda data: bytes(byte for byte in data if 0x20 <= byte != 0x7F))
replacements = clean.map(bytes.strip)
ports = st.integers(0, 65535)
names = st.text(string.ascii_letters + string.digits + "-", min_size=1, max_size=8).map(
    lambda name: b"X-" + name.encode()
)
tls = st.builds(
    ng.TLS, words, words, st.sampled_from([b"NONE", b"SUCCESS", b"FAILED:x"]), values, values,
    words, words, credentials,
)  # fmt: skip
SALT = b"<1.2@mx.test>"
# One that nginx would send; a digest has its salt.
requests = st.builds(
    ng.AuthRequest,
    method=st.sampled_from([ng.PLAIN, ng.APOP, ng.CRAM_MD5, ng.XOAUTH2, ng.OAUTHBEARER, b"new"]),
    user=credentials,
    password=credentials,
    protocol=st.sampled_from([b"smtp", b"imap", b"pop3"]),
    attempt=st.integers(1, 10**10 - 1),
    client_ip=st.sampled_from([b"192.0.2.1", b"2001:db8::1", b"unix:"]),
    client_host=st.none() | st.sampled_from([b"[UNAVAILABLE]", b"client.test"]),
    salt=st.sampled_from([b"", SALT]),
    proxy_protocol=st.none() | st.builds(ng.ProxyProtocol, words, ports, words, ports),
    envelope=st.none() | st.builds(ng.Envelope, values, values, values),
    tls=st.none() | tls,
    headers=st.lists(st.tuples(names, values), max_size=3).map(tuple),
).map(lambda one: attrs.evolve(one, salt=SALT) if one.method in (ng.APOP, ng.CRAM_MD5) else one)

allows = st.builds(
    ng.Allow,
    st.sampled_from([b"192.0.2.7", b"::1", b"2001:db8::7"]),
    st.integers(1, 65535),
    st.none() | replacements,
    st.none() | replacements,
)
codes = st.sampled_from([b"", b"451 4.3.0", b"535", b"535 5.7.8", b"550 5.7.1"])
messages = st.text(string.printable[:94] + " ", min_size=1, max_size=40).map(
    lambda text: (text.strip() or "x").encode()
)
denials = st.builds(ng.Deny, messages, codes, st.integers(0, ng.MAX_WAIT))
replies = st.one_of(allows, denials, st.builds(ng.Wait, st.integers(1, ng.MAX_WAIT)))


def pieces(data: bytes) -> st.SearchStrategy[list[bytes]]:
    """All ways to cut bytes into pieces, none empty."""
    cuts = st.lists(st.integers(1, max(len(data) - 1, 1)), max_size=12).map(
        lambda places: sorted({0, *(place for place in places if place < len(data)), len(data)})
    )
    return cuts.map(lambda places: [data[a:b] for a, b in itertools.pairwise(places)])
