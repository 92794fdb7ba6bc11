import re
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import milterproto as mp
from milterproto._events import COMMAND_CODES
from milterproto._wire import (
    COMMAND_DECODERS,
    MAX_PACKET,
    RESPONSE_DECODERS,
    encode_command,
    encode_response,
)

from .strategies import commands, responses


def split(frames: bytes) -> list[tuple[int, bytes]]:
    """Cut sound frames apart, without the library's own buffer."""
    found = []
    while frames:
        length = int.from_bytes(frames[:4], "big")
        assert 1 <= length <= len(frames) - 4
        found.append((frames[4], frames[5 : 4 + length]))
        frames = frames[4 + length :]
    return found


@given(commands)
def test_a_command_survives_the_wire(event: mp.Command) -> None:
    """decode(encode(e)) == e for all that an MTA may send."""
    [(code, payload)] = split(encode_command(event))
    assert bytes([code]) == COMMAND_CODES[type(event)]
    assert COMMAND_DECODERS[code](payload) == event


@given(responses)
def test_a_response_survives_the_wire(event: mp.Response) -> None:
    """decode(encode(e)) == e for all that a filter may send."""
    [(code, payload)] = split(encode_response(event))
    assert RESPONSE_DECODERS[code](payload) == event


@given(st.sampled_from(sorted(COMMAND_DECODERS)), st.binary(max_size=60))
def test_any_command_payload_is_an_event_or_the_one_error(code: int, payload: bytes) -> None:
    """And what the decoder took, it takes again from the encoder, with the same result."""
    try:
        event = COMMAND_DECODERS[code](payload)
        [(again, canonical)] = split(encode_command(event))
    except (mp.RemoteProtocolError, mp.LocalProtocolError):
        return
    assert again == code
    assert COMMAND_DECODERS[code](canonical) == event


@given(st.sampled_from(sorted(RESPONSE_DECODERS)), st.binary(max_size=60))
def test_any_response_payload_is_an_event_or_the_one_error(code: int, payload: bytes) -> None:
    """As for commands."""
    try:
        event = RESPONSE_DECODERS[code](payload)
        assume(event != mp.ConnectionFailure())  # nobody may send it, so it has no encoder
        [(again, canonical)] = split(encode_response(event))
    except (mp.RemoteProtocolError, mp.LocalProtocolError):
        return
    assert RESPONSE_DECODERS[again](canonical) == event


def command(code: bytes, payload: bytes) -> mp.Command:
    return COMMAND_DECODERS[code[0]](payload)


def response(code: bytes, payload: bytes) -> mp.Response:
    return RESPONSE_DECODERS[code[0]](payload)


@pytest.mark.parametrize(
    ("code", "payload", "event"),
    [
        (b"C", b"h\0U", mp.Connect(b"h", mp.Family.UNKNOWN)),
        (b"C", b"h\0U\0\0rest", mp.Connect(b"h", mp.Family.UNKNOWN)),
        (b"C", b"\0L\0\0/\0", mp.Connect(b"", mp.Family.UNIX, 0, b"/")),
        (b"C", b"h\x004\x10\xe1999\0", mp.Connect(b"h", mp.Family.INET, 4321, b"999")),
        (b"M", b"\0", mp.MailFrom(b"")),
        (b"M", b"<>\0\0", mp.MailFrom(b"<>", (b"",))),
        (b"R", b"a@b\0NOTIFY=NEVER\0X\0", mp.RcptTo(b"a@b", (b"NOTIFY=NEVER", b"X"))),
        (b"D", b"?", mp.Macros(b"?", b"")),
        (b"D", b"Mi\0", mp.Macros(b"M", b"i\0")),
        (b"H", b"\0", mp.Helo(b"")),
        (b"E", b"tail", mp.EndOfMessage(b"tail")),
        (b"L", b"\0\0", mp.Header(b"", b"")),
    ],
)
def test_odd_but_legal_commands(code: bytes, payload: bytes, event: mp.Command) -> None:
    """Each has been seen from a real MTA, or is taken by libmilter."""
    assert command(code, payload) == event


