"""Record sessions of a real Postfix as ``tests/vectors/postfix/*.json``.

As root, from the project's top directory, with the package installed::

    python -m tests.interop.record_postfix

Each file has a description, the peer, and the chunks in the order in which they crossed the
socket: ``">"`` and one read's bytes in hexadecimal (empty at end of file), ``"<"`` and one
response. How Postfix's bytes fall into chunks differs from one recording to the next.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import milterproto as mp

from ._filters import Answers, Event, Handler
from ._postfix_bed import ALL_ACTIONS, Bed
from ._postfix_client import Client

VECTORS: Final = Path(__file__).parent.parent / "vectors" / "postfix"
CONTENT: Final = (
    b"Subject: hello\r\nFrom: a@example.org\r\nDate: Tue, 24 Nov 2026 04:00:00 +0000\r\n"
    b"Message-Id: <1@example.org>\r\nX-Folded: one\r\n\ttwo\r\n\r\nfirst line\r\nsecond line\r\n"
)
LONG_CONTENT: Final = CONTENT + b"".join(b"%061d.\r\n" % number for number in range(1500))


def message(client: Client) -> None:
    """One message and a proper end."""
    client.message(CONTENT)
    client.quit()


def two_messages(client: Client) -> None:
    """Two messages and a proper end."""
    client.message(CONTENT)
    client.message(CONTENT, b"<>")
    client.quit()


def message_over_tls(client: Client) -> None:
    """One message after STARTTLS."""
    client.start_tls()
    client.must(b"250", b"EHLO client.test")
    message(client)


def long_message(client: Client) -> None:
    """One message whose body takes two packets."""
    client.message(LONG_CONTENT)
    client.quit()


def two_messages_and_a_reset(client: Client) -> None:
    """A message, another one given up by RSET, and a third after a second EHLO."""
    client.message(CONTENT)
    client.envelope(b"<>")
    client.must(b"250", b"RSET")
    client.envelope()
    client.must(b"250", b"EHLO again.test")
    client.message(CONTENT, recipients=[b"<b@example.test>", b"<c@example.test>"])
    client.quit()


def refused_recipient(client: Client) -> None:
    """Two recipients, the first of which is refused."""
    client.must(b"250", b"MAIL FROM:<a@example.org> BODY=8BITMIME")
    client.must(b"550", b"RCPT TO:<nobody@example.test> NOTIFY=NEVER")
    client.must(b"250", b"RCPT TO:<b@example.test>")
    client.must(b"354", b"DATA")
    client.content(CONTENT)
    client.quit()


def refused_data(client: Client) -> None:
    """DATA, refused; a further recipient; and DATA again."""
    client.envelope()
    client.must(b"451", b"DATA")
    client.must(b"250", b"RCPT TO:<c@example.test>")
    client.must(b"354", b"DATA")
    client.content(CONTENT)
    client.quit()


def unknown_command(client: Client) -> None:
    """A command that Postfix does not know, before a message and within it."""
    client.must(b"5", b"FROBNICATE")
    client.envelope()
    client.must(b"5", b"FROBNICATE")
    client.must(b"354", b"DATA")
    client.content(CONTENT)
    client.quit()


def vanish(client: Client) -> None:
    """A client that is gone after half of the content."""
    client.envelope()
    client.must(b"354", b"DATA")
    client.send(CONTENT[:100])


def disconnected(client: Client) -> None:
    """A client that is sent away."""
    client.envelope()
    client.must(b"421", b"DATA")


EDITS: Final[Sequence[mp.Response]] = (
    mp.Progress(),
    mp.AddHeader(b"X-Added", b"one\n\ttwo"),
    mp.InsertHeader(0, b"X-Inserted", b"yes"),
    mp.ChangeHeader(1, b"Subject", b"changed"),
    mp.ChangeHeader(1, b"X-Folded", b""),
    mp.ReplaceBody(b"new\r"),
    mp.ReplaceBody(b"\nbody\r\n"),
    mp.AddRecipient(b"<c@example.test>"),
    mp.AddRecipient(b"<d@example.test>", (b"NOTIFY=NEVER", b"ORCPT=rfc822;d@example.test")),
    mp.DeleteRecipient(b"<b@example.test>"),
    mp.ChangeSender(b"<new@example.org>", (b"RET=HDRS", b"ENVID=zz")),
    mp.Accept(),
)
LISTS: Final[Mapping[mp.Stage, Sequence[bytes]]] = {
    mp.Stage.CONNECT: (b"j", b"{client_addr}"),
    mp.Stage.EOM: (b"i", b"{daemon_name}"),
}


def refusing(conn: mp.FilterConnection, event: Event) -> Sequence[mp.Response] | None:
    if isinstance(event, mp.RcptTo) and event.recipient == b"<nobody@example.test>":
        return [mp.ReplyCode.text(550, "5.1.1", "nobody of that name", "100% sure")]
    return None


def refusing_first_data() -> Handler:
    verdicts: list[mp.Verdict] = [mp.TempFail()]

    def handle(conn: mp.FilterConnection, event: Event) -> Sequence[mp.Response] | None:
        return [verdicts.pop()] if isinstance(event, mp.Data) and verdicts else None

    return handle


Scene = tuple[str, Handler | Answers, mp.Wants, str, Callable[[Client], None]]
EVERYTHING: Final = mp.Wants(actions=ALL_ACTIONS)
SCENES: Final[Mapping[str, Scene]] = {
    "edits": (
        "A message is accepted, with one edit of each kind",
        {mp.EndOfMessage: EDITS},
        EVERYTHING,
        "v6",
        message,
    ),
    "transactions": (
        "A message; one ended by RSET; one ended by a second EHLO (H A A); one with two recipients",
        {},
        EVERYTHING,
        "v6",
        two_messages_and_a_reset,
    ),
    "reject-rcpt": (
        "The first of two recipients is refused in two lines with a percent sign",
        refusing,
        EVERYTHING,
        "v6",
        refused_recipient,
    ),
    "reject-data": (
        "DATA is refused for now, and comes again in the same transaction",
        refusing_first_data(),
        EVERYTHING,
        "v6",
        refused_data,
    ),
    "reject-end-of-message": (
        "A message is refused after it was edited",
        {mp.EndOfMessage: [mp.AddHeader(b"X-Lost", b"yes"), mp.Reject()]},
        EVERYTHING,
        "v6",
        message,
    ),
    "accept-early": (
        "Accept at RCPT: nothing more of the message comes but Abort",
        {mp.RcptTo: [mp.Accept()]},
        EVERYTHING,
        "v6",
        message,
    ),
    "accept-client": (
        "Accept at CONNECT: Postfix closes without QUIT",
        {mp.Connect: [mp.Accept()]},
        EVERYTHING,
        "v6",
        message,
    ),
    "skip": (
        "Skip at the first of two pieces of a body",
        {mp.Body: [mp.Skip()]},
        EVERYTHING,
        "v6",
        long_message,
    ),
    "starttls": (
        "STARTTLS between two EHLOs, and a message; TLS macros at the second",
        {},
        EVERYTHING,
        "tls",
        message_over_tls,
    ),
    "unknown": (
        "An unknown command before a message and within one",
        {},
        EVERYTHING,
        "v6",
        unknown_command,
    ),
    "shutdown": (
        "Shutdown at DATA: Postfix closes without Abort and QUIT",
        {mp.Data: [mp.Shutdown()]},
        EVERYTHING,
        "v6",
        disconnected,
    ),
    "reply-421": (
        "A 421 of the filter's own at DATA: Abort and QUIT follow",
        {mp.Data: [mp.ReplyCode.text(421, "4.3.2", "come back later")]},
        EVERYTHING,
        "v6",
        disconnected,
    ),
    "vanished": ("The client vanishes within the content", {}, EVERYTHING, "v6", vanish),
    "no-replies": (
        "All NR bits: only negotiation and end of message are answered, and Postfix pipelines",
        {mp.EndOfMessage: [mp.AddHeader(b"X-Added", b"yes"), mp.Continue()]},
        mp.Wants(replies=(), actions=ALL_ACTIONS),
        "v6",
        two_messages,
    ),
    "few-events": (
        "All NO bits but those for RCPT and headers; NR for headers; leading space; macro lists",
        {},
        mp.Wants(
            events=(mp.RcptTo, mp.Header),
            replies=(mp.RcptTo,),
            macros=LISTS,
            leading_space=True,
        ),
        "v6",
        message,
    ),
    **{
        f"version-{version}": (
            f"milter_protocol = {version}: a message is accepted with a new header",
            {mp.EndOfMessage: [mp.AddHeader(b"X-Added", b"yes"), mp.Continue()]},
            EVERYTHING,
            f"v{version}",
            message,
        )
        for version in (2, 3, 4)
    },
}


def record(bed: Bed, scene: Scene) -> str:
    """Play one scene, and give what is to be written."""
    description, behaviour, wants, service, play = scene
    with bed.filter(behaviour, wants) as filter_, bed.client(service) as client:
        play(client)
    bed.settle()
    # One line for each chunk, so that a difference between recordings can be read.
    frames = [json.dumps([way, data.hex()]) for way, data in filter_.session.chunks]
    return (
        "{\n"
        f'  "description": {json.dumps(description)},\n'
        f'  "peer": "Postfix {bed.postfix.version}",\n'
        '  "frames": [\n    ' + ",\n    ".join(frames) + "\n  ]\n}\n"
    )


def main() -> None:
    """Write one file for each scene."""
    program = shutil.which("postfix", path="/usr/local/sbin:/usr/sbin:/usr/bin")
    if program is None:
        sys.exit("postfix is missing: Debian package postfix")
    VECTORS.mkdir(parents=True, exist_ok=True)
    with Bed(Path(program)) as bed:
        for name, scene in SCENES.items():
            path = VECTORS / f"{name}.json"
            path.write_text(record(bed, scene))
            print(path.name)


if __name__ == "__main__":
    main()
