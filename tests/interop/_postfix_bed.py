"""Postfix with everything around it: SMTP client, filter and sink, all on loopback."""

from __future__ import annotations

import contextlib
import queue
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import milterproto as mp

from ._filters import Answers, Filter, FilterServer, Handler, Serve, answering
from ._postfix import PATIENCE, Postfix, free_port
from ._postfix_client import Client
from ._sink import Delivery, Sink

ALL_ACTIONS = mp.Actions(0x1FF)


class Bed:
    """One Postfix for all tests, with several SMTP ports.

    ``v6``, ``v4``, ``v3`` and ``v2`` differ in milter_protocol; ``inet`` reaches the filter by
    TCP; ``xclient`` takes XCLIENT; ``tls`` offers STARTTLS. Those are for the filter that `filter`
    puts there. The services that begin with ``other`` are for whatever program a test starts on
    the socket ``other``, and local mail is, too; those that begin with ``xclient-`` have none.
    """

    def __init__(self, program: Path) -> None:
        self._program = program
        self._cleanup = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with self._cleanup:
            # Not pytest's tmp_path: the user "postfix" has to reach what is inside.
            root = Path(tempfile.mkdtemp(prefix="mailwire-"))
            self._cleanup.callback(shutil.rmtree, root, ignore_errors=True)
            root.chmod(0o755)
            self.sink = self._cleanup.enter_context(Sink())
            self._server = self._cleanup.enter_context(FilterServer(root / "filter"))
            address = f"unix:{self._server.path}"
            services = {
                f"v{version}": {"smtpd_milters": address, "milter_protocol": str(version)}
                for version in (6, 4, 3, 2)
            }
            services["inet"] = {"smtpd_milters": f"inet:127.0.0.1:{self._server.port}"}
            # The same filter twice, one after the other, on two connections.
            services["two"] = {"smtpd_milters": f"{address}, inet:127.0.0.1:{self._server.port}"}
            # Lets a test be a client from anywhere.
            services["xclient"] = {
                "smtpd_milters": address,
                "inet_protocols": "all",
                "smtpd_authorized_xclient_hosts": "127.0.0.1",
                "smtpd_relay_restrictions": (
                    "check_recipient_access inline:{example.test=permit}, reject"
                ),
            }
            # Tells a filter all that XCLIENT may set; and it takes XFORWARD.
            told = {
                **services["xclient"],
                "smtpd_authorized_xforward_hosts": "127.0.0.1",
                "milter_connect_macros": (
                    "_ {client_addr} {client_name} {client_port} {client_ptr} {client_resolve} "
                    "{daemon_addr} {daemon_port}"
                ),
            }
            services["other-xclient"] = {**told, "smtpd_milters": f"unix:{root / 'other'}"}
            services["xclient-bare"] = {**told, "smtpd_milters": ""}
            # Sends XFORWARD to a server in front of its queue.
            self.proxy_port = free_port()
            services["xclient-proxy"] = {
                **services["xclient-bare"],
                "smtpd_proxy_filter": f"127.0.0.1:{self.proxy_port}",
            }
            # Lets its own machine's clients relay, and looks at the socket for that.
            services["xclient-local"] = {
                **services["xclient-bare"],
                "smtpd_relay_restrictions": "permit_inet_interfaces, reject",
            }
            # Lets those relay who have logged in; the second has SASL itself.
            services["xclient-login"] = {
                **services["xclient-bare"],
                "smtpd_relay_restrictions": "permit_sasl_authenticated, reject",
            }
            services["xclient-login-sasl"] = {
                **services["xclient-login"],
                "smtpd_sasl_auth_enable": "yes",
            }
            # Looks at the client before it greets.
            services["xclient-early"] = {
                **services["xclient-bare"],
                "smtpd_delay_reject": "no",
                "smtpd_client_restrictions": (
                    "check_client_access inline:{192.0.2.66=reject, {192.0.2.67 = 421 4.7.0 Later}}"
                ),
            }
            certificate = make_certificate(root)
            services["tls"] = {
                "smtpd_milters": address,
                "smtpd_tls_security_level": "may",
                "smtpd_tls_chain_files": str(certificate),
            }
            self.other = root / "other"
            self.other_too = root / "other-too"
            self.dkim_port = free_port()
            other = f"unix:{self.other}"
            # Where non_smtpd_milters is set, which is the socket ``other``.
            services["local-too"] = {
                "smtpd_milters": address,
                "cleanup_service_name": "cleanup-local",
            }
            services["other"] = {"smtpd_milters": other}
            services["other-tls"] = {**services["tls"], "smtpd_milters": other}
            services["other-twice"] = {"smtpd_milters": f"{other}, unix:{self.other_too}"}
            services["dkim"] = {"smtpd_milters": f"inet:127.0.0.1:{self.dkim_port}"}
            services["other-dkim"] = {"smtpd_milters": f"{other}, inet:127.0.0.1:{self.dkim_port}"}
            # What {client_connections} tells, anvil counts, but only where there is a limit.
            services["other-counted"] = {
                "smtpd_milters": other,
                "smtpd_client_connection_count_limit": "200",
                "smtpd_client_event_limit_exceptions": "",
            }
            for action in ("accept", "reject", "quarantine"):
                services[f"other-{action}"] = {
                    "smtpd_milters": other,
                    "milter_default_action": action,
                }
            self.postfix = self._cleanup.enter_context(
                Postfix(
                    self._program,
                    root,
                    self.sink.port,
                    services,
                    # Or its SMTP client breaks long lines on their way to the sink.
                    settings={"smtp_line_length_limit": "0"},
                    local_milters=other,
                )
            )
            self._cleanup = self._cleanup.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._cleanup.close()

    @contextlib.contextmanager
    def filter(
        self,
        behaviour: Handler | Answers | None = None,
        wants: mp.Wants | None = None,
        serve: Serve | None = None,
    ) -> Iterator[Filter]:
        """Put a filter behind Postfix; at the end its connections must have ended in order.

        ``behaviour`` is a handler, or the responses by class of event. Without ``wants``, it
        gets all events and may make every edit. With ``serve`` it is a program of its own.
        """
        handle = behaviour if callable(behaviour) else answering(behaviour or {})
        wanted = Filter(handle, wants or mp.Wants(actions=ALL_ACTIONS), serve)
        self._server.install(wanted)
        try:
            yield wanted
            self._server.wait_until_idle(PATIENCE)
        finally:
            self._server.install(None)
            errors = [session.error for session in wanted.sessions if session.error]
            if errors:
                raise ExceptionGroup("in the filter", errors)

    def client(self, service: str = "v6", helo: bytes = b"EHLO client.test") -> Client:
        """A client that is connected and has said EHLO, unless ``helo`` is empty."""
        client = Client(self.postfix.ports[service], PATIENCE)
        if helo:
            client.must(b"250", helo)
        return client

    def delivery(self) -> Delivery:
        """The next message that reaches the sink."""
        try:
            return self.sink.deliveries.get(timeout=PATIENCE)
        except queue.Empty:
            raise AssertionError(f"nothing delivered:\n{self.postfix.log()}") from None

    def settle(self) -> list[Delivery]:
        """Wait until the queue is empty; the messages that arrived and were not looked at.

        A message leaves the queue only after it has arrived, so none can be missed.
        """
        try:
            self.postfix.wait_for_queue(lambda messages: not messages)
        except AssertionError:
            self.postfix.delete("ALL")
            raise
        deliveries = []
        with contextlib.suppress(queue.Empty):
            while True:
                deliveries.append(self.sink.deliveries.get_nowait())
        return deliveries


def make_certificate(directory: Path) -> Path:
    """A key and a certificate for it, in one file."""
    key, certificate, both = (directory / name for name in ("key", "certificate", "chain"))
    subprocess.run(
        [
            # Debian's Postfix depends on it.
            "openssl",
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-subj", "/CN=mta.test", "-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
        timeout=PATIENCE,
    )
    both.write_bytes(key.read_bytes() + certificate.read_bytes())
    return both
