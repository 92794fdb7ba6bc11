import re
from pathlib import Path

import pytest

import milterproto as mp
from milterproto import _flags

MFAPI = Path("/usr/include/libmilter/mfapi.h")
MFDEF = Path("/usr/include/libmilter/mfdef.h")


@pytest.mark.parametrize(
    ("header", "prefix", "flags"),
    [
        (MFAPI, "SMFIF_", mp.Actions),
        (MFDEF, "SMFIP_", mp.Steps),
        (MFAPI, "SMFIM_", mp.Stage),
    ],
)
def test_flags_are_those_of_the_installed_libmilter(
    header: Path, prefix: str, flags: type[mp.Actions | mp.Steps | mp.Stage]
) -> None:
    """Names and numbers are read from Sendmail's own header files."""
    if not header.exists():
        pytest.skip("libmilter's header files are missing: install Debian's libmilter-dev")
    pattern = rf"^#\s*define\s+{prefix}(\w+)\s+(?:0x)?([0-9A-Fa-f]+)L?\b"
    theirs = {
        name: int(number, 16)
        for name, number in re.findall(pattern, header.read_text("latin-1"), re.MULTILINE)
    }
    renamed = {"ENVFROM": "MAIL", "ENVRCPT": "RCPT"}
    theirs = {
        renamed.get(name, name): value
        for name, value in theirs.items()
        # Masks and limits, the test-only bit, and what libmilter keeps to itself.
        if name not in {"NONE", "FIRST", "LAST", "DEFAULT", "TEST", "RESERVED"}
    }
    assert {name: int(member) for name, member in flags.__members__.items()} == theirs


def test_masks_are_those_that_current_mtas_offer() -> None:
    """Seen on the wire from Sendmail 8.17 and Postfix 3.7."""
    assert mp.ALL_ACTIONS == 0x1FF
    assert mp.ALL_STEPS == 0x001FFFFF
    assert _flags.MDS_STEPS == 0x30000000


def test_unknown_bits_survive() -> None:
    """An IntFlag keeps what it has no name for, so that a bad answer can be shown."""
    assert int(mp.Steps(0x80000001)) == 0x80000001
    assert mp.Steps(0x80000001) & 0x80000000
