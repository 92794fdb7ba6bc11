"""What the adapters serve: for each protocol, a service made of a user's handler."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final, TypeAlias, cast

import milterproto as mp

from ._contract import Handler, Replies, Service

MilterEvent: TypeAlias = mp.Command | mp.ConnectionClosed
MilterReplies: TypeAlias = Replies[mp.Response]
MilterHandler: TypeAlias = Handler[MilterEvent, mp.Response]

TRY_AGAIN: Final = mp.TempFail()


def milter(
    session: Callable[[mp.FilterConnection], MilterHandler],
    wants: mp.Wants,
    *,
    on_error: mp.Verdict | None = TRY_AGAIN,
) -> Service[MilterEvent, mp.Response]:
    """A milter filter.

    ``session`` is called for each connection of the MTA and returns the function that gets its
    events, all but the negotiation, which follows ``wants``. Where that function returns None
    and a reply is due, the message goes on. When it fails, ``on_error`` is the verdict; with
    None the connection is closed, and the MTA's default action decides. While it works at the
    end of a message, the MTA is told that it does.
    """

    def handler(connection: Any) -> MilterHandler:
        conn = cast("mp.FilterConnection", connection)
        handle = session(conn)

        def usual(returned: MilterReplies) -> MilterReplies:
            return mp.Continue() if returned is None and conn.our_turn else returned

        def plain(event: MilterEvent) -> MilterReplies:
            if isinstance(event, mp.Negotiate):
                return mp.negotiate(event, wants)
            return usual(cast("MilterReplies", handle(event)))

        async def coroutine(event: MilterEvent) -> MilterReplies:
            if isinstance(event, mp.Negotiate):
                return mp.negotiate(event, wants)
            return usual(await cast("Any", handle(event)))

        return coroutine if inspect.iscoroutinefunction(handle) else plain

    def give_up(event: MilterEvent) -> tuple[mp.Response, ...]:
        return () if on_error is None or isinstance(event, mp.Negotiate) else (on_error,)

    def progress(connection: Any) -> mp.Response | None:
        return mp.Progress() if connection.state is mp.State.EOM else None

    return Service(
        connect=mp.FilterConnection,
        handler=handler,
        on_error=give_up,
        remote_error=mp.RemoteProtocolError,
        keep_alive=progress,
    )
