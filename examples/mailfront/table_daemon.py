r"""Answers Postfix's look-ups from the user database: over tcp_table, and over socketmap.

    table_daemon.py --map recipients=inet:127.0.0.1:10001 --map aliases=inet:127.0.0.1:10002 \
        --socketmap inet:127.0.0.1:10010 --transport trial=smtp:[127.0.0.1]:2525

and in main.cf: virtual_mailbox_maps = tcp:127.0.0.1:10001, or
socketmap:inet:127.0.0.1:10010:recipients. The maps:

    domains      the domains that are received for
    recipients   users' addresses, with extension or without: the mailbox
    aliases      addresses that stand for others: these
    transport    users' addresses: the way that belongs to their plan
    logins       addresses and aliases: who may send from there, for smtpd_sender_login_maps
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import re
import signal
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIServer

sys.path.insert(0, str(Path(__file__).parents[1]))

import attrs
import cachetools
import prometheus_client as prometheus
from adapters._contract import Limits
from adapters._listen import address_of
from adapters.on_asyncio import Server
from adapters.services import Lookup, socketmap, tcp_table

import tcptable as tt
from mailfront._addresses import domain_name, names_of
from mailfront._cache import Cache
from mailfront._options import A_DAY, host_port, mode, number, pair
from mailfront._sockets import listen_at, room_for
from mailfront.userdb import DEFAULT_DATABASE, Plan, UserDB
from tcptable import socketmap as sm

logger = logging.getLogger("table_daemon")
MAPS = ("domains", "recipients", "aliases", "transport", "logins")
# Every smtpd, cleanup and trivial-rewrite process holds a connection for each map, for its life.
LIMITS = Limits(connections=10_000, idle_timeout=86_400)
# What Postfix puts into quotes is what is no dot-atom (quote_822_local), and 8-bit text is one.
_ATOM = rb"""[^\x00-\x20\x7f()<>@,;:\\".\[\]]+"""
_QUOTED_ATOM = re.compile(rb'"%b(?:\.%b)*"@.*' % (_ATOM, _ATOM), re.DOTALL)

LOOKUPS = prometheus.Counter("table_lookups", "Look-ups answered", ["map", "result", "source"])
FAILURES = prometheus.Counter("table_database_failures", "Questions that the database failed")
SECONDS = prometheus.Histogram("table_database_seconds", "Time that the database took")


class Tables:
    """The maps. What the database says is kept for a while; what it can't say is not."""

    def __init__(
        self,
        users: UserDB,
        transports: Mapping[Plan, str],
        *,
        fresh: float,
        fresh_negative: float,
        size: int,
    ) -> None:
        self._users = users
        self._transports = transports
        # The maps for which the database can't be asked. A role may be kept from one table only.
        self._down: set[str] = set()
        # What was said of which row, so that it is said again after an hour only.
        self._said: cachetools.TTLCache[tuple[str, bytes], None] = cachetools.TTLCache(1000, 3600)
        self._cache: Cache[str | None] = Cache(
            self._ask, lambda answer: fresh_negative if answer is None else fresh, size
        )

    def lookup(self, table: str | None = None) -> Lookup:
        """A function that answers for one map, over tcp_table.

        Or for all, by the name in the request, over socketmap.
        """
        encode_reply = tt.encode_reply if table else sm.encode_reply

        async def answer(event: tt.Get) -> tt.Reply:
            name = table or event.table.decode("utf-8", "replace")
            if name not in MAPS:
                LOOKUPS.labels("unknown", "PermError", "key").inc()
                return tt.PermError(b"there is no such map")
            reply, source = await self._answer(name, event.key)
            try:
                encode_reply(reply)
            except tt.LocalProtocolError as error:
                reply = self._no_answer(name, event.key, error)
            LOOKUPS.labels(name, type(reply).__name__, source).inc()
            return reply

        return answer

    async def look(self, tables: Iterable[str]) -> None:
        """Whether the database can be asked, for the log; not having heard, one believes so."""
        asked = (self._ask((table, "")) for table in tables)
        await asyncio.gather(*asked, return_exceptions=True)

    async def _answer(self, table: str, key: bytes) -> tuple[tt.Reply, str]:
        source = "key"  # nothing had to be asked
        for name in names_in(table, key):
            try:
                value, cached = await self._cache.get((table, name))
            except LookupError as error:
                return self._no_answer(table, key, error), "database"
            except Exception:
                # Whatever it is, it does not mean that there is no such user.
                return tt.TempError(b"the database can't be asked"), "database"
            source = "cache" if cached else "database"
            if value is not None:
                return tt.Found(value.encode()), source
        return tt.NotFound(b"not here"), source

    async def _ask(self, key: tuple[str, str]) -> str | None:
        table, name = key
        try:
            with SECONDS.time():
                answer = await self._ask_database(table, name)
        except LookupError:
            raise  # there is a row, with what we know nothing of
        except Exception as error:
            FAILURES.inc()
            if table not in self._down:
                self._down.add(table)
                text = str(error).partition("\n")[0]
                kind = type(error).__name__
                logger.error(  # noqa: TRY400 - a line is enough
                    "%s: the database can't be asked: %s: %s", table, kind, text
                )
            raise
        if table in self._down:
            self._down.remove(table)
            logger.info("%s: the database answers again", table)
        return answer

    async def _ask_database(self, table: str, name: str) -> str | None:
        if table == "domains":
            return "OK" if await self._users.has_domain(name) else None
        if table == "aliases":
            return await self._users.alias(name)
        if table == "logins":
            is_user = await self._users.has_user(name)
            return name if is_user else await self._users.alias(name)
        if table == "recipients":
            return await self._users.mailbox(name)
        plan = await self._users.plan(name)
        return None if plan is None else self._transports.get(plan)

    def _no_answer(self, table: str, key: bytes, error: Exception) -> tt.TempError:
        """A row is there, and can't be told of: that is for somebody to mend."""
        if (table, key) not in self._said:
            self._said[table, key] = None
            logger.error("%s: %r is there, and can't be answered: %s", table, key, error)
        return tt.TempError(b"what was found can't be told")


def names_in(table: str, key: bytes) -> list[str]:
    """What to ask the database for a key of Postfix's, in turn; nothing if it can be no name.

    Postfix folds nothing, asks for the whole address only, first with the local part in quotes if
    it needs them, and asks a transport map for ``*`` as well.
    """
    if table == "domains":
        try:
            return [domain_name(key.decode())]
        except ValueError:
            return []
    # These quotes are the address's own, then, and it has been asked for in more of them before.
    return [] if _QUOTED_ATOM.fullmatch(key) else names_of(key)


async def serve(options: argparse.Namespace) -> None:
    """Until SIGTERM or SIGINT."""
    users = UserDB.connect(options.database, patience=options.patience)
    tables = Tables(
        users,
        dict(options.transport),
        fresh=options.fresh,
        fresh_negative=options.fresh_negative,
        size=options.cache,
    )
    servers = [
        *((f"{name} by tcp_table", tcp_table(tables.lookup(name)), at) for name, at in options.map),
        *(("all by socketmap", socketmap(tables.lookup()), at) for at in options.socketmap),
    ]
    room = room_for(LIMITS.connections * len(servers)) // len(servers)
    limits = attrs.evolve(LIMITS, connections=max(1, room))
    told = asyncio.Event()
    for one in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(one, told.set)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(users.close)
        if options.metrics:
            metrics, thread = serve_metrics(*options.metrics)
            stack.callback(metrics.server_close)
            stack.callback(thread.join)
            stack.callback(metrics.shutdown)
        running: list[Server[Any, Any]] = []

        async def stop() -> None:
            await asyncio.gather(*(server.stop() for server in running))

        stack.push_async_callback(stop)
        for what, service, address in servers:
            listener = listen_at(address, mode=options.mode)
            where = address_of(listener)
            server = Server(service, limits)
            await server.listen(listener)
            running.append(server)
            logger.info("%s on %s", what, where)
        await tables.look(MAPS if options.socketmap else dict(options.map))
        logger.info("ready")
        await told.wait()
    logger.info("stopped")


def serve_metrics(host: str, port: int) -> tuple[WSGIServer, Thread]:
    """The page, from a thread of its own."""
    shown = f"[{host}]" if ":" in host else host
    try:
        server, thread = prometheus.start_http_server(port, host)
    except OSError as error:
        raise OSError(f"{shown}:{port}: {error.strerror}") from None
    logger.info("metrics on %s:%d", shown, server.server_port)
    return server, thread


def map_name(text: str) -> str:
    """The name of a map."""
    if text not in MAPS:
        raise ValueError(f"{text!r} is none of the maps: {', '.join(MAPS)}")
    return text


def main() -> None:
    """Read the command line, and serve."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--database", default=DEFAULT_DATABASE, metavar="URL", help="%(default)s")
    add("--map", type=pair(map_name, str), action="append", default=[], metavar="NAME=ADDRESS")
    add("--socketmap", action="append", default=[], metavar="ADDRESS")
    add("--transport", type=pair(Plan, str), action="append", default=[], metavar="PLAN=NEXTHOP")
    add("--mode", type=mode, default=0o660, help="permissions of a unix socket, octal: 660")
    seconds = number(float, 0, A_DAY)
    add("--fresh", type=seconds, default=60.0, help="seconds to keep what was found: %(default)s")
    add("--fresh-negative", type=seconds, default=10.0, help="and what was not: %(default)s")
    add("--cache", type=number(int, 0, 10**9), default=100_000, help="answers to keep: %(default)s")
    patience = number(float, 0.01, A_DAY)
    add("--patience", type=patience, default=5.0, help="seconds for the database: %(default)s")
    add("--metrics", type=host_port, metavar="HOST:PORT", help="serve Prometheus' /metrics there")
    options = parser.parse_args()
    if not (options.map or options.socketmap):
        parser.error("nothing to serve: give --map or --socketmap")
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    try:
        asyncio.run(serve(options))
    except (OSError, ValueError) as error:
        raise SystemExit(f"can't start: {error}") from None


if __name__ == "__main__":
    main()
