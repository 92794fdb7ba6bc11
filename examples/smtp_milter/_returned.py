"""What has come back: a message that a gateway has handed on to the sink."""

from __future__ import annotations

from typing import Final, final

import attrs

from milterproto.message import Headers, Message
from smtp_milter._spool import Spool

# Bytes. Postfix's header_size_limit is 100 KB for a field; whoever needs more has made a mistake.
MAX_HEADER: Final = 1024 * 1024


class UnreadableError(Exception):
    """What has come back is no message. The text has nothing of it."""


@final
@attrs.frozen
class Returned:
    """The envelope, with angle brackets; and the content, with CRLF at each line's end."""

    sender: bytes
    recipients: tuple[bytes, ...]
    content: Spool
    nonce: bytes  # what the sink answers it with
    ident: bytes  # what it was called by XFORWARD

    def headers(self) -> tuple[Headers, int]:
        """The header, and where the body begins; without NUL, which no MTA takes there.

        Raises UnreadableError.
        """
        head = self.content.head(MAX_HEADER)
        if head.startswith(b"\r\n"):
            return Headers(), 2
        end = head.find(b"\r\n\r\n")
        if end < 0 and self.content.size > len(head):
            raise UnreadableError(f"its header has over {MAX_HEADER} bytes")
        text, body = (head, len(head)) if end < 0 else (head[: end + 2], end + 4)
        message = Message.parse(text.replace(b"\0", b""))
        if message.body:
            raise UnreadableError("its header has a line that is none of a header")
        return message.headers, body

    def fields(self, name: bytes) -> list[bytes]:
        """The values of that name in the header; none if it can't be read."""
        try:
            return self.headers()[0].all(name)
        except UnreadableError:
            return []
