"""A filter and an MTA talk over a unix socket, and every frame is shown with its meaning.

Run it by `make demo`. The filter is `judge` with `serve` below; everything after them plays
Postfix and prints. No mail server is needed, and no mail is sent.
"""

from __future__ import annotations

import asyncio
import difflib
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

try:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    import milterproto as mp
    from milterproto.message import Dialect, Field, Headers, apply
    from milterproto.message import Message as WholeMessage
except ModuleNotFoundError as error:
    raise SystemExit(f"{error.name} is not installed here: run `make demo`") from None

# --- the filter ----------------------------------------------------------------------------

WANTS = mp.Wants(
    events={mp.Connect, mp.MailFrom, mp.RcptTo, mp.Header, mp.Body},
    replies={mp.MailFrom, mp.RcptTo},  # and at the end of a message, always
    actions=mp.Actions.ADDHDRS | mp.Actions.CHGHDRS | mp.Actions.CHGBODY,
)
NOBODY = mp.ReplyCode.text(550, "5.1.1", "No such user here")
NO_SPAM = mp.ReplyCode.text(554, "5.7.1", "This looks 100% like spam.", "Ask postmaster if not.")


class Message:
    """What the filter keeps of one message until its end."""

    def __init__(self) -> None:
        self.subject = b""
        self.body = b""


def judge(conn: mp.FilterConnection, message: Message) -> Iterator[mp.Response]:
    """The verdict on a whole message: edits first, then one of Accept, Reject and so on."""
    if b"lottery" in message.body:
        yield NO_SPAM
        return
    if b"figures" in message.subject:
        yield mp.ChangeHeader(1, b"Subject", b"[outside] " + message.subject)
        yield mp.AddHeader(b"X-Judged-By", b"mailwire demo; queue id " + conn.macros[b"i"])
        yield mp.ReplaceBody(message.body + b"-- \r\nThis came from outside.\r\n")
    yield mp.Accept()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection from the MTA: bytes in, events out, replies back."""
    conn = mp.FilterConnection()
    message = Message()
    while conn.state is not mp.State.CLOSED:
        conn.receive_data(await reader.read(65536))
        for event in conn.events():
            match event:
                case mp.Negotiate():
                    writer.write(conn.send(mp.negotiate(event, WANTS)))
                case mp.MailFrom():
                    message = Message()
                case mp.RcptTo(recipient=b"<nobody@example.test>"):
                    writer.write(conn.send(NOBODY))
                case mp.Header(name=b"Subject", value=value):
                    message.subject = value
                case mp.Body(data=data):
                    message.body += data
                case mp.EndOfMessage(data=data):
                    message.body += data
                    for response in judge(conn, message):
                        writer.write(conn.send(response))
                case _:
                    pass
            if conn.our_turn:
                writer.write(conn.send(mp.Continue()))
        await writer.drain()
    writer.close()
    await writer.wait_closed()


# --- what each frame means -----------------------------------------------------------------


def text(data: bytes) -> str:
    """Bytes from the wire, for people."""
    return data.decode("utf-8", "backslashreplace")


def flags(names: mp.Actions | mp.Steps) -> str:
    """The names of flags that are set."""
    return " ".join(flag.name or "" for flag in names) or "none"


def meaning(event: mp.Command | mp.Response) -> str:
    """One line of plain language."""
    match event:
        case mp.Negotiate(version, actions, steps) if steps == mp.ALL_STEPS:
            return f"Let us speak version {version}. I can do all that is in it."
        case mp.Negotiate(version, actions, steps):
            return f"Version {version}. I may use {flags(actions)}. About events: {flags(steps)}."
        case mp.Macros(command):
            pairs = ", ".join(f"{text(name)}={text(value)}" for name, value in event.values.items())
            return f"For the coming {text(command)}: {pairs or 'no macros'}"
        case mp.Connect(hostname, _, port, address):
            return f"A client has connected: {text(hostname)}, {text(address)} port {port}."
        case mp.MailFrom(sender, parameters):
            return f"It has mail from {text(sender)} ({text(b' '.join(parameters))})."
        case mp.RcptTo(recipient):
            return f"It is for {text(recipient)}."
        case mp.Header(name, value):
            return f"{text(name)}: {text(value)}"
        case mp.Body(data):
            return f"{len(data)} bytes of body: {text(data[:24]).strip()!r} ..."
        case mp.EndOfMessage():
            return "That was all of the message. What do you say?"
        case mp.Abort():
            return "Whatever message there was is over. The client stays."
        case mp.Quit():
            return "The client has gone. Goodbye."
        case mp.Continue():
            return "Go on."
        case mp.Accept():
            return "The message is fine."
        case mp.ReplyCode(code, enhanced, lines):
            return f"Refuse it: {text(code)} {text(enhanced)} {text(b' / '.join(lines))}"
        case mp.ChangeHeader(index, name, value):
            return f"Change {text(name)} number {index} to: {text(value)}"
        case mp.AddHeader(name, value):
            return f"Add {text(name)}: {text(value)}"
        case mp.ReplaceBody(data):
            return f"Replace the body, by {len(data)} bytes."
        case _:
            return ""


# --- the MTA's side, and the print-out -----------------------------------------------------


class Transcript:
    """Prints frames as rows: direction, event, meaning, bytes."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.frames = 0

    def title(self, words: str) -> None:
        """Begin a section."""
        self.console.print()
        self.console.rule(Text(words, style="bold"), align="left", style="dim")

    def frame(self, data: bytes, event: mp.Command | mp.Response) -> None:
        """One frame."""
        self.frames += 1
        to_filter = isinstance(event, mp.Command) and not self.is_answer(data, event)
        style = "dim" if isinstance(event, mp.Macros) else "cyan" if to_filter else "green"
        if isinstance(event, mp.ReplyCode):
            style = "red"
        row = Table.grid(expand=True, padding=(0, 1))
        row.add_column(width=1)
        row.add_column(width=13, no_wrap=True)
        row.add_column(ratio=1)
        row.add_column(width=23, no_wrap=True, overflow="ellipsis")
        row.add_row(
            Text("→" if to_filter else "←", style=style),
            Text(type(event).__name__, style=style),
            Text(meaning(event), style="dim" if isinstance(event, mp.Macros) else ""),
            Text(shown(data), style="dim"),
        )
        self.console.print(row)

    @staticmethod
    def is_answer(data: bytes, event: mp.Command | mp.Response) -> bool:
        """Negotiate is the one event that travels both ways."""
        return isinstance(event, mp.Negotiate) and event != mp.offer() and data[4:5] == b"O"

    def outcome(self, words: str) -> None:
        """How a message ended."""
        self.console.print(Text(f"⇒ {words}", style="bold"))


