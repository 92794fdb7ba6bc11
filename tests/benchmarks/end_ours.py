"""Our adapters with the benchmark's filter: `python -m tests.benchmarks.end_ours STYLE SOCKET`.

The filter counts header fields and bytes of body; a message that has not so many as it should is
refused, and one that has gets one header field added and one changed. In the style `no-reply` it
is on asyncio, and has negotiated to answer nothing but the end of the message.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Callable
from typing import Any, Final

import trio
from adapters import on_asyncio, on_threads, on_trio
from adapters._listen import listen
from adapters.services import MilterEvent, MilterReplies, milter

import milterproto as mp
from milterproto import Body, EndOfMessage, Header, MailFrom
from tests.benchmarks import _milter_session as session

SIZE: Final = session.SIZES["10 kB"]
VERDICT: Final = (
    mp.AddHeader(*session.ADDED),
    mp.ChangeHeader(*session.CHANGED),
    mp.Continue(),
)
WANTS: Final = mp.Wants(actions=mp.Actions.ADDHDRS | mp.Actions.CHGHDRS)
NO_REPLY: Final = mp.Wants(replies=(), actions=mp.Actions.ADDHDRS | mp.Actions.CHGHDRS)


def counting(_connection: mp.FilterConnection) -> Callable[[MilterEvent], MilterReplies]:
    """What handles one connection's events."""
    headers = size = 0

    def handle(event: MilterEvent) -> MilterReplies:
        nonlocal headers, size
        match event:
            case Header():
                headers += 1
            case Body():
                size += len(event.data)
            case MailFrom():
                headers = size = 0
            case EndOfMessage():
                whole = headers == len(session.HEADERS) and size == SIZE
                return VERDICT if whole else mp.Reject()
            case _:
                pass
        return None

    return handle


def main(style: str, path: str) -> None:
    """Serve until the process is ended."""
    service: Any = milter(counting, NO_REPLY if style == "no-reply" else WANTS)
    listener = listen(f"unix:{path}")
    print("listening", flush=True)
    match style:
        case "threads":
            on_threads.Server(service).run(listener)
        case "trio":
            trio.run(on_trio.Server(service).run, listener)
        case "uvloop":
            importlib.import_module("uvloop").run(on_asyncio.Server(service).run(listener))
        case _:
            asyncio.run(on_asyncio.Server(service).run(listener))


if __name__ == "__main__":
    main(*sys.argv[1:])
