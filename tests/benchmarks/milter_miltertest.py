"""miltertest (the package on PyPI): its codec, for both roles."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from tests.benchmarks import _milter_session as session
from tests.benchmarks._milter_tasks import filter_tasks, mta_tasks
from tests.benchmarks._side import serve

codec: Any = importlib.import_module("miltertest.codec")


def answer(chunks: Sequence[bytes]) -> list[bytes]:
    """The filter's side."""
    written: list[bytes] = []
    macros: list[str] = []
    rest = b""
    for chunk in chunks:
        rest += chunk
        while True:
            try:
                code, fields, rest = codec.decode_msg(rest)
            except codec.MilterIncomplete:
                break
            if code == "D":
                macros = fields["nameval"]
            elif code == "O":
                written.append(codec.encode_optneg(session.WANTED, 0, is_milter=True))
            elif code == "E":
                assert macros[macros.index("i") + 1]
                name, value = (text.decode() for text in session.ADDED)
                written.append(codec.encode_msg("h", name=name, value=value))
                at, changed, new = session.CHANGED
                written.append(
                    codec.encode_msg("m", index=at, name=changed.decode(), value=new.decode())
                )
                written.append(codec.encode_msg("c"))
            elif code not in "AQ":
                written.append(codec.encode_msg("c"))
    return written


def encode(code: bytes, fields: tuple[bytes, ...]) -> bytes:
    """One command."""
    command = code.decode()
    if code == b"O":
        made = codec.encode_optneg(session.ACTIONS, session.STEPS)
    elif code == b"D":
        strings = [string.decode() for string in fields[1:]]
        made = codec.encode_msg(command, cmdcode=fields[0].decode(), nameval=strings)
    elif code == b"C":
        name, family, port, address = fields
        made = codec.encode_msg(
            command,
            hostname=name.decode(),
            family=family.decode(),
            port=int.from_bytes(port, "big"),
            address=address.decode(),
        )
    elif code == b"H":
        made = codec.encode_msg(command, helo=fields[0].decode())
    elif code in b"MR":
        made = codec.encode_msg(command, args=[field.decode() for field in fields])
    elif code == b"L":
        made = codec.encode_msg(command, name=fields[0].decode(), value=fields[1].decode())
    elif code == b"B":
        made = codec.encode_msg(command, buf=fields[0].decode())
    else:
        made = codec.encode_msg(command)
    return bytes(made)


def ask(script: Sequence[tuple[session.Step, bytes]]) -> list[bytes]:
    """The MTA's side."""
    written: list[bytes] = []
    for (code, fields), reply in script:
        written.append(encode(code, fields))
        rest = reply
        while rest:
            _, _, rest = codec.decode_msg(rest)
    return written


if __name__ == "__main__":
    serve(filter_tasks(answer) | mta_tasks(ask))
