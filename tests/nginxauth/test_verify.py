import hashlib
import hmac
from typing import Any

import attrs
import pytest

import nginxauth as ng

from .strategies import REQUEST

MALFORMED = ng.Malformed(b"", "broken", ng.Deny(b"no"))


def asked(method: bytes, password: bytes, salt: bytes = b"") -> ng.AuthRequest:
    return attrs.evolve(REQUEST, method=method, password=password, salt=salt)


APOP = (b"<1896.697170952@dbc.mtview.ca.us>", b"tanstaaf", b"c4c9334bac560ecc979e58001b3e22fb")
CRAM_MD5 = (
    b"<1896.697170952@postoffice.reston.mci.net>",
    b"tanstaaftanstaaf",
    b"b913a602c7eda7a495b4e6e7334d3890",
)


@pytest.mark.parametrize(
    ("method", "example"), [(ng.APOP, APOP), (ng.CRAM_MD5, CRAM_MD5)], ids=["apop", "cram-md5"]
)
def test_the_examples_of_the_rfcs(method: bytes, example: tuple[bytes, bytes, bytes]) -> None:
    """RFC 1939, 7 and RFC 2195, 2."""
    salt, password, digest = example
    assert ng.verify(asked(method, digest, salt), password)
    assert not ng.verify(asked(method, digest, salt), password + b"x")
    assert not ng.verify(asked(method, digest, salt + b"x"), password)
    assert not ng.verify(asked(method, b"", salt), password)
    assert not ng.verify(asked(method, password, salt), password)


@pytest.mark.parametrize("method", [ng.APOP, ng.CRAM_MD5])
def test_a_digest_without_a_salt(method: bytes) -> None:
    """It would be the same each time, for whoever has seen it once."""
    password = b"tanstaaf"
    digest = {
        ng.APOP: hashlib.md5(password).hexdigest(),
        ng.CRAM_MD5: hmac.new(password, b"", "md5").hexdigest(),
    }[method]
    assert not ng.verify(asked(method, digest.encode()), password)


@pytest.mark.parametrize("method", [b"plain", b"login"])
def test_a_clear_password(method: bytes) -> None:
    """To the byte."""
    assert ng.verify(asked(method, b"p\xc3\xa4ss"), b"p\xc3\xa4ss")
    assert not ng.verify(asked(method, b"pass "), b"pass")


@pytest.mark.parametrize("method", [ng.EXTERNAL, ng.NONE, ng.XOAUTH2, ng.OAUTHBEARER, b"new"])
def test_other_methods_prove_nothing_of_a_password(method: bytes) -> None:
    """A token is none, and nothing is no proof of an empty one."""
    assert not ng.verify(asked(method, b"x"), b"x")
    assert not ng.verify(asked(method, b""), b"")


def test_a_password_that_is_not_bytes() -> None:
    """Says so, and not what it is."""
    with pytest.raises(ng.LocalProtocolError, match="has to be bytes") as caught:
        ng.verify(REQUEST, "s3cret")  # type: ignore[arg-type]
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("headers", "there"),
    [
        (((b"X-Auth-Key", b"s3cret"),), True),
        (((b"x-auth-key", b" s3cret\t"), (b"X-Other", b"x")), True),
        (((b"X-Auth-Key", b"s3creT"),), False),
        (((b"X-Auth-Key", b""),), False),
        (((b"X-Auth", b"s3cret"),), False),
        (((b"X-Auth-Key", b"s3cret"), (b"X-Auth-Key", b"s3cret")), False),
        (((b"X-Auth-Key", b"wrong"), (b"x-auth-key", b"s3cret")), False),
        ((), False),
    ],
)
def test_the_shared_secret(headers: ng.Headers, there: bool) -> None:
    """Once, and as it is."""
    request = attrs.evolve(REQUEST, headers=headers)
    assert ng.has_secret(request, b"X-Auth-Key", b"s3cret") is there


@pytest.mark.parametrize("secret", [b"", b" a", b"a ", b"a\t", "s3cret", None])
def test_a_secret_that_could_never_arrive(secret: Any) -> None:
    """An empty one would be no secret at all."""
    with pytest.raises(ng.LocalProtocolError) as caught:
        ng.has_secret(REQUEST, b"X-Auth-Key", secret)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("request_", [MALFORMED, None, b"x"], ids=["malformed", "none", "bytes"])
def test_what_is_no_request(request_: Any) -> None:
    """A forgotten `isinstance` is told."""
    with pytest.raises(ng.LocalProtocolError, match="is no AuthRequest"):
        ng.verify(request_, b"x")
    with pytest.raises(ng.LocalProtocolError, match="is no AuthRequest"):
        ng.has_secret(request_, b"X-Auth-Key", b"s3cret")


@pytest.mark.parametrize("change", [{"password": "s3cret"}, {"salt": "<1.2@x>"}], ids=repr)
def test_a_request_of_one_s_own_that_is_not_bytes(change: dict[str, Any]) -> None:
    """As with the password."""
    request = attrs.evolve(asked(ng.APOP, b"x", b"<x>"), **change)
    with pytest.raises(ng.LocalProtocolError, match="that is not bytes") as caught:
        ng.verify(request, b"s3cret")
    assert "s3cret" not in str(caught.value)


def test_a_name_that_is_not_bytes() -> None:
    """No header has it."""
    with pytest.raises(ng.LocalProtocolError, match="name and the secret have to be bytes"):
        ng.has_secret(REQUEST, "X-Auth-Key", b"s3cret")  # type: ignore[arg-type]
