"""Tools for filters in any language, from the shell: ``python -m milterproto TOOL ...``.

``send`` does to a running filter what an MTA would, ``record`` stands between the two and writes
down what they say, ``replay`` and ``show`` make use of that, and ``check`` looks for what a filter
does wrong. Sockets, files, the clock and the terminal are here; the rest is in `_shell`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, TextIO

from ._errors import LocalProtocolError, RemoteProtocolError
from ._mta import MTA
from ._shell.bench import run
from ._shell.checks import CHECKS
from ._shell.diagram import diagram
from ._shell.options import Address, message_of, parser
from ._shell.proxy import Proxy, Streams
from ._shell.replay import replay
from ._shell.report import (
    Line,
    Status,
    entry_lines,
    outcome_json,
    outcome_lines,
    replay_lines,
    sent_json,
    sent_lines,
    session_json,
    session_lines,
    status_of,
    transcript_json,
)
from ._shell.stages import LATER
from ._shell.talk import Talk, Tap, at_end
from ._shell.transcript import FIRST_LINE, FROM_FILTER, Entry, parse

# Something that filters take, or have no reason not to.
_MESSAGE: Final = (
    b"From: sender@example.org\r\nTo: someone@example.test\r\nSubject: A message to look at\r\n"
    b"Date: Tue, 24 Nov 2026 04:00:00 +0000\r\nMessage-Id: <1@example.org>\r\n"
    b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n"
    b"\r\nHello,\r\n\r\nthis is the text.\r\n"
)


# As shells have it: 128, and the number of the signal.
_INTERRUPTED: Final = 128 + signal.SIGINT


class CannotGoOnError(Exception):
    """The text says why, and what to do."""


# --- the tools ---------------------------------------------------------------------------------


def _send(options: argparse.Namespace) -> int:
    message = message_of(options, _read(options.message))
    try:
        wire = Tap(_connect(options.to, options.timeout))
    except CannotGoOnError as error:
        _say_broken(options, str(error), [])
        raise
    with contextlib.closing(wire):
        try:
            mta = MTA(wire, habits=options.habits, version=options.protocol)
            result = mta.deliver(message)
            mta.quit()
            odd_end = _odd_end(wire)
        except (OSError, RemoteProtocolError, LocalProtocolError) as error:
            why = _why(error, options.timeout)
            _say_broken(options, why, wire.entries)
            raise CannotGoOnError(f"after {wire.last}: {why}") from error
    if options.json:
        _say_json(sent_json(message, result, wire.entries))
    else:
        _say(session_lines(wire.entries))
        _say(sent_lines(message, result))
        _say([(LATER, f"(the filter {fault})") for fault in odd_end])
    return status_of(result)


def _say_broken(options: argparse.Namespace, why: str, entries: list[Entry]) -> None:
    """What was said until then."""
    if options.json:
        _say_json({"status": "broken", "summary": why, "session": session_json(entries)})
    else:
        _say(session_lines(entries))


def _odd_end(wire: Tap) -> list[str]:
    """What is odd about how the filter ends the session; a reset is an end like another."""
    with contextlib.suppress(ConnectionError):
        return list(at_end(wire))
    return []


def _record(options: argparse.Namespace) -> int:
    if options.listen == options.target:
        raise CannotGoOnError(
            f"{_name(options.listen)} can't be the socket of both: let MTAs connect to another one "
            "than the filter's"
        )
    # asyncio would put its own socket in the place of one that a filter listens on. One that a
    # dead program left behind may go.
    if isinstance(options.listen, str) and _somebody_listens(options.listen):
        raise CannotGoOnError(
            f"can't listen at {options.listen}: somebody does so already. The socket that MTAs "
            "connect to comes first, and the filter's second"
        )
    try:
        # Not for everybody to read, for it will hold mail.
        number = os.open(options.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise CannotGoOnError(
            f"{options.file} is there already: remove it, or name another file"
        ) from None
    file = os.fdopen(number, "w", encoding="ascii")
    recording = Recording(file, mask=options.mask)
    try:
        asyncio.run(_serve(options, recording))
        if isinstance(options.listen, str):
            Path(options.listen).unlink(missing_ok=True)  # Python 3.13 has done so
    except CannotGoOnError:
        Path(options.file).unlink()  # or it would be in the way of the next try
        raise
    finally:
        # What a full disk has left over, it would try to write once more.
        with contextlib.suppress(OSError):
            file.close()
    return recording.status


def _replay(options: argparse.Namespace) -> int:
    entries = parse(_read(options.file).decode("utf-8", "replace").splitlines())
    try:
        playing = replay(entries, lambda: _open(options.socket, options.timeout), options.ignore)
        found = list(playing)
    except OSError as error:
        raise _nobody_there(options.socket, error) from error
    if options.json:
        _say_json([difference.as_json for difference in found])
    else:
        _say(replay_lines(found))
    return Status.BAD if found else Status.GOOD


def _show(options: argparse.Namespace) -> int:
    entries = parse(_read(options.file).decode("utf-8", "replace").splitlines())
    if options.mask:
        entries = [entry.masked for entry in entries]
    if options.svg:
        print(diagram(entries), end="", flush=True)  # noqa: T201
    elif options.json:
        _say_json(transcript_json(entries))
    else:
        _say(entry_lines(entries))
    return Status.GOOD


def _check(options: argparse.Namespace) -> int:
    content = _MESSAGE if options.message is None else _read(options.message)
    message = message_of(options, content)
    _look_for_a_filter(options)
    outcomes = []
    for check in CHECKS:
        if check.name in options.skip:
            continue
        outcome = run(check, lambda: _open(options.socket, options.timeout), message)
        outcomes.append(outcome)
        if not options.json:
            _say(outcome_lines(outcome))
        if outcome.gone:
            break
    if options.json:
        _say_json([outcome_json(outcome) for outcome in outcomes])
    bad = any(one.gone or (one.findings and one.check.serious) for one in outcomes)
    return Status.BAD if bad else Status.GOOD


def _look_for_a_filter(options: argparse.Namespace) -> None:
    """Not every socket is a filter's, and no check would say more of one that is not."""
    with contextlib.closing(Tap(_connect(options.socket, options.timeout))) as wire:
        try:
            Talk(wire)
        except (OSError, RemoteProtocolError) as error:
            if not any(one.way == FROM_FILTER and one.code == b"O" for one in wire.entries):
                raise CannotGoOnError(
                    f"what listens at {_name(options.socket)} does not negotiate as a filter "
                    f"does: {_why(error, options.timeout)}"
                ) from error


