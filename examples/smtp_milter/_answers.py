"""What the MTA is told in words of our own."""

from __future__ import annotations

from typing import Final

import milterproto as mp

UNAVAILABLE: Final = mp.ReplyCode.text(451, "4.3.2", "The mail filter is not available")
REFUSED: Final = mp.ReplyCode.text(554, "5.3.0", "The mail filter is not available")
APART: Final = mp.ReplyCode.text(452, "4.5.3", "Send this in a transaction of its own")
NO_DATABASE: Final = mp.ReplyCode.text(451, "4.3.0", "The user database can't be asked")
BAD_SENDER: Final = mp.ReplyCode.text(553, "5.1.7", "The mail filter can't take this address")
BAD_RECIPIENT: Final = mp.ReplyCode.text(553, "5.1.3", "The mail filter can't take this address")
NO_UTF8: Final = mp.ReplyCode.text(550, "5.6.7", "The mail filter takes no SMTPUTF8")
NO_8BIT: Final = mp.ReplyCode.text(451, "4.6.3", "The mail filter takes no 8-bit text for now")
TOO_LARGE: Final = mp.ReplyCode.text(552, "5.3.4", "Message too large for the mail filter")
NOT_RETURNED: Final = mp.ReplyCode.text(451, "4.3.0", "The mail filter has lost the message")
ASTRAY: Final = mp.ReplyCode.text(451, "4.4.6", "The mail filter hands on to the wrong server")
NO_EDITS: Final = mp.ReplyCode.text(451, "4.3.5", "What the mail filter made can't be told")
