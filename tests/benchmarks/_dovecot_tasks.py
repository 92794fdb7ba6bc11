"""The tasks of the benchmark for Dovecot's protocol: so many passwords over one connection."""

from __future__ import annotations

import base64
from typing import Final

COUNT: Final = 200
USERS: Final = [(f"user{number}@example.test", f"secret{number}") for number in range(COUNT)]
# Where each side has said and heard it, before the passwords; not compared, for it has a pid in it.
CLIENT_HELLO: Final = b"VERSION\t1\t1\nCPID\t4242\n"
SERVER_HELLO: Final = (
    b"VERSION\t1\t1\nMECH\tPLAIN\tplaintext\nSPID\t17\nCUID\t1\n"
    b"COOKIE\t0123456789abcdef0123456789abcdef\nDONE\n"
)


def _request(number: int, name: str, password: str) -> bytes:
    response = base64.b64encode(f"\0{name}\0{password}".encode()).decode()
    return f"AUTH\t{number}\tPLAIN\tservice=smtp\tresp={response}\n".encode()


REQUESTS: Final = [
    _request(number, name, password) for number, (name, password) in enumerate(USERS, start=1)
]
REPLIES: Final = [
    f"OK\t{number}\tuser={name}\n".encode() for number, (name, _) in enumerate(USERS, start=1)
]
CLIENT: Final = f"client, {COUNT} passwords"
SERVER: Final = f"server, {COUNT} passwords"
