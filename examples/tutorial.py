# examples/tutorial.py
"""The filter of the tutorial: takes nothing from one domain, and notes the size of the rest."""

from adapters.run import arguments, serve
from adapters.services import MilterEvent, MilterHandler, MilterReplies, milter

import milterproto as mp

WANTS = mp.Wants(
    events={mp.MailFrom, mp.Body},  # the end of a message always comes
    replies={mp.MailFrom},
    actions=mp.Actions.ADDHDRS,
)
REFUSAL = mp.ReplyCode.text(550, "5.7.1", "We take no mail from spam.example")


def session(_conn: mp.FilterConnection) -> MilterHandler:
    """Called for each connection of the MTA: makes what gets its events."""
    size = 0

    def handle(event: MilterEvent) -> MilterReplies:
        nonlocal size
        match event:
            case mp.MailFrom(sender):
                size = 0
                if sender.lower().endswith(b"@spam.example>"):
                    return REFUSAL
            case mp.Body(data):
                size += len(data)
            case mp.EndOfMessage():
                return [mp.AddHeader(b"X-Body-Size", b"%d" % size), mp.Accept()]
            case _:
                pass
        return None

    return handle


if __name__ == "__main__":
    serve(milter(session, WANTS), arguments(__doc__).parse_args())
