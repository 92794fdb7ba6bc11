"""The codec, held to the vectors that any other implementation may use, too."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

import nginxauth as ng

FILE: Final = Path(__file__).parent.parent / "vectors" / "nginxauth.json"
VECTORS: Final[list[dict[str, Any]]] = json.loads(FILE.read_text(encoding="utf-8"))["vectors"]
REQUESTS: Final = [one for one in VECTORS if one["kind"] == "request"]
REPLIES: Final = [one for one in VECTORS if one["kind"] == "reply"]

chunkings = pytest.mark.parametrize("size", [1, 3, 1 << 20], ids=["by byte", "by three", "whole"])
PARTS: Final = {"proxy_protocol": ng.ProxyProtocol, "envelope": ng.Envelope, "tls": ng.TLS}


def from_json(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("latin-1")
    if isinstance(value, list):
        return tuple(from_json(one) for one in value)
    return value


def event_of(given: Mapping[str, Any]) -> Any:
    fields = {name: from_json(value) for name, value in given.items() if name != "type"}
    for name, kind in PARTS.items():
        if name in fields:
            fields[name] = kind(*fields[name])
    return getattr(ng, given["type"])(**fields)


def feed(conn: Any, data: bytes, size: int) -> Any:
    for start in range(0, len(data), size):
        conn.receive_data(data[start : start + size])
        if (event := conn.next_event()) is not None:
            return event
    conn.receive_data(b"")
    return conn.next_event()


def by_id(vector: Mapping[str, Any]) -> str:
    return str(vector["id"])


@chunkings
@pytest.mark.parametrize("vector", REQUESTS, ids=by_id)
def test_request(vector: dict[str, Any], size: int) -> None:
    """What our server understands, and what our client writes."""
    data = vector["bytes"].encode("latin-1")
    conn = ng.ServerConnection()
    if vector["verdict"] == "broken":
        with pytest.raises(ng.RemoteProtocolError):
            feed(conn, data, size)
        return
    event = feed(conn, data, size)
    if vector["verdict"] == "malformed":
        assert isinstance(event, ng.Malformed)
        assert event.reply.code.decode() == vector["code"]
        return
    assert event == event_of(vector["event"])
    if vector["canonical"]:
        client = ng.ClientConnection(vector["host"].encode(), vector["uri"].encode())
        assert client.send(event) == data


@chunkings
@pytest.mark.parametrize("vector", REPLIES, ids=by_id)
def test_reply(vector: dict[str, Any], size: int) -> None:
    """What our client makes of it, as nginx does; and what our server writes."""
    data = vector["bytes"].encode("latin-1")
    asked = ng.AuthRequest(
        user=b"u", password=b"p", attempt=1, client_ip=b"192.0.2.1",
        **{name: value.encode() for name, value in vector["asked"].items()},
    )  # fmt: skip
    conn = ng.ClientConnection()
    conn.send(asked)
    reply = None
    if vector["event"] is None:
        with pytest.raises(ng.RemoteProtocolError):
            feed(conn, data, size)
    else:
        reply = feed(conn, data, size)
        assert reply == event_of(vector["event"])
    if "mail" in vector:
        assert isinstance(reply, ng.Deny | None)
        assert ng.mail_reply(reply, asked.protocol).data == vector["mail"].encode("latin-1")
    written = b""
    with contextlib.suppress(ng.LocalProtocolError):
        headers = ng.reply_headers(reply, asked)  # type: ignore[arg-type]
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        written = b"HTTP/1.0 200 OK\r\n" + lines + b"\r\n"
    assert (written == data) is vector["canonical"]
    if vector["canonical"]:
        assert conn.warnings == () or len(data) > 1024 - 128


def test_there_is_one_of_each() -> None:
    """And each has an id of its own."""
    kinds = {vector["event"]["type"] if vector["event"] else None for vector in REPLIES}
    assert kinds == {"Allow", "Deny", "Wait", None}
    assert {vector["verdict"] for vector in REQUESTS} == {"ok", "malformed", "broken"}
    assert len({vector["id"] for vector in VECTORS}) == len(VECTORS)
