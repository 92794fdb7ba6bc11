"""A Dovecot that lets mail users in, and has nobody to ask but us."""

from __future__ import annotations

import contextlib
import os
import secrets
import socketserver
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Final, TypeAlias

import attrs
import scramp

import dovecotauth as da
from dovecotauth import master

from ._dovecot import PASSWORD, Dovecot
from ._postfix import PATIENCE, free_port

# Of our "auth process", on both sockets: a mail process that is told another one than its login
# process was may take the server for one that was started anew, and drop the login.
PID: Final = 4711
UID: Final = 1000
WORD: Final = PASSWORD.decode()

Result: TypeAlias = da.Cont | da.Ok | da.Fail

_CONFIG = """\
base_dir = {root}/run
state_dir = {root}/state
log_path = {root}/log
protocols = imap
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
# As root it would ask the kernel for more than a container may have.
default_vsz_limit = 0
default_login_user = dovecot
default_internal_user = dovecot
default_internal_group = dovecot
mail_location = maildir:~/mail
# Without a listener no authentication process is ever started.
service auth {{
  unix_listener auth-client {{
    mode = 0
  }}
  unix_listener auth-login {{
    mode = 0
  }}
  unix_listener auth-master {{
    mode = 0
  }}
  unix_listener auth-userdb {{
    mode = 0
  }}
  unix_listener login/login {{
    mode = 0
  }}
  unix_listener token-login/tokenlogin {{
    mode = 0
  }}
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    address = 127.0.0.1
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
"""


@attrs.frozen
class Login:
    """A login that was granted, and that a mail process may ask for, once."""

    cookie: bytes
    mechanism: bytes
    user: bytes


@attrs.define
class Users:
    """What both sockets' servers know; what they were asked, for the tests to look at."""

    NAMES = (b"alice", b"bob")
    # What is not simply right or wrong.
    RESULTS: ClassVar[Mapping[bytes, tuple[bytes, bytes]]] = {
        b"busy": (da.TEMP_FAIL, b""),
        b"disabled": (da.USER_DISABLED, b""),
        b"expired": (da.PASS_EXPIRED, b""),
        b"other": (da.AUTHZ_FAIL, b""),
        b"told": (b"", b"Come back\ttomorrow"),
    }

    home: Path
    asked: list[Any] = attrs.Factory(list)
    # By the client's pid and the id of its request.
    logins: dict[tuple[int, int], Login] = attrs.Factory(dict)
    list_fails: bool = False
    longest: bool = False  # whether lines are made as long as they may be

    def verdict(self, number: int, user: bytes, password: bytes) -> da.Ok | da.Fail:
        """Whether it is he. Names are not case-sensitive here."""
        if user in self.RESULTS:
            return da.Fail(number, user, *self.RESULTS[user])
        if password != PASSWORD:
            return da.Fail(number, user)
        if user == b"closed":
            return da.Ok(number, user, ((b"nologin", None), (b"reason", b"Closed for today")))
        line = b"OK\t%d\tuser=%b\n" % (number, user)
        return da.Ok(number, user.lower(), self.padding(line, da.MAX_LINE))

    def fields(self) -> da.Parameters:
        """Where mail lives."""
        number = str(UID).encode()
        return ((b"uid", number), (b"gid", number), (b"home", bytes(self.home)))

    def padding(self, line: bytes, limit: int) -> da.Parameters:
        """What makes a line as long as that, if it is to be."""
        return ((b"x", b"y" * (limit - len(line) - len(b"\tx="))),) if self.longest else ()


class Auth:
    """One connection of a login process."""

    def __init__(self, users: Users) -> None:
        self.conn = da.ServerConnection()
        self._users = users
        self._cookie = secrets.token_hex(16).encode()
        self._pid = 0
        self._exchanges: dict[int, tuple[bytes, Any]] = {}

    def answer(self, event: Any) -> list[da.FromServer]:
        """What is due after an event."""
        self._users.asked.append(event)
        match event:
            case da.Connected():
                names = (b"PLAIN", b"LOGIN", b"SCRAM-SHA-256")
                return [da.ServerHello(tuple(map(da.Mechanism, names)), PID, 1, self._cookie)]
            case da.ClientHello():
                self._pid = event.pid
            case da.Malformed():
                return [event.reply]
            case da.Auth():
                self._exchanges[event.id] = event.mechanism, None
                if event.response is None:
                    first = b"Username:" if event.mechanism == b"LOGIN" else b""
                    return [da.Cont(event.id, first)]
                return [self._step(event.id, event.response)]
            case da.Cont():
                return [self._step(event.id, event.data or b"")]
            case _:
                pass
        return []

    def _step(self, number: int, data: bytes) -> Result:
        mechanism, state = self._exchanges[number]
        if mechanism == b"SCRAM-SHA-256":
            return self._remember(mechanism, self._scram(number, state, data))
        if mechanism == b"PLAIN":
            _, user, password = data.split(b"\0")
        elif state is None:
            self._exchanges[number] = mechanism, data
            return da.Cont(number, b"Password:")
        else:
            user, password = state, data
        return self._remember(mechanism, self._users.verdict(number, user, password))

    def _scram(self, number: int, scram: Any, data: bytes) -> da.Cont | da.Ok:
        if scram is None:
            found = scramp.ScramMechanism("SCRAM-SHA-256")

            def look_up(user: str) -> Any:
                scram.user = user
                return found.make_auth_info(WORD)

            scram = found.make_server(look_up)
            self._exchanges[number] = b"SCRAM-SHA-256", scram
            scram.set_client_first(data.decode())
            return da.Cont(number, scram.get_server_first().encode())
        if data:
            scram.set_client_final(data.decode())
            return da.Cont(number, scram.get_server_final().encode())
        # Our last word was heard.
        return da.Ok(number, scram.user.encode())

    def _remember(self, mechanism: bytes, result: Result) -> Result:
        if isinstance(result, da.Ok):
            login = Login(self._cookie, mechanism, result.user)
            self._users.logins[self._pid, result.id] = login
        return result


