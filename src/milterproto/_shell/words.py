"""Events as words for people, and as objects for JSON."""

from __future__ import annotations

import enum
from typing import Any, Final

import attrs

from milterproto._events import COMMAND_CODES, Macros, Negotiate
from milterproto._flags import ALL_ACTIONS, ALL_STEPS

_KINDS: Final = {code: kind.__name__ for kind, code in COMMAND_CODES.items()}
# A line of a terminal, and of a picture.
_MAX_WORD: Final = 60


def text_of(data: bytes) -> str:
    """Bytes as str, so that `bytes_of` gives them back: UTF-8, and what is none as surrogates."""
    return data.decode("utf-8", "surrogateescape")


def bytes_of(text: str) -> bytes:
    """The bytes of such a str; UnicodeEncodeError for any other surrogate."""
    return text.encode("utf-8", "surrogateescape")


def shown(data: bytes) -> str:
    """Text for a terminal: nothing in it moves the cursor."""
    decoded = data.decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in decoded)


def short(data: bytes) -> str:
    """As `shown`, and not longer than a line."""
    text = shown(data[: 4 * _MAX_WORD])
    if len(data) <= 4 * _MAX_WORD and len(text) <= _MAX_WORD:
        return text
    return f"{text[: _MAX_WORD - 1]}… ({len(data)} bytes)"


def words(event: object) -> str:
    """An event on one line: its name, and its fields. A str, why there is none, stays as it is."""
    if isinstance(event, str):
        return event
    name = type(event).__name__
    if isinstance(event, Macros):
        pairs = [f"{shown(key)}={short(value)}" for key, value in event.values.items()]
        return " ".join([name, f"for {_macro_command(event)}:", *(pairs or ["none"])])
    if isinstance(event, Negotiate):
        lists = [
            f"macros at {stage}: {shown(b' '.join(names)) or 'none'}"
            for stage, names in event.macros
        ]
        flags = [f"actions {_flags(event.actions)}", f"steps {_flags(event.steps)}"]
        return f"{name} " + "; ".join([f"version {event.version}", *flags, *lists])
    values = attrs.astuple(event, recurse=False)  # type: ignore[arg-type]
    fields = [_field(value) for value in values if value not in (b"", ())]
    return " ".join([name, *fields])


def as_json(event: object) -> dict[str, Any]:
    """An event as what `json.dumps` takes; text as `text_of` has it."""
    name = type(event).__name__
    if isinstance(event, Macros):
        values = {text_of(key): text_of(value) for key, value in event.values.items()}
        return {"event": name, "command": _macro_command(event), "values": values}
    if isinstance(event, str):
        return {"event": "Unreadable", "why": event}
    fields = attrs.fields(type(event))  # type: ignore[arg-type]  # all events are attrs classes
    return {
        "event": name,
        **{field.name: _json(getattr(event, field.name)) for field in fields},
    }


def _macro_command(event: Macros) -> str:
    return _KINDS.get(event.command, shown(event.command))


def _field(value: Any) -> str:
    if isinstance(value, bytes):
        return short(value)
    if isinstance(value, tuple):
        return " ".join(short(item) for item in value)
    return value.name if isinstance(value, enum.Enum) else str(value)


def _flags(flags: enum.IntFlag) -> str:
    if flags in (ALL_ACTIONS, ALL_STEPS):
        return "all"
    return " ".join(_names(flags)) or "none"


def _names(flags: enum.IntFlag) -> list[str]:
    names = [flag.name or "" for flag in flags]
    rest = int(flags) & ~sum(int(flag) for flag in flags)
    if rest:
        names.append(f"0x{rest:x}")
    return names


def _json(value: Any) -> Any:
    if isinstance(value, bytes):
        return text_of(value)
    if isinstance(value, tuple):
        return [_json(item) for item in value]
    if isinstance(value, enum.IntFlag):
        return _names(value)
    return value.name if isinstance(value, enum.Enum) else value
