"""The floor: mailwire's two events for each password, and the line. Nothing is checked or kept."""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64

import dovecotauth as da
from tests.benchmarks import _dovecot_tasks as tasks
from tests.benchmarks._side import serve


def client() -> list[bytes]:
    """One request at a time."""
    written = []
    for number, ((name, password), reply) in enumerate(
        zip(tasks.USERS, tasks.REPLIES, strict=True), start=1
    ):
        response = b"\0%b\0%b" % (name.encode(), password.encode())
        event = da.Auth(number, b"PLAIN", ((b"service", b"smtp"),), response)
        pairs = b"\t".join([b"%b=%b" % (key, value or b"") for key, value in event.parameters])
        resp = b2a_base64(event.response or b"", newline=False)
        line = b"AUTH\t%d\t%b\t%b\tresp=%b\n" % (event.id, event.mechanism, pairs, resp)
        written.append(line)
        words = reply[:-1].split(b"\t")
        assert type(da.Ok(int(words[1]), words[2][5:])) is da.Ok
    return written


def server() -> list[bytes]:
    """Likewise."""
    written = []
    for request in tasks.REQUESTS:
        words = request[:-1].split(b"\t")
        name, _, value = words[3].partition(b"=")
        event = da.Auth(int(words[1]), words[2], ((name, value),), a2b_base64(words[4][5:]))
        assert event.response is not None
        _, user, password = event.response.split(b"\0")
        assert password.startswith(b"secret")
        reply = da.Ok(event.id, user)
        written.append(b"OK\t%d\tuser=%b\n" % (reply.id, reply.user))
    return written


if __name__ == "__main__":
    serve({tasks.CLIENT: client, tasks.SERVER: server})
