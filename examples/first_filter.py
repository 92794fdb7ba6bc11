"""A filter for Postfix or Sendmail: note each client's address, and refuse one recipient."""

from adapters.run import arguments, serve
from adapters.services import messages

import milterproto as mp
from milterproto.message import Message, MessageFilter, Recipient


def on_recipient(_message: Message, recipient: Recipient) -> mp.Verdict | None:
    """Asked about each recipient: the client hears of a refusal before it sends the content."""
    if recipient.canonical == b"nobody@example.test":
        return mp.ReplyCode.text(550, "5.1.1", "No such user here")
    return None


def judge(message: Message) -> mp.Verdict | None:
    """Asked about each message: what is changed here is changed in the mail."""
    message.headers.append("X-Client-Address", message.client.address)
    return None  # let it pass


if __name__ == "__main__":
    # Listens where main.cf says: smtpd_milters = inet:127.0.0.1:8890
    serve(
        messages(MessageFilter(judge, on_recipient=on_recipient)), arguments(__doc__).parse_args()
    )
