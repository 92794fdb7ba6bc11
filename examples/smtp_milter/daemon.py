r"""A milter that asks an SMTP gateway what it thinks of each message, before the MTA queues it.

    python examples/smtp_milter/daemon.py --config smtp_milter.toml --check
    python examples/smtp_milter/daemon.py --config smtp_milter.toml

The first says whether all is in order, the second serves until SIGTERM. What the lines of the file
do stands in the example beside this program, and how to put it together in README.md.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import secrets
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import prometheus_client as prometheus

sys.path.insert(0, str(Path(__file__).parents[1]))

from adapters._listen import listen
from adapters.on_asyncio import Server
from adapters.services import milter

import milterproto as mp
from smtp_milter._check import check
from smtp_milter._config import AllowListConfig, Config, ConfigError, load
from smtp_milter._gateways import Gateway, Gateways
from smtp_milter._services import AllowList, Services
from smtp_milter._session import Session
from smtp_milter._sink import Sink
from smtp_milter._tokens import Tokens

logger = logging.getLogger("smtp_milter")


async def serve(config: Config) -> None:
    """Until SIGTERM or SIGINT."""
    own_name = config.name.encode("ascii", "replace")
    mode = int(config.mode, 8)
    gateways = Gateways(
        [Gateway(one, config.timeouts, own_name) for one in config.gateway], config.timeouts
    )
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(gateways.close)
        sink = allow_list = None
        if config.metrics:
            host, _, port = config.metrics.rpartition(":")
            with _told("metrics", config.metrics):
                server, thread = prometheus.start_http_server(int(port), host.strip("[]"))
            stack.callback(server.server_close)
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            logger.info("metrics on %s:%d", host, server.server_port)
        if config.sink is not None:
            sink = Sink(config.sink, config.name, config.max_size)
            with _told("sink", config.sink.listen):
                logger.info("sink on %s", await sink.start(mode))
            stack.push_async_callback(sink.stop)
        if config.allow_list is not None:
            allow_list = await stack.enter_async_context(_allow_list(config.allow_list))
        services = Services(
            config=config,
            gateways=gateways,
            tokens=Tokens(secrets.token_bytes(32)),
            sink=sink,
            allow_list=allow_list,
        )
        service = milter(
            lambda connection: Session(services, connection).handle,
            services.wants,
            on_error=mp.Continue() if config.dry_run else mp.TempFail(),
        )
        listeners = []
        for one in config.listen:
            with _told("milter", one):
                listeners.append(listen(one, mode=mode))
        await Server(service).run(*listeners)
    logger.info("stopped")


@contextlib.contextmanager
def _told(what: str, where: str) -> Iterator[None]:
    """The system says that an address is in use, and not which."""
    try:
        yield
    except OSError as error:
        raise OSError(f"{what}: {where}: {error.strerror or error}") from None


@contextlib.asynccontextmanager
async def _allow_list(config: AllowListConfig) -> AsyncIterator[AllowList]:
    # Loading the database's library takes as long as all the rest, and few have an allow-list.
    from mailfront.userdb import UserDB  # noqa: PLC0415
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

    from smtp_milter import _allow  # noqa: PLC0415

    users = UserDB.connect(config.database, patience=config.patience)
    try:
        try:
            await users.create_tables()
        except (SQLAlchemyError, OSError) as error:
            raise OSError(f"the user database: {str(error).splitlines()[0]}") from None
        yield _allow.AllowList(users)
    finally:
        await users.close()


async def tell(config: Config) -> bool:
    """Print what a check says; whether all is in order."""
    well = True
    async for is_well, line in check(config):
        print("ok:    " if is_well else "FAULT: ", line, flush=True)
        well &= is_well
    return well


def main() -> None:
    """Read the command line, and the file that it names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, required=True, metavar="FILE")
    parser.add_argument("--check", action="store_true", help="say whether all is there, and end")
    options = parser.parse_args()
    try:
        config = load(options.config)
        if options.check:
            raise SystemExit(0 if asyncio.run(tell(config)) else 1)
        logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
        asyncio.run(serve(config))
    except (ConfigError, OSError, ValueError) as error:
        raise SystemExit(f"can't start: {error}") from None


if __name__ == "__main__":
    main()
