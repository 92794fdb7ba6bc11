"""What can go wrong with a gateway, apart from what it says of the mail."""

from __future__ import annotations

from typing import final

import attrs

from smtp_milter._replies import Reply


class GatewayError(Exception):
    """Down, slow, broken, or set up wrongly. The text says how, and has nothing of the mail."""


class BusyError(GatewayError):
    """It has no connection free. It may be in the best of health."""


@final
@attrs.frozen
class Refused(Exception):  # noqa: N818 - an answer, and no error of anybody's
    """It does not want this client, sender, recipient or message: for the client to hear."""

    reply: Reply
