"""A milter filter that refuses recipients named in a list, each with a reply of its own.

A line of the list is an address, or a domain behind an @, and the reply to the client:

    # sales has moved, and one mailbox is full
    @sales.example.test   550 5.1.6 Sales has moved, see www.example.test/contact
    ann@example.test      452 4.2.2 Mailbox full

550 and 5yz mean never, 450 and 4yz not now. An address goes before its domain.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

from adapters.run import arguments, serve
from adapters.services import messages

import milterproto as mp
from milterproto.message import Message, MessageFilter, Recipient


def parse_list(text: str) -> dict[bytes, mp.ReplyCode]:
    """The replies by address; ValueError says what is wrong, and in which line."""
    replies = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            address, code, enhanced, text = line.split(maxsplit=3)
            reply = mp.ReplyCode.text(int(code), enhanced, text)
            mp.encode_response(reply)  # better refused here than at the first recipient
        except mp.LocalProtocolError as error:
            raise ValueError(f"line {number}: {error}") from None
        except ValueError:
            raise ValueError(f"line {number} is not like this: a@b.c 550 5.1.1 Reason") from None
        replies[address.lower().encode()] = reply
    return replies


def judge(
    message: Message, recipient: Recipient, replies: Mapping[bytes, mp.ReplyCode]
) -> mp.ReplyCode | None:
    """What becomes of one recipient."""
    # The macro is the address that the MTA made of what the client wrote.
    address = Recipient(message.macros.get(b"{rcpt_addr}", recipient.address)).canonical
    _, at, domain = address.rpartition(b"@")
    return replies.get(address) or replies.get(at + domain)


def main() -> None:
    """Read the command line and the list, and serve."""
    parser = arguments(__doc__)
    parser.add_argument("list", type=Path, help="the file with the list")
    options = parser.parse_args()
    try:
        replies = parse_list(options.list.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SystemExit(f"{options.list}: {error}") from None
    serve(messages(MessageFilter(on_recipient=functools.partial(judge, replies=replies))), options)


if __name__ == "__main__":
    main()
