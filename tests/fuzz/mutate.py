"""Mutators that know what a message is: they keep lengths right, and break them on purpose."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

import attrs

from .source import MAX_SCRIPT, SEGMENT, put_together, taken_apart

Mutate = Callable[[bytes], bytes]


@attrs.frozen
class Format:
    """How a stream is made of units, and what units there are."""

    split: Callable[[bytes], list[bytes]]
    inside: Callable[[bytes, Mutate, random.Random], bytes]
    words: Sequence[bytes] = ()


def mutated(format_: Format, data: bytes, mutate: Mutate, rng: random.Random) -> bytes:
    """Another input like this one."""
    script, stream = taken_apart(data)
    if rng.random() < 0.2:
        return put_together(mutate(script or b"\0")[:MAX_SCRIPT], stream)
    units = units_of(format_, stream)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(units)) if units else 0
        match rng.randrange(8):
            case 0 if format_.words:
                units.insert(at, rng.choice(format_.words))
            case 1 if units:
                units.insert(at, rng.choice(units))
            case 2 if units:
                del units[at]
            case 3 if units:
                other = rng.randrange(len(units))
                units[at], units[other] = units[other], units[at]
            case 4:
                units.insert(at, SEGMENT)
            case 5 if units:
                units[at] = mutate(units[at] or b"x")
            case _:
                unit = units.pop(at) if units else b"".join(format_.words[:1])
                units.insert(at, format_.inside(unit, mutate, rng))
    return put_together(script, b"".join(units))


def units_of(format_: Format, stream: bytes) -> list[bytes]:
    """What a stream is made of; a SEGMENT is one, too."""
    found: list[bytes] = []
    for number, segment in enumerate(stream.split(SEGMENT)):
        if number:
            found.append(SEGMENT)
        found += format_.split(segment)
    return found


# --- frames --------------------------------------------------------------------------------


def split_frames(data: bytes) -> list[bytes]:
    """By their length words; what is left at the end is a unit, too."""
    units, at = [], 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "big")
        end = end if at + 4 < end <= len(data) else len(data)
        units.append(data[at:end])
        at = end
    return units


def in_frame(unit: bytes, mutate: Mutate, rng: random.Random) -> bytes:
    """Another payload; the length word follows it, nearly always."""
    strings = unit[5:].split(b"\0")
    at = rng.randrange(len(strings))
    match rng.randrange(5):
        case 0:
            strings.insert(at, mutate(strings[at] or b"x"))
        case 1:
            del strings[at]
        case 2:
            strings = [mutate(unit[5:] or b"x")]
        case _:
            strings[at] = mutate(strings[at] or b"x")
    rest = unit[4:5] + b"\0".join(strings)
    length = len(rest) + rng.choice([0] * 12 + [1, -1, 70000])
    return max(length, 0).to_bytes(4, "big") + rest


# --- lines ---------------------------------------------------------------------------------


def split_lines(data: bytes) -> list[bytes]:
    """Each with its end."""
    return re.findall(rb"[^\n]*\n|[^\n]+", data)


def in_line(unit: bytes, mutate: Mutate, rng: random.Random) -> bytes:
    """One of a line's words is changed, repeated, left out, or swapped; or all are changed."""
    words = re.split(rb"([\t =:,]|\r?\n)", unit)
    at = rng.randrange(len(words))
    match rng.randrange(6):
        case 0:
            words.insert(at, words[at])
        case 1:
            del words[at]
        case 2:
            other = rng.randrange(len(words))
            words[at], words[other] = words[other], words[at]
        case 3:
            words = [mutate(unit or b"x")]
        case _:
            words[at] = mutate(words[at] or b"x")
    return b"".join(words)


# --- netstrings ----------------------------------------------------------------------------


def split_netstrings(data: bytes) -> list[bytes]:
    """By their lengths."""
    units, at = [], 0
    while at < len(data):
        head = re.compile(rb"([0-9]{1,6}):").match(data, at)
        end = head.end() + int(head[1]) + 1 if head else len(data)
        units.append(data[at:end])
        at = end
    return units


def in_netstring(unit: bytes, mutate: Mutate, rng: random.Random) -> bytes:
    """Another payload, and its length, nearly always."""
    payload = in_line(unit.partition(b":")[2][:-1], mutate, rng)
    length = len(payload) + rng.choice([0] * 12 + [1, -1])
    zeros = rng.choice([b""] * 12 + [b"0", b"000"])
    return b"%b%d:%b%b" % (zeros, max(length, 0), payload, rng.choice([b","] * 12 + [b"", b";"]))
