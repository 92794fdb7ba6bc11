"""Whole messages: what edits make of one, and which edits it takes.

Above the events. `Message` is a plain object; `apply` says what an MTA makes of a filter's edits,
`diff` finds the edits between two messages, and `expressible` says whether there are any.
`MessageFilter` makes a filter of a function from a message to a verdict.
"""

from ._apply import Dialect, apply
from ._diff import diff, expressible
from ._filter import MessageFilter
from ._headers import Field, Headers
from ._message import Client, Message, Recipient

__all__ = [
    "Client",
    "Dialect",
    "Field",
    "Headers",
    "Message",
    "MessageFilter",
    "Recipient",
    "apply",
    "diff",
    "expressible",
]
