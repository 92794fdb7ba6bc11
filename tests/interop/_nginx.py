"""A private nginx that is a mail proxy on loopback and nothing else: own folder, ports and log."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

import attrs

from ._postfix import PATIENCE, free_port

MODULE: Final = "/usr/lib/nginx/modules/ngx_mail_module.so"
"""Where Debian's libnginx-mod-mail puts it."""
SECRET: Final = "s3cret value"
"""What the services with ``auth_http_header`` send as X-Auth-Key."""

# In one process, so that nothing is left behind when it is stopped, and a crash is its end.
_CONFIG: Final = """\
load_module {module};
daemon off;
master_process off;
pid {root}/pid;
error_log {root}/error.log {log_level};
worker_rlimit_core 0;
events {{ worker_connections 512; }}
mail {{
  server_name mx.test;
  auth_http {auth_http};
  auth_http_timeout {auth_http_timeout};
  proxy_timeout 30s;
  max_errors 1000;
  smtp_auth plain login cram-md5 external none;
  imap_auth plain login cram-md5 external;
  pop3_auth plain apop cram-md5 external;
  ssl_certificate {root}/chain;
  ssl_certificate_key {root}/chain;
  ssl_client_certificate {root}/ca.pem;
{servers}}}
{extra}
"""


@attrs.frozen
class Service:
    """One ``server`` block: its protocol, where it listens and how, and its own directives."""

    protocol: str
    directives: tuple[str, ...] = ()
    address: str = "127.0.0.1"
    options: str = ""


# Shows certificates that no one has signed for, too, instead of closing.
_CERTIFICATES: Final = ("ssl_verify_client optional_no_ca;", "auth_http_pass_client_cert on;")

SERVICES: Final[Mapping[str, Service]] = {
    "smtp": Service("smtp"),
    "imap": Service("imap"),
    "pop3": Service("pop3"),
    "smtp-v6": Service("smtp", address="[::1]"),
    "imap-v6": Service("imap", address="[::1]"),
    "smtp-no-xclient": Service("smtp", ("xclient off;",)),
    # The backend's refusal is shown as it is.
    "smtp-passing": Service("smtp", ("proxy_pass_error_message on;",)),
    "imap-passing": Service("imap", ("proxy_pass_error_message on;",)),
    "pop3-passing": Service("pop3", ("proxy_pass_error_message on;",)),
    "smtp-auth": Service("smtp", ("proxy_smtp_auth on;", "xclient off;")),
    # A PROXY header comes first; with "real", Client-IP and XCLIENT have what it says.
    "smtp-proxied": Service("smtp", options="proxy_protocol"),
    "imap-proxied": Service("imap", options="proxy_protocol"),
    "smtp-proxied-real": Service(
        "smtp", ("set_real_ip_from 127.0.0.1;",), options="proxy_protocol"
    ),
    "smtp-starttls": Service("smtp", ("starttls on;",)),
    "smtp-tls": Service("smtp", _CERTIFICATES, options="ssl"),
    "imap-tls": Service("imap", _CERTIFICATES, options="ssl"),
    "pop3-tls": Service("pop3", options="ssl"),
    "smtp-header": Service(
        "smtp", (f'auth_http_header X-Auth-Key "{SECRET}";', "auth_http_header X-Too b;")
    ),
    # Gives a slow authentication service up.
    "smtp-hasty": Service("smtp", ("auth_http_timeout 1s;",)),
}


class NginxHasEndedError(Exception):
    """nginx is not there any more; the text is its log."""


