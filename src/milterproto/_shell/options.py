"""The command line: what may stand there, and what it means."""

from __future__ import annotations

import argparse
import math
import os
import re
from typing import Any, Final, TypeAlias

import attrs

from milterproto._events import Family
from milterproto._habits import Habits
from milterproto._message import Client, Message, Recipient

Address: TypeAlias = str | tuple[str, int]
"""A unix socket's path, or host and port."""

_SOMEONE: Final = b"<someone@example.test>"
_CLIENT: Final = re.compile(r"([^\[\]]*)\[([^\[\]]+)\](?::(\d{1,5}))?")


def address(text: str) -> Address:
    """A socket as Postfix, Sendmail and libmilter write it."""
    kind, colon, rest = text.partition(":")
    if colon and kind in ("unix", "local"):
        return _path(rest)
    if "/" in text:
        return _path(text)
    if colon and kind in ("inet", "inet6"):
        text = rest
    # Sendmail and libmilter put the port first.
    port, at, host = text.partition("@")
    if not at:
        host, _, port = text.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no socket: it is written /path, unix:/path, host:port, "
            "inet:host:port or inet:port@host"
        )
    return host, int(port)


def _path(path: str) -> str:
    if not path:
        raise argparse.ArgumentTypeError("there is no path behind unix:")
    return path


def client(text: str) -> Client:
    """``name[address]:port``, as Postfix logs it; name and port may be left out."""
    match = _CLIENT.fullmatch(text)
    name, where, port = match.groups() if match else ("", text, None)
    try:
        found = Client(
            os.fsencode(name or f"[{where}]"),
            Family.UNIX if where.startswith("/") else Family.INET6 if ":" in where else Family.INET,
            int(port or 0),
            os.fsencode(where),
        )
    except ValueError:
        found = Client()
    if found.port > 65535 or (found.ip is None and found.family is not Family.UNIX):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no client: it is written 192.0.2.1, 2001:db8::1, "
            "or mail.example.org[192.0.2.1]:40112"
        )
    return found


def mailbox(text: str) -> bytes:
    """An envelope address, in brackets."""
    data = os.fsencode(text)
    if b"<" in data[1:] or b">" in data[:-1]:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no address of an envelope: it is written ann@example.org"
        )
    return data if data.startswith(b"<") else b"<%b>" % data


def macro(text: str) -> tuple[bytes, bytes]:
    """``name=value``; a name of more than one letter gets its braces."""
    name, equals, value = os.fsencode(text).partition(b"=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is no macro: it is written name=value")
    return (name if len(name) == 1 or name[:1] == b"{" else b"{%b}" % name), value


def seconds(text: str) -> float:
    """A number that a socket takes."""
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 < found < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: it is written 5, or 0.5")
    return found


def habits(text: str) -> Habits:
    """By name."""
    try:
        return Habits[text.upper()]
    except KeyError:
        names = ", ".join(one.name.lower() for one in Habits)
        raise argparse.ArgumentTypeError(f"{text!r} is none of {names}") from None


def message_of(options: argparse.Namespace, content: bytes) -> Message:
    """The message that those options describe."""
    message = Message.parse(content, sender=options.sender, client=options.client)
    message.client = attrs.evolve(message.client, helo=os.fsencode(options.helo))
    message.recipients = [Recipient(address) for address in options.rcpt or [_SOMEONE]]
    message.macros = dict(options.macro)
    return message


