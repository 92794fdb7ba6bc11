"""The whole mail front on this machine: nginx, two Postfix, and every daemon of ours.

    make stack

It needs root, for Postfix changes its user. All of it listens on 127.0.0.1 only, and lives in a
folder of its own, which goes when you press Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

try:
    from rich.console import Console
    from rich.table import Table

    from mailfront._demonstration import MAILS, follow
    from mailfront._front import PREFIX, MailFront, MissingError, Ports
    from mailfront._processes import StartError
except ModuleNotFoundError as error:
    raise SystemExit(f"{error.name} is not installed here: run `make stack`") from None


def show_places(console: Console, front: MailFront) -> None:
    """What listens where."""
    ports = front.ports
    table = Table(title="\nThe mail front, on loopback", title_justify="left", box=None)
    for heading in ("port", "what", "for"):
        table.add_column(heading, overflow="fold")
    for port, what, purpose in (
        (ports.smtp, "nginx", "mail in and out; the login goes on by XCLIENT"),
        (ports.smtp_auth, "nginx", "the same; it logs in at Postfix itself"),
        (ports.submission, "postfix trial", "mail out, straight; TLS and SASL"),
        (ports.paid, "postfix paid", "for nginx; at ::1"),
        (ports.trial, "postfix trial", "for nginx; at ::1"),
        (ports.handed_on, "postfix trial", "for the other Postfix"),
        (ports.recipients, "table_daemon", "who is there (tcp_table)"),
        (ports.auth_http, "nginx_daemon", "who may log in, and where to"),
        (ports.world, "aiosmtpd", "the world: takes all that leaves"),
    ):
        table.add_row(str(port), what, purpose)
    console.print(table)
    console.print(
        "By unix sockets: table_daemon, two auth_daemons, the filters tag_mail and check_body.\n"
        f"Logs, settings and mail: {front.root}\n"
        "Users: ann@example.test (paid), bob@example.test (trial); a password is the name.\n"
        "Send a mail yourself:\n\n"
        f"  swaks --server 127.0.0.1:{ports.smtp} --auth PLAIN --auth-user ann@example.test \\\n"
        "    --auth-password ann --from ann@example.test --to friend@example.org\n",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )


def demonstrate(console: Console, front: MailFront) -> None:
    """Five mails, and what became of them."""
    console.print("Five mails\n")
    for mail in MAILS:
        outcome = follow(front, mail)
        for heading, text in (
            (mail.title, outcome.answer),
            ("", outcome.way),
            *(("", line) for line in outcome.changes.splitlines()),
        ):
            console.print(f"{heading:<24}{text}", soft_wrap=True, highlight=False, markup=False)


def stop(_number: int, _frame: object) -> None:
    """End in order; once is enough, and a second Ctrl-C would leave programs running."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def main() -> None:
    """Start, show, wait, stop."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--once", action="store_true", help="end after the demonstration")
    options = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("make stack: Postfix needs root: sudo make stack")
    # Both end it in order, so that nothing is left running; even where a shell has had SIGINT
    # ignored, as for what it runs in the background.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    console = Console()
    root = Path(tempfile.mkdtemp(prefix=PREFIX))
    root.chmod(0o711)  # Postfix's own user has to pass, and nobody has to look around
    try:
        with MailFront(root, Ports()) as front:
            demonstrate(console, front)
            show_places(console, front)
            if not options.once:
                console.print("\nIt goes on running; Ctrl-C ends it.")
                signal.pause()
    except KeyboardInterrupt:
        console.print("stopped")
    except (MissingError, StartError, OSError) as error:
        raise SystemExit(f"make stack: {error}") from None
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
