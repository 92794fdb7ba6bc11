"""The page on the wire format and the code say the same: numbers, codes, events, replies.

Each test reads a table of the page and compares it with the code's own, so that a line which is
missing on either side is a failure.
"""

from __future__ import annotations

import enum
import json
import re
from pathlib import Path
from typing import Any, Final

import pytest

import milterproto as mp
from milterproto._events import COMMAND_CODES
from milterproto._negotiation import SINCE
from milterproto._state import EDITS, NO_REPLY, SENDABLE, SUPPRESS
from milterproto._wire import COMMAND_DECODERS, RESPONSE_DECODERS, encode_response

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs" / "milter_wire.md").read_text(encoding="utf-8")
VECTORS: Final[dict[str, dict[str, Any]]] = {
    vector["id"]: vector
    for vector in json.loads((ROOT / "tests" / "vectors" / "milter.json").read_bytes())["vectors"]
}
Row = dict[str, str]


def cells_of(line: str) -> list[str]:
    return [cell.strip().replace("`", "") for cell in line.strip().strip("|").split("|")]


def table(heading: str, first: str) -> list[Row]:
    """The rows of the first table under a heading whose first column has that name."""
    section = re.split(rf"^#+ {re.escape(heading)}$", PAGE, flags=re.MULTILINE)
    assert len(section) == 2, f"{heading}: not exactly one such heading"
    rows: list[list[str]] = []
    for line in section[1].splitlines():
        if line.startswith("|"):
            cells = cells_of(line)
            if rows or cells[0] == first:
                rows.append(cells)
        elif rows:
            break
    names, rule, *body = rows
    assert set("".join(rule)) == {"-"}
    assert {len(cells) for cells in rows} == {len(names)}
    return [dict(zip(names, cells, strict=True)) for cells in body]


COMMANDS: Final = table("Commands", "code")
RESPONSES: Final = table("Responses", "code")


def code_of(row: Row) -> bytes:
    """The code byte, which stands in the table as a character and in hexadecimal."""
    character, number = row["code"].split()
    assert f"{ord(character):02x}" == number
    return character.encode()


def codes_of(kinds: frozenset[type[mp.Response]]) -> set[str]:
    """The code bytes of response classes."""
    return {code_of(row).decode() for row in RESPONSES if getattr(mp, row["event"]) in kinds}


@pytest.mark.parametrize(
    ("heading", "flags"), [("Actions", mp.Actions), ("Steps", mp.Steps), ("Macro lists", mp.Stage)]
)
def test_numbers(heading: str, flags: type[enum.IntEnum | enum.IntFlag]) -> None:
    """All names with their values, in order, and no other."""
    on_page = [(row["name"], int(row["value"], 0)) for row in table(heading, "value")]
    assert on_page == [(member.name, member.value) for member in flags]


@pytest.mark.parametrize("version", [2, 3, 4, 6])
def test_offers(version: int) -> None:
    """A version's offer has just the steps that the page says it has, and all actions."""
    offer = mp.offer(version)
    steps = mp.Steps(0)
    for row in table("Steps", "value"):
        if row["since"] != "-" and int(row["since"]) <= version:
            steps |= mp.Steps[row["name"]]
    assert offer.steps == steps
    who = "Postfix, milter_protocol 6 (default)" if version == 6 else f"Postfix, {version}"
    (seen,) = [row for row in table("Negotiation", "offered by") if row["offered by"] == who]
    assert [int(seen[name], 0) for name in ("version", "actions", "steps")] == [
        offer.version,
        offer.actions,
        offer.steps,
    ]


def test_steps_and_their_events() -> None:
    """Each NO and NR step stands beside the event that it holds back or leaves unanswered."""
    on_page = {row["name"]: row["event"] for row in table("Steps", "value") if row["event"]}
    assert on_page == {
        step.name: kind.__name__ for steps in (SUPPRESS, NO_REPLY) for kind, step in steps.items()
    }


def test_stages_and_their_commands() -> None:
    """A macro list belongs to the command of the same name, but for EOM and EOH."""
    on_page = {row["name"]: row["command"].encode() for row in table("Macro lists", "value")}
    assert on_page == {
        "CONNECT": COMMAND_CODES[mp.Connect],
        "HELO": COMMAND_CODES[mp.Helo],
        "MAIL": COMMAND_CODES[mp.MailFrom],
        "RCPT": COMMAND_CODES[mp.RcptTo],
        "DATA": COMMAND_CODES[mp.Data],
        "EOM": COMMAND_CODES[mp.EndOfMessage],
        "EOH": COMMAND_CODES[mp.EndOfHeaders],
    }


def test_command_codes() -> None:
    """Every command has its code and its event, and nothing else has one."""
    on_page = {getattr(mp, row["event"]): code_of(row) for row in COMMANDS}
    assert on_page == COMMAND_CODES
    assert {code[0] for code in on_page.values()} == set(COMMAND_DECODERS)


@pytest.mark.parametrize("row", COMMANDS, ids=lambda row: row["event"])
def test_command(row: Row) -> None:
    """Its version, the replies to it, and the steps that hold it back or leave it unanswered."""
    kind: type[mp.Command] = getattr(mp, row["event"])
    # QUIT_NC came with version 6, but needs nothing from the filter: it has no step.
    if kind is not mp.QuitNewConnection:
        assert int(row["since"]) == SINCE.get(kind, 2)
    assert set(row["replies"].split()) == codes_of(SENDABLE.get(kind, frozenset()))
    for column, steps in (("no", SUPPRESS), ("silent", NO_REPLY)):
        assert row[column] == (str(steps[kind].name) if kind in steps else "")


