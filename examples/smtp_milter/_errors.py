"""What can go wrong with a gateway, apart from what it says of the mail."""

from __future__ import annotations

from typing import final

import attrs

from smtp_milter._replies import Reply


class GatewayError(Exception):
    """It is down, slow, broken, or set up wrongly: the text says how. Nothing of the mail is in it."""


@final
@attrs.frozen
class Refused(Exception):  # noqa: N818 - an answer, and no error of anybody's
    """It does not want this client, sender, recipient or message; that is for the client to hear."""

    reply: Reply