@pytest.mark.parametrize(
    ("code", "payload", "reason"),
    [
        (b"O", bytes(11), "11 bytes, fewer than 12"),
        (b"O", bytes(12) + b"\0", "no NUL"),
        (b"O", bytes(12) + b"\0\0\0\0i", "no NUL"),
        (b"D", b"", "without the code"),
        (b"C", b"", "no host name"),
        (b"C", b"h", "no host name"),
        (b"C", b"h\0", "no address family"),
        (b"C", b"h\0X\0\0a\0", "unknown address family 0x58"),
        (b"C", b"h\x004", "not a port"),
        (b"C", b"h\x004\0\0\0", "not a port"),
        (b"C", b"h\x004\0\0a", "not a port"),
        (b"C", b"h\x004\0\0a\0b", "not a port"),
        (b"C", b"h\x004\0\0a\0\0", "not a port"),
        (b"C", b"h\x004\0\0\0\0", "not a port"),
        (b"H", b"", "HELO: not exactly one"),
        (b"H", b"a", "HELO: not exactly one"),
        (b"H", b"a\0b\0", "HELO: not exactly one"),
        (b"U", b"", "unknown command: not exactly one"),
        (b"M", b"", "MAIL: the last string has no NUL"),
        (b"M", b"<a>\0SIZE=1", "MAIL: the last string has no NUL"),
        (b"R", b"<a>", "RCPT: the last string has no NUL"),
        (b"T", b"\0", "DATA with a payload of 1 bytes"),
        (b"N", b"x", "end of headers with a payload"),
        (b"A", b"x", "ABORT with"),
        (b"Q", b"x", "QUIT with"),
        (b"K", b"x", "QUIT_NC with"),
        (b"L", b"", "not exactly two"),
        (b"L", b"a\0", "not exactly two"),
        (b"L", b"a\0b", "not exactly two"),
        (b"L", b"a\0b\0c\0", "not exactly two"),
        (b"L", b"a\0b\0c", "header: the last string has no NUL"),
        (b"B", b"", "body without a byte"),
    ],
)
def test_broken_commands(code: bytes, payload: bytes, reason: str) -> None:
    """libmilter drops the connection without a word; the reason is told here."""
    with pytest.raises(mp.RemoteProtocolError, match=reason):
        command(code, payload)


@pytest.mark.parametrize(
    ("code", "payload", "event"),
    [
        (b"2", b"<a>\0", mp.AddRecipient(b"<a>")),
        (b"2", b"<a>\0\0", mp.AddRecipient(b"<a>")),
        (b"2", b"<a>\0A=1  B=2\0", mp.AddRecipient(b"<a>", (b"A=1", b"B=2"))),
        (b"e", b"<>\0", mp.ChangeSender(b"<>")),
        (b"e", b"<a>\0RET=HDRS\0", mp.ChangeSender(b"<a>", (b"RET=HDRS",))),
        (b"e", b"<a>\0A=1\tB\0", mp.ChangeSender(b"<a>", (b"A=1\tB",))),
        (b"m", b"\0\0\0\0a\0\0", mp.ChangeHeader(0, b"a", b"")),
        (b"i", b"\xff\xff\xff\xffa\0b\0", mp.InsertHeader(0xFFFFFFFF, b"a", b"b")),
        (b"b", b"", mp.ReplaceBody(b"")),
        (b"q", b"\0", mp.Quarantine(b"")),
        (b"f", b"", mp.ConnectionFailure()),
        (b"y", b"550 x\0", mp.ReplyCode(b"550", b"", (b"x",))),
        (
            b"O",
            bytes([0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 9]) + b" i, {j},,k \0",
            mp.Negotiate(6, mp.Actions(0), mp.Steps.SKIP, ((9, (b"i", b"{j}", b"k")),)),
        ),
    ],
)
def test_odd_but_legal_responses(code: bytes, payload: bytes, event: mp.Response) -> None:
    """What filters send and both MTAs, or one of them, understand."""
    assert response(code, payload) == event


