"""Thousands of sessions, generated and mutated, on the real libmilter and on our filter's side.

    python -m tests.benchmarks.long_libmilter [SEED [SESSIONS]]

Both get the same bytes and say the same to each event. They must call the same functions with the
same arguments, and give the same replies, up to the first place where the manual says that they
differ: the table of `docs/milter_states.md` is read, and each difference is looked up there. The
seed, which is printed first, brings a session back.
"""

from __future__ import annotations

import collections
import random
import re
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, TypeAlias

import attrs

import milterproto as mp
from milterproto._events import COMMAND_CODES
from milterproto._wire import COMMAND_DECODERS, encode_command
from tests.interop._libmilter import PATIENCE, Called, Program, build, on
from tests.interop.test_libmilter import NAMES, called

PAGE: Final = Path(__file__).parents[2] / "docs" / "milter_states.md"
SESSIONS: Final = 5000

# libmilter's name for it, our reply, and the rule.
VERDICTS: Final[dict[str, tuple[mp.Response, tuple[str, ...]]]] = {
    "continue": (mp.Continue(), ()),
    "accept": (mp.Accept(), ("accept",)),
    "reject": (mp.Reject(), ("reject",)),
    "tempfail": (mp.TempFail(), ("tempfail",)),
    "discard": (mp.Discard(), ("discard",)),
}
EDITS: Final[Sequence[tuple[mp.Response, str]]] = (
    (mp.AddHeader(b"X-A", b"v"), on("eom", "addheader", b"X-A", b"v")),
    (mp.ChangeHeader(1, b"X-A", b""), on("eom", "chgheader", 1, b"X-A", b"")),
    (mp.InsertHeader(0, b"X", b"a\n b"), on("eom", "insheader", 0, b"X", b"a\n b")),
    (mp.ReplaceBody(b"new\r\n"), on("eom", "replacebody", b"new\r\n")),
    (mp.AddRecipient(b"<c@d>"), on("eom", "addrcpt", b"<c@d>")),
    (mp.DeleteRecipient(b"<c@d>"), on("eom", "delrcpt", b"<c@d>")),
    (mp.ChangeSender(b"<e@f>"), on("eom", "chgfrom", b"<e@f>", None)),
    (mp.Quarantine(b"odd"), on("eom", "quarantine", b"odd")),
    (mp.Progress(), on("eom", "progress")),
)
COMMANDS: Final[Sequence[mp.Command]] = (
    mp.Connect(b"client.test", mp.Family.INET, 25, b"192.0.2.1"),
    mp.Connect(b"h", mp.Family.INET6, 1, b"2001:db8::1"),
    mp.Connect(b"", mp.Family.UNKNOWN),
    mp.Connect(b"localhost", mp.Family.UNIX, 0, b"/x"),
    mp.Helo(b"h"),
    mp.Helo(b""),
    mp.MailFrom(b"<a@b>"),
    mp.MailFrom(b"<>", (b"SIZE=1", b"BODY=8BITMIME")),
    mp.RcptTo(b"<c@d>"),
    mp.RcptTo(b"\xe4", (b"NOTIFY=NEVER",)),
    mp.Data(),
    mp.Header(b"Subject", b"one\n two"),
    mp.Header(b"X", b""),
    mp.EndOfHeaders(),
    mp.Body(b"x\0y\r\n"),
    mp.EndOfMessage(),
    mp.Abort(),
    mp.Unknown(b"FOO bar"),
    mp.Macros.of(mp.MailFrom, {b"i": b"q"}),
    mp.Macros.of(mp.Connect, {b"j": b"mx"}),
    mp.QuitNewConnection(),
)
# So that messages come to their end.
LIKELY: Final = [one for one in COMMANDS if type(one) not in (mp.Abort, mp.QuitNewConnection)]


@attrs.frozen
class Policy:
    """What the filter says, by the name of the callback."""

    verdicts: dict[str, str]
    edits: tuple[int, ...]

    @classmethod
    def any(cls, rng: random.Random) -> Policy:
        """Continue nearly everywhere."""
        verdicts = {
            name: rng.choice(sorted(VERDICTS)) for name in NAMES.values() if rng.random() < 0.12
        }
        # The adapters may not say these either: to a client, they are no verdict.
        for name in ("connect", "helo", "unknown"):
            if verdicts.get(name) == "discard" or (name, verdicts.get(name)) == (
                "unknown",
                "accept",
            ):
                del verdicts[name]
        edits = tuple(rng.randrange(len(EDITS)) for _ in range(rng.choice((0, 0, 1, 3))))
        # The pieces of a new body can't be told apart, so there is one.
        kept = [at for at in edits if type(EDITS[at][0]) is not mp.ReplaceBody]
        return cls(verdicts, tuple(kept) + ((3,) if 3 in edits else ()))

    @property
    def rules(self) -> list[str]:
        """For libmilter."""
        found = [on("negotiate", "offer", 0x1FF, 0)]
        found += [EDITS[at][1] for at in self.edits]
        return found + [
            on(name, action)
            for name, verdict in self.verdicts.items()
            for action in VERDICTS[verdict][1]
        ]

    def replies(self, command: mp.Command) -> list[mp.Response]:
        """For our side."""
        if type(command) is mp.Negotiate:
            actions = command.actions & mp.ALL_ACTIONS
            return [mp.Negotiate(min(command.version, 6), actions, mp.Steps(0))]
        name = NAMES.get(type(command), "")
        edits = [EDITS[at][0] for at in self.edits] if name == "eom" else []
        return [*edits, VERDICTS[self.verdicts.get(name, "continue")][0]]


