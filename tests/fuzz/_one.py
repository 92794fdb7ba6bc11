"""One target under atheris, in a process of its own: libFuzzer ends the process itself."""

from __future__ import annotations

import random
import sys

import atheris

from .mutate import mutated

# Before anything imports them: their byte code is changed as they are loaded.
with atheris.instrument_imports(
    include=["dovecotauth", "milterproto", "nginxauth", "tcptable"], enable_loader_override=False
):
    from .targets import TARGETS


def main(name: str, *options: str) -> None:
    """Fuzz until libFuzzer's options say that it is enough."""
    target = TARGETS[name]
    format_ = target.format()

    def mutator(data: bytes, max_size: int, seed: int) -> bytes:
        def bytewise(part: bytes) -> bytes:
            return bytes(atheris.Mutate(part, max(len(part) * 2, 16)))

        # A plain mutation now and then, so that nothing is out of reach.
        if seed % 16 == 0:
            return bytewise(data)[:max_size]
        return mutated(format_, data, bytewise, random.Random(seed))[:max_size]

    atheris.Setup([sys.argv[0], *options], target.check, custom_mutator=mutator)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
