"""Mail addresses as they come, and what they are called in the database."""

from __future__ import annotations

import re
from typing import Final

import idna

# RFC 5321, 4.5.3.1: a local part, the @, a domain; in bytes. What is longer is nobody's, and has
# no place in a cache.
MAX_DOMAIN: Final = 255
MAX_ADDRESS: Final = 64 + 1 + MAX_DOMAIN


def domain_name(domain: str) -> str:
    """What a domain is called in the database; ValueError if it is none.

    In any case, and with internationalised labels as they are or in ASCII (``xn--``). The case is
    folded as Postfix folds it before it asks: ß is ss.
    """
    labels = (_readable(label) for label in domain.casefold().split("."))
    name = ".".join(labels).casefold()
    if not name or "@" in name or "\0" in name or len(name.encode()) > MAX_DOMAIN:
        raise ValueError(f"{domain!r} is no domain")
    return name


def address_name(address: str) -> str:
    """What an address is called in the database; ValueError if it is none.

    Without angle brackets, in any case, with the local part in quotes or not.
    """
    local, _, domain = address.rpartition("@")
    if len(local) >= 2 and local[0] == local[-1] == '"':
        local = re.sub(r"\\(.)", r"\1", local[1:-1], flags=re.DOTALL)
    name = f"{local.casefold()}@{domain_name(domain)}"
    if not local or "\0" in local or len(name.encode()) > MAX_ADDRESS:
        raise ValueError(f"{address!r} is no mail address")
    return name


def names_of(address: bytes) -> list[str]:
    """What to ask the database for an address, in turn: whole, then without its extension.

    Nothing if it is none, or none that the database could have.
    """
    if len(address) > MAX_ADDRESS:
        return []
    try:
        name = address_name(address.decode())
    except ValueError:
        return []
    local, _, domain = name.rpartition("@")
    plain, plus, _ = local.partition("+")
    return [name, f"{plain}@{domain}"] if plain and plus else [name]


def _readable(label: str) -> str:
    if not label.startswith("xn--"):
        return label
    try:
        return idna.ulabel(label)
    except UnicodeError:
        return label  # of no use to anybody, but Postfix may ask for it
