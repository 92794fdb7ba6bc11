"""Bare h11, with a dict of the request's headers, and the answer's headers written out."""

from __future__ import annotations

import h11

from tests.benchmarks._side import serve
from tests.benchmarks.nginx_ours import REQUEST, TASK
from tests.benchmarks.nginx_ours import answer as with_types

_BODY, *_ = with_types()
_LINES = _BODY.split(b"\r\n\r\n")[0].split(b"\r\n")[1:]
HEADERS = [(name, value.strip()) for name, _, value in (line.partition(b":") for line in _LINES)]


def answer() -> list[bytes]:
    """What nginxauth does, as far as HTTP goes."""
    conn = h11.Connection(h11.SERVER)
    conn.receive_data(REQUEST)
    request = conn.next_event()
    assert isinstance(request, h11.Request)
    assert type(conn.next_event()) is h11.EndOfMessage
    fields = dict(request.headers)
    assert fields[b"auth-pass"] == b"secret%20word"
    response = conn.send(h11.Response(status_code=200, headers=HEADERS, reason=b"OK"))
    assert response is not None
    return [response + (conn.send(h11.EndOfMessage()) or b"")]


if __name__ == "__main__":
    serve({TASK: answer})