@pytest.mark.parametrize(
    ("code", "payload", "reason"),
    [
        (b"c", b"junk", "CONTINUE with a payload of 4 bytes"),
        (b"s", b"\0", "SKIP with"),
        (b"y", b"550 5.7.1 x", "REPLYCODE: not exactly one"),
        (b"y", b"550 a\0b\0", "not exactly one"),
        (b"y", b"", "not exactly one"),
        (b"y", b"\0", "not of the form"),
        (b"h", b"a\0b", "ADDHEADER: not exactly two"),
        (b"h", b"a\0", "not exactly two"),
        (b"h", b"a\0b\0c", "not exactly two"),
        (b"i", b"\0\0\0", "INSHEADER: no index"),
        (b"m", b"\0\0\0\1a\0b", "CHGHEADER: not exactly two"),
        (b"m", b"\0\0\0\1", "CHGHEADER: not exactly two"),
        (b"+", b"", "ADDRCPT: not exactly one"),
        (b"-", b"a\0b\0", "DELRCPT: not exactly one"),
        (b"2", b"a\0b\0c\0", "ADDRCPT_PAR: more than two strings"),
        (b"e", b"a", "CHGFROM: the last string has no NUL"),
        (b"q", b"reason", "not exactly one"),
    ],
)
def test_broken_responses(code: bytes, payload: bytes, reason: str) -> None:
    """A real MTA gives up on the filter, or leaks memory to its client."""
    with pytest.raises(mp.RemoteProtocolError, match=reason):
        response(code, payload)


def test_codes_that_are_never_frames_of_their_own() -> None:
    """SETSYMLIST has a code, but its lists travel inside of the negotiation."""
    assert ord("l") not in RESPONSE_DECODERS