def generated(rng: random.Random, policy: Policy) -> list[bytes]:
    """The frames of a session as an MTA's side would have it, that wants libmilter to answer."""
    mta, filter_ = mp.MTAConnection(), mp.FilterConnection()
    frames: list[bytes] = []
    for step in range(rng.randrange(2, 30)):
        wanted = [one for one in rng.choice((COMMANDS, LIKELY)) if mta.wants(type(one))]
        if step and not wanted:
            break
        command = rng.choice(wanted) if step else mp.offer(6)
        try:
            frames.append(mta.send(command))
        except mp.LocalProtocolError:
            continue
        filter_.receive_data(frames[-1])
        if filter_.next_event() is not None and filter_.our_turn:
            for reply in policy.replies(command):
                mta.receive_data(filter_.send(reply))
            list(mta.events())
    if rng.random() < 0.7:
        frames.append(mp.MTAConnection().send(mp.Quit()))
    return frames


def mutated(rng: random.Random, frames: list[bytes]) -> list[bytes]:
    """One thing is wrong with it, or two."""
    frames = list(frames)
    for _ in range(rng.choice((1, 1, 2))):
        at = rng.randrange(len(frames))
        match rng.randrange(6):
            case 0:
                del frames[at]
            case 1:
                frames.insert(at, frames[at])
            case 2:
                other = rng.randrange(len(frames))
                frames[at], frames[other] = frames[other], frames[at]
            case 3:
                command = rng.choice(COMMANDS)
                frames.insert(at, _frame(COMMAND_CODES[type(command)], _payload(command)))
            case _:
                payload = bytearray(frames[at][5:])
                if payload and frames[at][4:5] not in b"OE":
                    payload[rng.randrange(len(payload))] = rng.randrange(256)
                    frames[at] = _frame(frames[at][4:5], bytes(payload))
        if not frames:
            break
    return frames


def _frame(code: bytes, payload: bytes) -> bytes:
    return (len(payload) + 1).to_bytes(4, "big") + code + payload


def _payload(command: mp.Command) -> bytes:
    return encode_command(command)[5:]


# --- what each makes of it -----------------------------------------------------------------


@attrs.frozen
class Step:
    """A frame on our side: where we stood, its code, the callback that it is, and our replies."""

    state: str
    code: str
    call: Called | None
    replies: bytes = b""


@attrs.define
class Ours:
    """What our side makes of a session; ``gave_up`` is the step at which it was an error."""

    steps: list[Step] = attrs.field(factory=list)
    gave_up: Step | None = None
    payload_fault: bool = False


def as_called(command: mp.Command) -> Called | None:
    """The callback for a command; None if there is none, or libmilter would have closed."""
    if type(command) not in NAMES:
        return None
    if type(command) is mp.Connect and command.family in (mp.Family.INET, mp.Family.INET6):
        version = 4 if command.family is mp.Family.INET else 6
        if command.ip is None or command.ip.version != version:
            return Called("closed, for this is no address")
    return called(command)


def ours(frames: Sequence[bytes], policy: Policy) -> Ours:
    """Frame by frame."""
    seen, conn = Ours(), mp.FilterConnection()
    last: type[mp.Command] = mp.Negotiate
    for frame in frames:
        state = ("UNKN-" if last is mp.Unknown else "") + conn.state.name
        # QUIT_NC is taken after the end of a message only, which no state of ours tells.
        ended = last is mp.EndOfMessage and policy.verdicts.get("eom", "continue") == "continue"
        state = "ENDM" if ended else state
        code = frame[4:5].decode("latin-1")
        conn.receive_data(frame)
        try:
            event = conn.next_event()
        except mp.RemoteProtocolError:
            try:
                call = as_called(COMMAND_DECODERS[frame[4]](frame[5:]))
            except mp.RemoteProtocolError:
                seen.payload_fault, call = True, None
            seen.gave_up = Step(state, code, call)
            break
        if event is None or isinstance(event, mp.ConnectionClosed):
            break
        replies = policy.replies(event) if conn.our_turn else []
        sent = b"".join(map(conn.send, replies))
        seen.steps.append(Step(state, code, as_called(event), sent))
        if type(event) is not mp.Macros:
            last = type(event)
    return seen


