"""One line <-> one event, on a master socket."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from ._errors import LocalProtocolError, RemoteProtocolError
from ._events import Fail, Parameters, has, value_of
from ._fields import (
    decode_number,
    decode_parameters,
    encode_number,
    encode_parameters,
    encode_text,
    unescape,
)
from ._master_events import (
    GetPass,
    GetUser,
    Listed,
    ListEnd,
    ListUsers,
    MasterHello,
    NotFound,
    PassFound,
    Request,
    UserFound,
)

# With the LF: what Dovecot takes of a master, and what its own masters take of a server.
MAX_QUERY: Final = 1024
MAX_ANSWER: Final = 8192

# Dovecot 2.3 reads hexadecimal digits into 16 bytes. Of more of them its `auth` dies, and every
# login with it; of other things it disconnects.
_COOKIE: Final = re.compile(rb"[0-9A-Fa-f]{32}")
_NO_NAMES: Final = frozenset({b"user", b"reason"})


def encode_hello(event: MasterHello) -> bytes:
    """The SPID line."""
    return b"SPID\t%b\n" % encode_number(event.pid, "the pid")


def decode_hello(words: list[bytes]) -> MasterHello:
    """The line after the server's VERSION; a CUID or MECH there is from another kind of socket."""
    if len(words) != 2 or words[0] != b"SPID":
        raise RemoteProtocolError("no SPID after VERSION: this is no master socket")
    return MasterHello(decode_number(words[1], "a pid", 0))


# --- queries -------------------------------------------------------------------------------


def _encode_get(verb: bytes, event: GetUser | GetPass) -> bytes:
    words = [verb, encode_number(event.id, "an id"), _encode_user(event.user)]
    words += encode_parameters(event.parameters)
    if not value_of(event.parameters, b"service"):
        raise LocalProtocolError("a query needs its service: Dovecot disconnects if it has none")
    return _line(words, MAX_QUERY)


def _encode_list(event: ListUsers) -> bytes:
    words = [b"LIST", encode_number(event.id, "an id"), *encode_parameters(event.parameters)]
    return _line(words, MAX_QUERY)


def _encode_request(event: Request) -> bytes:
    if not _COOKIE.fullmatch(event.cookie):
        raise LocalProtocolError("a cookie is 32 hexadecimal digits")
    words = [
        b"REQUEST",
        encode_number(event.id, "an id"),
        encode_number(event.client_pid, "the client's pid"),
        encode_number(event.request_id, "the request's id"),
        event.cookie,
        *encode_parameters(event.parameters),
    ]
    return _line(words, MAX_QUERY)


def _decode_get(make: Callable[[int, bytes, Parameters], Any], words: list[bytes]) -> Any:
    # Dovecot looks an empty name up, as any other; doveadm asks for what it was given.
    number, user, parameters = _named(words)
    if not has(parameters, b"service") and not has(parameters, b"protocol"):
        raise RemoteProtocolError("a query without service")
    return make(number, user, parameters)


def _decode_list(words: list[bytes]) -> ListUsers:
    return ListUsers(_id(words), decode_parameters(words[2:]))


def _decode_request(words: list[bytes]) -> Request:
    if len(words) < 5:
        raise RemoteProtocolError("a REQUEST without pid, id or cookie")
    pid = decode_number(words[2], "a pid")
    request = decode_number(words[3], "an id")
    if not _COOKIE.fullmatch(words[4]):
        # An empty one would be that of a connection that has none.
        raise RemoteProtocolError("a REQUEST whose cookie is not 32 hexadecimal digits")
    return Request(_id(words), pid, request, words[4], decode_parameters(words[5:]))


# --- answers -------------------------------------------------------------------------------


def _decode_user_found(words: list[bytes]) -> UserFound:
    number, user, fields = _named(words)
    if not user:
        raise RemoteProtocolError("a USER that names nobody")
    return UserFound(number, user, fields)


def _encode_user_found(event: UserFound) -> bytes:
    words = [b"USER", encode_number(event.id, "an id"), _encode_user(event.user)]
    return _line([*words, *encode_parameters(event.fields)], MAX_ANSWER)


def _encode_pass_found(event: PassFound) -> bytes:
    words = [b"PASS", encode_number(event.id, "an id"), b"user=" + _encode_user(event.user)]
    return _line([*words, *encode_parameters(event.fields, frozenset({b"user"}))], MAX_ANSWER)


