"""Whether the Sendmail dialect of `milterproto.message` is right: edits through a real Sendmail.

    apt-get download sendmail-bin sendmail-cf m4
    for package in *.deb; do dpkg -x $package sendmail; done
    python -m tests.benchmarks.long_sendmail sendmail [SEED]

Not in CI, for Debian's Sendmail and Postfix can't be installed beside one another; so this one is
unpacked only. It runs as root in namespaces of its own, without a network, for it wants to know the
machine's name from DNS. The folder must not lie in one that everybody can write to, such as /tmp.
"""

from __future__ import annotations

import contextlib
import os
import queue
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self

import milterproto as mp
from milterproto._apply import SENDMAIL_NAMES
from milterproto.message import Dialect, Field, Message, apply, diff, expressible
from tests.interop import _edits
from tests.interop._filters import Filter, FilterServer
from tests.interop._postfix import free_port
from tests.interop._postfix_client import Client
from tests.interop._sink import Delivery, Sink

MESSAGES = 300
PATIENCE = 20.0

_MC = """\
divert(-1)
divert(0)dnl
include(`{share}/cf/m4/cf.m4')dnl
define(`confPID_FILE', `{root}/pid')dnl
define(`STATUS_FILE', `{root}/stat')dnl
define(`QUEUE_DIR', `{root}/queue')dnl
define(`ALIAS_FILE', `')dnl
define(`confCW_FILE', `-o {root}/names')dnl
define(`confDOMAIN_NAME', `mta.test')dnl
define(`confMAX_HEADERS_LENGTH', `0')dnl
define(`confTO_IDENT', `0')dnl
define(`confDELIVERY_MODE', `i')dnl
define(`confPRIVACY_FLAGS', `')dnl
define(`RELAY_MAILER_ARGS', `TCP $h {sink}')dnl
define(`SMART_HOST', `relay:[127.0.0.1]')dnl
FEATURE(`accept_unresolvable_domains')dnl
FEATURE(`accept_unqualified_senders')dnl
FEATURE(`promiscuous_relay')dnl
FEATURE(`nocanonify')dnl
FEATURE(`no_default_msa')dnl
DAEMON_OPTIONS(`Port={port}, Addr=127.0.0.1, Name=MTA')dnl
INPUT_MAIL_FILTER(`test', `S=inet:{filter}@127.0.0.1, F=T')dnl
MAILER(`smtp')dnl
"""

# In the namespaces, before the script is run once more.
_PREPARE = """\
ip link set lo up && hostname mta.test \
&& printf '127.0.0.1 localhost mta.test client.test\\n' >"$1/hosts" \
&& printf 'hosts: files\\npasswd: files\\ngroup: files\\n' >"$1/nsswitch" \
&& mount --bind "$1/hosts" /etc/hosts && mount --bind "$1/nsswitch" /etc/nsswitch.conf || exit 1
shift; exec "$@"
"""

NAMES = (
    *(
        b"Subject",
        b"X-A",
        b"x-a",
        b"X-a",
        b"Received",
        b"received",
        b"X-New",
        b"MIME-Version",
        b"B",
    ),
    *(b"Comments", b"Date", b"From", b"Message-Id", b"Message-ID"),
)
VALUES = (
    *(
        b"v",
        b"two words",
        b"a  b",
        b"one\n two",
        b"one\n\ttwo\n  three",
        b"a:b",
        b" lead",
        b"\ttab",
    ),
    *(b"x" * 70, b"\xe4"),
)
BODIES = (b"", b"new\r\n", b"no line end", b"a\nb\r\n", b".\r\n", b"\xe4\r\n")
RECIPIENTS = (b"<c@example.test>", b"<d@example.test>", b"<b@example.test>")
PARAMETERS: tuple[tuple[bytes, ...], ...] = ((), (), (b"NOTIFY=NEVER",))


def value_for(rng: random.Random, name: bytes) -> bytes:
    """Sendmail rewrites what should be an address and is none."""
    if name.lower() in SENDMAIL_NAMES and name.lower() != b"received":
        return rng.choice((b"c@example.org", b"d@example.org"))
    return rng.choice(VALUES)