def shown(data: bytes) -> str:
    """The code byte, the length, and the first bytes of the payload."""
    code, payload = data[4:5].decode(), data[5:]
    return f"{len(data) - 4:>4} {code} {payload[:6].hex(' ')}{' …' if len(payload) > 6 else ''}"


class MTA:
    """Drives a filter as Postfix would: macros before each command, then the command."""

    def __init__(self, path: Path, transcript: Transcript) -> None:
        self.conn = mp.MTAConnection()
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.transcript = transcript
        self.unread = b""

    def say(self, command: mp.Command, **macros: str) -> list[mp.Response]:
        """Send a command with its macros, and wait for the filter's reply if one is due.

        What the filter does not want is not sent; its macros are, as real MTAs do.
        """
        kind = type(command)
        if macros or kind in (mp.Connect, mp.MailFrom, mp.RcptTo, mp.EndOfMessage):
            named = {f"{{{name}}}" if len(name) > 1 else name: macros[name] for name in macros}
            values = {name.encode(): value.encode() for name, value in named.items()}
            self.write(mp.Macros.of(kind, values))
        if not self.conn.wants(kind):
            return []
        self.write(command)
        responses: list[mp.Response] = []
        while not self.conn.our_turn and self.conn.state is not mp.State.CLOSED:
            for event in self.read():
                if isinstance(event, mp.ConnectionClosed):
                    raise SystemExit("the filter has closed the connection")
                responses.append(event)
                length = 4 + int.from_bytes(self.unread[:4], "big")
                self.transcript.frame(self.unread[:length], event)
                self.unread = self.unread[length:]
        return responses

    def write(self, command: mp.Command) -> None:
        """Send one frame and show it."""
        data = self.conn.send(command)
        self.socket.sendall(data)
        self.transcript.frame(data, command)

    def read(self) -> Iterator[mp.Response | mp.ConnectionClosed]:
        """Wait for bytes, and give the events in them."""
        data = self.socket.recv(65536)
        self.unread += data
        self.conn.receive_data(data)
        return self.conn.events()


Lines = list[tuple[bytes, bytes]]


