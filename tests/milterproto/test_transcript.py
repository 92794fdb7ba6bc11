"""The recorder's file: every byte that crossed the wire is in it, and comes back."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import milterproto as mp
from milterproto._shell.transcript import (
    FIRST_LINE,
    FROM_FILTER,
    FROM_MTA,
    Entry,
    Recorder,
    parse,
)
from milterproto._wire import encode_command, encode_response

from .peers import frame
from .strategies import commands, pieces, responses, streams

CODES = b"ODCHMRTLNBEUAQKocardtys4fphimb+2-eq"
STREAMS = streams(CODES, st.one_of(commands.map(encode_command), responses.map(encode_response)))


def record(way: str, chunks: list[bytes]) -> list[Entry]:
    recorder = Recorder(1)
    return [entry for chunk in [*chunks, b""] for entry in recorder.take(way, chunk, 0.5)]


@given(st.data(), STREAMS, st.sampled_from([FROM_MTA, FROM_FILTER]))
def test_every_byte_comes_back(data: st.DataObject, stream: bytes, way: str) -> None:
    """Whatever they are, in whatever pieces: from the entries, and from the file."""
    entries = record(way, data.draw(pieces(stream)))
    assert b"".join(entry.raw for entry in entries) == stream
    assert entries[-1] == Entry(1, 0.5, way, b"", b"")
    assert parse([FIRST_LINE, *(entry.line for entry in entries)]) == entries


@given(st.data(), STREAMS)
def test_pieces_make_no_difference(data: st.DataObject, stream: bytes) -> None:
    """But for what is no packet: that comes as it came."""
    packets = [entry for entry in record(FROM_MTA, [stream] if stream else []) if entry.code]
    cut = record(FROM_MTA, data.draw(pieces(stream)))
    assert [entry for entry in cut if entry.code] == packets


@given(commands)
def test_commands_are_seen(command: mp.Command) -> None:
    """As the events they are."""
    packet, end = record(FROM_MTA, [encode_command(command)])
    assert packet.seen == command
    assert end.seen == mp.ConnectionClosed()


@given(responses.filter(lambda event: not isinstance(event, mp.ReplaceBody)))
def test_responses_are_seen(response: mp.Response) -> None:
    """As well."""
    packet, _ = record(FROM_FILTER, [encode_response(response)])
    assert packet.seen == response


@given(st.one_of(commands.map(encode_command), responses.map(encode_response)))
def test_ways_are_told_apart(data: bytes) -> None:
    """No byte of the one makes the other fail."""
    for way in (FROM_MTA, FROM_FILTER):
        for entry in record(way, [data]):
            assert entry.seen is not None


def test_both_ways_at_once() -> None:
    """Each has a buffer of its own."""
    recorder = Recorder(7)
    assert list(recorder.take(FROM_MTA, b"\0\0\0", 0)) == []
    (verdict,) = recorder.take(FROM_FILTER, frame(b"c"), 1)
    (helo,) = recorder.take(FROM_MTA, b"\5Hname", 2)
    assert verdict == Entry(7, 1, FROM_FILTER, b"c", b"")
    assert helo.payload == b"name"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\0\0\0\0", "4 bytes that are no packet"),
        (b"GET / HTTP/1.0\r\n\r\n", "18 bytes that are no packet"),
        (frame(b"\x01", b"x"), "unknown code byte 0x01"),
        (frame(b"L", b"x"), "header: not exactly two NUL-terminated strings"),
    ],
)
def test_what_can_not_be_read(data: bytes, why: str) -> None:
    """It is kept, and it is said why."""
    first, *_ = record(FROM_MTA, [data])
    assert first.seen == why
    assert first.raw == data


def test_a_long_packet_is_not_waited_for() -> None:
    """The largest is whole; the next is mere bytes, and so is all that follows."""
    largest = frame(b"B", bytes(1024 * 1024))
    assert len(record(FROM_MTA, [largest])) == 2
    recorder = Recorder(1)
    (lost,) = recorder.take(FROM_MTA, (1024 * 1024 + 2).to_bytes(4, "big") + b"B", 0)
    assert not lost.code
    (more,) = recorder.take(FROM_MTA, frame(b"Q"), 0)
    assert (more.code, more.payload) == (b"", frame(b"Q"))


# --- masking ---------------------------------------------------------------------------------

SECRET = b"Secret"


@given(st.data(), STREAMS, st.sampled_from([FROM_MTA, FROM_FILTER]))
def test_a_masked_transcript_is_as_long(data: st.DataObject, stream: bytes, way: str) -> None:
    """Whatever is masked, lengths and line ends stay, and so does what is said when."""
    for entry in record(way, data.draw(pieces(stream))):
        masked = entry.masked
        assert len(masked.payload) == len(entry.payload)
        assert (masked.code, masked.way) == (entry.code, entry.way)
        assert masked.payload.count(b"\r\n") == entry.payload.count(b"\r\n")
        assert masked.masked == masked
        assert isinstance(masked.seen, str) is isinstance(entry.seen, str)


@pytest.mark.parametrize(
    ("event", "masked"),
    [
        (mp.Header(b"Subject", b" A b\n c\xff"), mp.Header(b"Subject", b" x x\n xx")),
        (mp.Header(b"X", b""), mp.Header(b"X", b"")),
        (mp.Body(b"Hi\r\n\tyou\0"), mp.Body(b"xx\r\n\txxx\0")),
        (mp.MailFrom(b"<a@b>"), mp.MailFrom(b"<a@b>")),
        (mp.Connect(b"h", mp.Family.INET, 1, b"192.0.2.1"), ...),
        (mp.Helo(b"name"), ...),
        (mp.MailFrom(b"<a@b>", (b"SIZE=1",)), ...),
        (mp.RcptTo(b"<a@b>", (b"NOTIFY=NEVER",)), ...),
        # A client that takes its message for commands says it line by line.
        (mp.Unknown(b"Hi you"), mp.Unknown(b"xx xxx")),
        (mp.Macros(b"M", b"i\x004F\0{auth_authen}\0ann\0"), ...),
        # They are what a header has; no MTA's own list has the others.
        (mp.Macros(b"E", b"{msg_id}\0<1@x>\0"), mp.Macros(b"E", b"{msg_id}\0xxxxx\0")),
        (
            mp.Macros(b"N", b"i\x004F\0{currHeader}\0A b\0j\0mx\0msg_id\0<1@x>\0"),
            mp.Macros(b"N", b"i\x004F\0{currHeader}\0x x\0j\0mx\0msg_id\0xxxxx\0"),
        ),
    ],
)
def test_what_is_masked_of_a_message(event: mp.Command, masked: Any) -> None:
    """Values of fields, the body, and macros that quote them; neither names nor addresses."""
    masked = event if masked is ... else masked
    assert record(FROM_MTA, [encode_command(event)])[0].masked.seen == masked


@pytest.mark.parametrize(
    ("event", "masked"),
    [
        (mp.AddHeader(b"X", b"a b"), mp.AddHeader(b"X", b"x x")),
        (mp.InsertHeader(513, b"X", b"a b"), mp.InsertHeader(513, b"X", b"x x")),
        (mp.ChangeHeader(1, b"X", b""), mp.ChangeHeader(1, b"X", b"")),
        (mp.ReplaceBody(b"new\r\n"), mp.ReplaceBody(b"xxx\r\n")),
        (mp.Continue(), ...),
        (mp.ReplyCode(b"550", b"5.7.1", (b"No",)), ...),
        (mp.Quarantine(b"odd"), ...),
        (mp.ChangeSender(b"<a@b>"), ...),
        (mp.AddRecipient(b"<a@b>"), ...),
        (mp.AddRecipient(b"<a@b>", (b"NOTIFY=NEVER",)), ...),
        (mp.DeleteRecipient(b"<a@b>"), ...),
    ],
)
def test_what_is_masked_of_edits(event: mp.Response, masked: Any) -> None:
    """The same of what a filter makes of it; its own words stay."""
    masked = event if masked is ... else masked
    assert record(FROM_FILTER, [encode_response(event)])[0].masked.seen == masked


@pytest.mark.parametrize(
    ("way", "data"),
    [
        (FROM_MTA, frame(b"L", SECRET)),
        (FROM_MTA, frame(b"L", b"X\0" + SECRET)),
        (FROM_MTA, frame(b"L", b"X\0a\0" + SECRET)),
        (FROM_MTA, frame(b"E", SECRET)),
        (FROM_MTA, frame(b"H", SECRET)),
        (FROM_MTA, frame(b"N", SECRET)),
        (FROM_MTA, frame(b"\x01", SECRET)),
        (FROM_MTA, frame(b"D", b"E{msg_id}\0" + SECRET)),
        (FROM_MTA, frame(b"D", b"E" + SECRET)),
        (FROM_MTA, b"\0\0\0\0" + SECRET),
        (FROM_MTA, b"\0\0\1\0B" + SECRET),
        (FROM_FILTER, frame(b"h", SECRET)),
        (FROM_FILTER, frame(b"i", b"\0\0\0\0" + SECRET)),
        (FROM_FILTER, frame(b"m", SECRET)),
        (FROM_FILTER, frame(b"b", SECRET)),
        (FROM_FILTER, frame(b"c", SECRET)),
        (FROM_FILTER, frame(b"y", SECRET)),
        (FROM_FILTER, frame(b"B", SECRET)),
    ],
)
def test_nothing_slips_past_the_mask(way: str, data: bytes) -> None:
    """Contents in packets that are broken, or none."""
    lines = "".join(entry.masked.line for entry in record(way, [data]))
    assert SECRET.decode() not in lines
    assert SECRET.decode() in "".join(entry.line for entry in record(way, [data]))


# --- the file --------------------------------------------------------------------------------

GOOD = '{"connection": 1, "seconds": 0, "way": ">", "bytes": ""}'


def test_lines_are_as_documented() -> None:
    """One packet, and one end."""
    first, last = record(FROM_MTA, [frame(b"H", b"name\0")])
    assert json.loads(first.line) == {
        "connection": 1,
        "seconds": 0.5,
        "way": ">",
        "code": "H",
        "payload": "name\0",
    }
    assert last.line == '{"connection": 1, "seconds": 0.5, "way": ">", "bytes": ""}'


def test_empty_lines_do_no_harm() -> None:
    """At the end of a file, for one."""
    assert parse([FIRST_LINE + "\n", GOOD, "\n"]) == [Entry(1, 0, FROM_MTA, b"", b"")]


@pytest.mark.parametrize("lines", [[], ["\n"], ["{}"], [GOOD]])
def test_files_of_another_kind(lines: list[str]) -> None:
    """It is said what makes one."""
    with pytest.raises(mp.LocalProtocolError, match="milterproto record"):
        parse(lines)


@pytest.mark.parametrize(
    "line",
    [
        "x",
        "[]",
        "3",
        "{}",
        "[" * 100_000,
        GOOD.replace('">"', '"x"'),
        GOOD.replace('">"', "3"),
        GOOD.replace("bytes", "payload"),
        GOOD.replace('"bytes": ""', '"bytes": 1'),
        GOOD.replace('"bytes": ""', '"bytes": "\\ud800"'),
        GOOD.replace('"bytes": ""', '"code": 1, "payload": ""'),
        GOOD.replace('"bytes": ""', '"code": "€", "payload": ""'),
        GOOD.replace('"bytes": ""', '"code": "BB", "payload": ""'),
        GOOD.replace(" 0,", ' "x",'),
        GOOD.replace(" 1,", " Infinity,"),
        GOOD.replace(" 1,", " null,"),
    ],
)
def test_lines_that_are_wrong(line: str) -> None:
    """The number of the line is said."""
    with pytest.raises(mp.LocalProtocolError, match="line 3 of the transcript"):
        parse([FIRST_LINE, GOOD, line])


@given(st.text())
def test_any_line(line: str) -> None:
    """An entry, or that error."""
    with contextlib.suppress(mp.LocalProtocolError):
        parse([FIRST_LINE, line])
