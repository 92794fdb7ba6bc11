from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nginxauth as ng
from nginxauth._encode_request import check_target, encode_request

from . import strategies as s
from .strategies import REQUEST

ENVELOPE = ng.Envelope(b"cli.example", b"MAIL FROM:<a@b> SIZE=10", b"rcpt to: <c@d> NOTIFY=NEVER")
PROXY = ng.ProxyProtocol(b"192.0.2.9", 5555, b"198.51.100.4", 25)
NONE = ng.AuthRequest(
    b"none", b"", b"", b"smtp", 1, b"192.0.2.9", b"[UNAVAILABLE]",
    proxy_protocol=PROXY, envelope=ENVELOPE,
)  # fmt: skip
CERTIFICATE = ng.TLS(
    b"TLSv1.3", b"TLS_AES_256_GCM_SHA384", b"SUCCESS", rb"CN=client test,O=Ex\, Inc,C=DE",
    b"CN=CA", b"7E59", b"a7e1", b"-----BEGIN CERTIFICATE-----\nMIIB\n",
)  # fmt: skip


def lines(request: Any) -> list[bytes]:
    return encode_request(request, b"127.0.0.1", b"/auth?a=b").split(b"\r\n")


def test_a_login() -> None:
    """As nginx wrote it, with the addresses and keys of the reference."""
    assert encode_request(REQUEST, b"127.0.0.1", b"/auth?a=b") == (
        b"GET /auth?a=b HTTP/1.0\r\n"
        b"Host: 127.0.0.1\r\n"
        b"Auth-Method: plain\r\n"
        b"Auth-User: user@ex.com\r\n"
        b"Auth-Pass: p%20a%25ss\r\n"
        b"Auth-Protocol: smtp\r\n"
        b"Auth-Login-Attempt: 1\r\n"
        b"Client-IP: 192.0.2.42\r\n"
        b"Client-Host: [UNAVAILABLE]\r\n"
        b"X-Auth-Key: s3cret value\r\n"
        b"\r\n"
    )


def test_a_mail_that_nobody_logged_in_for() -> None:
    """Likewise; the letter case is the client's."""
    assert encode_request(NONE, b"127.0.0.1", b"/auth") == (
        b"GET /auth HTTP/1.0\r\n"
        b"Host: 127.0.0.1\r\n"
        b"Auth-Method: none\r\n"
        b"Auth-User: \r\n"
        b"Auth-Pass: \r\n"
        b"Auth-Protocol: smtp\r\n"
        b"Auth-Login-Attempt: 1\r\n"
        b"Client-IP: 192.0.2.9\r\n"
        b"Client-Host: [UNAVAILABLE]\r\n"
        b"Proxy-Protocol-Addr: 192.0.2.9\r\n"
        b"Proxy-Protocol-Port: 5555\r\n"
        b"Proxy-Protocol-Server-Addr: 198.51.100.4\r\n"
        b"Proxy-Protocol-Server-Port: 25\r\n"
        b"Auth-SMTP-Helo: cli.example\r\n"
        b"Auth-SMTP-From: MAIL FROM:<a@b> SIZE=10\r\n"
        b"Auth-SMTP-To: rcpt to: <c@d> NOTIFY=NEVER\r\n"
        b"\r\n"
    )


def test_a_digest_and_its_salt() -> None:
    """The salt follows the digest, and there is no Client-Host but with SMTP."""
    request = ng.AuthRequest(
        b"apop", b"ann", b"0f" * 16, b"pop3", 2, b"::1", salt=b"<1034722327.1795476678@mx.test>"
    )
    assert lines(request)[2:] == [
        b"Auth-Method: apop",
        b"Auth-User: ann",
        b"Auth-Pass: 0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f",
        b"Auth-Salt: <1034722327.1795476678@mx.test>",
        b"Auth-Protocol: pop3",
        b"Auth-Login-Attempt: 2",
        b"Client-IP: ::1",
        b"",
        b"",
    ]