LONG = b"x" * 65536


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (mp.Helo(b"a\nb"), "^HELO name has control characters"),
        (mp.Helo(b"a\0b"), "control characters"),
        (mp.Unknown(b"a\r\n"), "^unknown command has control characters"),
        (mp.MailFrom(b"<a\0b>"), "^address has control characters"),
        (mp.MailFrom(b"<a>", (b"A B",)), "no ESMTP parameter"),
        (mp.RcptTo(b"<a>", (b"",)), "no ESMTP parameter"),
        (mp.RcptTo(b"<a>\n"), "control characters"),
        (mp.Header(b"", b"x"), "no header name"),
        (mp.Header(b"A:", b"x"), "no header name"),
        (mp.Header(b"A b", b"x"), "no header name"),
        (mp.Header(b"A\n", b"x"), "no header name"),
        (mp.Header(b"\xc3", b"x"), "no header name"),
        (mp.Header(b"A", b"x\r\n y"), "NUL, a CR, or a LF"),
        (mp.Header(b"A", b"x\0"), "NUL, a CR, or a LF"),
        (mp.Header(b"A", b"x\nB: y"), "NUL, a CR, or a LF"),
        (mp.Header(b"A", b"x\n"), "NUL, a CR, or a LF"),
        (mp.Header(b"A", LONG), "more than 65535"),
        (mp.Body(b""), "1 to 65535 bytes, not 0"),
        (mp.Body(LONG), "1 to 65535 bytes, not 65536; split it"),
        (mp.EndOfMessage(b"x"), "last piece as Body"),
        (mp.Connect(b"h", mp.Family.UNKNOWN, 1), "neither port nor address"),
        (mp.Connect(b"h", mp.Family.UNKNOWN, 0, b"x"), "neither port nor address"),
        (mp.Connect(b"h", mp.Family.INET, 65536, b"127.0.0.1"), "port 65536"),
        (mp.Connect(b"h", mp.Family.INET, -1, b"127.0.0.1"), "port -1"),
        (mp.Connect(b"h", mp.Family.UNIX), "address is needed"),
        (mp.Connect(b"h", mp.Family.INET, 1, b"::1"), "no address of INET"),
        (mp.Connect(b"h", mp.Family.INET6, 1, b"127.0.0.1"), "no address of INET6"),
        (mp.Connect(b"h", mp.Family.INET6, 1, b"nonsense"), "no address of INET6"),
        (mp.Connect(b"h\n", mp.Family.UNKNOWN), "host name has control"),
        (mp.Connect(b"h", mp.Family.UNIX, 0, b"/a\0b"), "address has control"),
        (mp.Macros(b"A", b""), "no macros are sent for command"),
        (mp.Macros(b"", b""), "no macros are sent for command"),
        (mp.Macros(b"M", b"i\0"), "pairs of name and value"),
        (mp.Macros(b"M", b"i\0x"), "pairs of name and value"),
        (mp.Macros(b"M", b"i\0" + LONG + b"\0"), "more than 65535"),
        (mp.Negotiate(6, mp.Actions(0), mp.Steps(0), ((0, (b"a b",)),)), "no macro name"),
        (mp.Negotiate(6, mp.Actions(0), mp.Steps(0), ((0, (b"ab",)),)), "no macro name"),
        (mp.Negotiate(6, mp.Actions(0), mp.Steps(0), ((0, (b"",)),)), "no macro name"),
        (mp.Negotiate(6, mp.Actions(0), mp.Steps(0), ((0, (b",",)),)), "no macro name"),
        (mp.Negotiate(6, mp.Actions(0), mp.Steps(0), ((0, (b"{}",)),)), "no macro name"),
        (mp.Negotiate(6, mp.Actions(0), mp.Steps(0), ((0, (b"i",) * 51),)), "51 macros"),
    ],
)
def test_commands_that_filters_would_misread_are_refused(event: mp.Command, reason: str) -> None:
    """No byte of them leaves the library."""
    with pytest.raises(mp.LocalProtocolError, match=reason):
        encode_command(event)


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (mp.AddHeader(b"A b", b"x"), "no header name"),
        (mp.AddHeader(b"A", b"x\r\n y"), "NUL, a CR, or a LF"),
        (mp.AddHeader(b"A", LONG), "more than 65535"),
        (mp.InsertHeader(-1, b"A", b"x"), "index -1"),
        (mp.InsertHeader(1 << 31, b"A", b"x"), "index 2147483648"),
        (mp.ChangeHeader(1, b"", b"x"), "no header name"),
        (mp.AddRecipient(b""), "empty address"),
        (mp.AddRecipient(b"<a>", (b"a b",)), "no ESMTP parameter"),
        (mp.DeleteRecipient(b""), "empty address"),
        (mp.DeleteRecipient(b"<a>\0"), "^address has control characters"),
        (mp.ChangeSender(b""), "null sender is b'<>'"),
        (mp.Quarantine(b""), "needs a reason"),
        (mp.Quarantine(b"a\nb"), "^reason has control characters"),
        (mp.ReplyCode(b"250", b"2.0.0", (b"x",)), "no reply code"),
    ],
)
def test_responses_that_mtas_would_misread_are_refused(event: mp.Response, reason: str) -> None:
    """No byte of them leaves the library."""
    with pytest.raises(mp.LocalProtocolError, match=reason):
        encode_response(event)


WRONG: list[tuple[Any, Any]] = [
    (mp.Helo, ("text",)),
    (mp.MailFrom, ("<a@b>",)),
    (mp.MailFrom, (b"<a@b>", b"SIZE=1")),
    (mp.MailFrom, (b"<a@b>", ("SIZE=1",))),
    (mp.Header, ("Subject", b"x")),
    (mp.Header, (b"Subject", "x")),
    (mp.Body, ("text",)),
    (mp.Negotiate, (-1, mp.Actions(0), mp.Steps(0))),
    (mp.Connect, (b"h", b"4", 1, b"127.0.0.1")),
    (mp.Connect, (b"h", mp.Family.INET, "25", b"127.0.0.1")),
]


@pytest.mark.parametrize(("kind", "fields"), WRONG)
def test_fields_of_the_wrong_type_are_told_clearly(kind: Any, fields: Any) -> None:
    """The commonest slip is a str; it must not surface as a TypeError from deep inside."""
    event = kind(*fields)
    told = f"{re.escape(repr(event))} has a field of the wrong type or range"
    with pytest.raises(mp.LocalProtocolError, match=told):
        encode_command(event)