def _encode_fail(event: Fail) -> bytes:
    if event.user or event.code or event.response is not None:
        raise LocalProtocolError("on a master socket a Fail has a reason, and nothing else")
    words = [b"FAIL", encode_number(event.id, "an id")]
    if event.reason:
        words.append(b"reason=" + encode_text(event.reason))
    words += encode_parameters(event.fields, _NO_NAMES)
    if len(words) == 3 and not event.reason and event.fields[0][1] is None:
        raise LocalProtocolError("a flag alone would be read as the reason")
    return _line(words, MAX_ANSWER)


def _encode_listed(event: Listed) -> bytes:
    words = [b"LIST", encode_number(event.id, "an id"), _encode_user(event.user)]
    return _line(words, MAX_ANSWER)


def _encode_list_end(event: ListEnd) -> bytes:
    # The TAB is there even if all went well.
    return b"DONE\t%b\t%b\n" % (encode_number(event.id, "an id"), b"fail" if event.failed else b"")


def _decode_pass_found(words: list[bytes]) -> PassFound:
    fields = decode_parameters(words[2:])
    users = [value for name, value in fields if name == b"user"]
    if len(users) != 1 or not users[0]:
        raise RemoteProtocolError("a PASS that does not name one user")
    return PassFound(_id(words), users[0], tuple(one for one in fields if one[0] != b"user"))


def _decode_fail(words: list[bytes]) -> Fail:
    fields = decode_parameters(words[2:])
    reason = value_of(fields, b"reason") or b""
    if not reason and len(fields) == 1 and fields[0][1] is None:
        # As the document has it: FAIL, id, and an error message.
        return Fail(_id(words), reason=fields[0][0])
    return Fail(_id(words), reason=reason, fields=tuple(f for f in fields if f[0] not in _NO_NAMES))


def _decode_list_end(words: list[bytes]) -> ListEnd:
    return ListEnd(_id(words), failed=b"fail" in words[2:])


def _decode_listed(words: list[bytes]) -> Listed:
    number, user, _ = _named(words)
    if not user:
        raise RemoteProtocolError("a LIST that names nobody")
    return Listed(number, user)


# --- what they share -----------------------------------------------------------------------


def _id(words: list[bytes]) -> int:
    if len(words) < 2:
        raise RemoteProtocolError("a line without id")
    return decode_number(words[1], "an id")


def _named(words: list[bytes]) -> tuple[int, bytes, Parameters]:
    """The id, the user without a name before it, and the rest."""
    if len(words) < 3:
        raise RemoteProtocolError("a line without id or user")
    user = unescape(words[2])
    if b"\0" in user:
        raise RemoteProtocolError("a user with NUL")
    return _id(words), user, decode_parameters(words[3:])


def _encode_user(user: bytes) -> bytes:
    if not user:
        raise LocalProtocolError("a user has a name")
    return encode_text(user)


def _line(words: list[bytes], limit: int) -> bytes:
    line = b"\t".join(words) + b"\n"
    if len(line) > limit:
        raise LocalProtocolError(f"the line has {len(line)} bytes, and the peer takes {limit}")
    return line


ENCODE_QUERY: Final[Mapping[type, Callable[[Any], bytes]]] = {
    GetUser: lambda event: _encode_get(b"USER", event),
    GetPass: lambda event: _encode_get(b"PASS", event),
    ListUsers: _encode_list,
    Request: _encode_request,
}
DECODE_QUERY: Final[Mapping[bytes, Callable[[list[bytes]], Any]]] = {
    b"USER": lambda words: _decode_get(GetUser, words),
    b"PASS": lambda words: _decode_get(GetPass, words),
    b"LIST": _decode_list,
    b"REQUEST": _decode_request,
}
ENCODE_ANSWER: Final[Mapping[type, Callable[[Any], bytes]]] = {
    UserFound: _encode_user_found,
    PassFound: _encode_pass_found,
    NotFound: lambda event: b"NOTFOUND\t%b\n" % encode_number(event.id, "an id"),
    Fail: _encode_fail,
    Listed: _encode_listed,
    ListEnd: _encode_list_end,
}
DECODE_ANSWER: Final[Mapping[bytes, Callable[[list[bytes]], Any]]] = {
    b"USER": _decode_user_found,
    b"PASS": _decode_pass_found,
    b"NOTFOUND": lambda words: NotFound(_id(words)),
    b"FAIL": _decode_fail,
    b"LIST": _decode_listed,
    b"DONE": _decode_list_end,
}