def parser(check_names: list[str]) -> argparse.ArgumentParser:
    """All of the command line."""
    whole = argparse.ArgumentParser(
        prog="python -m milterproto",
        description="Tools for mail filters in any language, and for those who run them.",
        epilog="Example:\n  python -m milterproto send --to inet:127.0.0.1:8891 message.eml\n\n"
        "Each tool has a --help of its own.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = whole.add_subparsers(required=True, metavar="TOOL", dest="tool")
    _add_send(commands)
    _add_record(commands)
    _add_replay(commands)
    _add_show(commands)
    _add_check(commands, check_names)
    return whole


# argparse has a class for it, which is private.
_Commands: TypeAlias = Any


def _add(
    commands: _Commands, name: str, does: str, example: str, status: str
) -> argparse.ArgumentParser:
    tool: argparse.ArgumentParser = commands.add_parser(
        name,
        help=does,
        description=f"{does[0].upper()}{does[1:]}.",
        epilog=f"Example:\n  python -m milterproto {example}\n\n{status}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return tool


def _add_send(commands: _Commands) -> None:
    tool = _add(
        commands,
        "send",
        "take a message through a running filter, as an MTA would",
        "send --to inet:127.0.0.1:8891 message.eml --from ann@example.org",
        "Exit status: 0 accepted, 1 refused or thrown away, 2 a command line that makes no sense,\n"
        "3 a temporary error, 4 no session, or not to its end.",
    )
    tool.add_argument("--to", type=address, required=True, metavar="SOCKET", help="the filter's")
    tool.add_argument("message", metavar="MESSAGE", help="a file; - is standard input")
    _add_envelope(tool)
    tool.add_argument(
        "--protocol", type=int, choices=(2, 3, 4, 6), default=6, help="the version (default: 6)"
    )
    tool.add_argument(
        "--habits",
        type=habits,
        default=Habits.POSTFIX,
        metavar="{postfix,sendmail,hostile}",
        help="whose way of going about it (default: postfix)",
    )
    _add_wait(tool, 30)
    _add_json(tool)


def _add_record(commands: _Commands) -> None:
    tool = _add(
        commands,
        "record",
        "stand between MTAs and a filter, and write down what they say, until Ctrl-C",
        "record inet:127.0.0.1:9000 unix:/run/filter.sock session.jsonl",
        "Let the MTA ask the first socket in place of the filter's. Bytes are passed on as they\n"
        "come, whatever becomes of the file. Who may connect to a unix socket, the umask says.\n\n"
        "Exit status: 0 all is in the file, 2 a command line that makes no sense, 4 it could not\n"
        "listen, or write.",
    )
    tool.add_argument("listen", type=address, metavar="LISTEN", help="where MTAs connect to")
    tool.add_argument("target", type=address, metavar="TARGET", help="the filter's socket")
    tool.add_argument("file", metavar="FILE", help="must not be there yet; holds mail")
    _add_mask(tool)


def _add_replay(commands: _Commands) -> None:
    tool = _add(
        commands,
        "replay",
        "play a transcript back to a filter, and tell what it answers otherwise",
        "replay session.jsonl inet:127.0.0.1:8891 --ignore DKIM-Signature",
        "Exit status: 0 the same, 1 not the same, 2 a command line that makes no sense, 4 no\n"
        "session: nobody there, or no transcript.",
    )
    tool.add_argument("file", metavar="FILE", help="what `record` has written; - is standard input")
    tool.add_argument("socket", type=address, metavar="SOCKET", help="the filter's")
    tool.add_argument(
        "--ignore",
        action="append",
        default=[],
        type=os.fsencode,
        metavar="NAME",
        help="header field that the filter makes anew each time; may be given several times",
    )
    _add_wait(tool, 30)
    _add_json(tool)


def _add_show(commands: _Commands) -> None:
    tool = _add(
        commands,
        "show",
        "print a transcript",
        "show session.jsonl --svg > session.svg",
        "Exit status: 0, 2 a command line that makes no sense, 4 no transcript.",
    )
    tool.add_argument("file", metavar="FILE", help="what `record` has written; - is standard input")
    tool.add_argument("--svg", action="store_true", help="as a sequence diagram, to look at")
    _add_mask(tool)
    _add_json(tool)


def _add_check(commands: _Commands, names: list[str]) -> None:
    tool = _add(
        commands,
        "check",
        "hold odd and hostile sessions with a filter, and tell what it does wrong",
        "check inet:127.0.0.1:8891 --from ann@example.org --skip data-again",
        "Let the message be one that the filter takes: what it refuses early is not gone\n"
        "through.\n\n"
        "Exit status: 0 no errors, 1 errors, 2 a command line that makes no sense, 4 no filter\n"
        "there.",
    )
    tool.add_argument("socket", type=address, metavar="SOCKET", help="the filter's")
    tool.add_argument("--message", metavar="FILE", help="a message; - is standard input")
    _add_envelope(tool)
    tool.add_argument(
        "--skip",
        action="append",
        default=[],
        choices=names,
        metavar="CHECK",
        help="leave a check out; may be given several times",
    )
    _add_wait(tool, 5)
    _add_json(tool)


def _add_envelope(tool: argparse.ArgumentParser) -> None:
    tool.add_argument(
        "--from",
        dest="sender",
        type=mailbox,
        default=b"<sender@example.org>",
        metavar="ADDRESS",
        help="the envelope's sender; '' is the null sender (default: sender@example.org)",
    )
    tool.add_argument(
        "--rcpt",
        action="append",
        type=mailbox,
        metavar="ADDRESS",
        help="a recipient; may be given several times (default: someone@example.test)",
    )
    tool.add_argument(
        "--client",
        type=client,
        default=client("client.test[192.0.2.1]:40112"),
        metavar="NAME[ADDRESS]",
        help="who sends it (default: client.test[192.0.2.1])",
    )
    tool.add_argument("--helo", default="client.test", help="(default: client.test)")
    tool.add_argument(
        "--macro",
        action="append",
        default=[],
        type=macro,
        metavar="NAME=VALUE",
        help="such as auth_authen=ann; sent where an MTA sends it; may be given several times",
    )


def _add_wait(tool: argparse.ArgumentParser, default: float) -> None:
    tool.add_argument(
        "--timeout",
        type=seconds,
        default=float(default),
        metavar="SECONDS",
        help=f"how long to wait for each answer (default: {default:g})",
    )


def _add_json(tool: argparse.ArgumentParser) -> None:
    tool.add_argument("--json", action="store_true", help="for scripts")


def _add_mask(tool: argparse.ArgumentParser) -> None:
    tool.add_argument(
        "--mask", action="store_true", help="put an x for each letter of the message's contents"
    )