def test_response_codes() -> None:
    """Every code that is decoded is on the page, and nothing else."""
    codes = [code_of(row)[0] for row in RESPONSES]
    assert len(set(codes)) == len(codes)
    assert set(codes) == set(RESPONSE_DECODERS)


@pytest.mark.parametrize("row", RESPONSES, ids=lambda row: row["code"])
def test_response(row: Row) -> None:
    """Where it is a reply, and the action that it needs."""
    kind: type[Any] = getattr(mp, row["event"])
    assert row["at"].split() == [
        COMMAND_CODES[command].decode() for command, replies in SENDABLE.items() if kind in replies
    ]
    if kind in EDITS:
        with_parameters = code_of(row) == b"2"
        needed = mp.Actions.ADDRCPT_PAR if with_parameters else EDITS[kind]
        assert row["action"] == needed.name
    else:
        assert row["action"] == ("Steps.SKIP" if kind is mp.Skip else "")


@pytest.mark.parametrize(
    "row", [row for row in RESPONSES if row["action"].isupper()], ids=lambda row: row["code"]
)
def test_an_edit_needs_its_action(row: Row) -> None:
    """A filter may send it with all other actions refused, and not with this one refused."""
    vector = next(
        vector
        for vector in VECTORS.values()
        if vector["direction"] == "<"
        and vector["verdict"] == "ok"
        and vector["canonical"]
        and bytes.fromhex(vector["hex"])[4:5] == code_of(row)
    )
    edit = RESPONSE_DECODERS[code_of(row)[0]](bytes.fromhex(vector["hex"])[5:])
    needed = mp.Actions[row["action"]]
    for actions, allowed in ((needed, True), (mp.ALL_ACTIONS & ~needed, False)):
        conn = mp.FilterConnection()
        mta = mp.MTAConnection()
        conn.receive_data(mta.send(mp.offer()))
        offer = conn.next_event()
        assert isinstance(offer, mp.Negotiate)
        conn.send(mp.negotiate(offer, mp.Wants(events=(), actions=actions)))
        conn.receive_data(b"\0\0\0\x01E")
        assert conn.next_event() == mp.EndOfMessage()
        if allowed:
            assert conn.send(edit).hex() == vector["hex"]
        else:
            with pytest.raises(mp.LocalProtocolError, match=f"Actions.{row['action']}"):
                conn.send(edit)


def sections() -> dict[str, str]:
    """The part of the page for each message, by libmilter's name without SMFIC or SMFIR."""
    found: dict[str, str] = {}
    for row in [*COMMANDS, *RESPONSES]:
        name = row["libmilter's name"].split("_", 1)[1]
        parts = re.split(rf"^### {re.escape(name)}$", PAGE, flags=re.MULTILINE)
        assert len(parts) == 2, f"not exactly one section {name}"
        found[name] = re.split(r"^#", parts[1], flags=re.MULTILINE)[0]
    return found


@pytest.mark.parametrize(
    "row",
    # OPTNEG stands in both tables.
    [*COMMANDS, *(row for row in RESPONSES if row["event"] != "Negotiate")],
    ids=lambda row: row["libmilter's name"],
)
def test_every_message_has_its_section(row: Row) -> None:
    """With its layout, its source, and an example that is a vector of just that message."""
    name = row["libmilter's name"].split("_", 1)[1]
    section = sections()[name]
    assert section.count("- Layout: ") == 1
    assert section.count("- Source: ") == 1
    examples = re.findall(r"- Example (V\d+):\s+`([0-9a-f]+)`", section)
    assert examples or name == "CONN_FAIL"
    for number, example in examples:
        assert VECTORS[number]["hex"] == example
        assert VECTORS[number]["verdict"] == "ok"
        assert VECTORS[number]["event"]["type"] == row["event"]
        assert bytes.fromhex(example)[4:5] == code_of(row)


def test_address_families() -> None:
    """The family bytes are those of the enum."""
    on_page = {row["family"]: code_of({"code": row["byte"]}) for row in table("Addresses", "byte")}
    assert on_page == {family.name: family.value for family in mp.Family}


# One for each rule.
REFUSED: Final = {
    mp.ReplyCode(b"450", b"5.7.1", (b"x",)),
    mp.ReplyCode(b"550", b"", (b"x",)),
    mp.ReplyCode(b"250", b"2.0.0", (b"x",)),
    mp.ReplyCode(b"560", b"5.7.1", (b"x",)),
    mp.ReplyCode(b"550", b"5.07.1", (b"x",)),
    mp.ReplyCode(b"550", b"5.7.1", ()),
    mp.ReplyCode(b"550", b"5.7.1", (b"x",) * 33),
    mp.ReplyCode(b"550", b"5.7.1", (b"x" * 981,)),
    mp.ReplyCode(b"550", b"5.7.1", (b"%" * 491,)),
    mp.ReplyCode(b"550", b"5.7.1", (b"caf\xe9",)),
    mp.ReplyCode(b"550", b"5.7.1", (b"a\tb",)),
}


@pytest.mark.parametrize("reply", sorted(REFUSED, key=repr), ids=lambda reply: repr(reply)[:60])
def test_replies_that_the_page_forbids(reply: mp.ReplyCode) -> None:
    """Each rule of the section on replies is kept by the encoder."""
    with pytest.raises(mp.LocalProtocolError):
        encode_response(reply)


def test_the_page_names_the_limits() -> None:
    """The numbers in the text are those of the code."""
    assert mp.DEFAULT_MAX_PAYLOAD == 1 << 20
    text = " ".join(PAGE.split())
    assert "a payload of 1 MiB" in text
    assert "32 lines of at most 980 bytes" in text
    longest = mp.ReplyCode(b"550", b"5.7.1", (b"x" * 980,) * 32)
    assert encode_response(longest)
