"""What the daemon of `long_soak` answers; its good peers know it, too."""

from __future__ import annotations

import zlib
from typing import Any, Final

import dovecotauth as da
import milterproto as mp
import nginxauth as ng
import tcptable as tt

IDLE_TIMEOUT: Final = 10.0  # seconds, so that peers who say nothing come and go, too


class AskedForError(Exception):
    """What a handler raises because a peer would have it so."""


class Filter:
    """Adds a field that depends on all of the message, so that none gets another one's."""

    def __init__(self) -> None:
        self.sum = 0

    def __call__(self, event: Any) -> Any:
        match event:
            case mp.MailFrom(sender=sender):
                self.sum = zlib.crc32(sender)
            case mp.RcptTo(recipient=b"<nobody@soak.test>"):
                return mp.ReplyCode.text(550, "5.1.1", "No such user here")
            case mp.RcptTo(recipient=b"<bug@soak.test>"):
                raise AskedForError
            case mp.Header(name=name, value=value):
                self.sum = zlib.crc32(name + value, self.sum)
            case mp.Body(data=data):
                self.sum = zlib.crc32(data, self.sum)
            case mp.EndOfMessage():
                return [mp.AddHeader(b"X-Sum", b"%08x" % self.sum), mp.Accept()]
            case _:
                pass
        return None


def look_up(event: tt.Get) -> tt.Reply:
    """Every key is there but those that begin with "no"; "bug" is one."""
    if event.key == b"bug":
        raise AskedForError
    if event.key.startswith(b"no"):
        return tt.NotFound(b"no such key")
    return tt.Found(b"%08x %b" % (zlib.crc32(event.key), event.key[:3000]))


def log_in(event: Any) -> Any:
    """The password is right if it is the user's name, turned round."""
    match event:
        case da.Auth(response=None):
            return da.Cont(event.id, b"")
        case da.Auth(response=bytes(said)) | da.Cont(data=bytes(said)):
            user, _, password = said.rpartition(b"\0")
            user = user.rpartition(b"\0")[2]
            if user == b"bug":
                raise AskedForError
            if user and password == user[::-1]:
                return da.Ok(event.id, user)
            return da.Fail(event.id, user)
        case da.Cont():
            return da.Fail(event.id)
        case _:
            return None


def let_in(event: ng.AuthRequest) -> ng.Reply:
    """The same, and the port depends on the user's name."""
    if event.user == b"bug":
        raise AskedForError
    if event.user and event.password == event.user[::-1]:
        return ng.Allow(b"192.0.2.1", 1 + zlib.crc32(event.user) % 65535)
    return ng.Deny(b"No such user, or another password")
