"""purepythonmilter: its decoders and encoders, without the tasks and queues of its server."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from tests.benchmarks import _milter_session as session
from tests.benchmarks._milter_tasks import filter_tasks
from tests.benchmarks._side import serve

models: Any = importlib.import_module("purepythonmilter.api.models")
commands: Any = importlib.import_module("purepythonmilter.protocol.commands")
responses: Any = importlib.import_module("purepythonmilter.protocol.responses")
packet: Any = importlib.import_module("purepythonmilter.protocol.packet")
payload: Any = importlib.import_module("purepythonmilter.protocol.payload")

FLAGS = models.RequestProtocolFlags(
    **{
        f"{what}_{event}": True
        for what in ("call", "reply")
        for event in (
            "connect",
            "helo",
            "mail_from",
            "rcpt_to",
            "data",
            "headers",
            "end_of_headers",
            "body_chunk",
            "unknown",
        )
    },
    can_add_headers=True,
    can_change_headers=True,
    can_specify_macros=False,
    can_skip_body_chunks=False,
)


def answer(chunks: Sequence[bytes]) -> list[bytes]:
    """The filter's side."""
    connection_id = models.MilterServerConnectionID.generate()
    packets = packet.PacketDecoder(connection_id=connection_id)
    payloads = payload.PayloadDecoder(connection_id=connection_id)
    written: list[bytes] = []
    macros: dict[str, str] = {}

    def write(response: Any) -> None:
        written.append(packet.encode_payload(response.encode()))

    for chunk in chunks:
        for data in packets.decode(chunk):
            make, rest = payloads.decode(data)
            match command := make(data_raw=rest):
                case commands.DefineMacro():
                    macros |= command.macros
                case commands.Abort() | commands.Quit():
                    pass
                case commands.OptionsNegotiate():
                    write(responses.OptionsNegotiateResponse(protocol_flags=FLAGS))
                case commands.EndOfMessage():
                    assert macros["i"]
                    name, value = (text.decode() for text in session.ADDED)
                    write(responses.AppendHeader(headername=name, headertext=value))
                    at, changed, new = session.CHANGED
                    write(
                        responses.ChangeHeader(
                            nth_occurrence=at, headername=changed.decode(), headertext=new.decode()
                        )
                    )
                    write(responses.Continue())
                case _:
                    write(responses.Continue())
    return written


if __name__ == "__main__":
    serve(filter_tasks(answer))
