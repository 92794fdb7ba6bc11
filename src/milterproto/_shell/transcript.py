r"""What a proxy saw, as lines of JSON: one for each packet, to read, to show and to play back.

    {"milter transcript": 1}
    {"connection": 1, "seconds": 0.002, "way": ">", "code": "H", "payload": "client.test\u0000"}
    {"connection": 1, "seconds": 0.003, "way": "<", "code": "c", "payload": ""}
    {"connection": 1, "seconds": 0.004, "way": ">", "bytes": ""}

``>`` is from the MTA, ``<`` from the filter. ``bytes`` are such as are no packets; none at all
are the end of file. Text is UTF-8, and each byte that is not, a surrogate U+DC80 to U+DCFF: so
every byte comes back as it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeAlias, final

import attrs

from milterproto._buffer import DEFAULT_MAX_PAYLOAD
from milterproto._errors import LocalProtocolError, RemoteProtocolError
from milterproto._events import Command, ConnectionClosed, Macros, Response
from milterproto._habits import MACROS
from milterproto._shell.words import bytes_of, text_of
from milterproto._wire import COMMAND_DECODERS, RESPONSE_DECODERS

FIRST_LINE: Final = '{"milter transcript": 1}'
FROM_MTA: Final = ">"
FROM_FILTER: Final = "<"

# A str is why there is no event.
Seen: TypeAlias = Command | Response | ConnectionClosed | str

_X: Final = bytes(byte if byte in b"\0\t\n\r " else ord("x") for byte in range(256))
# What is shown, if it can be read: the offer, client, HELO and envelope; and of the filter, its
# edits of the envelope, and what it says in its own words.
_SHOWN: Final = {
    FROM_MTA: (b"O", b"C", b"H", b"M", b"R"),
    FROM_FILTER: (b"O", b"y", b"+", b"2", b"-", b"e", b"q"),
}
# Of header fields the name is shown, too. It begins behind an index, or at once.
_INDEX_SIZES: Final = {
    FROM_MTA: {b"L": 0},
    FROM_FILTER: {b"h": 0, b"i": 4, b"m": 4},
}
# Macros that are about a client or an envelope: those that the two MTAs send of themselves, and
# those that Postfix has besides. Any other may be taken from a message, as Sendmail's {msg_id} and
# {currHeader} are.
_MACROS: Final = {
    *(name for table in MACROS.values() for names in table.values() for name in names),
    *(b"{client_addr}", b"{client_name}", b"{client_port}", b"{client_ptr}", b"{client_resolve}"),
    *(b"{client_connections}", b"{daemon_port}", b"{tls_sni}"),
} - {b"{msg_id}"}


@final
@attrs.frozen
class Entry:
    """One packet: ``code`` is its code byte. Or bytes that are none: then ``code`` is empty.

    ``connection`` counts from 1, ``seconds`` are those since the recorder was started, ``way`` is
    ``">"`` (from the MTA) or ``"<"``. No code and no bytes: end of file.
    """

    connection: int
    seconds: float
    way: str
    code: bytes
    payload: bytes

    @property
    def line(self) -> str:
        """As a line of the file, without its end."""
        fields: dict[str, Any] = {
            "connection": self.connection,
            "seconds": round(self.seconds, 6),
            "way": self.way,
        }
        if self.code:
            # Latin-1: a code byte over 0x7f is one character, too.
            fields["code"] = self.code.decode("latin-1")
            fields["payload"] = text_of(self.payload)
        else:
            fields["bytes"] = text_of(self.payload)
        return json.dumps(fields)

    @property
    def raw(self) -> bytes:
        """What crossed the wire."""
        if not self.code:
            return self.payload
        return (1 + len(self.payload)).to_bytes(4, "big") + self.code + self.payload

    @property
    def seen(self) -> Seen:
        """The event, or why it is none."""
        if not self.code:
            if not self.payload:
                return ConnectionClosed()
            return f"{len(self.payload)} bytes that are no packet"
        decoders: Any = COMMAND_DECODERS if self.way == FROM_MTA else RESPONSE_DECODERS
        decode = decoders.get(self.code[0])
        if decode is None:
            return f"unknown code byte 0x{self.code[0]:02x}"
        try:
            seen: Seen = decode(self.payload)
        except RemoteProtocolError as error:
            return str(error)
        return seen

    @property
    def masked(self) -> Entry:
        """Without a message's contents: an x for each byte that is no white space.

        That is done to all but what is known to be about something else: the negotiation, client,
        HELO and envelope, macros of those, names of header fields and of macros, the verdict and
        its reply, the reason for a quarantine. Lengths and line ends stay.
        """
        payload = self.payload
        seen = self.seen
        if isinstance(seen, Macros):
            payload = seen.command + _masked_macros(payload[1:])
        elif self.code not in _SHOWN[self.way] or isinstance(seen, str):
            at = self._value_at
            payload = payload[:at] + payload[at:].translate(_X)
        return attrs.evolve(self, payload=payload)

    @property
    def _value_at(self) -> int:
        """Where a header field's value begins; 0 if it is none, or can't be read."""
        index_size = _INDEX_SIZES[self.way].get(self.code)
        if index_size is None or isinstance(self.seen, str):
            return 0
        return self.payload.index(b"\0", index_size) + 1


def _masked_macros(raw: bytes) -> bytes:
    strings = raw.split(b"\0")
    # A name is followed by its value; what the last NUL leaves over is neither.
    for at, text in enumerate(strings):
        if at == len(strings) - 1 or (at % 2 and strings[at - 1] not in _MACROS):
            strings[at] = text.translate(_X)
    return b"\0".join(strings)


@final
class Recorder:
    """Makes entries of what crosses one connection, in whatever pieces it does.

    An entry is complete with the last byte of its packet. What no packet can begin with, and all
    that follows it, are mere bytes.
    """

    def __init__(self, connection: int) -> None:
        self._connection = connection
        self._partial = {FROM_MTA: bytearray(), FROM_FILTER: bytearray()}
        self._lost: set[str] = set()

    def take(self, way: str, data: bytes, seconds: float) -> Iterator[Entry]:
        """The entries that some bytes complete; ``b""`` is end of file."""
        partial = self._partial[way]
        partial += data
        while way not in self._lost and len(partial) >= 5:
            end = 4 + int.from_bytes(partial[:4], "big")
            # The rest of a longer one would be waited for, and kept, for ever.
            if not 5 <= end <= 5 + DEFAULT_MAX_PAYLOAD:
                self._lost.add(way)
                break
            if len(partial) < end:
                break
            yield Entry(self._connection, seconds, way, bytes(partial[4:5]), bytes(partial[5:end]))
            del partial[:end]
        if partial and (not data or way in self._lost):
            yield Entry(self._connection, seconds, way, b"", bytes(partial))
            partial.clear()
        if not data:
            yield Entry(self._connection, seconds, way, b"", b"")


def parse(lines: Iterable[str]) -> list[Entry]:
    """The entries of a file; LocalProtocolError for what is no transcript."""
    rest = iter(lines)
    if next(rest, "").strip() != FIRST_LINE:
        raise LocalProtocolError(
            f"this is no transcript: its first line is not {FIRST_LINE}. "
            "`python -m milterproto record` makes one"
        )
    return [_entry(line, number) for number, line in enumerate(rest, start=2) if line.strip()]


def _entry(line: str, number: int) -> Entry:
    try:
        fields = json.loads(line)
        code = fields.get("code", "").encode("latin-1")
        entry = Entry(
            int(fields["connection"]),
            float(fields["seconds"]),
            fields["way"],
            code,
            bytes_of(fields["payload" if code else "bytes"]),
        )
    # Whatever stands there in place of an object with those fields.
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise LocalProtocolError(
            f"line {number} of the transcript can't be read: take it out"
        ) from error
    if entry.way not in (FROM_MTA, FROM_FILTER) or len(code) > 1:
        raise LocalProtocolError(f"line {number} of the transcript can't be read: take it out")
    return entry