WRONG_RESPONSES: list[tuple[Any, Any]] = [
    (mp.ReplaceBody, ("text",)),
    (mp.AddHeader, ("X-A", "b")),
    (mp.AddRecipient, ("a@b",)),
    (mp.ReplyCode, (550, b"5.7.1", (b"x",))),
    (mp.ReplyCode, (b"550", b"5.7.1", b"text")),
    (mp.InsertHeader, (0.5, b"A", b"x")),
]


@pytest.mark.parametrize(("kind", "fields"), WRONG_RESPONSES)
def test_the_same_in_responses(kind: Any, fields: Any) -> None:
    """Filter authors make it more often than MTA authors."""
    event = kind(*fields)
    told = f"{re.escape(repr(event))} has a field of the wrong type or range"
    with pytest.raises(mp.LocalProtocolError, match=told):
        encode_response(event)


@pytest.mark.parametrize(
    ("size", "packets"),
    [(0, 1), (1, 1), (65535, 1), (65536, 2), (2 * 65535, 2), (200000, 4)],
)
def test_a_long_body_is_split_as_libmilter_does(size: int, packets: int) -> None:
    """Packets of 65535 bytes and a rest; no body at all is one empty packet."""
    body = bytes(range(256)) * (size // 256 + 1)
    frames = split(encode_response(mp.ReplaceBody(body[:size])))
    assert len(frames) == packets
    assert all(code == ord("b") and len(payload) <= 65535 for code, payload in frames)
    assert b"".join(payload for _, payload in frames) == body[:size]


def test_an_agreed_limit_makes_room_for_long_headers_but_not_bodies() -> None:
    """The MDS bits raise the ceiling of a frame; body packets keep their size."""
    header = mp.AddHeader(b"A", LONG)
    [(_, payload)] = split(encode_response(header, 262143))
    assert len(payload) == len(LONG) + 3
    assert len(split(encode_response(mp.ReplaceBody(LONG), 262143))) == 2
    with pytest.raises(mp.LocalProtocolError, match="65536; split it"):
        encode_command(mp.Body(LONG), 262143)


def test_recipients_with_and_without_parameters_are_two_messages() -> None:
    """Each has an action of its own; parameters travel as ONE string."""
    assert encode_response(mp.AddRecipient(b"<a>")) == b"\0\0\0\x05+<a>\0"
    assert (
        encode_response(mp.AddRecipient(b"<a>", (b"A=1", b"B=2"))) == b"\0\0\0\x0d2<a>\0A=1 B=2\0"
    )


def test_numbers_go_up_to_their_limits() -> None:
    """The highest port, the highest index, and as many macros as Sendmail keeps of a list."""
    connect = mp.Connect(b"h", mp.Family.INET, 65535, b"192.0.2.1")
    assert encode_command(connect) == b"\0\0\0\x10Ch\x004\xff\xff192.0.2.1\0"
    change = mp.ChangeHeader(0x7FFFFFFF, b"A", b"")
    assert encode_response(change) == b"\0\0\0\x08m\x7f\xff\xff\xffA\0\0"
    answer = mp.Negotiate(6, mp.Actions(0), mp.Steps(0), ((0, (b"i",) * 50),))
    [(code, payload)] = split(encode_response(answer))
    assert response(bytes([code]), payload) == answer


def test_a_full_packet_passes() -> None:
    """65535 bytes of payload are the most that every peer reads."""
    assert len(encode_command(mp.Body(b"x" * MAX_PACKET))) == 5 + 65535
    assert len(encode_response(mp.Quarantine(b"x" * 65534))) == 5 + 65535


@pytest.mark.parametrize(
    "event", [mp.ConnectionFailure(), mp.Connect, mp.Helo(b"x"), None], ids=repr
)
def test_what_is_no_response(event: Any) -> None:
    """Found by fuzzing: it was a KeyError."""
    with pytest.raises(mp.LocalProtocolError):
        encode_response(event)
