"""The vectors of answers, played to a real nginx: it makes of them what they say."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import attrs
import pytest

from ._nginx import SERVICES, Nginx
from ._nginx_peers import Backend, RawAuthServer

FILE: Final = Path(__file__).parent.parent / "vectors" / "nginxauth.json"
REPLIES: Final[list[dict[str, Any]]] = [
    vector
    for vector in json.loads(FILE.read_text(encoding="utf-8"))["vectors"]
    if vector["kind"] == "reply"
]
PROTOCOLS: Final = ("smtp", "imap", "pop3")
COMMANDS: Final = {"smtp": b"AUTH ", "imap": b"A1 AUTHENTICATE ", "pop3": b"AUTH "}
IN: Final = {"smtp": b"235 ", "imap": b"A1 OK", "pop3": b"+OK"}


@attrs.frozen
class Bed:
    """nginx, who answers it, and the mail servers behind."""

    nginx: Nginx
    auth: RawAuthServer
    backends: Mapping[str, Backend]


@pytest.fixture(scope="module")
def bed(nginx_program: Path) -> Iterator[Bed]:
    services = {name: SERVICES[name] for name in PROTOCOLS}
    with (
        RawAuthServer() as auth,
        Backend("smtp") as smtp,
        Backend("imap") as imap,
        Backend("pop3") as pop3,
        # The end of an answer that is cut short is not always noticed, but by this timeout.
        Nginx(nginx_program, f"127.0.0.1:{auth.port}/", services, auth_http_timeout="2s") as nginx,
    ):
        yield Bed(nginx, auth, {"smtp": smtp, "imap": imap, "pop3": pop3})
        # Shown with a test that fails.
        print(nginx.log()[-5000:])


@pytest.mark.parametrize("vector", REPLIES, ids=lambda vector: vector["id"])
def test_nginx_does_so(bed: Bed, vector: dict[str, Any]) -> None:
    """What its mail client reads, and whether the server behind was reached."""
    protocol, event = vector["asked"]["protocol"], vector["event"]
    backend = bed.backends[protocol]
    answer = vector["bytes"].encode("latin-1")
    # The vectors name a server that nobody has.
    answer = answer.replace(b"192.0.2.7", b"127.0.0.1").replace(b"10025", b"%d" % backend.port)
    bed.auth.script(b"u", (answer,))
    before = len(backend.sessions)
    with bed.nginx.client(protocol) as client:
        if protocol == "smtp":
            client.command(b"EHLO client.test")
        client.command(COMMANDS[protocol] + vector["asked"]["method"].upper().encode())
        response = b"\0u\0p" if vector["asked"]["method"] == "plain" else b"u " + b"0f" * 16
        heard = client.command(base64.b64encode(response))
    times_asked, times_in = len(bed.auth.requests[b"u"]), len(backend.sessions) - before
    match event:
        case {"type": "Allow"}:
            assert heard.startswith(IN[protocol])
            assert (times_asked, times_in) == (1, 1)
            lines = b"".join(backend.sessions[-1])
            assert event.get("user", "").encode("latin-1") in lines or protocol == "smtp"
            assert event.get("password", "").encode("latin-1") in lines
        case {"type": "Wait"}:
            # nginx has asked again, and was told what is said to all who come late.
            assert (heard, times_asked, times_in) == (b"535 5.7.0 over\r\n", 2, 0)
        case _:
            assert heard == vector["mail"].encode("latin-1")
            assert (times_asked, times_in) == (1, 0)
