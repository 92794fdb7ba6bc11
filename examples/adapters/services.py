"""What the adapters serve: for each protocol, a service made of a user's handler."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias, cast

import dovecotauth as da
import milterproto as mp
import nginxauth as ng
import tcptable as tt
from milterproto.message import Message, MessageFilter
from tcptable import socketmap as sm

from ._contract import Handler, Replies, Service, TryAgainError, is_async

MilterEvent: TypeAlias = mp.Command | mp.ConnectionClosed
MilterReplies: TypeAlias = Replies[mp.Response]
MilterHandler: TypeAlias = Handler[MilterEvent, mp.Response]

TRY_AGAIN: Final = mp.TempFail()

# Gets each message, changes it, and gives a verdict, or None to let it pass.
Judge: TypeAlias = Callable[[Message], mp.Verdict | Awaitable[mp.Verdict | None] | None]


def milter(
    session: Callable[[mp.FilterConnection], MilterHandler],
    wants: mp.Wants,
    *,
    on_error: mp.Verdict | None = TRY_AGAIN,
) -> Service[MilterEvent, mp.Response]:
    """A milter filter.

    ``session`` is called for each connection of the MTA and returns the function that gets its
    events: all but two, the negotiation, which follows ``wants``, and macros, which are looked up
    in ``connection.macros``. Where that function returns None and a reply is due, the message goes
    on. When it fails, ``on_error`` is the verdict; with None the connection is closed, and the
    MTA's default action decides. While it works at the end of a message, the MTA is told that it
    does.
    """

    def handler(connection: Any) -> MilterHandler:
        handle = session(cast("mp.FilterConnection", connection))

        def negotiated(event: MilterEvent) -> MilterReplies | Awaitable[MilterReplies]:
            return mp.negotiate(event, wants) if isinstance(event, mp.Negotiate) else handle(event)

        return _like(handle, negotiated)

    def give_up(event: MilterEvent) -> tuple[mp.Response, ...]:
        return () if on_error is None or isinstance(event, mp.Negotiate) else (on_error,)

    def progress(connection: Any) -> mp.Response | None:
        return mp.Progress() if connection.state is mp.State.EOM else None

    return Service(
        connect=mp.FilterConnection,
        handler=handler,
        on_error=give_up,
        remote_error=mp.RemoteProtocolError,
        silence=mp.Continue(),
        skip=mp.Macros,
        keep_alive=progress,
    )


def messages(
    judge: MessageFilter | Judge, *, on_error: mp.Verdict | None = TRY_AGAIN
) -> Service[MilterEvent, mp.Response]:
    """A milter filter that is a function of whole messages, or a `MessageFilter` of several."""
    functions = judge if isinstance(judge, MessageFilter) else MessageFilter(judge)
    return milter(functions.session, functions.wants, on_error=on_error)


TableEvent: TypeAlias = tt.Request | tt.Malformed | tt.ConnectionClosed
# Found, NotFound or TempError; for socketmap PermError, too.
Lookup: TypeAlias = Callable[[tt.Get], tt.Reply | Awaitable[tt.Reply]]


def tcp_table(lookup: Lookup) -> Service[TableEvent, tt.Reply]:
    """A table for Postfix's ``tcp:host:port``. When ``lookup`` fails, the mail is deferred."""
    return _table(tt.ServerConnection, lookup)


def socketmap(lookup: Lookup) -> Service[TableEvent, tt.Reply]:
    """Tables for Postfix's ``socketmap:inet:host:port:name``; `Get.table` has the name."""
    return _table(sm.ServerConnection, lookup)


def _table(connect: Callable[[], Any], lookup: Lookup) -> Service[TableEvent, tt.Reply]:
    def handler(_connection: object) -> Handler[TableEvent, tt.Reply]:
        def plain(event: TableEvent) -> Any:
            match event:
                case tt.Get():
                    return lookup(event)
                case tt.Put():
                    return tt.NotFound(b"this table is read-only")
                case tt.Malformed():
                    return event.reply
                case tt.ConnectionClosed():
                    return None

        return _like(lookup, plain)

    return Service(
        connect=connect,
        handler=handler,
        # Never "no such user", and no word of what went wrong here.
        on_error=lambda _: (tt.TempError(b"the look-up has failed"),),
        remote_error=tt.RemoteProtocolError,
    )