class Master:
    """One connection of who may ask for users: a mail process, or doveadm."""

    def __init__(self, users: Users) -> None:
        self.conn = master.ServerConnection()
        self._users = users

    def answer(self, event: Any) -> list[master.FromServer]:
        """What is due after an event."""
        users = self._users
        users.asked.append(event)
        match event:
            case da.Connected():
                return [master.MasterHello(PID)]
            case master.Request():
                return [self._login(event)]
            case master.GetUser():
                if event.user not in users.NAMES:
                    return [master.NotFound(event.id)]
                return [master.UserFound(event.id, event.user, users.fields())]
            case master.GetPass():
                if event.user not in users.NAMES:
                    return [master.NotFound(event.id)]
                return [master.PassFound(event.id, event.user, ((b"x", b"a\tb\x01"),))]
            case master.ListUsers():
                return [
                    *(master.Listed(event.id, name) for name in users.NAMES),
                    master.ListEnd(event.id, failed=users.list_fails),
                ]
            case _:
                return []

    def _login(self, event: master.Request) -> master.UserFound | da.Fail:
        login = self._users.logins.pop((event.client_pid, event.request_id), None)
        if login is None or not secrets.compare_digest(login.cookie, event.cookie):
            return da.Fail(event.id)
        fields = (*self._users.fields(), (b"auth_mech", login.mechanism))
        words = [
            b"USER",
            b"%d" % event.id,
            login.user,
            *(b"%b=%b" % (name, value or b"") for name, value in fields),
        ]
        padding = self._users.padding(b"\t".join(words) + b"\n", 8192)
        return master.UserFound(event.id, login.user, fields + padding)


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, path: Path, make: Callable[[], Auth | Master]) -> None:
        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                served: Any = make()
                while not isinstance(event := served.conn.next_event(), da.ConnectionClosed):
                    if event is None:
                        served.conn.receive_data(self.request.recv(65536))
                        continue
                    for reply in served.answer(event):
                        # A login process may end while we greet it.
                        with contextlib.suppress(BrokenPipeError):
                            self.request.sendall(served.conn.send(reply))

        super().__init__(str(path), Handler)
        path.chmod(0o666)
        threading.Thread(target=self.serve_forever, args=(0.05,)).start()


class LoginDovecot(Dovecot):
    """Its ``imap-login`` asks `Auth`, its ``imap`` asks `Master`; its own ``auth`` is off."""

    def __init__(self, program: Path) -> None:
        super().__init__(program)
        self.port = free_port()
        self.users = Users(self.root / "home")
        self._servers: list[_Server] = []

    def __exit__(self, *exc_info: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()
        super().__exit__(*exc_info)

    def wait_for(self, *texts: str) -> None:
        """Until a line of the log has all of them: processes write to it in their own time."""
        deadline = time.monotonic() + PATIENCE
        while not any(all(one in line for one in texts) for line in self.log().splitlines()):
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)

    def _configure(self) -> None:
        self.root.chmod(0o755)
        self.users.home.mkdir()
        os.chown(self.users.home, UID, UID)
        (self.root / "conf").write_text(_CONFIG.format(root=self.root, port=self.port))

    def _wait_until_it_listens(self) -> None:
        """Its sockets are there at once, after it has removed all that were there before."""
        run = self.root / "run"
        deadline = time.monotonic() + PATIENCE
        while not (run / "login" / "imap").exists():
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)
        self._servers.append(_Server(run / "login" / "login", lambda: Auth(self.users)))
        self._servers.append(_Server(run / "auth-master", lambda: Master(self.users)))
