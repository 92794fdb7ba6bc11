"""A message on its way to a gateway: as the MTA shows it, and as it is sent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, final

from milterproto.message import Field, Headers
from smtp_milter._content import Normalizer, normalized
from smtp_milter._spool import Spool

_BARE_BREAK: Final = re.compile(rb"\r?\n(?![ \t])")
# Bytes of a header, with what Python needs for each field, roughly: it is not kept on the disk.
MAX_HEADER: Final = 1024 * 1024
_OBJECT: Final = 100


@final
class Outgoing:
    """A message as it comes; ``sent`` are the fields of its header as the gateway gets them."""

    def __init__(self) -> None:
        self._shown: list[Field] = []
        self.sent: list[Field] = []
        self.body = Spool()
        # Of headers and body, as the MTA sent them.
        self.size = 0
        self._header_size = 0
        self._normalizer = Normalizer()

    @property
    def headers(self) -> Headers:
        """The header as the MTA shows it."""
        return Headers(self._shown)

    def add_field(self, name: bytes, raw: bytes) -> None:
        """A header field; ``raw`` with LF where it is folded."""
        self._shown.append(Field(name, raw))
        # A line end with no blank behind it would end the field for the gateway, and not for us.
        clean = normalized(_BARE_BREAK.sub(b" ", raw)).replace(b"\r\n", b"\n")
        self.sent.append(Field(name, clean))
        self.size += len(name) + len(raw) + 3
        self._header_size += len(name) + len(raw) + _OBJECT

    def add_body(self, data: bytes) -> None:
        """The next piece of the body."""
        self.body.write(self._normalizer.feed(data))
        self.size += len(data)

    def is_over(self, max_size: int) -> bool:
        """Whether there is too much of it, of the header or of all."""
        return self.size > max_size or self._header_size > MAX_HEADER

    def end(self) -> None:
        """There is no more."""
        self.body.write(self._normalizer.finish())

    def content(self, on_top: list[Field]) -> Iterator[bytes]:
        """What is sent, without its dots doubled."""
        fields = [*on_top, *self.sent]
        head = b"".join(b"%b:%b\n" % (field.name, field.raw) for field in fields)
        yield head.replace(b"\n", b"\r\n") + b"\r\n"
        yield from self.body.chunks()
