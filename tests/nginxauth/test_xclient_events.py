import attrs
import pytest

from nginxauth import _xclient_events as ev
from nginxauth._xclient_values import XCLIENT_ATTRIBUTES, XFORWARD_ATTRIBUTES


def test_the_fields_are_the_attributes_in_the_order_in_which_they_are_sent() -> None:
    """One for each, by its name."""
    assert [one.name for one in attrs.fields(ev.XClient)] == [
        name.decode().lower() for name in XCLIENT_ATTRIBUTES
    ]
    assert [one.name for one in attrs.fields(ev.XForward)] == [
        name.decode().lower() for name in XFORWARD_ATTRIBUTES
    ]


def test_a_command_is_made_of_anything_and_never_changed() -> None:
    """Making one never fails."""
    event = ev.XClient(addr=object(), port="x")  # type: ignore[arg-type]
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        event.addr = b"192.0.2.1"  # type: ignore[misc]


def test_what_is_left_out_is_no_special_value() -> None:
    """None is not sent, and UNAVAILABLE is."""
    assert ev.XClient() == ev.XClient(name=None)
    assert ev.XClient() != ev.XClient(name=ev.UNAVAILABLE)
    assert len(set(ev.Special)) == 2
