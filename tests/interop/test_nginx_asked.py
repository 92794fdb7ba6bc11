"""`python -m nginxauth ask` at a service that is not ours: nginx's own HTTP server.

It can say all that there is to say by ``add_header``, as nginx's own tests of its mail proxy have
it. The mail proxy asks the same, and does what the command has said.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from ._nginx import SERVICES, Nginx
from ._nginx_peers import Backend
from ._postfix import PATIENCE, free_port

_HTTP: Final = """\
http {{
  access_log off;
  client_body_temp_path {root}; proxy_temp_path {root}; fastcgi_temp_path {root};
  uwsgi_temp_path {root}; scgi_temp_path {root};
  map $http_auth_user$http_auth_pass $status_text {{
    default "no such user";
    "ann%20b%25c" OK;
    "later" WAIT;
  }}
  map $http_auth_user $wait {{ default ""; "later" 1; "try" 1; }}
  server {{
    listen 127.0.0.1:{port};
    location /auth {{
      add_header Auth-Status $status_text;
      add_header Auth-Server 127.0.0.1;
      add_header Auth-Port {backend};
      add_header Auth-Wait $wait;
      return 204;
    }}
    location /broken {{ return 500; }}
  }}
}}
"""

# What the mail client sees of it, when its user and password are these.
WARNED: Final = "warning: Auth-Server or Auth-Port with a refusal: with the status lost, it lets in"


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    """Takes everybody."""
    with Backend("smtp") as running:
        yield running


@pytest.fixture(scope="module")
def web(
    nginx_program: Path, backend: Backend, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Nginx, str]]:
    """The two in one: who asks, and who answers, with the latter's URL."""
    port, root = free_port(), tmp_path_factory.mktemp("web")
    root.chmod(0o777)
    with Nginx(
        nginx_program,
        f"127.0.0.1:{port}/auth",
        {"smtp": SERVICES["smtp"]},
        extra=_HTTP.format(root=root, port=port, backend=backend.port),
    ) as nginx:
        yield nginx, f"http://127.0.0.1:{port}"
        print(nginx.log()[-5000:])


def ask(url: str, user: str, password: str) -> tuple[int, list[str]]:
    """Exit status and lines of the command."""
    done = subprocess.run(
        [sys.executable, "-m", "nginxauth", "ask", url, "--user", user, "--timeout", "10"],
        input=password + "\n",
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def log_in(nginx: Nginx, response: bytes) -> bytes:
    with nginx.client("smtp") as client:
        client.command(b"EHLO c")
        return client.command(b"AUTH PLAIN " + response)


def test_let_in(web: tuple[Nginx, str], backend: Backend) -> None:
    """With a password that has to be escaped."""
    nginx, url = web
    port = backend.port
    assert ask(f"{url}/auth", "ann", " b%c") == (
        0,
        [f"let in: nginx goes on at 127.0.0.1 port {port}"],
    )
    assert log_in(nginx, b"AGFubgAgYiVj") == b"235 2.0.0 OK\r\n"


def test_refused(web: tuple[Nginx, str]) -> None:
    """In the words that the client gets."""
    nginx, url = web
    assert ask(f"{url}/auth", "ann", "b") == (
        1,
        [
            "refused",
            "the mail client gets: 535 5.7.0 no such user (then nginx closes)",
            WARNED,
        ],
    )
    assert log_in(nginx, b"AGFubgBi") == b"535 5.7.0 no such user\r\n"


def test_refused_after_a_pause(web: tuple[Nginx, str]) -> None:
    """Likewise."""
    nginx, url = web
    status, lines = ask(f"{url}/auth", "try", "b")
    assert (status, lines[1]) == (
        1,
        "the mail client gets after 1 s: 535 5.7.0 no such user (then it may try again)",
    )
    assert log_in(nginx, b"AHRyeQBi") == b"535 5.7.0 no such user\r\n"


def test_told_to_wait(web: tuple[Nginx, str]) -> None:
    """nginx would ask for ever."""
    _, url = web
    assert ask(f"{url}/auth", "later", "") == (2, ["wait: nginx asks again after 1 s"])


def test_a_broken_service(web: tuple[Nginx, str]) -> None:
    """It says 500, and no more."""
    _, url = web
    status, lines = ask(f"{url}/broken", "ann", "b")
    assert status == 2
    assert lines == [
        "no answer that nginx could use: no Auth-Server or no Auth-Port, and no refusal",
        "the mail client gets: 451 4.3.2 Internal server error (then nginx closes)",
    ]