# --- the recorder ------------------------------------------------------------------------------


class Recording:
    """A file that entries go to, as long as it can be written."""

    def __init__(self, file: TextIO, *, mask: bool) -> None:
        self._file = file
        self._mask = mask
        self.status = Status.GOOD

    def write(self, entry: Entry) -> None:
        """Put it there at once, for the next may never come."""
        self.line((entry.masked if self._mask else entry).line)

    def line(self, line: str) -> None:
        """Any line."""
        if self.status is Status.GOOD:
            try:
                print(line, file=self._file, flush=True)
            except OSError as error:
                self.status = Status.BROKEN
                _tell(f"the file can't be written: {error}. From here on it is not complete")


async def _serve(options: argparse.Namespace, recording: Recording) -> None:
    """Until SIGINT or SIGTERM, which cut what is open."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    async def connect() -> Streams:
        try:
            return await _open_streams(options.target)
        except OSError as error:
            _tell(f"no connection to {_name(options.target)}: {error}. Is the filter running?")
            raise

    proxy = Proxy(connect, time.monotonic, recording.write)

    async def connected(*streams: Any) -> None:
        # All that are open are cancelled at the end, and Python 3.11 prints a traceback for each.
        with contextlib.suppress(asyncio.CancelledError):
            await proxy.connected(*streams)

    server = await _start_server(connected, options.listen)
    recording.line(FIRST_LINE)
    _tell(f"recording into {options.file}; Ctrl-C ends it")
    await stop.wait()
    # To wait for its end would be, since Python 3.12, to wait until the last MTA has gone.
    server.close()


async def _start_server(connected: Any, address: Address) -> asyncio.Server:
    try:
        if isinstance(address, str):
            return await asyncio.start_unix_server(connected, address)
        return await asyncio.start_server(connected, *address)
    except OSError as error:
        raise CannotGoOnError(
            f"can't listen at {_name(address)}: {error}. Is it free, and may you listen there?"
        ) from error


async def _open_streams(address: Address) -> Streams:
    if isinstance(address, str):
        return await asyncio.open_unix_connection(address)
    return await asyncio.open_connection(*address)


# --- sockets, files, the terminal ----------------------------------------------------------------


def _connect(address: Address, timeout: float) -> socket.socket:
    try:
        return _open(address, timeout)
    except OSError as error:
        raise _nobody_there(address, error) from error


def _nobody_there(address: Address, error: OSError) -> CannotGoOnError:
    return CannotGoOnError(
        f"no connection to {_name(address)}: {error}. Is the filter running, "
        "and is that the socket it listens on?"
    )


def _open(address: Address, timeout: float) -> socket.socket:
    if not isinstance(address, str):
        try:
            return socket.create_connection(address, timeout)
        except UnicodeError:
            raise OSError("no such host can be") from None
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.settimeout(timeout)
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


def _somebody_listens(path: str) -> bool:
    try:
        _open(path, 1).close()
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    except OSError:
        pass  # there is one who has too much to do, or is for others
    return True


def _name(address: Address) -> str:
    return address if isinstance(address, str) else f"{address[0]}:{address[1]}"


def _read(name: str) -> bytes:
    if name == "-":
        return sys.stdin.buffer.read()
    return Path(name).read_bytes()


def _why(error: Exception, timeout: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer in {timeout:g} seconds; --timeout gives it more"
    if isinstance(error, LocalProtocolError):
        return str(error)
    return f"{error}; the filter's own log may say why"


def _say(lines: Iterable[Line]) -> None:
    """On the terminal; in colours where rich is installed."""
    printed = _printer()
    for style, text in lines:
        printed(text, style)


def _printer() -> Callable[[str, str], object]:
    try:
        from rich.console import Console  # noqa: PLC0415 - it may be missing
        from rich.segment import Segment, Segments  # noqa: PLC0415
    except ModuleNotFoundError:
        return lambda text, _style: print(text, flush=True)  # noqa: T201

    class Terminal(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # as without rich, which would exit with status 1

    console = Terminal()

    def printed(text: str, style: str) -> None:
        # A text of rich's own would lose its tabs, and the blanks at its end.
        segment = Segment(text, console.get_style(style))
        console.print(Segments([segment], new_lines=True), soft_wrap=True)

    return printed


def _say_json(found: object) -> None:
    print(json.dumps(found, indent=2), flush=True)  # noqa: T201


def _tell(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads it
        print(f"milterproto: {text}", file=sys.stderr, flush=True)  # noqa: T201


_TOOLS: Final[dict[str, Callable[[argparse.Namespace], int]]] = {
    "send": _send,
    "record": _record,
    "replay": _replay,
    "show": _show,
    "check": _check,
}


def main(arguments: list[str] | None = None) -> int:
    """Run a tool, and give the exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Mail has letters that not every terminal has.
        sys.stdout.reconfigure(errors="backslashreplace")
    options = parser([check.name for check in CHECKS]).parse_args(arguments)
    try:
        return _TOOLS[options.tool](options)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever reads has seen enough; what is left must not fail at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except CannotGoOnError as error:
        _tell(str(error))
    except LocalProtocolError as error:
        _tell(str(error))
    except OSError as error:
        about_a_file = error.filename is not None
        _tell(f"{error}{'. Look at the name, and at who may read it' if about_a_file else ''}")
    return Status.BROKEN


if __name__ == "__main__":
    sys.exit(main())