AuthEvent: TypeAlias = da.Received | da.ConnectionClosed
AuthHandler: TypeAlias = Handler[AuthEvent, da.FromServer]


def dovecot_auth(
    session: Callable[[da.ServerConnection], AuthHandler],
    hello: Callable[[], da.ServerHello],
    *,
    temp_fail: bool = False,
) -> Service[AuthEvent, da.FromServer]:
    """Authentication for Postfix's ``smtpd_sasl_type = dovecot``, and for others.

    ``hello`` makes the greeting of each connection. ``session`` is called for each, too, and
    returns the function that gets `Auth`, `Cont`, `Cancel`, `Malformed` and the end. `Cancel` and
    `Malformed` end the exchange that they name, and are answered here, whatever it returns.
    When it fails the connection is closed, which Postfix turns into 454; it takes every Fail for
    a wrong password (535). ``temp_fail`` sends a Fail that says so, for those who understand it.
    """

    def handler(connection: Any) -> AuthHandler:
        conn = cast("da.ServerConnection", connection)
        handle = session(conn)

        def usual(event: AuthEvent) -> Any:
            match event:
                case da.Connected():
                    return hello()
                case da.Version() | da.ClientHello():
                    return None
                case da.Malformed(reply=reply) if reply.temporary and not temp_fail:
                    raise TryAgainError(event.reason)
                case da.Cancel(id):
                    # Below 1.4 nobody waits for it.
                    answer = da.Cancelled(id) if conn.outstanding.get(id) else None
                    return _after(handle(event), answer)
                case da.Malformed(reply=reply):
                    return _after(handle(event), reply)
                case _:
                    return handle(event)

        return _like(handle, usual)

    def give_up(event: AuthEvent) -> tuple[da.FromServer, ...]:
        if temp_fail and isinstance(event, da.Auth | da.Cont):
            return (da.Fail(event.id, code=da.TEMP_FAIL),)
        return ()

    return Service(
        connect=da.ServerConnection,
        handler=handler,
        on_error=give_up,
        remote_error=da.RemoteProtocolError,
        request_of=_request_of,
    )


def _request_of(event: AuthEvent) -> int | None:
    """Each has an id; None for what is said of the connection."""
    match event:
        case da.Auth() | da.Cont() | da.Cancel():
            return event.id
        case da.Malformed():
            return event.reply.id
        case _:
            return None


NginxEvent: TypeAlias = ng.AuthRequest | ng.Malformed | ng.ConnectionClosed
# For each request that can be understood, where the user goes on, or not.
Doorkeeper: TypeAlias = Callable[[ng.AuthRequest], ng.Reply | Awaitable[ng.Reply]]


def auth_http(doorkeeper: Doorkeeper) -> Service[NginxEvent, ng.Reply]:
    """Authentication for nginx's mail proxy: ``auth_http http://host:port/``.

    When ``doorkeeper`` fails, or says what can't be sent, the user is told to try again, and never
    that his password is wrong.
    """

    def handler(_connection: object) -> Handler[NginxEvent, ng.Reply]:
        def usual(event: NginxEvent) -> Any:
            match event:
                case ng.AuthRequest():
                    return doorkeeper(event)
                case ng.Malformed():
                    return event.reply
                case ng.ConnectionClosed():
                    return None

        return _like(doorkeeper, usual)

    return Service(
        connect=ng.ServerConnection,
        handler=handler,
        on_error=lambda _: (ng.Deny(b"Temporary authentication failure", b"451 4.3.0"),),
        remote_error=ng.RemoteProtocolError,
    )


def _like(function: Callable[..., object], handler: Handler[Any, Any]) -> Handler[Any, Any]:
    """The handler, a coroutine function if the user's is: servers look at that."""

    async def coroutine(event: Any) -> Any:
        returned = handler(event)
        return await returned if inspect.isawaitable(returned) else returned

    return coroutine if is_async(function) else handler


def _after(told: Any, reply: object) -> Any:
    """A reply that is sent whatever the user's function, which was told of its event, returns."""

    async def coroutine() -> object:
        await told
        return reply

    return coroutine() if inspect.isawaitable(told) else reply
