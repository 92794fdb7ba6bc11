"""The codec, held to the vectors that any other implementation may use, too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest

import dovecotauth as da
from dovecotauth import master

from .helpers import COOKIE

FOLDER: Final = Path(__file__).parent.parent / "vectors"


def vectors(file: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((FOLDER / file).read_text("utf-8"))["vectors"]
    return found


VECTORS: Final = vectors("dovecotauth.json")
MASTER_VECTORS: Final = vectors("dovecotauth_master.json")
ROLES: Final = [(vector, role) for vector in VECTORS + MASTER_VECTORS for role in vector["roles"]]

chunkings = pytest.mark.parametrize("size", [1, 3, 1 << 20], ids=["by byte", "by three", "whole"])


def from_json(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("latin-1")
    if isinstance(value, list):
        return tuple(from_json(one) for one in value)
    return value


def mechanism(name: str, flags: list[str]) -> da.Mechanism:
    found = da.NO_FLAGS
    for flag in flags:
        found |= da.Flags[flag]
    return da.Mechanism(name.encode(), found)


def event_of(given: Mapping[str, Any]) -> Any:
    fields = dict(given)
    name = fields.pop("type")
    kind = getattr(da, name, None) or getattr(master, name)
    mechanisms = fields.pop("mechanisms", None)
    fields = {name: from_json(value) for name, value in fields.items()}
    if mechanisms is not None:
        fields["mechanisms"] = tuple(mechanism(*one) for one in mechanisms)
    return kind(**fields)


HELLO = da.ServerHello(
    tuple(mechanism(name, flags) for name, flags in (
        ("PLAIN", []), ("LOGIN", []), ("SCRAM-SHA-256", []),
        ("SCRAM-SHA-256-PLUS", ["CHANNEL_BINDING"]),
    )),
    1, 1, COOKIE,
)  # fmt: skip


def connections(vector: Mapping[str, Any]) -> tuple[Any, Any]:
    """A server and a client, greeted or not."""
    return master_connections(vector) if vector in MASTER_VECTORS else client_connections(vector)


def master_connections(vector: Mapping[str, Any]) -> tuple[Any, Any]:
    server, client = master.ServerConnection(), master.ClientConnection()
    if vector["greeted"]:
        to_client = server.send(master.MasterHello(1))
        server.receive_data(client.send(master.NEWEST))
        client.receive_data(to_client)
        assert len(list(server.events())) + len(list(client.events())) == 3
    return server, client


def client_connections(vector: Mapping[str, Any]) -> tuple[Any, Any]:
    server, client = da.ServerConnection(), da.ClientConnection()
    if vector["greeted"]:
        version = da.Version(1, vector["minor"])
        to_client, to_server = server.send(version), client.send(version)
        server.receive_data(to_server)
        assert [type(event) for event in server.events()] == [da.Version]
        hello = HELLO if version.minor else da.ServerHello(HELLO.mechanisms, 1, 1, b"")
        to_client += server.send(hello)
        server.receive_data(client.send(da.ClientHello(1)))
        client.receive_data(to_client)
        assert len(list(server.events())) + len(list(client.events())) == 3
    elif vector["roles"] == ["server"]:
        server.send(HELLO)
    return server, client


@chunkings
@pytest.mark.parametrize(
    ("vector", "role"), ROLES, ids=[f"{vector['id']} {role}" for vector, role in ROLES]
)
def test_vector(vector: dict[str, Any], role: str, size: int) -> None:
    """What this role sends are the bytes, and what it gets are the events."""
    server, client = connections(vector)
    conn = server if role == "server" else client
    for step in vector["steps"]:
        data = step["bytes"].encode("latin-1")
        if step["from"] == role:
            if step["event"] is None:
                return  # no such thing can be sent; the other role's is the test
            event = event_of(step["event"])
            if isinstance(event, da.ServerHello) and "server_has" in vector:
                has = tuple(mechanism(*one) for one in vector["server_has"])
                event = da.ServerHello(has, event.pid, event.connection_id, event.cookie)
            assert conn.send(event) == data
            continue
        for start in range(0, len(data), size):
            conn.receive_data(data[start : start + size])
        if step["event"] is None:
            with pytest.raises(da.RemoteProtocolError):
                list(conn.events())
            return
        (got,) = conn.events()
        if step["event"] == {"type": "Malformed"}:
            assert isinstance(got, da.Malformed)
            reply = vector["steps"][vector["steps"].index(step) + 1]
            assert got.reply == event_of(reply["event"])
        else:
            assert got == event_of(step["event"])


def types(module: ModuleType) -> set[str]:
    """The names of the events, and of what they hold."""
    return {
        name
        for name, one in vars(module).items()
        if isinstance(one, type) and hasattr(one, "__attrs_attrs__")
    }


def test_every_event_and_version_has_a_vector() -> None:
    """And each vector an id of its own."""
    there = {step["event"]["type"] for one in VECTORS for step in one["steps"] if step["event"]}
    local = {"Connected", "ConnectionClosed", "Mechanism"}
    assert there == types(da) - local
    assert {one["minor"] for one in VECTORS} == set(range(5))
    assert len({one["id"] for one in VECTORS}) == len(VECTORS)


def test_every_query_has_a_vector_with_each_of_its_answers() -> None:
    """Both roles, and each vector an id of its own."""
    queries = {
        query.__name__: {answer.__name__ for answer in answers}
        for query, answers in master.ANSWERS.items()
    }
    seen = {name: set[str]() for name in queries}
    for vector in MASTER_VECTORS:
        asked = {}
        for event in (step["event"] for step in vector["steps"] if len(vector["roles"]) == 2):
            if event["type"] in queries:
                asked[event["id"]] = event["type"]
            elif "id" in event:
                seen[asked[event["id"]]].add(event["type"])
    assert seen == queries
    assert len({one["id"] for one in MASTER_VECTORS}) == len(MASTER_VECTORS)
