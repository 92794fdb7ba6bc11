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
    from mailfront._front import MailFront, MissingError, Ports
    from mailfront._processes import StartError
except ModuleNotFoundError as error:
    raise SystemExit(f"{error.name} is not installed here: run `make stack`") from None


def show_places(console: Console, front: MailFront) -> None:
    """What listens where."""
    ports = front.ports
    table = Table(title="The mail front, on 127.0.0.1", title_justify="left", box=None)
    for heading in ("port", "what", "for"):
        table.add_column(heading)
    for port, what, purpose in (
        (ports.smtp, "nginx", "mail in and out; tells Postfix who logged in (XCLIENT)"),
        (ports.smtp_auth, "nginx", "the same, and logs in at Postfix itself (proxy_smtp_auth)"),
        (ports.submission, "postfix trial", "mail out, straight; TLS, and SASL by auth_daemon"),
        (ports.paid, "postfix paid", "what nginx sends it"),
        (ports.trial, "postfix trial", "what nginx sends it; its filter is stricter"),
        (ports.recipients, "table_daemon", "who is there, asked by Postfix (tcp_table)"),
        (ports.auth_http, "nginx_daemon", "who may log in and where to, asked by nginx"),
        (ports.world, "aiosmtpd", "the world: takes all that leaves"),
    ):
        table.add_row(str(port), what, purpose)
    console.print(table)
    console.print(
        "\nBy unix sockets: table_daemon (socketmap), auth_daemon, and the filters tag_mail and\n"
        f"check_body. Logs, settings and mail are in {front.root}\n"
        "\nUsers: ann@example.test (paid) and bob@example.test (trial); a password is the name.\n"
        "Send a mail yourself:\n\n"
        f"    swaks --server 127.0.0.1:{ports.smtp} --auth PLAIN --auth-user ann@example.test "
        "--auth-password ann --from ann@example.test --to friend@example.org\n",
        soft_wrap=True,
        highlight=False,
    )


def demonstrate(console: Console, front: MailFront) -> None:
    """Five mails, and what became of them."""
    table = Table(title="Five mails", title_justify="left", show_lines=True)
    for heading in ("mail", "the client was told", "way", "what was done to it"):
        table.add_column(heading)
    for mail in MAILS:
        outcome = follow(front, mail)
        table.add_row(mail.title, outcome.answer, outcome.way, outcome.changes)
    console.print(table)


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
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    console = Console()
    root = Path(tempfile.mkdtemp(prefix="mailwire-stack-"))
    root.chmod(0o755)  # for Postfix's own user
    try:
        with MailFront(root, Ports()) as front:
            show_places(console, front)
            demonstrate(console, front)
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
