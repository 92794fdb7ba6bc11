from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nginxauth as ng
from nginxauth._request import is_known

from .strategies import FIELDS, REQUEST, encoded, escaped, fields_with, requests


def parsed(fields: Any, **options: Any) -> ng.AuthRequest:
    request = ng.parse_request(fields, **options)
    assert isinstance(request, ng.AuthRequest), request
    return request


def malformed(fields: Any) -> ng.Malformed:
    event = ng.parse_request(fields)
    assert isinstance(event, ng.Malformed)
    return event


@given(requests)
def test_what_nginx_writes_is_what_comes_out(request: ng.AuthRequest) -> None:
    """For any bytes in login, password and certificate."""
    assert parsed(encoded(request), allow_controls=True) == request


@given(requests)
def test_as_asgi_has_them(request: ng.AuthRequest) -> None:
    """Names in lower case; those that are not known keep it."""
    lower = [(name.lower(), value) for name, value in encoded(request)]
    expected = attrs.evolve(
        request, headers=tuple((name.lower(), value) for name, value in request.headers)
    )
    assert parsed(lower, allow_controls=True) == expected


@given(requests)
def test_as_wsgi_has_them(request: ng.AuthRequest) -> None:
    """Any byte comes through; of two fields of one name, such a server makes one."""
    request = attrs.evolve(request, headers=request.headers[:1])
    environ: dict[str, object] = {"wsgi.version": (1, 0), "REQUEST_METHOD": "GET", "HTTP_": None}
    for name, value in encoded(request):
        key = "HTTP_" + name.decode().upper().replace("-", "_")
        environ[key] = value.decode("latin-1")
    expected = attrs.evolve(
        request, headers=tuple((name.lower(), value) for name, value in request.headers)
    )
    assert parsed(ng.environ_headers(environ), allow_controls=True) == expected


header_fields = st.tuples(
    st.sampled_from([name for name, _ in FIELDS]) | st.binary(max_size=12),
    st.binary(max_size=12) | st.sampled_from([b"external", b"none", b"on", b"SUCCESS", b"%zz"]),
)


@given(st.lists(header_fields, max_size=12), st.booleans())
def test_whatever_comes(fields: list[tuple[bytes, bytes]], allow_controls: bool) -> None:
    """It is a request, or it says what is wrong and no word of what came."""
    event = ng.parse_request(fields, allow_controls=allow_controls)
    if isinstance(event, ng.Malformed):
        assert event.reply.code in (b"451 4.3.0", b"535 5.7.8")
        assert event.data == b"".join(b"%b: %b\r\n" % field for field in fields)


def test_the_sample() -> None:
    """And Host is not in the rest."""
    assert parsed([(b"Host", b"127.0.0.1"), *FIELDS]) == REQUEST


@pytest.mark.parametrize(
    "name", ["Auth_Method", "Auth_User", "Auth_Pass", "Auth_Protocol", "Client_IP"]
)
def test_what_always_has_to_be_there(name: str) -> None:
    """Nothing is guessed."""
    event = malformed(fields_with(**{name: None}))
    assert event.reason.startswith(f"{name.title().replace('_', '-')} is missing")
    assert event.reply == ng.Deny(b"Temporary authentication failure", b"451 4.3.0")


@pytest.mark.parametrize("name", ["Auth_Method", "Auth_Protocol", "Client_IP"])
def test_what_has_to_be_something(name: str) -> None:
    """An empty login or password is one; these are not."""
    assert "is missing or empty" in malformed(fields_with(**{name: b" "})).reason
    assert parsed(fields_with(Auth_User=b"", Auth_Pass=b"")).user == b""


def test_what_may_be_missing() -> None:
    """Dovecot's Lua scripts count no attempts; IMAP and POP3 have no Client-Host."""
    request = parsed(fields_with(Auth_Login_Attempt=None, Client_Host=None, X_Auth_Key=None))
    assert request.attempt == 0
    assert request.client_host is None
    assert request.headers == ()


@pytest.mark.parametrize("name", [b"auth-user", b"AUTH-PASS", b"Client-IP", b"host"])
def test_a_field_that_is_there_twice(name: bytes) -> None:
    """Who knows which of them a client has smuggled in."""
    for fields in (
        [*FIELDS, (b"Host", b"a"), (name, b"other")],
        [(name, b"a"), (name, b"a"), (name, b"a"), *FIELDS],  # before the protocol is
    ):
        event = malformed(fields)
        assert event.protocol == b"smtp"
        assert event.reason == f"{name.decode().title()} is there twice"
    assert malformed([(name, b"a"), (name, b"a")]).protocol == b""


