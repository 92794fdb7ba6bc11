"""Mail addresses as they come, and what they are called in the database."""

from __future__ import annotations

import re


def names_of(address: bytes) -> list[str]:
    """What to ask the database for an address, in turn: whole, then without its extension.

    Without angle brackets, in any case, with the local part in quotes or not. Nothing if it is
    none, or none that the database could have.
    """
    try:
        name = address.decode().lower()
    except UnicodeDecodeError:
        return []
    local, at, domain = name.rpartition("@")
    if len(local) >= 2 and local[0] == local[-1] == '"':
        local = re.sub(r"\\(.)", r"\1", local[1:-1])
    if not (local and at and domain):
        return []
    plain, plus, _ = local.partition("+")
    names = [f"{local}@{domain}"]
    return [*names, f"{plain}@{domain}"] if plain and plus else names
