"""XCLIENT, held to the vectors that any other implementation may use, too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from nginxauth import xclient as xc

FILE: Final = Path(__file__).parent.parent / "vectors" / "xclient.json"
VECTORS: Final[list[dict[str, Any]]] = json.loads(FILE.read_text(encoding="utf-8"))["vectors"]


def each(kind: str) -> pytest.MarkDecorator:
    wanted = [one for one in VECTORS if one["kind"] == kind]
    assert wanted
    return pytest.mark.parametrize("vector", wanted, ids=lambda vector: vector["id"])


def data(text: str) -> bytes:
    return text.encode("latin-1")


def value_of(value: Any) -> Any:
    if isinstance(value, dict):
        return xc.Special[value["special"]]
    return data(value) if isinstance(value, str) else value


def event_of(fields: Mapping[str, Any]) -> xc.Command:
    kind = xc.XClient if fields["type"] == "XClient" else xc.XForward
    return kind(**{name: value_of(value) for name, value in fields.items() if name != "type"})


@each("xtext")
def test_xtext(vector: dict[str, Any]) -> None:
    """Read strictly, as Postfix reads it, and not at all; and written."""
    text = data(vector["text"])
    expected = {
        how: None if vector[how] is None else data(vector[how]) for how in ("strict", "postfix")
    }
    assert xc.decode_xtext(text) == expected["strict"]
    assert xc.decode_xtext(text, xc.Xtext.POSTFIX) == expected["postfix"]
    assert xc.decode_xtext(text, xc.Xtext.RAW) == text
    assert (xc.encode_xtext(expected["postfix"] or b"") == text) is vector["canonical"]


@each("ehlo")
def test_ehlo(vector: dict[str, Any]) -> None:
    """What a line offers."""
    offer = xc.Offer(
        *[tuple(data(name) for name in vector[key]) for key in ("xclient", "xforward")]
    )
    assert xc.parse_ehlo(b"250-mta.test\r\n250 " + data(vector["line"])) == offer
    assert (xc.ehlo_lines(offer) == (data(vector["line"]),)) is vector["canonical"]


@each("command")
def test_command(vector: dict[str, Any]) -> None:
    """What a line tells, or the code by which it is refused; and how it is written."""
    line = data(vector["line"])
    found = xc.parse_command(line, lenient=vector["lenient"])
    if vector["verdict"] == "refused":
        assert isinstance(found, xc.Refused)
        assert found.reply.startswith(data(vector["reply"]) + b" ")
        return
    assert found == event_of(vector["event"])
    try:
        sent = xc.plan(event_of(vector["event"]), xc.EVERYTHING).commands
    except xc.LocalProtocolError:
        sent = ()
    assert (sent == (line + b"\r\n",)) is vector["canonical"]


@each("plan")
def test_plan(vector: dict[str, Any]) -> None:
    """The commands, or that there is no way."""
    offer = xc.Offer(tuple(data(name) for name in vector["offer"]))
    if vector["commands"] is None:
        with pytest.raises(xc.LocalProtocolError):
            xc.plan(event_of(vector["event"]), offer)
        return
    plan = xc.plan(event_of(vector["event"]), offer)
    assert plan.commands == tuple(data(line) for line in vector["commands"])
    assert [one.attribute.decode() for one in plan.omitted] == vector["omitted"]


@each("session")
def test_session(vector: dict[str, Any]) -> None:
    """Line by line: the code of the reply, and whether XCLIENT is offered afterwards."""
    receiver = xc.Receiver(xc.EVERYTHING)
    for step in vector["steps"]:
        state = {key: step[key] for key in ("in_transaction", "pipelined")}
        event = receiver.receive(data(step["line"]), **state)
        if isinstance(event, xc.Refused):
            reply = event.reply[:3].decode()
        else:
            reply = "220" if isinstance(event, xc.XClient) else "250"
        assert reply == step["reply"]
        assert bool(receiver.offer.xclient) is step["offered"]


def test_ids_are_unique() -> None:
    """And every kind is tested."""
    assert len({one["id"] for one in VECTORS}) == len(VECTORS)
    assert {one["kind"] for one in VECTORS} == {"xtext", "ehlo", "command", "plan", "session"}