def test_a_protocol_that_is_there_twice() -> None:
    """Is none; of several fields the first is named."""
    event = malformed([*FIELDS, (b"auth-protocol", b"imap"), (b"auth-user", b"eve")])
    assert event.protocol == b""
    assert event.reason == "Auth-Protocol is there twice"


def test_other_fields_may_be_there_twice() -> None:
    """They are the user's; in their order, and as they came."""
    more = ((b"x-b", b"1"), (b"X-A", b" 2"), (b"x-b", b"3"))
    assert parsed([*FIELDS, *more]).headers == (*REQUEST.headers, *more)


@pytest.mark.parametrize("name", ["Auth_User", "Auth_Pass"])
@pytest.mark.parametrize("value", [b"100%", b"%4", b"%zz"])
def test_a_wrong_escape(name: str, value: bytes) -> None:
    """No nginx sends it."""
    event = malformed(fields_with(**{name: value}))
    assert event.reason.endswith("has a % without two hexadecimal digits")
    assert event.reason.startswith(name.replace("_", "-"))


@pytest.mark.parametrize("name", ["Auth_User", "Auth_Pass"])
@pytest.mark.parametrize("value", [b"%00", b"a%0D%0AQUIT", b"%1f", b"\x7f", b"\x01", b"a\f"])
def test_a_control_byte(name: str, value: bytes) -> None:
    """Refused, unless one is sure that nothing behind takes it for an end of line."""
    event = malformed(fields_with(**{name: value}))
    assert event.reason == f"{name.replace('_', '-')} has a control byte"
    assert event.reply == ng.Deny(b"Authentication failed", b"535 5.7.8")
    assert event.protocol == b"smtp"
    assert parsed(fields_with(**{name: value}), allow_controls=True).method == b"plain"


def test_text_of_other_languages_is_no_control_byte() -> None:
    """In whatever encoding."""
    assert parsed(fields_with(Auth_Pass=b"\x80\xff\xc3\xa4")).password == b"\x80\xff\xc3\xa4"


def test_letter_case() -> None:
    """nginx writes lower case, others what they like. OK is not ok."""
    request = parsed(fields_with(Auth_Method=b"PLAIN", Auth_Protocol=b"IMAP"))
    assert (request.method, request.protocol) == (b"plain", b"imap")


@pytest.mark.parametrize("method", [b"none", b"NONE"])
def test_none_has_neither_login_nor_password(method: bytes) -> None:
    """Those of an earlier attempt are not his who sends mail now; not even looked at."""
    fields = {**ENVELOPE, "Auth_Method": method, "Auth_User": b"u%0A", "Auth_Pass": b"p%00"}
    request = parsed(fields_with(**fields))
    assert (request.user, request.password) == (b"", b"")


CERTIFICATE = {"Auth_Method": b"external", "Auth_SSL": b"on", "Auth_SSL_Verify": b"SUCCESS"}


def test_external_has_no_password() -> None:
    """nginx up to 1.31.5 sends that of an attempt before."""
    request = parsed(fields_with(**CERTIFICATE))
    assert (request.user, request.password) == (b"user@ex.com", b"")


@pytest.mark.parametrize(
    "change",
    [
        {"Auth_SSL_Verify": b"NONE"},
        {"Auth_SSL_Verify": b"FAILED:certificate has expired"},
        {"Auth_SSL_Verify": b"success"},
        {"Auth_SSL_Verify": b"SUCCESS:almost"},
        {"Auth_SSL_Verify": b""},
        {"Auth_SSL_Verify": None},
        {"Auth_SSL": None},
        {"Auth_SSL": b"off"},
    ],
)
@pytest.mark.parametrize("method", [b"external", b"External"])
def test_external_without_a_verified_certificate(
    change: dict[str, bytes | None], method: bytes
) -> None:
    """Anybody can say that, whether it is offered or not."""
    event = malformed(fields_with(**{**CERTIFICATE, "Auth_Method": method, **change}))
    assert event.reason == "EXTERNAL without a certificate that nginx has verified"
    assert event.reply == ng.Deny(b"Authentication failed", b"535 5.7.8")


@pytest.mark.parametrize("value", [b"0", b"", b"-1", b"+1", b"1x", b"01", b"1_0", b"1" * 11])
def test_an_attempt_that_is_no_number(value: bytes) -> None:
    """From 1, as nginx counts."""
    event = malformed(fields_with(Auth_Login_Attempt=value))
    assert event.reason == "Auth-Login-Attempt is not such a number as it should be"


PROXY = {
    "Proxy_Protocol_Addr": b"192.0.2.9",
    "Proxy_Protocol_Port": b"5555",
    "Proxy_Protocol_Server_Addr": b"198.51.100.4",
    "Proxy_Protocol_Server_Port": b"0",
}


