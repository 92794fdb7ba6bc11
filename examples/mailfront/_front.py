"""The whole mail front, rendered into a private folder and running on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import string
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Self

import attrs

from mailfront import userdb
from mailfront._processes import Process, is_open

EXAMPLES: Final = Path(__file__).parents[1]
PREFIX: Final = "mailwire-stack-"  # of the folder's name, and so in each program's arguments
CONFIG: Final = Path(__file__).parent / "config"
# Debian's, where a user's PATH does not look.
PATH: Final = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
NGINX_MODULES: Final = Path("/usr/lib/nginx/modules")
PLANS: Final = ("paid", "trial")
# What the filter of trial users holds back.
SPAM: Final = r"cheap pills|free money"


class MissingError(Exception):
    """A program that is needed is not installed."""


@attrs.frozen
class Ports:
    """TCP ports on loopback. The rest goes by unix sockets in the private folder."""

    smtp: int = 2525  # nginx, which passes logins on by XCLIENT
    smtp_auth: int = 2526  # nginx, which logs in at Postfix itself
    submission: int = 2587  # Postfix of the trial users, straight
    paid: int = 10025  # Postfix for nginx; at ::1
    trial: int = 10026
    handed_on: int = 10030  # from the one Postfix to the other
    recipients: int = 10027  # the look-up daemon: tcp_table has no unix sockets
    auth_http: int = 10028  # the service that nginx asks
    world: int = 10029  # where all mail goes in the end


class Template(string.Template):
    """Postfix and nginx have uses of their own for ``$``."""

    delimiter = "@"


class MailFront:
    """Everything, by name in ``processes``: in the order in which it is started.

    ``root`` is an empty folder that all users can enter, ``database`` a URL; without one it is
    SQLite in that folder. `MissingError` if a server is not installed.
    """

    def __init__(self, root: Path, ports: Ports, *, database: str = "") -> None:
        self.root = root
        self.ports = ports
        self.database = database or f"sqlite+aiosqlite:///{root}/mail.db"
        self.secret = secrets.token_hex(16)
        self._postfix = find("postfix", "postfix")
        self._nginx = find("nginx", "nginx")
        if not (NGINX_MODULES / "ngx_mail_module.so").exists():
            raise MissingError("nginx's mail module is missing: Debian package libnginx-mod-mail")
        self._openssl = find("openssl", "openssl")
        self.processes = {process.name: process for process in self._all()}

    def __enter__(self) -> Self:
        taken = [port for port in attrs.astuple(self.ports) if is_open(port)]
        if taken:
            raise OSError(
                f"somebody listens on port {taken[0]} already; if that is a mail front that was "
                f"killed, `pkill -f {PREFIX}` ends what is left of it"
            )
        before = os.umask(0o077)  # what is written here has secrets; Postfix's part is opened to it
        try:
            self._render()
            asyncio.run(userdb.main(self.database, demo=True))
        finally:
            os.umask(before)
        try:
            for process in self.processes.values():
                process.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def stop(self) -> None:
        """From the outside to the inside, so that what was accepted is dealt with.

        Each is stopped whatever becomes of the others.
        """
        with contextlib.ExitStack() as stack:
            for process in self.processes.values():
                stack.callback(process.stop)

    def queue(self, plan: str) -> list[dict[str, str]]:
        """What lies in a Postfix, as ``postqueue -j`` says."""
        done = subprocess.run(
            [self._postfix.with_name("postqueue"), "-c", self.root / plan / "etc", "-j"],
            check=True,
            capture_output=True,
            text=True,
        )
        return [json.loads(line) for line in done.stdout.splitlines()]

    @property
    def delivered(self) -> Path:
        """A maildir with all that has left the front."""
        return self.root / "world"

    def _all(self) -> Iterator[Process]:
        root, ports = self.root, self.ports
        (root / "log").mkdir()
        yield self._process(
            "world",
            *("-m", "aiosmtpd", "-n", "-l", f"127.0.0.1:{ports.world}"),
            *("-c", "aiosmtpd.handlers.Mailbox", str(self.delivered)),
            address=ports.world,
        )
        yield self._daemon(
            "table_daemon",
            *("--map", f"recipients=inet:127.0.0.1:{ports.recipients}"),
            *("--socketmap", f"unix:{root}/tables", "--mode", "666"),
            *("--transport", f"trial=smtp:[127.0.0.1]:{ports.handed_on}"),
            address=root / "tables",
        )
        yield self._daemon(
            "auth_daemon",
            *("--listen", f"unix:{root}/auth", "--mode", "666"),
            address=root / "auth",
        )
        # nginx speaks no TLS to Postfix. So it has one that takes passwords without.
        yield self._daemon(
            "auth_daemon for nginx",
            *("--listen", f"unix:{root}/auth-for-nginx", "--mode", "666", "--plaintext"),
            address=root / "auth-for-nginx",
        )
        yield self._daemon(
            "nginx_daemon",
            *("--listen", f"inet:127.0.0.1:{ports.auth_http}"),
            *(f"--route={plan}=[::1]:{getattr(ports, plan)}" for plan in PLANS),
            *("--secret-file", str(root / "secret")),
            address=ports.auth_http,
        )
        yield self._filter("tag_mail")
        yield self._filter("check_body", "--hold", SPAM)
        for plan in PLANS:
            etc = root / plan / "etc"
            yield Process(
                f"postfix {plan}",
                (self._postfix, "-c", etc, "start-fg"),
                getattr(ports, plan),
                root / "log" / f"postfix-{plan}.log",
                root / plan / "queue/pid/master.pid",
            )
        config = root / "nginx.conf"
        command = (self._nginx, "-p", root, "-c", config, "-e", root / "log" / "nginx.log")
        yield Process("nginx", command, ports.smtp, root / "log" / "nginx.log")

    def _process(self, name: str, *arguments: str, address: Path | int) -> Process:
        return Process(
            name, (sys.executable, *arguments), address, self.root / "log" / f"{name}.log"
        )

    def _daemon(self, name: str, *arguments: str, address: Path | int) -> Process:
        script = str(EXAMPLES / "mailfront" / f"{name.partition(' ')[0]}.py")
        options = (script, "--database", self.database, *arguments)
        return self._process(name, *options, address=address)

    def _filter(self, name: str, *arguments: str) -> Process:
        address = self.root / name
        listen = ("--listen", f"unix:{address}", "--mode", "666")
        return self._process(
            name, str(EXAMPLES / f"{name}.py"), *listen, *arguments, address=address
        )

    def _render(self) -> None:
        root = self.root
        (root / "secret").write_text(self.secret)
        self._make_certificate()
        values = {
            **{name: str(port) for name, port in attrs.asdict(self.ports).items()},
            "root": str(root),
            "secret": self.secret,
            "nginx_modules": str(NGINX_MODULES),
            "command_directory": self._default("command_directory"),
            "daemon_directory": self._default("daemon_directory"),
        }
        write(root / "nginx.conf", "nginx.conf", values)
        tagging = f"unix:{root}/tag_mail"
        submission = Template((CONFIG / "submission.cf").read_text()).substitute(values)
        for plan, more in (
            # Who is on trial has a stricter filter, however his mail comes.
            (
                "paid",
                {
                    "milters": tagging,
                    "transport": f"transport_maps = socketmap:unix:{root}/tables:transport",
                    "submission": "",
                },
            ),
            (
                "trial",
                {
                    "milters": f"unix:{root}/check_body, {tagging}",
                    "transport": "",
                    "submission": submission,
                },
            ),
        ):
            for folder in (root / plan, *(root / plan / name for name in ("etc", "queue", "data"))):
                folder.mkdir()
                folder.chmod(0o755)
            shutil.chown(root / plan / "data", "postfix", "postfix")
            mine = {**values, **more, "plan": plan, "smtp": values[plan]}
            for name in ("main.cf", "master.cf"):
                write(root / plan / "etc" / name, name, mine)
                (root / plan / "etc" / name).chmod(0o644)
            # Postfix waits until one that is new has stayed as it is for two seconds.
            os.utime(root / plan / "etc" / "main.cf", (0, 0))

    def _default(self, name: str) -> str:
        command = self._postfix.with_name("postconf"), "-dh", name
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def _make_certificate(self) -> None:
        key, certificate = self.root / "key.pem", self.root / "cert.pem"
        subprocess.run(
            [
                *(self._openssl, "req", "-x509", "-newkey", "ec", "-days", "30", "-nodes"),
                *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=trial.mail.test"),
                *("-keyout", key, "-out", certificate),
            ],
            check=True,
            capture_output=True,
        )
        chain = self.root / "chain.pem"
        chain.touch(0o600)
        chain.write_bytes(key.read_bytes() + certificate.read_bytes())


def write(path: Path, template: str, values: Mapping[str, str]) -> None:
    """Render one of the configuration files."""
    path.write_text(Template((CONFIG / template).read_text()).substitute(values))


def find(program: str, package: str) -> Path:
    """A program's path."""
    found = shutil.which(program, path=PATH)
    if found is None:
        raise MissingError(f"{program} is missing: Debian package {package}")
    return Path(found)
