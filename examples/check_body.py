r"""A milter filter that blackens what should not leave the house, or holds the message.

    check_body.py --blacken '\b\d{4}([ -]?)\d{4}\1\d{4}\1\d{4}\b' --hold 'strictly confidential'

What matches the first pattern is replaced by as many X; a message in which the second occurs goes
to the quarantine, which is Postfix's hold queue. The body is searched as it stands in the message:
what is encoded, as base64 say, is not seen. Case does not matter.
"""

from __future__ import annotations

import argparse
import logging
import re
from collections.abc import Iterator

from adapters.run import arguments, serve
from adapters.services import MilterEvent, MilterReplies, milter

import milterproto as mp

logger = logging.getLogger(__name__)
# Bytes; larger ones pass unseen, which is said in the log. Postfix takes 10 MB of a message unless
# told otherwise. A filter has many at once in its memory: as many as Postfix has clients, which is
# a hundred for each smtpd service unless told otherwise.
MAX_BODY = 20_000_000
WANTS = mp.Wants(
    # MailFrom, because every message begins with it, whatever became of the last one.
    events={mp.MailFrom, mp.Body},
    replies=(),
    actions=mp.Actions.CHGBODY | mp.Actions.QUARANTINE,
)


class Session:
    """The body of the message of the moment."""

    def __init__(
        self,
        conn: mp.FilterConnection,
        blacken: re.Pattern[bytes] | None,
        hold: re.Pattern[bytes] | None,
    ) -> None:
        self.conn = conn
        self.blacken = blacken
        self.hold = hold
        self.pieces: list[bytes] = []
        self.size = 0

    def handle(self, event: MilterEvent) -> MilterReplies:
        """One event."""
        match event:
            case mp.MailFrom() | mp.Abort():
                self.forget()
            case mp.Body(data):
                self.collect(data)
            case mp.EndOfMessage(data):
                self.collect(data)
                edits = list(self.edits())
                self.forget()
                return [*edits, mp.Accept()]
            case _:
                pass
        return None

    def forget(self) -> None:
        """The message is over."""
        self.pieces.clear()
        self.size = 0

    def collect(self, data: bytes) -> None:
        """Keep a piece of the body; what is looked for may be cut in two by their borders."""
        self.size += len(data)
        if self.size <= MAX_BODY:
            self.pieces.append(data)
        else:
            self.pieces.clear()

    def edits(self) -> Iterator[mp.Edit]:
        """What becomes of the message."""
        queue_id = self.conn.macros.get(b"i", b"?").decode("ascii", "replace")
        if self.size > MAX_BODY:
            logger.warning("%s: not looked at, its body has %d bytes", queue_id, self.size)
            return
        body = b"".join(self.pieces)
        if self.blacken:
            blackened, count = self.blacken.subn(lambda found: b"X" * len(found[0]), body)
            if count:
                logger.info("%s: %d blackened", queue_id, count)
                yield mp.ReplaceBody(blackened)
        if self.hold and self.hold.search(body):
            logger.info("%s: held", queue_id)
            yield mp.Quarantine(b"the body has words that must not leave the house")


def pattern(text: str) -> re.Pattern[bytes]:
    """A regular expression over bytes, from the command line."""
    try:
        return re.compile(text.encode(), re.IGNORECASE)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None


def main() -> None:
    """Read the command line, and serve."""
    parser = arguments(__doc__)
    parser.add_argument("--blacken", type=pattern, metavar="PATTERN", help="what to make illegible")
    parser.add_argument("--hold", type=pattern, metavar="PATTERN", help="what to hold mail for")
    options = parser.parse_args()
    if not (options.blacken or options.hold):
        parser.error("nothing to look for: give --blacken or --hold")
    serve(milter(lambda conn: Session(conn, options.blacken, options.hold).handle, WANTS), options)


if __name__ == "__main__":
    main()