def an_edit(rng: random.Random) -> mp.Edit:
    """Any edit."""
    name = rng.choice(NAMES)
    value = value_for(rng, name)
    kind = rng.randrange(10)
    if kind < 4:
        index = rng.choice((0, 1, 1, 1, 2, 2, 3, 5))
        return mp.ChangeHeader(index, name, value if rng.random() < 0.5 else b"")
    if kind < 6:
        return mp.InsertHeader(rng.choice((0, 1, 2, *range(8, 17), 2**31 - 2)), name, value)
    if kind < 8:
        return mp.AddHeader(name, value)
    if kind < 9:
        return rng.choice(
            (
                mp.AddRecipient(rng.choice(RECIPIENTS), rng.choice(PARAMETERS)),
                mp.DeleteRecipient(rng.choice(RECIPIENTS)),
            )
        )
    return mp.ChangeSender(rng.choice((b"<new@example.org>", b"<>")))


def by_apply(rng: random.Random, *, leading_space: bool) -> _edits.Decide:
    """Any edits."""

    def decide(message: Message) -> tuple[Sequence[mp.Edit], Message]:
        edits = [an_edit(rng) for _ in range(rng.choice((1, 2, 3, 5, 8)))]
        if rng.random() < 0.3:
            edits += [mp.ReplaceBody(rng.choice(BODIES)) for _ in range(rng.choice((1, 2)))]
        return edits, apply(message, edits, Dialect.SENDMAIL, leading_space=leading_space)

    return decide


def by_diff(rng: random.Random, *, leading_space: bool) -> _edits.Decide:
    """Any changes, now in Sendmail's dialect and now in none."""

    def decide(message: Message) -> tuple[Sequence[mp.Edit], Message]:
        dialect = rng.choice((Dialect.SENDMAIL, None))
        after = message.copy()
        for _ in range(rng.choice((1, 2, 3, 6))):
            before = after.copy()
            _change(rng, after)
            mark = after.headers.all(_edits.MARK) == message.headers.all(_edits.MARK)
            if not (mark and expressible(message, after, dialect, leading_space=leading_space)):
                after = before
        edits = diff(message, after, dialect, leading_space=leading_space, strict=True)
        return edits, after

    return decide


def _change(rng: random.Random, message: Message) -> None:
    headers = message.headers
    place, name = rng.randrange(len(headers)), rng.choice(NAMES[:10])
    value = value_for(rng, name)
    kind = rng.randrange(7)
    if kind < 1:
        del headers[place]
    elif kind < 2:
        changed = headers[place].name
        headers[place] = Field(changed, b" " + value_for(rng, changed))
    elif kind < 4:
        headers.insert(rng.choice((0, place, len(headers))), name, value)
    elif kind < 5:
        headers.delete(name)
    elif kind < 6:
        headers.set(name, value)
    else:
        message.replace_body(rng.choice(BODIES))


def a_content(rng: random.Random, number: int, *, leading_space: bool) -> bytes:
    """A message in which Sendmail's own fields may be missing."""
    usual = (
        (b"From", b" a@example.org"),
        (b"Date", b" Tue, 24 Nov 2026 04:00:00 +0000"),
        (b"Message-Id", b" <1@example.org>"),
    )
    fields = [(_edits.MARK, b" %d" % number), *(one for one in usual if rng.random() < 0.7)]
    for _ in range(rng.randrange(6)):
        blank = rng.choice((b" ", b"", b"\t")) if leading_space else b" "
        name = rng.choice((b"Subject", b"X-A", b"x-a", b"Received", b"B"))
        fields.append((name, blank + rng.choice(VALUES[:5])))
    rng.shuffle(fields)
    head = b"".join(name + b":" + raw + b"\n" for name, raw in fields)
    return head.replace(b"\n", b"\r\n") + b"\r\nbody\r\n"


def differences(expected: Message, delivery: Delivery) -> Iterator[tuple[str, object, object]]:
    """What arrives otherwise, but for the fields that Sendmail makes and does not show."""
    ours = [(one.name, one.raw) for one in expected.headers]
    theirs = [(name, raw.replace(b"\r\n", b"\n")) for name, raw in delivery.header]
    theirs = [
        one
        for one in theirs
        if one in ours or one[0].lower() not in SENDMAIL_NAMES or one[1][:1] != b" "
    ]
    yield "header", ours, theirs
    yield "body", expected.body, delivery.body
    yield "sender", expected.sender, delivery.sender
    yield (
        "recipients",
        {one.address for one in expected.recipients},
        set(delivery.addresses),
    )