def test_the_proxy_protocol() -> None:
    """All four, or none."""
    request = parsed(fields_with(**PROXY))
    assert request.proxy_protocol == ng.ProxyProtocol(b"192.0.2.9", 5555, b"198.51.100.4", 0)
    for name in PROXY:
        assert "one is missing" in malformed(fields_with(**{**PROXY, name: None})).reason


@pytest.mark.parametrize("name", ["Proxy_Protocol_Port", "Proxy_Protocol_Server_Port"])
def test_a_port_that_is_no_number(name: str) -> None:
    """Whoever sent it."""
    event = malformed(fields_with(**{**PROXY, name: b"x"}))
    assert event.reason.startswith(name.replace("_", "-"))


ENVELOPE = {
    "Auth_Method": b"none",
    "Auth_SMTP_Helo": b"",
    "Auth_SMTP_From": b"MAIL FROM:<a@b> SIZE=10",
    "Auth_SMTP_To": b"rcpt to: <c@d>\t",
}


def test_the_envelope() -> None:
    """The HELO may be empty."""
    request = parsed(fields_with(**ENVELOPE))
    assert request.envelope == ng.Envelope(b"", b"MAIL FROM:<a@b> SIZE=10", b"rcpt to: <c@d>")
    for name in list(ENVELOPE)[1:]:
        assert "one is missing" in malformed(fields_with(**{**ENVELOPE, name: None})).reason
    assert "one is missing" in malformed(fields_with(Auth_Method=b"none")).reason


@pytest.mark.parametrize("method", [b"apop", b"CRAM-MD5"])
@pytest.mark.parametrize("salt", [None, b"", b" "])
def test_a_digest_without_a_salt(method: bytes, salt: bytes | None) -> None:
    """Proves nothing, and nginx always has one."""
    event = malformed(fields_with(Auth_Method=method, Auth_Salt=salt))
    assert event.reason.startswith("Auth-Salt is missing or empty")
    assert event.reply == ng.Deny(b"Temporary authentication failure", b"451 4.3.0")


def test_tls() -> None:
    """Escapes are in the certificate only, and all but the first may be missing."""
    pem = b"-----BEGIN CERTIFICATE-----\nMIIB+/=\n-----END CERTIFICATE-----\n"
    request = parsed(
        fields_with(
            Auth_SSL=b"on",
            Auth_SSL_Protocol=b"TLSv1.3",
            Auth_SSL_Cipher=b"TLS_AES_256_GCM_SHA384",
            Auth_SSL_Verify=b"NONE",
            Auth_SSL_Subject=b"CN=100%20,O=Ex\\, Inc",
            Auth_SSL_Issuer=b"CN=ca",
            Auth_SSL_Serial=b"0A",
            Auth_SSL_Fingerprint=b"ab12",
            Auth_SSL_Cert=escaped(pem),
        )
    )
    assert request.tls == ng.TLS(
        b"TLSv1.3", b"TLS_AES_256_GCM_SHA384", b"NONE", b"CN=100%20,O=Ex\\, Inc", b"CN=ca",
        b"0A", b"ab12", pem,
    )  # fmt: skip
    assert parsed(fields_with(Auth_SSL=b"on")).tls == ng.TLS()
    assert parsed(fields_with(Auth_SSL_Verify=b"SUCCESS")).tls is None
    assert "Auth-Ssl-Cert" in malformed(fields_with(Auth_SSL=b"on", Auth_SSL_Cert=b"%")).reason


@pytest.mark.parametrize("field", [("Auth-User", b"x"), (b"Auth-User", "x")])
def test_fields_that_are_not_bytes(field: Any) -> None:
    """What text a framework made of them is anybody's guess."""
    with pytest.raises(ng.LocalProtocolError, match="have to be bytes"):
        ng.parse_request([field])


@pytest.mark.parametrize(
    "headers", [None, 7, [(b"a",)], [(b"a", b"b", b"c")], [None], [7], [b"abc"]], ids=repr
)
def test_headers_that_are_no_pairs(headers: Any) -> None:
    """Whoever made them."""
    with pytest.raises(ng.LocalProtocolError, match="have to be pairs of bytes"):
        ng.parse_request(headers)


@pytest.mark.parametrize("environ", [{"HTTP_A": "\u20ac"}, {"HTTP_\u20ac": "a"}], ids=ascii)
def test_an_environment_that_is_not_wsgi_s(environ: dict[str, object]) -> None:
    """Somebody has decoded what was there; it is not shown."""
    with pytest.raises(ng.LocalProtocolError, match="a header that is no latin-1") as caught:
        ng.environ_headers(environ)
    assert caught.value.__cause__ is None


def test_the_names_that_are_nginx_own() -> None:
    """In any case."""
    assert is_known(b"Host")
    assert is_known(b"auth-SSL-cert")
    assert not is_known(b"X-Auth-Key")
