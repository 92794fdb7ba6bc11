"""The SMTP server that a gateway hands messages on to: it takes them, and delivers none.

aiosmtpd was the first choice, and refuses too much of what gateways send: RCPT with any parameter,
MAIL with RET or ENVID, lines over 1000 bytes; and it writes parameters anew in upper case.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, final

from nginxauth import xclient as xc
from smtp_milter._content import DotReader, Normalizer
from smtp_milter._returned import Returned
from smtp_milter._spool import Spool

MAX_LINE: Final = 2048  # Postfix's line_length_limit
MAX_RECIPIENTS: Final = 10_000
MAX_ERRORS: Final = 20  # Postfix's smtpd_hard_error_limit

_PATH: Final = re.compile(
    rb'(?i:MAIL +FROM|RCPT +TO):[ \t]*(<(?:"(?:\\.|[^"\\])*"|[^">])*>|[^\s<>]+)(?:[ \t].*)?'
)
_XFORWARD: Final = xc.Offer(xforward=xc.EVERYTHING.xforward)


@final
class SinkConnection:
    """Bytes in, messages and bytes out; pipelining is for the client to use, and costs nothing.

    `next_message` gives each message that has come; nothing goes on before `answer` says what
    becomes of it.
    """

    def __init__(self, hostname: str, *, max_size: int, nonce: Callable[[], bytes]) -> None:
        self._name = hostname.encode("ascii", "replace")
        self._max_size = max_size
        self._nonce = nonce
        self._input = b""
        self._output = [b"220 %b ESMTP\r\n" % self._name]
        self._xforward = xc.Receiver(_XFORWARD)
        self._errors = 0
        self._content: DotReader | None = None
        self._due = False
        self.is_over = False
        self._reset()

    def _reset(self) -> None:
        self._sender: bytes | None = None
        self._recipients: list[bytes] = []
        self._xforward.end_transaction()

    def receive_data(self, data: bytes) -> None:
        """What came."""
        self._input += data

    def data_to_send(self) -> bytes:
        """What is to be written now; each byte once."""
        data = b"".join(self._output)
        self._output.clear()
        return data

    def next_message(self) -> Returned | None:
        """A message that has come, or None: feed me more."""
        while not (self.is_over or self._due):
            if self._content is not None:
                if not self._read_content(self._content):
                    return None
                if self._spool.size <= self._max_size:
                    self._due = True
                    return self._message()
                self._say(b"552 5.3.4 Message too large")
                self._reset()
                continue
            line, end, rest = self._input.partition(b"\n")
            if len(line) > MAX_LINE:
                self._say(b"500 5.5.2 Line too long", close=True)
                return None
            if not end:
                return None
            self._input = rest
            self._command(line.removesuffix(b"\r"))
        return None

    def answer(self, reply: bytes) -> None:
        """The reply to the message that was given out last, a line without its end."""
        self._due = False
        self._reset()
        self._say(reply)

    # --- content ---------------------------------------------------------------------------

    def _read_content(self, reader: DotReader) -> bool:
        """Whether all of it is there."""
        data = self._normalizer.feed(reader.feed(self._input))
        self._input = reader.rest or b""
        if self._spool.size <= self._max_size:
            self._spool.write(data)
        if reader.rest is None:
            return False
        self._spool.write(self._normalizer.finish())
        self._content = None
        return True

    def _message(self) -> Returned:
        ident = self._xforward.forwarded.ident
        return Returned(
            self._sender or b"<>",
            tuple(self._recipients),
            self._spool,
            self._nonce(),
            ident if isinstance(ident, bytes) else b"",
        )

    # --- commands --------------------------------------------------------------------------

    def _say(self, *lines: bytes, close: bool = False) -> None:
        for line in lines:
            self._output.append(line + b"\r\n")
        if lines[-1].startswith(b"5"):
            self._errors += 1
            if self._errors >= MAX_ERRORS:
                self._output.append(b"421 4.7.0 Too many errors\r\n")
                close = True
        self.is_over |= close

    def _command(self, line: bytes) -> None:
        verb = line[:8].split(b" ", 1)[0].split(b":", 1)[0].upper()
        match verb:
            case b"EHLO":
                self._reset()
                offers = [b"PIPELINING", b"SIZE %d" % self._max_size, b"8BITMIME", b"SMTPUTF8"]
                offers += [b"DSN", b"ENHANCEDSTATUSCODES", *xc.ehlo_lines(_XFORWARD)]
                first = [b"250-" + one for one in (self._name, *offers[:-1])]
                self._say(*first, b"250 " + offers[-1])
            case b"HELO" | b"XCLIENT":
                # Not offered; but a gateway that tells it unasked tells it to nobody here.
                self._reset()
                code = b"250 " if verb == b"HELO" else b"220 "
                self._say(code + self._name)
            case b"XFORWARD":
                self._forward(line)
            case b"MAIL":
                self._mail(line)
            case b"RCPT":
                self._rcpt(line)
            case b"DATA" if not self._recipients:
                self._say(b"503 5.5.1 No recipient")
            case b"DATA":
                self._content, self._normalizer, self._spool = DotReader(), Normalizer(), Spool()
                self._say(b"354 Go on")
            case b"RSET":
                self._reset()
                self._say(b"250 2.0.0 Ok")
            case b"NOOP":
                self._say(b"250 2.0.0 Ok")
            case b"VRFY":
                self._say(b"252 2.0.0 Perhaps")
            case b"QUIT":
                self._say(b"221 2.0.0 Bye", close=True)
            case _:
                self._say(b"502 5.5.2 No such command here")

    def _forward(self, line: bytes) -> None:
        made = self._xforward.receive(line, in_transaction=self._sender is not None)
        self._say(made.reply if isinstance(made, xc.Refused) else b"250 2.0.0 Ok")

    def _mail(self, line: bytes) -> None:
        match = _PATH.fullmatch(line)
        if match is None:
            self._say(b"501 5.5.4 Syntax: MAIL FROM:<address>")
        elif self._sender is not None:
            self._say(b"503 5.5.1 One MAIL at a time")
        else:
            self._sender = match[1]
            self._say(b"250 2.1.0 Ok")

    def _rcpt(self, line: bytes) -> None:
        match = _PATH.fullmatch(line)
        if match is None or self._sender is None:
            self._say(b"503 5.5.1 RCPT TO:<address> comes after MAIL")
        elif len(self._recipients) >= MAX_RECIPIENTS:
            self._say(b"452 4.5.3 Too many recipients")
        else:
            self._recipients.append(match[1])
            self._say(b"250 2.1.5 Ok")
