r"""A milter filter that blackens what should not leave the house, or holds the message.

    check_body.py --blacken '\b\d{4}([ -]?)\d{4}\1\d{4}\1\d{4}\b' --hold 'strictly confidential'

What matches the first pattern is replaced by as many X; a message in which the second occurs goes
to the quarantine, which is Postfix's hold queue. The body is searched as it stands in the message:
what is encoded, as base64 say, is not seen. Case does not matter.
"""

from __future__ import annotations

import argparse
import functools
import logging
import re

from adapters.run import arguments, serve
from adapters.services import messages

import milterproto as mp
from milterproto.message import Message, MessageFilter

logger = logging.getLogger(__name__)
# Bytes; larger messages pass unseen, which is said in the log. Postfix takes 10 MB unless told
# otherwise. A filter has many at once in its memory: as many as Postfix has clients, which is a
# hundred for each smtpd service unless told otherwise.
MAX_SIZE = 20_000_000


def judge(
    message: Message, blacken: re.Pattern[bytes] | None, hold: re.Pattern[bytes] | None
) -> None:
    """What becomes of a message."""
    queue_id = message.queue_id.decode("ascii", "replace")
    body = message.body
    if blacken:
        blackened, count = blacken.subn(lambda found: b"X" * len(found[0]), body)
        if count:
            logger.info("%s: %d blackened", queue_id, count)
            message.replace_body(blackened)
    if hold and hold.search(body):
        logger.info("%s: held", queue_id)
        message.quarantine(b"the body has words that must not leave the house")


def let_pass(message: Message) -> mp.Verdict:
    """A message over MAX_SIZE, of which nothing was kept."""
    logger.warning("%s: too large, not looked at", message.queue_id.decode("ascii", "replace"))
    return mp.Accept()


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
    checking = functools.partial(judge, blacken=options.blacken, hold=options.hold)
    serve(messages(MessageFilter(checking, max_size=MAX_SIZE, on_too_large=let_pass)), options)


if __name__ == "__main__":
    main()