def theirs(program: Program, path: Path, frames: Sequence[bytes]) -> tuple[list[Called], bytes]:
    """All callbacks, and all that was replied."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(str(path))
        output = b""
        try:
            sock.sendall(b"".join(frames))
            sock.shutdown(socket.SHUT_WR)
            while data := sock.recv(1 << 16):
                output += data
        except ConnectionError:
            pass
    return program.everything(), output


# --- the comparison ------------------------------------------------------------------------


def listed() -> set[tuple[str, str, str, str]]:
    """Our state, the command's code, what libmilter does and what we do: of the manual's table."""
    text = PAGE.read_text(encoding="utf-8").partition("Beyond that, these cells differ")[2]
    their_names = {
        "INIT": "OPENING", "OPTS": "NEGOTIATED", "Q_NC": "NEGOTIATED", "CONN": "CONNECTED",
        "HELO": "CONNECTED", "ENDM": "CONNECTED", "ABRT": "CONNECTED", "HDRS": "HEADERS",
        "EOHS": "EOH",
    }  # fmt: skip
    found = set()
    for row in re.findall(r"^\| ([^|]+) \| ([A-Z ]+) \| (\w+) \| (\w+) \|", text, re.MULTILINE):
        for state in row[0].split():
            for code in row[1].split():
                name = their_names.get(state, state)
                found.add((name, code, row[2], row[3]))
    return found


Difference: TypeAlias = tuple[str, str, str, str]
Table: TypeAlias = set[tuple[str, str, str, str]]


def difference(
    mine: Ours, calls: Sequence[Called], output: bytes, frames: Sequence[bytes], table: Table
) -> Difference | None:
    """The first one: our state, the code, what libmilter did and what we did."""
    log = [call for call in calls if call.callback in NAMES.values()]
    said = b""
    for step in mine.steps:
        silent = (step.state, step.code, "ignored", "taken")
        if silent in table and (step.code == "K" or (step.code, step.state) == ("A", "NEGOTIATED")):
            return silent  # only what follows would show it: libmilter is in HELO then
        if step.call is not None:
            if not log or log[0] != step.call:
                return silent if output.startswith(said) else ("replies", step.code, "", "")
            del log[0]
        said += step.replies
    if mine.gave_up is None:
        return None if (log, output) == ([], said) else ("the end", "", repr(log), repr(output))
    if not output.startswith(said):
        return "replies", mine.gave_up.code, "", ""
    # It may have been the same thing, said again later on.
    later = list(filter(None, map(_call_of, frames[len(mine.steps) + 1 :])))
    if log and log[0] == mine.gave_up.call and log != later and log[0] not in later:
        return mine.gave_up.state, mine.gave_up.code, "taken", "error"
    return None


def _call_of(frame: bytes) -> Called | None:
    try:
        return as_called(COMMAND_DECODERS[frame[4]](frame[5:]))
    except mp.RemoteProtocolError:
        return None


def allowed(found: Difference, mine: Ours, policy: Policy, table: Table) -> bool:
    """Whether the manual has it: in the table, or behind it; or on the wire page."""
    state, _, they, we = found
    discarded = policy.verdicts.get("rcpt") == "discard"
    if discarded and (state, they, we) == ("DONE", "taken", "error"):
        return True
    # libmilter closes for a bad address.
    return found in table or any(
        step.call is not None and step.call.callback.startswith("closed") for step in mine.steps
    )


def sessions(rng: random.Random, count: int) -> Iterator[tuple[bool, Policy, list[bytes]]]:
    """One in three as it should be, the others not."""
    for number in range(count):
        policy = Policy.any(rng)
        frames = generated(rng, policy)
        broken = number % 3 != 0
        frames = mutated(rng, frames) if broken else frames
        if not frames or frames[0][4:5] != b"O":
            policy = attrs.evolve(policy, edits=())  # none was negotiated
        yield broken, policy, frames


def main() -> int:
    """How many sessions differ in what the manual does not say."""
    if shutil.which("gcc") is None or not Path("/usr/include/libmilter/mfapi.h").exists():
        print("long_libmilter: no gcc or no libmilter-dev here; `make servers` installs them")
        return 1
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else random.randrange(10**6)
    count = int(sys.argv[2]) if len(sys.argv) > 2 else SESSIONS
    print(f"seed {seed}")
    table, kinds, bad = listed(), collections.Counter[str](), 0
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mailwire-") as directory:
        path = Path(directory) / "filter"
        with Program(build(Path(directory)), path) as program:
            for broken, policy, frames in sessions(random.Random(seed), count):
                program.script(*policy.rules)
                calls, output = theirs(program, path, frames)
                mine = ours(frames, policy)
                found = difference(mine, calls, output, frames, table)
                if found is None:
                    kinds["broken, the same" if broken else "sound, the same"] += 1
                elif broken and allowed(found, mine, policy, table):
                    kinds[f"listed: {found[0]} {found[1]}, libmilter {found[2]}"] += 1
                else:
                    bad += 1
                    if bad <= 10:
                        print(f"{found}\n  {policy}\n  {[frame.hex() for frame in frames]}")
    for kind, number in sorted(kinds.items()):
        print(f"{number:6} {kind}")
    print(
        f"{count} sessions in {time.monotonic() - start:.0f} s, {bad} with an unlisted difference"
    )
    return bad


if __name__ == "__main__":
    sys.exit(main())