def test_tls() -> None:
    """What is empty is left out; the certificate has nginx's escapes."""
    plain = attrs.evolve(REQUEST, headers=(), client_host=None)
    assert lines(attrs.evolve(plain, tls=ng.TLS()))[-3:] == [b"Auth-SSL: on", b"", b""]
    assert lines(attrs.evolve(plain, tls=CERTIFICATE))[-11:] == [
        b"Auth-SSL: on",
        b"Auth-SSL-Protocol: TLSv1.3",
        b"Auth-SSL-Cipher: TLS_AES_256_GCM_SHA384",
        b"Auth-SSL-Verify: SUCCESS",
        rb"Auth-SSL-Subject: CN=client test,O=Ex\, Inc,C=DE",
        b"Auth-SSL-Issuer: CN=CA",
        b"Auth-SSL-Serial: 7E59",
        b"Auth-SSL-Fingerprint: a7e1",
        b"Auth-SSL-Cert: -----BEGIN%20CERTIFICATE-----%0AMIIB%0A",
        b"",
        b"",
    ]


def test_the_last_attempt() -> None:
    """Has ten digits, which is more than a 32-bit nginx can count."""
    line = b"Auth-Login-Attempt: 9999999999"
    assert line in lines(attrs.evolve(REQUEST, attempt=10**10 - 1))


def test_escapes() -> None:
    """Of 00 to 1F, 20 and 25, and of nothing else."""
    every = bytes(range(256))
    (line,) = (one for one in lines(attrs.evolve(REQUEST, user=every)) if b"Auth-User" in one)
    expected = b"".join(
        b"%%%02X" % byte if byte < 0x21 or byte == 0x25 else bytes((byte,)) for byte in every
    )
    assert line == b"Auth-User: " + expected


def changed(event: Any, **fields: Any) -> Any:
    """Whatever the types are."""
    return attrs.evolve(event, **fields)


BAD_TEXT = "NUL, CR or LF in it, or white space at its edge"


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        *(
            (changed(REQUEST, client_ip=value), f"client_ip has {BAD_TEXT}")
            for value in (b"a\nb", b"a\rb", b"a\0b", b" a", b"a ", b"\ta", b"a\t")
        ),
        (changed(REQUEST, client_ip=b""), "client_ip is empty"),
        (changed(REQUEST, client_ip="::1"), "client_ip has to be bytes"),
        (changed(REQUEST, client_host=b""), "client_host is empty"),
        (changed(REQUEST, client_host=b"a\nb"), f"client_host has {BAD_TEXT}"),
        (changed(REQUEST, user="ann"), "user has to be bytes"),
        (changed(REQUEST, password=None), "password has to be bytes"),
        (changed(REQUEST, method=b""), "method has to be bytes, printable"),
        (changed(REQUEST, method=b"Plain"), "method has to be bytes, printable"),
        (changed(REQUEST, method="plain"), "method has to be bytes, printable"),
        (changed(REQUEST, protocol=b"im ap"), "protocol has to be bytes, printable"),
        (changed(REQUEST, attempt=0), "attempt has to be a number from 1"),
        (changed(REQUEST, attempt=True), "attempt has to be a number from 1"),
        (changed(REQUEST, attempt=10**10), "attempt has to be a number from 1"),
        (changed(REQUEST, salt=b"<1@mx>"), "a salt does not go with the method plain"),
        (changed(REQUEST, method=b"apop"), "apop and cram-md5 go with a salt"),
        (changed(REQUEST, method=b"cram-md5"), "apop and cram-md5 go with a salt"),
        (changed(REQUEST, method=b"apop", salt=b"a\0"), f"salt has {BAD_TEXT}"),
        (changed(REQUEST, envelope=ENVELOPE), "an envelope goes with the method none"),
        (changed(NONE, envelope=None), "an envelope goes with the method none"),
        (changed(NONE, envelope=b"x"), "envelope has to be a Envelope"),
        *(
            (changed(NONE, envelope=changed(ENVELOPE, **{key: b"a\0b"})), f"{key} has ")
            for key in ("helo", "mail", "rcpt")
        ),
        (changed(NONE, proxy_protocol=b"x"), "proxy_protocol has to be a ProxyProtocol"),
        *(
            (changed(NONE, proxy_protocol=changed(PROXY, **change)), reason)
            for change, reason in (
                ({"address": b""}, "address is empty"),
                ({"port": 65536}, "port has to be a number from 0"),
                ({"server_address": b"a\n"}, "server_address has "),
                ({"server_port": -1}, "server_port has to be a number from 0"),
                ({"server_port": 65536}, "server_port has to be a number from 0"),
                ({"server_port": "25"}, "server_port has to be a number from 0"),
            )
        ),
        (changed(REQUEST, tls=True), "tls has to be a TLS"),
        *(
            (changed(REQUEST, tls=changed(CERTIFICATE, **{name: b"a\nb"})), f"{name} has")
            for name in ("protocol", "cipher", "verify", "subject", "issuer", "serial")
        ),
        (
            changed(REQUEST, tls=changed(CERTIFICATE, fingerprint=b" ")),
            "fingerprint has",
        ),
        (
            changed(REQUEST, tls=changed(CERTIFICATE, certificate=None)),
            "certificate has to be bytes",
        ),
        (changed(REQUEST, headers=[]), "the headers have to be a tuple"),
        (changed(REQUEST, headers=(b"X: y",)), "a header has to be a pair of bytes"),
        (changed(REQUEST, headers=((b"X",),)), "a header has to be a pair of bytes"),
        (changed(REQUEST, headers=((b"", b"x"),)), "a header has to be a pair of bytes"),
        (changed(REQUEST, headers=((b"X:", b"x"),)), "a header has to be a pair of bytes"),
        (changed(REQUEST, headers=(("X", b"x"),)), "a header has to be a pair of bytes"),
        (changed(REQUEST, headers=((b"X", "x"),)), "headers has to be bytes"),
        (changed(REQUEST, headers=((b"X", b"x\n"),)), f"headers has {BAD_TEXT}"),
        *(
            (changed(REQUEST, headers=((name, b"x"),)), "a name that is nginx's own")
            for name in (b"Host", b"AUTH-USER", b"auth-ssl-cert", b"Proxy-Protocol-Port")
        ),
        (None, "NoneType(...) is no request"),
        (ng.Wait(1), "Wait(...) is no request"),
    ],
)  # fmt: skip
def test_what_can_not_be_sent(request_: Any, reason: str) -> None:
    """The field is named, and no value is shown."""
    with pytest.raises(ng.LocalProtocolError) as caught:
        lines(request_)
    assert reason in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("host", [b"", b"a b", b"a\nb", b"a\0", "localhost", b"a\x7f"])
