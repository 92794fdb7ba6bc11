from typing import Any

import attrs
import pytest

import dovecotauth as da


def test_events_are_frozen_and_compare_by_value() -> None:
    """An event in hand can't be changed by what handles it."""
    event = da.Ok(1, b"ann")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        event.user = b"bob"  # type: ignore[misc]
    assert len({event, da.Ok(1, b"ann", ())}) == 1
    other: Any = da.Fail(1, b"ann")
    assert event != other


@pytest.mark.parametrize(
    ("fields", "nologin"),
    [
        (((b"nologin", None),), True),
        (((b"nologin", b"yes"),), True),
        (((b"nologin", b""),), True),
        (((b"nologi", None), (b"x", b"nologin")), False),
    ],
)
def test_a_flag_is_set_by_being_there(fields: da.Parameters, nologin: bool) -> None:
    """Whatever its value: Dovecot 2.4 writes one, and sometimes an empty one."""
    assert da.Ok(1, b"ann", fields).nologin is nologin
    assert da.has(fields, b"nologin") is nologin


def test_the_last_of_several_values_counts() -> None:
    """As in Dovecot."""
    fields = ((b"rip", b"1.1.1.1"), (b"flag", None), (b"rip", b"2.2.2.2"))
    assert da.value_of(fields, b"rip") == b"2.2.2.2"
    assert da.value_of(fields, b"flag") is None
    assert da.value_of(fields, b"lip") is None


@pytest.mark.parametrize(
    ("parameters", "service"),
    [
        (((b"service", b"smtp"),), b"smtp"),
        (((b"protocol", b"lmtp"),), b"lmtp"),
        (((b"protocol", b"lmtp"), (b"service", b"smtp")), b"smtp"),
        (((b"service", None),), b""),
        ((), b""),
    ],
)
def test_the_service_has_two_names(parameters: da.Parameters, service: bytes) -> None:
    """Dovecot 2.4 sends the new one and takes both."""
    assert da.Auth(1, b"PLAIN", parameters).service == service


def test_what_is_temporary() -> None:
    """One code; any other is a plain failure."""
    assert da.Fail(1, code=da.TEMP_FAIL).temporary
    assert not da.Fail(1, code=b"user_disabled").temporary
    assert not da.Fail(1).temporary


def test_what_a_repr_shows() -> None:
    """Enough to see what went on, and no secret."""
    auth = da.Auth(1, b"PLAIN", ((b"rip", b"1.2.3.4"), (b"x_pass", b"s"), (b"pass", None)))
    assert repr(auth) == (
        "Auth(id=1, mechanism=b'PLAIN', "
        "parameters=((b'rip', b'1.2.3.4'), (b'x_pass', ***), (b'pass', None)), response=None)"
    )
    assert repr(da.Auth(1, b"X", response=b"")).endswith("response=***)")
    assert "<no parameters>" in repr(da.Ok(1, b"ann", 5))  # type: ignore[arg-type]