class Nginx:
    """A running nginx; ``ports`` has the port of each service by name.

    ``program`` is the nginx command. ``auth_http`` is what stands in that directive:
    ``127.0.0.1:PORT/uri``, or ``unix:PATH:/uri``. The mail servers behind are those that the
    answers name. ``log_level`` may be ``debug_mail``. ``extra`` is put behind it all.
    """

    def __init__(
        self,
        program: Path,
        auth_http: str,
        services: Mapping[str, Service] = SERVICES,
        *,
        auth_http_timeout: str = "20s",
        log_level: str = "info",
        extra: str = "",
    ) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="mailwire-nginx-"))
        self.ports: dict[str, int] = {}
        self._program = program
        self._auth_http = auth_http
        self._services = services
        self._auth_http_timeout = auth_http_timeout
        self._log_level = log_level
        self._extra = extra
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            make_certificates(self.root)
            for attempt in (1, 2, 3):
                try:
                    self._configure()
                    self._start()
                    break
                except NginxHasEndedError:
                    # Perhaps a port was free only when it was looked for.
                    if attempt == 3:
                        raise
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop()
        shutil.rmtree(self.root, ignore_errors=True)

    @property
    def version(self) -> str:
        """Such as ``1.22.1``."""
        done = subprocess.run([self._program, "-v"], check=True, capture_output=True, text=True)
        return done.stderr.strip().rpartition("/")[2]

    @property
    def exit_status(self) -> int | None:
        """None while it runs; minus the signal if it has crashed."""
        return None if self._process is None else self._process.poll()

    @property
    def log_position(self) -> int:
        """Where the log ends now, in bytes."""
        return (self.root / "error.log").stat().st_size

    def log(self, since: int = 0) -> str:
        """What it has logged; each event is there before its effect can be seen."""
        with (self.root / "error.log").open("rb") as file:
            file.seek(since)
            return file.read().decode(errors="replace")

    def client(self, service: str, *, proxy_header: bytes = b"") -> MailClient:
        """A mail client that is connected, and has read the greeting if it comes at once."""
        kind = self._services[service]
        context = None
        if "ssl" in kind.options.split():
            context = client_tls(self.root)
        return MailClient(
            kind.address.strip("[]"), self.ports[service], context=context, first=proxy_header
        )

    def wait(self) -> int:
        """Its exit status, when it has ended by itself."""
        assert self._process is not None
        return self._process.wait(PATIENCE)

    def restart(self) -> None:
        """Start it again, on the same ports, if it has crashed."""
        self._stop()
        self._start()

    def _stop(self) -> None:
        if self._process is not None:
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGTERM)
            self._process.communicate(timeout=PATIENCE)
            self._process = None

    def _configure(self) -> None:
        servers = ""
        for name, service in self._services.items():
            port = self.ports[name] = free_port()
            listen = f"listen {service.address}:{port} {service.options}".rstrip()
            directives = (f"{listen};", f"protocol {service.protocol};", *service.directives)
            servers += f"  server {{ {' '.join(directives)} }}\n"
        config = _CONFIG.format(
            module=MODULE,
            root=self.root,
            auth_http=self._auth_http,
            auth_http_timeout=self._auth_http_timeout,
            log_level=self._log_level,
            servers=servers,
            extra=self._extra,
        )
        (self.root / "nginx.conf").write_text(config)

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [
                *(self._program, "-p", self.root, "-c", self.root / "nginx.conf"),
                *("-e", self.root / "error.log"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env={"PATH": os.defpath, "LANG": "C"},
        )
        # It listens on all ports before it looks at any, so that the first that takes a
        # connection stands for all. The pid file comes before that, and in its own time.
        address = next(iter(self._services.values())).address.strip("[]")
        port = next(iter(self.ports.values()))
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                socket.create_connection((address, port), PATIENCE).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        self._process.terminate()
        _, errors = self._process.communicate(timeout=PATIENCE)
        self._process = None
        raise NginxHasEndedError(errors.decode(errors="replace"))


class MailClient:
    """A client of any of the three protocols, that hides nothing: it reads lines as they come.

    ``first`` goes out before all else, TLS included: a PROXY header. ``greeting`` is the first
    line that came; with SMTP a client that gets none is only told so by a timeout.
    """

    def __init__(
        self,
        address: str,
        port: int,
        *,
        context: ssl.SSLContext | None = None,
        first: bytes = b"",
    ) -> None:
        self._socket: socket.socket = socket.create_connection((address, port), PATIENCE)
        self.name: tuple[str, int] = self._socket.getsockname()[:2]
        try:
            self._socket.sendall(first)
            if context is not None:
                self._socket = context.wrap_socket(self._socket)
            self._file = self._socket.makefile("rb")
            self.greeting = self.line()
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Without a word."""
        self._file.close()
        self._socket.close()

    def start_tls(self, context: ssl.SSLContext) -> None:
        """After the command that asks for it has been answered."""
        self._file.close()
        self._socket = context.wrap_socket(self._socket)
        self._file = self._socket.makefile("rb")

    def send(self, data: bytes) -> None:
        """Send bytes, and wait for nothing."""
        self._socket.sendall(data)

    def line(self) -> bytes:
        """The next line with its end; less, or nothing, if the server has closed."""
        try:
            return self._file.readline()
        except ConnectionResetError:
            return b""

    def command(self, line: bytes) -> bytes:
        """Send a line and read one; of several that belong together (SMTP), all."""
        try:
            self.send(line + b"\r\n")
        except (BrokenPipeError, ConnectionResetError):
            return b""
        reply = self.line()
        while re.match(rb"[0-9]{3}-", reply[reply.rfind(b"\n", 0, -1) + 1 :]):
            reply += self.line()
        return reply

    def rest(self) -> bytes:
        """All that comes until the server closes."""
        try:
            return self._file.read()
        except ConnectionResetError:
            return b""


def client_tls(root: Path, certificate: str = "") -> ssl.SSLContext:
    """A client's side of TLS; ``certificate``: ``client`` or ``stranger``, see below."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if certificate:
        context.load_cert_chain(root / f"{certificate}.pem")
    return context


def make_certificates(root: Path) -> None:
    """``chain`` (the server's), ``ca.pem``, ``client.pem`` that it signed, ``stranger.pem``."""
    _make_certificate(root / "chain", "/CN=mx.test")
    _make_certificate(root / "ca.pem", "/CN=test CA")
    _make_certificate(
        root / "client.pem", r"/C=DE/O=Ex, Inc/CN=client test", signer=root / "ca.pem"
    )
    _make_certificate(root / "stranger.pem", "/CN=stranger")


def _make_certificate(path: Path, subject: str, signer: Path | None = None) -> None:
    """A key and a certificate for it, in one file."""
    key, certificate = path.with_suffix(".key"), path.with_suffix(".crt")
    signing = () if signer is None else ("-CA", signer, "-CAkey", signer)
    subprocess.run(
        [
            # Debian's nginx comes with it.
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"),
            *("ec_paramgen_curve:prime256v1", "-nodes", "-subj", subject, "-days", "30"),
            *signing,
            *("-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
        timeout=PATIENCE,
    )
    path.write_bytes(key.read_bytes() + certificate.read_bytes())
