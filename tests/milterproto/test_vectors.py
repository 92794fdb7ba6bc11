"""Our decoders and encoders, held to the vectors that any other implementation may use, too.

The expected values in the file were written by hand from the protocol's description, so they
know nothing of our code.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, get_args

import pytest

import milterproto as mp
from milterproto._buffer import FrameBuffer
from milterproto._state import SENDABLE
from milterproto._wire import (
    COMMAND_DECODERS,
    RESPONSE_DECODERS,
    encode_command,
    encode_response,
)

FILE: Final = Path(__file__).parent.parent / "vectors" / "milter.json"
VECTORS: Final[list[dict[str, Any]]] = json.loads(FILE.read_text(encoding="utf-8"))["vectors"]
OK: Final = [vector for vector in VECTORS if vector["verdict"] == "ok"]
MALFORMED: Final = [vector for vector in VECTORS if vector["verdict"] == "malformed"]
DECODERS: Final[Mapping[str, Mapping[int, Callable[[bytes], Any]]]] = {
    ">": COMMAND_DECODERS,
    "<": RESPONSE_DECODERS,
}
EVENTS: Final = {">": get_args(mp.Command), "<": get_args(mp.Response)}

each_ok = pytest.mark.parametrize("vector", OK, ids=lambda vector: vector["id"])
each_malformed = pytest.mark.parametrize("vector", MALFORMED, ids=lambda vector: vector["id"])
chunkings = pytest.mark.parametrize("size", [1, 3, 1 << 20], ids=["by byte", "by three", "whole"])


def from_json(value: Any) -> Any:
    """A field's value: text to bytes, lists to tuples."""
    match value:
        case str():
            return value.encode("latin-1")
        case list():
            return tuple(from_json(item) for item in value)
        case _:
            return value


def event_of(vector: Mapping[str, Any]) -> Any:
    """The event that a vector describes."""
    fields = {name: from_json(value) for name, value in vector["event"].items()}
    kind = getattr(mp, fields.pop("type").decode())
    if "family" in fields:
        fields["family"] = mp.Family(fields["family"])
    if "actions" in fields:
        fields["actions"] = mp.Actions(fields["actions"])
        fields["steps"] = mp.Steps(fields["steps"])
    return kind(**fields)


def encode(vector: Mapping[str, Any], event: Any) -> bytes:
    """The bytes that we would send."""
    return encode_command(event) if vector["direction"] == ">" else encode_response(event)


def decode(vector: Mapping[str, Any], size: int) -> Any:
    """The one event in a vector's bytes, fed in pieces of a size; None if they are cut off."""
    decoders = DECODERS[vector["direction"]]
    buffer = FrameBuffer(frozenset(decoders), mp.DEFAULT_MAX_PAYLOAD)
    data = bytes.fromhex(vector["hex"])
    for start in range(0, len(data), size):
        buffer.feed(data[start : start + size])
        frame = buffer.next_frame()
        if frame is not None:
            assert start + size >= len(data), "bytes are left over"
            assert buffer.empty
            code, payload = frame
            return decoders[code](payload)
    return None


@chunkings
@each_ok
def test_a_sound_vector_gives_its_event(vector: dict[str, Any], size: int) -> None:
    """The same one, however the bytes come in."""
    assert decode(vector, size) == event_of(vector)


@each_ok
def test_a_canonical_vector_is_what_we_send(vector: dict[str, Any]) -> None:
    """And what is not canonical we either write in another way, or refuse to send at all."""
    event = event_of(vector)
    if vector["canonical"]:
        assert encode(vector, event).hex() == vector["hex"]
        return
    if isinstance(event, mp.ConnectionFailure):
        assert not any(mp.ConnectionFailure in replies for replies in SENDABLE.values())
        return
    try:
        data = encode(vector, event)
    except mp.LocalProtocolError:
        return
    assert data.hex() != vector["hex"]
    assert decode({**vector, "hex": data.hex()}, 1 << 20) == event


@pytest.mark.parametrize(
    "vector", [vector for vector in OK if "values" in vector], ids=lambda vector: vector["id"]
)
def test_macro_values(vector: dict[str, Any]) -> None:
    """Macros mean what the vector says, odd ones too."""
    values = event_of(vector).values
    assert dict(values) == {
        from_json(name): from_json(value) for name, value in vector["values"].items()
    }


@chunkings
@each_malformed
def test_a_malformed_vector_is_refused(vector: dict[str, Any], size: int) -> None:
    """Broken frames raise the one error; of a frame that is cut off nothing comes."""
    if vector["fault"] == "cut":
        assert decode(vector, size) is None
        return
    with pytest.raises(mp.RemoteProtocolError):
        decode(vector, size)


@pytest.mark.parametrize(
    "vector",
    [vector for vector in MALFORMED if vector["direction"] == ">" and vector["fault"] != "payload"],
    ids=lambda vector: vector["id"],
)
def test_a_connection_refuses_it_too(vector: dict[str, Any]) -> None:
    """At the very first bytes of a session, with the end of the stream behind them."""
    conn = mp.FilterConnection()
    conn.receive_data(bytes.fromhex(vector["hex"]))
    conn.receive_data(b"")
    with pytest.raises(mp.RemoteProtocolError):
        conn.next_event()
    assert conn.state is mp.State.FAILED


@pytest.mark.parametrize(
    "vector",
    [vector for vector in MALFORMED if vector["fault"] in ("length", "code")],
    ids=lambda vector: vector["id"],
)
def test_length_and_code_are_judged_at_once(vector: dict[str, Any]) -> None:
    """Four bytes are enough to refuse a length, and five to refuse a code."""
    decoders = DECODERS[vector["direction"]]
    buffer = FrameBuffer(frozenset(decoders), mp.DEFAULT_MAX_PAYLOAD)
    enough = 4 if vector["fault"] == "length" else 5
    buffer.feed(bytes.fromhex(vector["hex"])[:enough])
    with pytest.raises(mp.RemoteProtocolError):
        buffer.next_frame()


def test_vectors_are_complete() -> None:
    """Each code byte, each event and each kind of fault has a vector, in its direction."""
    for direction, decoders in DECODERS.items():
        mine = [vector for vector in VECTORS if vector["direction"] == direction]
        sound = [vector for vector in mine if vector["verdict"] == "ok"]
        assert {int(vector["hex"][8:10], 16) for vector in sound} == set(decoders)
        canonical = {vector["event"]["type"] for vector in sound if vector["canonical"]}
        # The one event that nobody may send.
        names = {kind.__name__ for kind in EVENTS[direction]} - {"ConnectionFailure"}
        assert canonical == names
        faults = {vector["fault"] for vector in mine if vector["verdict"] == "malformed"}
        assert faults == {"length", "code", "payload", "cut"}


def test_vectors_keep_to_their_format() -> None:
    """Every key that the README beside them names, and no other; ids are in order."""
    assert [vector["id"] for vector in VECTORS] == [f"V{n:02d}" for n in range(1, len(VECTORS) + 1)]
    always = {"id", "direction", "hex", "note", "verdict"}
    for vector in OK:
        is_macros = vector["event"]["type"] == "Macros"
        assert set(vector) == always | {"event", "canonical"} | ({"values"} if is_macros else set())
    for vector in MALFORMED:
        assert set(vector) == always | {"fault"}
    assert len({(vector["direction"], vector["hex"]) for vector in VECTORS}) == len(VECTORS)
