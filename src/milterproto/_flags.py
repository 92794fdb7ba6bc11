"""The numbers of option negotiation: actions, steps, macro stages, versions.

Names are those of ``libmilter/mfapi.h`` and ``mfdef.h`` (Sendmail 8.18) without their
``SMFIF_``, ``SMFIP_`` and ``SMFIM_`` prefixes, so that what is written there can be found here;
only the stages ENVFROM and ENVRCPT are MAIL and RCPT, as everywhere else in the protocol.
"""

from __future__ import annotations

import enum
from typing import Final

# Version 5 was never told apart from 6 on the wire; version 1 is refused by every peer alive.
MIN_VERSION: Final = 2
MAX_VERSION: Final = 6


class Actions(enum.IntFlag):
    """What a filter may do to a message at end of message (``SMFIF_*``)."""

    ADDHDRS = 0x001
    CHGBODY = 0x002
    ADDRCPT = 0x004
    DELRCPT = 0x008
    CHGHDRS = 0x010
    QUARANTINE = 0x020
    CHGFROM = 0x040
    ADDRCPT_PAR = 0x080
    SETSYMLIST = 0x100


class Steps(enum.IntFlag):
    """Which events are sent, and which are answered (``SMFIP_*``).

    ``NO...``: the filter does not want the event. ``NR_...``: it will not reply to it.
    """

    NOCONNECT = 0x00000001
    NOHELO = 0x00000002
    NOMAIL = 0x00000004
    NORCPT = 0x00000008
    NOBODY = 0x00000010
    NOHDRS = 0x00000020
    NOEOH = 0x00000040
    NR_HDR = 0x00000080
    NOUNKNOWN = 0x00000100
    NODATA = 0x00000200
    SKIP = 0x00000400
    RCPT_REJ = 0x00000800
    NR_CONN = 0x00001000
    NR_HELO = 0x00002000
    NR_MAIL = 0x00004000
    NR_RCPT = 0x00008000
    NR_DATA = 0x00010000
    NR_UNKN = 0x00020000
    NR_EOH = 0x00040000
    NR_BODY = 0x00080000
    HDR_LEADSPC = 0x00100000
    MDS_256K = 0x10000000
    MDS_1M = 0x20000000


class Stage(enum.IntEnum):
    """The numbers of the macro lists in a negotiation (``SMFIM_*``). EOM comes before EOH."""

    CONNECT = 0
    HELO = 1
    MAIL = 2
    RCPT = 3
    DATA = 4
    EOM = 5
    EOH = 6


ALL_ACTIONS: Final = Actions(0x1FF)
# What Sendmail 8.14 and later and Postfix with milter_protocol = 6 offer: all but the MDS bits.
ALL_STEPS: Final = Steps(0x001FFFFF)
MDS_STEPS: Final = Steps.MDS_256K | Steps.MDS_1M
