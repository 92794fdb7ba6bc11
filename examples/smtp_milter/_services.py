"""What all sessions have in common, and what is negotiated with the MTA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol, final

import attrs

import milterproto as mp
from smtp_milter._config import Config
from smtp_milter._gateways import Gateways
from smtp_milter._sink import Sink
from smtp_milter._tokens import Tokens


class AllowList(Protocol):
    """Who takes mail from whom, whatever the gateway says; `_allow` has one in the database."""

    async def has(self, recipient: bytes, sender: bytes) -> bool:
        """Whether the recipient has listed the sender. What it raises means: nobody can say."""


@final
@attrs.frozen(kw_only=True)
class Services:
    """What all sessions have in common."""

    config: Config
    gateways: Gateways
    tokens: Tokens
    sink: Sink | None = None
    allow_list: AllowList | None = None

    @property
    def wants(self) -> mp.Wants:
        """What to negotiate: no reply that decides nothing, and all of the content."""
        eager = self.config.connect == "connect"
        actions = mp.Actions(0)
        if self.sink is not None:
            actions |= mp.Actions.CHGHDRS | mp.Actions.ADDHDRS | mp.Actions.CHGBODY
            actions |= mp.Actions.ADDRCPT | mp.Actions.DELRCPT | mp.Actions.CHGFROM
        elif self.config.unscanned_header:
            actions = mp.Actions.ADDHDRS
        asked = [mp.MailFrom, mp.RcptTo, *((mp.Connect, mp.Helo) if eager else ())]
        return mp.Wants(
            events=[
                *(mp.Connect, mp.Helo, mp.MailFrom, mp.RcptTo),
                *(mp.Header, mp.EndOfHeaders, mp.Body),
            ],
            replies=asked,
            actions=actions,
            macros=MACROS,
            leading_space=True,
        )


MACROS: Final[Mapping[mp.Stage, Sequence[bytes]]] = {
    mp.Stage.CONNECT: [
        *(b"j", b"v", b"_", b"{client_addr}", b"{client_name}", b"{client_port}"),
        *(b"{client_ptr}", b"{client_resolve}", b"{daemon_addr}", b"{daemon_port}"),
    ],
    mp.Stage.HELO: [b"{tls_version}", b"{cipher}"],
    mp.Stage.MAIL: [b"i", b"{auth_type}", b"{auth_authen}"],
    mp.Stage.RCPT: [b"i"],
    mp.Stage.EOM: [b"i"],
}