def test_a_host_that_none_can_have(host: Any) -> None:
    """It has to stand in one line, and is bytes."""
    with pytest.raises(ng.LocalProtocolError, match="the host has to be bytes"):
        check_target(host, b"/")


@pytest.mark.parametrize("uri", [b"", b"auth", b"/a b", b"/a\r\n", "/"])
def test_a_uri_that_none_can_have(uri: Any) -> None:
    """Likewise, and it begins with a slash."""
    with pytest.raises(ng.LocalProtocolError, match="the URI has to be bytes"):
        check_target(b"localhost", uri)


def as_nginx(request: ng.AuthRequest) -> ng.AuthRequest:
    """With what goes together, and with nothing that our server takes for an attack."""
    if request.method in (ng.APOP, ng.CRAM_MD5):
        request = attrs.evolve(request, salt=b"<1.2@mx.test>")
    if request.method == ng.PLAIN:
        request = attrs.evolve(request, salt=b"")
    proxy = request.proxy_protocol
    if proxy is not None:
        proxy = attrs.evolve(proxy, address=proxy.address or b"x")
        proxy = attrs.evolve(proxy, server_address=proxy.server_address or b"x")
    return attrs.evolve(request, envelope=None, proxy_protocol=proxy)


def test_a_host_and_a_uri() -> None:
    """As nginx's configuration may have them."""
    for host in (b"localhost", b"192.0.2.1", b"[::1]", b"\xc3\xa9"):
        for uri in (b"/", b"/auth?a=%20&b", b"/\xc3\xa9"):
            check_target(host, uri)


@given(s.requests.map(as_nginx))
def test_our_server_reads_what_was_written(request: ng.AuthRequest) -> None:
    """And so is the rest of it, as the reference has it."""
    server = ng.ServerConnection(allow_controls=True)
    data = encode_request(request, b"127.0.0.1", b"/auth?a=b")
    assert data == s.wire(s.encoded(request))
    server.receive_data(data)
    assert server.next_event() == request


@given(s.values, s.values, s.values, st.sampled_from([b"", b"<1@mx>"]))
def test_our_server_reads_an_envelope(helo: bytes, mail: bytes, rcpt: bytes, salt: bytes) -> None:
    """Likewise; a salt is left of an earlier attempt."""
    request = attrs.evolve(NONE, envelope=ng.Envelope(helo, mail, rcpt), salt=salt)
    server = ng.ServerConnection()
    server.receive_data(encode_request(request, b"::1", b"/"))
    assert server.next_event() == request
