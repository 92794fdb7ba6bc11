"""The codecs, held to the vectors that any other implementation may use, too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

import tcptable as tt
from tcptable import socketmap

FILE: Final = Path(__file__).parent.parent / "vectors" / "tcptable.json"
VECTORS: Final[list[dict[str, Any]]] = json.loads(FILE.read_text(encoding="utf-8"))["vectors"]

each = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["id"])
chunkings = pytest.mark.parametrize("size", [1, 3, 1 << 20], ids=["by byte", "by three", "whole"])


def event_of(vector: Mapping[str, Any]) -> Any:
    fields = dict(vector["event"])
    kind = getattr(tt, fields.pop("type"))
    return kind(**{name: value.encode("latin-1") for name, value in fields.items()})


def fed(vector: Mapping[str, Any], size: int) -> Any:
    """A connection that has got a vector's bytes, and is asked if they are a reply."""
    package: Any = tt if vector["protocol"] == "tcp_table" else socketmap
    if vector["direction"] == ">":
        conn = package.ServerConnection()
    else:
        conn = package.ClientConnection()
        conn.send(tt.Get(b"k", b"m" if package is socketmap else b""))
    data = vector["bytes"].encode("latin-1")
    for start in range(0, len(data), size):
        conn.receive_data(data[start : start + size])
    return conn


@chunkings
@each
def test_vector(vector: dict[str, Any], size: int) -> None:
    """The event that it stands for, or the way in which it is wrong."""
    conn = fed(vector, size)
    if vector["verdict"] == "broken":
        with pytest.raises(tt.RemoteProtocolError):
            conn.next_event()
        return
    event = conn.next_event()
    if vector["verdict"] == "malformed":
        assert isinstance(event, tt.Malformed)
    else:
        assert event == event_of(vector)


@pytest.mark.parametrize(
    "vector",
    [vector for vector in VECTORS if vector["verdict"] == "ok"],
    ids=lambda vector: vector["id"],
)
def test_what_is_sent_is_canonical(vector: dict[str, Any]) -> None:
    """Encoding gives these bytes, or others, or is refused."""
    package: Any = tt if vector["protocol"] == "tcp_table" else socketmap
    if vector["direction"] == ">":
        conn = package.ClientConnection()
    else:
        conn = package.ServerConnection()
        conn.receive_data(b"get k\n" if package is tt else b"3:m k,")
        conn.next_event()
    try:
        sent = conn.send(event_of(vector)).decode("latin-1")
    except tt.LocalProtocolError:
        sent = None
    assert (sent == vector["bytes"]) is vector["canonical"]


def test_every_event_has_a_vector() -> None:
    """In each protocol that has it."""
    there = {(one["protocol"], one["event"]["type"]) for one in VECTORS if "event" in one}
    both = {"Get", "Found", "NotFound", "TempError"}
    assert there == {
        *(("tcp_table", name) for name in both | {"Put"}),
        *(("socketmap", name) for name in both | {"PermError"}),
    }
    assert len({one["id"] for one in VECTORS}) == len(VECTORS)
