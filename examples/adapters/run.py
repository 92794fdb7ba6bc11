"""The command line that the example programs share: which adapter, and where to listen."""

from __future__ import annotations

import argparse
import asyncio
import logging
import socket
from typing import Any

from . import on_asyncio, on_threads
from ._contract import Service, logger
from ._listen import inherited, listen

DEFAULT_ADDRESS = "inet:127.0.0.1:8890"


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options that `serve` needs."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--adapter",
        choices=("asyncio", "trio", "threads"),
        default="asyncio",
        help="what to run on (default: %(default)s)",
    )
    parser.add_argument(
        "--in-thread",
        action="store_true",
        help="let asyncio or trio call the filter in worker threads, since it may take its time",
    )
    parser.add_argument(
        "--listen",
        metavar="ADDRESS",
        action="append",
        default=[],
        help="unix:/path, inet:host:port or inet6:[host]:port; may be given more than once "
        f"(default: the sockets from systemd, or else {DEFAULT_ADDRESS})",
    )
    parser.add_argument(
        "--mode",
        type=_mode,
        default=0o660,
        help="permissions of a unix socket, octal (default: 660)",
    )
    return parser


def serve(service: Service[Any, Any], options: argparse.Namespace) -> None:
    """Serve until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    listeners = _listeners(options)
    if options.adapter == "threads":
        on_threads.Server(service).run(*listeners)  # always in threads
    elif options.adapter == "trio":
        try:
            import trio  # noqa: PLC0415 - needed by those who choose it

            from . import on_trio  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise SystemExit(f"{error.name} is not installed here: pip install trio") from None
        trio.run(on_trio.Server(service, in_thread=options.in_thread).run, *listeners)
    else:
        asyncio.run(on_asyncio.Server(service, in_thread=options.in_thread).run(*listeners))
    logger.info("stopped")


def _mode(digits: str) -> int:
    try:
        return int(digits, 8)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{digits!r} is no octal number, such as 660") from None


def _listeners(options: argparse.Namespace) -> list[socket.socket]:
    listeners = [] if options.listen else inherited()
    for address in options.listen or ([] if listeners else [DEFAULT_ADDRESS]):
        try:
            listeners.append(listen(address, mode=options.mode))
        except (OSError, ValueError) as error:
            raise SystemExit(f"can't listen on {address}: {error}") from None
    return listeners
