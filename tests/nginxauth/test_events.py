from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nginxauth as ng
from nginxauth import _events

from .strategies import REQUEST

SECRET = b"s3cret value"


def test_events_are_frozen_and_compare_by_value() -> None:
    """An event in hand can't be changed by what handles it."""
    event = ng.Deny(b"no")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        event.message = b"b"  # type: ignore[misc]
    assert event == ng.Deny(b"no", b"", 0, None)
    assert len({event, ng.Deny(b"no"), REQUEST, attrs.evolve(REQUEST)}) == 2


@pytest.mark.parametrize(
    "event",
    [
        attrs.evolve(REQUEST, password=SECRET),
        ng.Allow(b"::1", 25, b"u", SECRET),
        ng.Malformed(b"Auth-Pass: " + SECRET, "broken", ng.Deny(b"no")),
    ],
)
def test_no_repr_shows_a_secret(event: object) -> None:
    """Not even how long it is."""
    assert "s3cret" not in repr(event)
    assert "***" in repr(event)


@pytest.mark.parametrize("value", [b"", None])
def test_a_repr_shows_that_there_is_none(value: bytes | None) -> None:
    """Which is often what one looks for."""
    assert f"password={value!r}" in repr(ng.Allow(b"::1", 25, None, value))


@pytest.mark.parametrize("headers", [None, 5, ((b"a",),)])
def test_no_repr_fails(headers: Any) -> None:
    """Whatever was put in."""
    assert "<no headers>" in repr(attrs.evolve(REQUEST, headers=headers))


def test_names_of_headers_are_shown() -> None:
    """And their values are not: one of them is the shared secret."""
    assert _events.hide_values(REQUEST.headers) == "((b'X-Auth-Key', ***))"


def test_an_envelope_taken_apart() -> None:
    """Verb and letter case are the client's."""
    envelope = ng.Envelope(b"c", b"MAIL FROM:<a@b> SIZE=10 X", b"rcpt to: <c@d> NOTIFY=NEVER")
    assert envelope.sender == b"<a@b>"
    assert envelope.sender_parameters == (b"SIZE=10", b"X")
    assert envelope.recipient == b"<c@d>"
    assert envelope.recipient_parameters == (b"NOTIFY=NEVER",)


def test_an_envelope_that_can_not_be_read() -> None:
    """None, never an error; one command for the other is no command."""
    envelope = ng.Envelope(b"", b"RCPT TO:<a@b> X", b"MAIL FROM:<a@b> X")
    assert envelope.sender is envelope.recipient is None
    assert envelope.sender_parameters == envelope.recipient_parameters == ()


@given(st.binary())
def test_whatever_the_commands_are(line: bytes) -> None:
    """There is an answer."""
    envelope = ng.Envelope(b"", line, line)
    assert envelope.sender is None or envelope.sender.startswith(b"<")
    assert envelope.recipient is None or envelope.recipient.endswith(b">")
    assert envelope.sender is None or envelope.recipient is None
