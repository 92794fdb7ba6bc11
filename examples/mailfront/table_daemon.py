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
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import prometheus_client as prometheus
from adapters._contract import Limits
from adapters._listen import address_of, listen
from adapters.on_asyncio import Server
from adapters.services import Lookup, socketmap, tcp_table

import tcptable as tt
from mailfront._addresses import names_of
from mailfront._cache import Cache
from mailfront._options import mode, pair
from mailfront._patience import within
from mailfront.userdb import DEFAULT_DATABASE, Plan, UserDB

logger = logging.getLogger("table_daemon")
MAPS = ("domains", "recipients", "aliases", "transport", "logins")
# Every smtpd, cleanup and trivial-rewrite process holds a connection for each map, for its life.
LIMITS = Limits(connections=10_000, idle_timeout=86_400)

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
        patience: float,
    ) -> None:
        self._users = users
        self._transports = transports
        self._patience = patience
        self._is_down = False
        self._cache: Cache[str | None] = Cache(
            self._ask, lambda answer: fresh_negative if answer is None else fresh, size
        )

    def lookup(self, table: str | None = None) -> Lookup:
        """A function that answers for one map; or for all, by the name in the request."""

        async def answer(event: tt.Get) -> tt.Reply:
            name = table or event.table.decode("utf-8", "replace")
            if name not in MAPS:
                return tt.PermError(b"there is no such map")
            reply, source = await self._answer(name, event.key)
            LOOKUPS.labels(name, type(reply).__name__, source).inc()
            return reply

        return answer

    async def _answer(self, table: str, key: bytes) -> tuple[tt.Reply, str]:
        source = "key"  # nothing had to be asked
        for name in names_in(table, key):
            try:
                value, cached = await self._cache.get((table, name))
            except Exception as error:
                # Whatever it is, it does not mean that there is no such user.
                self._note_failure(error)
                return tt.TempError(b"the database can't be asked"), "database"
            source = "cache" if cached else "database"
            if value is not None:
                return tt.Found(value.encode()), source
        return tt.NotFound(b"not here"), source

    async def _ask(self, key: tuple[str, str]) -> str | None:
        table, name = key
        with SECONDS.time():
            answer = await within(self._patience, self._ask_database(table, name))
        if self._is_down:
            self._is_down = False
            logger.info("the database answers again")
        return answer

    async def _ask_database(self, table: str, name: str) -> str | None:
        if table == "domains":
            return "OK" if await self._users.has_domain(name) else None
        if table == "aliases":
            return await self._users.alias(name)
        user = await self._users.user(name)
        if table == "logins":
            return await self._users.alias(name) if user is None else user.address
        if user is None:
            return None
        return user.mailbox if table == "recipients" else self._transports.get(user.plan)

    def _note_failure(self, error: Exception) -> None:
        FAILURES.inc()
        if not self._is_down:
            self._is_down = True
            text = str(error).partition("\n")[0]
            logger.error("the database can't be asked: %s: %s", type(error).__name__, text)


def names_in(table: str, key: bytes) -> list[str]:
    """What to ask the database for a key of Postfix's, in turn; nothing if it can be no name.

    Postfix folds nothing, asks for the whole address only, first with the local part in quotes if
    it needs them, and asks a transport map for ``*`` as well.
    """
    if table != "domains":
        return names_of(key)
    name = key.decode("utf-8", "ignore").lower()
    return [name] if name.encode() == key.lower() and name else []


async def serve(options: argparse.Namespace) -> None:
    """Until SIGTERM or SIGINT."""
    users = UserDB.connect(options.database)
    tables = Tables(
        users,
        dict(options.transport),
        fresh=options.fresh,
        fresh_negative=options.fresh_negative,
        size=options.cache,
        patience=options.patience,
    )
    servers = [
        *((f"{name} by tcp_table", tcp_table(tables.lookup(name)), at) for name, at in options.map),
        *(("all by socketmap", socketmap(tables.lookup()), at) for at in options.socketmap),
    ]
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(users.close)
        if options.metrics:
            host, colon, port = options.metrics.rpartition(":")
            if not colon or not port.isdecimal():
                raise ValueError(f"{options.metrics!r} is not HOST:PORT")
            metrics, thread = prometheus.start_http_server(int(port), host)
            stack.callback(metrics.server_close)
            stack.callback(thread.join)
            stack.callback(metrics.shutdown)
            logger.info("metrics on %s:%d", host, metrics.server_port)
        for what, service, address in servers:
            listener = listen(address, mode=options.mode)
            where = address_of(listener)
            server = Server(service, LIMITS)
            await server.listen(listener)
            stack.push_async_callback(server.stop)
            logger.info("%s on %s", what, where)
        logger.info("ready")
        await told.wait()
    logger.info("stopped")


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
    add("--fresh", type=float, default=60.0, help="seconds to keep what was found: %(default)s")
    add("--fresh-negative", type=float, default=10.0, help="and what was not: %(default)s")
    add("--cache", type=int, default=100_000, help="answers to keep: %(default)s")
    add("--patience", type=float, default=5.0, help="seconds for the database: %(default)s")
    add("--metrics", metavar="HOST:PORT", help="serve Prometheus' /metrics there")
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