class Sendmail:
    """Running, with a filter and a sink."""

    def __init__(self, unpacked: Path) -> None:
        self._unpacked = unpacked
        self._cleanup = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with self._cleanup:
            root = Path(
                self._cleanup.enter_context(tempfile.TemporaryDirectory(dir=self._unpacked))
            )
            (root / "queue").mkdir(mode=0o700)
            self.sink = self._cleanup.enter_context(Sink())
            self.server = self._cleanup.enter_context(FilterServer(root / "unused"))
            self.port = free_port()
            mc = _MC.format(
                share=self._unpacked / "usr/share/sendmail",
                root=root,
                sink=self.sink.port,
                port=self.port,
                filter=self.server.port,
            )
            m4 = subprocess.run(
                [self._unpacked / "usr/bin/m4"],
                input=mc.encode(),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                check=True,
            )
            (root / "sendmail.cf").write_bytes(m4.stdout)
            program = self._unpacked / "usr/libexec/sendmail/sendmail"
            process = subprocess.Popen([program, f"-C{root}/sendmail.cf", "-bD"])
            self._cleanup.callback(process.wait)
            self._cleanup.callback(process.terminate)
            self._wait(process)
            self._cleanup = self._cleanup.pop_all()
        return self

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.client().vanish()
            except ConnectionRefusedError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise
            else:
                return

    def __exit__(self, *exc_info: object) -> None:
        self._cleanup.close()

    def client(self) -> Client:
        return Client(self.port, PATIENCE)


def run(
    sendmail: Sendmail, decide: _edits.Decide, rng: random.Random, *, leading_space: bool
) -> int:
    """How many messages arrive otherwise than expected; the first few are printed."""
    collector = _edits.Collector(decide, leading_space)
    sendmail.server.install(Filter(collector.handle, collector.wants))
    with sendmail.client() as client:
        client.must(b"250", b"EHLO client.test")
        for number in range(MESSAGES):
            content = a_content(rng, number, leading_space=leading_space)
            recipients = (_edits.KEPT, b"<b@example.test>", b"<c@example.test>")
            reply = client.message(content, b"<a@example.org>", recipients)
            assert reply.startswith(b"250 "), reply
        client.quit()
    arrived: dict[int, Delivery] = {}
    with contextlib.suppress(queue.Empty):
        while len(arrived) < MESSAGES:
            delivery = sendmail.sink.deliveries.get(timeout=PATIENCE)
            number = int(delivery.values(_edits.MARK)[0])
            if number in arrived:  # Sendmail may deliver to each recipient apart
                both = (*arrived[number].recipients, *delivery.recipients)
                delivery = Delivery(
                    delivery.sender, delivery.sender_parameters, both, delivery.content
                )
            arrived[number] = delivery
    failed = MESSAGES - len(arrived)
    for number, delivery in arrived.items():
        before, edits = collector.made[number]
        wrong = [
            one for one in differences(collector.expected[number], delivery) if one[1] != one[2]
        ]
        for what, ours, theirs in wrong if failed < 5 else ():
            print(f"{what}: {theirs!r}\nnot {ours!r}\nafter {edits!r}\nof {before.content!r}\n")
        failed += bool(wrong)
    return failed


def main(unpacked: Path, seed: int) -> int:
    """How many rounds have failed."""
    print(f"seed {seed}", flush=True)
    rng, failed = random.Random(seed), 0
    makers: tuple[Callable[..., _edits.Decide], ...] = (by_apply, by_diff)
    with Sendmail(unpacked) as sendmail:
        for make in makers:
            for space in (False, True):
                wrong = run(sendmail, make(rng, leading_space=space), rng, leading_space=space)
                print(
                    f"{make.__name__}, leading_space={space}: {MESSAGES} messages, {wrong} differ"
                )
                failed += bool(wrong)
    return failed


if __name__ == "__main__":
    folder = Path(sys.argv[1]).resolve()
    chosen = sys.argv[2] if len(sys.argv) > 2 else str(random.randrange(10**6))
    if os.environ.get("MAILWIRE_ALONE") != "1":
        command = [sys.executable, "-m", "tests.benchmarks.long_sendmail", str(folder), chosen]
        own = ["unshare", "--net", "--uts", "--mount", "sh", "-c", _PREPARE, "-", str(folder)]
        os.environ["MAILWIRE_ALONE"] = "1"
        sys.exit(subprocess.run([*own, *command], check=False).returncode)
    sys.exit(main(folder, int(chosen)))
