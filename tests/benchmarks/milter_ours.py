"""mailwire's milterproto, both roles."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import milterproto as mp
from milterproto import EndOfMessage, Negotiate
from tests.benchmarks import _milter_session as session
from tests.benchmarks._milter_tasks import filter_tasks, mta_tasks
from tests.benchmarks._side import serve

ADDED = mp.AddHeader(*session.ADDED)
CHANGED = mp.ChangeHeader(*session.CHANGED)
CONTINUE = mp.Continue()
ANSWER = mp.Negotiate(session.VERSION, mp.Actions(session.WANTED), mp.Steps(0))
OFFER = mp.Negotiate(session.VERSION, mp.Actions(session.ACTIONS), mp.Steps(session.STEPS))


def answer(chunks: Sequence[bytes]) -> list[bytes]:
    """The filter's side."""
    conn = mp.FilterConnection()
    written: list[bytes] = []
    write = written.append
    for chunk in chunks:
        conn.receive_data(chunk)
        while (event := conn.next_event()) is not None:
            if not conn.our_turn:
                continue
            match event:
                case EndOfMessage():
                    assert conn.macros[b"i"]
                    write(conn.send(ADDED))
                    write(conn.send(CHANGED))
                    write(conn.send(CONTINUE))
                case Negotiate():
                    write(conn.send(ANSWER))
                case _:
                    write(conn.send(CONTINUE))
    return written


MAKE: dict[bytes, Callable[..., mp.Command]] = {
    b"O": lambda: OFFER,
    b"D": lambda code, *names: mp.Macros(code, b"\0".join((*names, b""))),
    b"C": lambda name, family, port, address: mp.Connect(
        name, mp.Family(family), int.from_bytes(port, "big"), address
    ),
    b"H": mp.Helo,
    b"M": lambda sender, *parameters: mp.MailFrom(sender, parameters),
    b"R": lambda recipient, *parameters: mp.RcptTo(recipient, parameters),
    b"T": mp.Data,
    b"L": mp.Header,
    b"N": mp.EndOfHeaders,
    b"B": mp.Body,
    b"E": mp.EndOfMessage,
    b"A": mp.Abort,
    b"Q": mp.Quit,
}


def ask(script: Sequence[tuple[session.Step, bytes]]) -> list[bytes]:
    """The MTA's side."""
    conn = mp.MTAConnection()
    written = []
    for (code, fields), reply in script:
        written.append(conn.send(MAKE[code](*fields)))
        if reply:
            conn.receive_data(reply)
            while not conn.our_turn:
                conn.next_event()
    return written


if __name__ == "__main__":
    serve(filter_tasks(answer) | mta_tasks(ask))
