"""XCLIENT and XFORWARD: an SMTP proxy tells the server behind it who the client is. Both ends.

The two commands of Postfix, nginx and others, and no more of SMTP than these need. `plan` says
what to send after EHLO, `Receiver` what to make of what comes.
"""

from ._errors import LocalProtocolError, RemoteProtocolError
from ._xclient_events import (
    TEMPUNAVAIL,
    UNAVAILABLE,
    Command,
    Name,
    Offer,
    Outcome,
    Port,
    Refused,
    Special,
    Text,
    XClient,
    XForward,
)
from ._xclient_profiles import (
    DOVECOT,
    DOVECOT_2_4,
    EXIM,
    HARAKA,
    NODEMAILER,
    POSTFIX,
    POSTFIX_2_2,
    POSTFIX_2_8,
    PROFILES,
    Profile,
)
from ._xclient_receiver import Receiver
from ._xclient_sender import MAX_COMMAND, Omitted, Plan, plan
from ._xclient_values import MAX_VALUE
from ._xclient_wire import DEFAULT_MAX_LINE, EVERYTHING, ehlo_lines, parse_command, parse_ehlo
from ._xtext import Xtext, decode_xtext, encode_xtext

__all__ = [
    "DEFAULT_MAX_LINE",
    "DOVECOT",
    "DOVECOT_2_4",
    "EVERYTHING",
    "EXIM",
    "HARAKA",
    "MAX_COMMAND",
    "MAX_VALUE",
    "NODEMAILER",
    "POSTFIX",
    "POSTFIX_2_2",
    "POSTFIX_2_8",
    "PROFILES",
    "TEMPUNAVAIL",
    "UNAVAILABLE",
    "Command",
    "LocalProtocolError",
    "Name",
    "Offer",
    "Omitted",
    "Outcome",
    "Plan",
    "Port",
    "Profile",
    "Receiver",
    "Refused",
    "RemoteProtocolError",
    "Special",
    "Text",
    "XClient",
    "XForward",
    "Xtext",
    "decode_xtext",
    "ehlo_lines",
    "encode_xtext",
    "parse_command",
    "parse_ehlo",
    "plan",
]