def send_message(mta: MTA, queue_id: str, headers: Lines, body: bytes) -> list[Any]:
    """DATA and all that follows; the filter's edits and its verdict."""
    mta.say(mp.Data())
    for name, value in headers:
        mta.say(mp.Header(name, value))
    mta.say(mp.EndOfHeaders())
    mta.say(mp.Body(body))
    return mta.say(mp.EndOfMessage(), i=queue_id)


def as_lines(message: WholeMessage) -> list[str]:
    """A message as it is stored."""
    return text(message.content).splitlines()


def show_diff(console: Console, before: list[str], after: list[str]) -> None:
    """What the filter made of a message."""
    console.print()
    styles = {"+": "green", "-": "red", "@": "dim"}
    for line in list(difflib.unified_diff(before, after, lineterm="", n=9))[2:]:
        console.print(Text("  " + line, style=styles.get(line[0], "")))


def hold_session(path: Path, console: Console) -> None:
    """Four messages on one connection."""
    transcript = Transcript(console)
    mta = MTA(path, transcript)
    sender = mp.MailFrom(b"<ann@example.org>", (b"SIZE=312",))
    bob = mp.RcptTo(b"<bob@example.test>")
    figures: Lines = [(b"From", b"ann@example.org"), (b"Subject", b"Quarterly figures")]
    lunch: Lines = [(b"From", b"ann@example.org"), (b"Subject", b"Lunch?")]
    body = b"Better than last time.\r\n"

    transcript.title("Negotiation, and a client")
    mta.say(mp.offer())
    client = mp.Connect(b"mail.example.org", mp.Family.INET, 40112, b"192.0.2.17")
    mta.say(client, j="mx.example.test", daemon_name="mx.example.test")
    mta.say(mp.Helo(b"mail.example.org"))

    transcript.title("Message 1: accepted, with edits")
    mta.say(sender, mail_addr="ann@example.org")
    mta.say(bob, rcpt_addr="bob@example.test")
    *edits, _ = send_message(mta, "4F2Q1", figures, body)
    mta.say(mp.Abort())  # Postfix sends it after every message, too
    transcript.outcome(f"accepted, with {len(edits)} edits; the recipient gets this:")
    before = WholeMessage(headers=Headers(Field.of(*one) for one in figures), body=body)
    after = apply(before, edits, Dialect.POSTFIX)
    show_diff(console, as_lines(before), as_lines(after))

    transcript.title("Message 2: one recipient refused, the other accepted")
    mta.say(sender, mail_addr="ann@example.org")
    mta.say(mp.RcptTo(b"<nobody@example.test>"), rcpt_addr="nobody@example.test")
    mta.say(bob, rcpt_addr="bob@example.test")
    send_message(mta, "4F2Q2", lunch, b"At noon.\r\n")
    mta.say(mp.Abort())
    transcript.outcome("accepted as it is, for the recipient that is left")

    transcript.title("Message 3: aborted by the client, who says RSET")
    mta.say(sender, mail_addr="ann@example.org")
    mta.say(bob, rcpt_addr="bob@example.test")
    mta.say(mp.Abort())
    transcript.outcome("gone; the filter keeps nothing of it")

    transcript.title("Message 4: rejected at its end")
    mta.say(sender, mail_addr="ann@example.org")
    mta.say(bob, rcpt_addr="bob@example.test")
    send_message(mta, "4F2Q4", lunch, b"You have won the lottery!\r\n")
    mta.say(mp.Abort())
    transcript.outcome("rejected: the client sees both lines as the reply to its message")

    transcript.title("The end")
    mta.say(mp.Quit())
    mta.socket.close()
    console.print()
    console.print(
        f"4 messages on one connection, {transcript.frames} frames: 2 accepted (1 with "
        f"{len(edits)} edits), 1 aborted, 1 rejected; 1 recipient refused."
    )


def main() -> None:
    """Start the filter, then be its MTA."""
    console = Console(highlight=False)
    console.print(
        "A filter listens on a unix socket; this program plays Postfix. → is to the filter, ← is "
        "its reply.\nOn the right: the frame's length, its code byte, the first bytes of the rest."
    )
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "filter"
        ready = threading.Event()
        loop = asyncio.new_event_loop()
        stop = asyncio.Event()

        async def run() -> None:
            async with await asyncio.start_unix_server(serve, path):
                ready.set()
                await stop.wait()
            # The last connection may still be about to close.
            await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})

        filter_thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
        filter_thread.start()
        ready.wait()
        try:
            hold_session(path, console)
        finally:
            loop.call_soon_threadsafe(stop.set)
            filter_thread.join()
            loop.close()


if __name__ == "__main__":
    main()
