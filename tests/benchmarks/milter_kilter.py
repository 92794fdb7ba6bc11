"""kilter.protocol: one object for the filter's side, and messages that know their layout."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

from tests.benchmarks import _milter_session as session
from tests.benchmarks._milter_tasks import filter_tasks, mta_tasks
from tests.benchmarks._side import serve

kp: Any = importlib.import_module("kilter.protocol")
messages: Any = importlib.import_module("kilter.protocol.messages")
SimpleBuffer: Any = importlib.import_module("kilter.protocol.buffer").SimpleBuffer

# The smallest that holds a read and the rest of a packet: a larger one is slower to delete from.
CAPACITY = session.PIECE + session.CHUNK + 6
ADDED = messages.AddHeader(session.ADDED[0].decode(), session.ADDED[1])
CHANGED = messages.ChangeHeader(session.CHANGED[0], session.CHANGED[1].decode(), session.CHANGED[2])
CONTINUE = messages.Continue()


def answer(chunks: Sequence[bytes]) -> list[bytes]:
    """The filter's side."""
    protocol = kp.FilterProtocol()
    incoming, outgoing = SimpleBuffer(CAPACITY), SimpleBuffer(4096)
    written: list[bytes] = []
    macros: dict[str, str] = {}
    answer = messages.Negotiate(
        session.VERSION,
        messages.ActionFlags(session.WANTED),
        messages.ProtocolFlags(0),
    )
    for chunk in chunks:
        incoming[:] = chunk
        for event in protocol.read_from(incoming):
            match event:
                case messages.Macro():
                    macros |= event.macros
                    continue
                case messages.Abort() | messages.Close():
                    continue
                case messages.Negotiate():
                    protocol.write_to(outgoing, answer)
                case messages.EndOfMessage():
                    assert macros["i"]
                    protocol.write_to(outgoing, ADDED)
                    protocol.write_to(outgoing, CHANGED)
                    protocol.write_to(outgoing, CONTINUE)
                case _:
                    protocol.write_to(outgoing, CONTINUE)
            written.append(outgoing[:].tobytes())
            del outgoing[:]
    return written


MAKE: dict[bytes, Any] = {
    b"O": lambda: messages.Negotiate(
        session.VERSION,
        messages.ActionFlags(session.ACTIONS),
        messages.ProtocolFlags(session.STEPS),
    ),
    b"D": lambda code, *strings: messages.Macro(
        code[0],
        {
            name.decode(): value.decode()
            for name, value in zip(strings[::2], strings[1::2], strict=True)
        },
    ),
    b"C": lambda name, _family, port, address: messages.Connect(
        name.decode(), ip_address(address.decode()), int.from_bytes(port, "big")
    ),
    b"H": lambda name: messages.Helo(name.decode()),
    b"M": lambda sender, *parameters: messages.EnvelopeFrom(sender, list(parameters)),
    b"R": lambda recipient, *parameters: messages.EnvelopeRecipient(recipient, list(parameters)),
    b"T": messages.Data,
    b"L": lambda name, value: messages.Header(name.decode(), value),
    b"N": messages.EndOfHeaders,
    b"B": messages.Body,
    b"E": lambda: messages.EndOfMessage(b""),
    b"A": messages.Abort,
    b"Q": messages.Close,
}


def ask(script: Sequence[tuple[session.Step, bytes]]) -> list[bytes]:
    """The MTA's side, as far as there is one: packing and unpacking."""
    incoming, outgoing = SimpleBuffer(4096), SimpleBuffer(CAPACITY)
    written: list[bytes] = []
    for (code, fields), reply in script:
        MAKE[code](*fields).pack(outgoing)
        written.append(outgoing[:].tobytes())
        del outgoing[:]
        if reply:
            incoming[:] = reply
            while incoming.filled:
                message, size = messages.Message.unpack(incoming)
                message.release()
                del incoming[:size]
    return written


if __name__ == "__main__":
    serve(filter_tasks(answer) | mta_tasks(ask))
