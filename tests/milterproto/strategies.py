"""What hypothesis draws from: events that may be sent, bytes that should not be, and pieces."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hypothesis import strategies as st

import milterproto as mp
from milterproto.message import Field, Headers, Message, Recipient


def named(kinds: Iterable[type[Any]]) -> list[type[Any]]:
    """Event classes in an order that stays the same from run to run."""
    return sorted(kinds, key=lambda kind: kind.__name__)


COMMAND_CODES = b"ODCHMRTLNBEUAQK"
RESPONSE_CODES = b"Ocardtys4fphimb+2-eq"

plain = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=20
).map(lambda text: text.encode("latin-1"))
words = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters="\x7f"),
    min_size=1,
    max_size=12,
).map(lambda text: text.encode("latin-1"))
parameters = st.lists(words, max_size=4).map(tuple)
header_names = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters=":"), min_size=1
).map(str.encode)
header_values = st.lists(plain, min_size=1, max_size=3).map(b"\n ".join)
printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40).map(
    str.encode
)

connects = st.one_of(
    st.builds(mp.Connect, plain, st.just(mp.Family.UNKNOWN)),
    st.builds(
        mp.Connect,
        plain,
        st.just(mp.Family.INET),
        st.integers(0, 65535),
        st.ip_addresses(v=4).map(lambda ip: str(ip).encode()),
    ),
    st.builds(
        mp.Connect,
        plain,
        st.just(mp.Family.INET6),
        st.integers(0, 65535),
        st.one_of(
            st.ip_addresses(v=6).map(lambda ip: str(ip).encode()),
            st.ip_addresses(v=6).map(lambda ip: b"IPv6:" + ip.exploded.encode()),
        ),
    ),
    st.builds(
        mp.Connect, plain, st.just(mp.Family.UNIX), st.integers(0, 65535), words.map(b"/".__add__)
    ),
)

macro_events = st.builds(
    mp.Macros.of,
    st.sampled_from(
        [mp.Connect, mp.Helo, mp.MailFrom, mp.RcptTo, mp.Data, mp.Header, mp.Body, mp.Unknown]
    ),
    st.dictionaries(words, plain, max_size=3),
)
macro_names = st.one_of(
    st.sampled_from([b"i", b"j", b"_", b"v"]),
    st.from_regex(rb"\{[a-z_]{1,12}\}", fullmatch=True),
)
macro_lists = st.dictionaries(
    st.sampled_from(mp.Stage), st.lists(macro_names, max_size=4).map(tuple), max_size=7
)
negotiations = st.builds(
    mp.Negotiate,
    st.integers(0, 0xFFFFFFFF),
    st.integers(0, 0xFFFFFFFF).map(mp.Actions),
    st.integers(0, 0xFFFFFFFF).map(mp.Steps),
    macro_lists.map(lambda lists: tuple((int(stage), names) for stage, names in lists.items())),
)

commands: st.SearchStrategy[mp.Command] = st.one_of(
    negotiations,
    macro_events,
    connects,
    st.builds(mp.Helo, plain),
    st.builds(mp.MailFrom, plain, parameters),
    st.builds(mp.RcptTo, plain, parameters),
    st.builds(mp.Data),
    st.builds(mp.Header, header_names, header_values),
    st.builds(mp.EndOfHeaders),
    st.builds(mp.Body, st.binary(min_size=1, max_size=200)),
    st.builds(mp.EndOfMessage),
    st.builds(mp.Abort),
    st.builds(mp.Quit),
    st.builds(mp.QuitNewConnection),
    st.builds(mp.Unknown, plain),
)


@st.composite
def reply_codes(draw: st.DrawFn) -> mp.ReplyCode:
    code = draw(st.from_regex(rb"[45][0-5][0-9]", fullmatch=True))
    numbers = st.integers(0, 999).map(lambda n: str(n).encode())
    enhanced = code[:1] + b"." + draw(numbers) + b"." + draw(numbers)
    # A line that begins like an enhanced code itself is the hard case.
    line = st.one_of(printable, st.just(enhanced), printable.map((enhanced + b" ").__add__))
    return mp.ReplyCode(code, enhanced, tuple(draw(st.lists(line, min_size=1, max_size=4))))


edits: st.SearchStrategy[mp.Edit] = st.one_of(
    st.builds(mp.AddHeader, header_names, header_values),
    st.builds(mp.InsertHeader, st.integers(0, 0x7FFFFFFF), header_names, header_values),
    st.builds(mp.ChangeHeader, st.integers(0, 0x7FFFFFFF), header_names, header_values),
    st.builds(mp.ReplaceBody, st.binary(max_size=200)),
    st.builds(mp.AddRecipient, words, parameters),
    st.builds(mp.DeleteRecipient, words),
    st.builds(mp.ChangeSender, words, parameters),
    st.builds(mp.Quarantine, plain.filter(bool)),
)
verdicts: st.SearchStrategy[mp.Verdict] = st.one_of(
    st.sampled_from([mp.Continue(), mp.Accept(), mp.Reject(), mp.TempFail(), mp.Discard()]),
    st.sampled_from([mp.Skip(), mp.Shutdown()]),
    reply_codes(),
)
responses: st.SearchStrategy[mp.Response] = st.one_of(
    negotiations, verdicts, edits, st.just(mp.Progress())
)


def pieces(data: bytes) -> st.SearchStrategy[list[bytes]]:
    """The same bytes, cut anywhere, without empty pieces."""
    cuts = st.lists(st.integers(0, len(data)), max_size=12).map(lambda at: sorted({0, *at}))
    return cuts.map(
        lambda at: [
            data[start:end]
            for start, end in zip(at, [*at[1:], len(data)], strict=True)
            if start < end
        ]
    )


@st.composite
def frames(draw: st.DrawFn, codes: bytes) -> bytes:
    """A frame with a likely code and an unlikely payload, and sometimes a false length."""
    payload = draw(
        st.one_of(
            st.binary(max_size=30),
            st.lists(st.binary(max_size=6), max_size=4).map(
                lambda strings: b"".join(text.replace(b"\0", b"") + b"\0" for text in strings)
            ),
        )
    )
    code = draw(st.sampled_from([bytes([code]) for code in codes]))
    length = len(payload) + 1 + draw(st.sampled_from([0] * 12 + [-1, 1, 5, 1 << 24]))
    return max(length, 0).to_bytes(4, "big") + code + payload


def streams(codes: bytes, encoded: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Sound frames, unsound frames and noise, one after the other."""
    part = st.one_of(encoded, encoded, frames(codes), st.binary(max_size=8))
    return st.lists(part, max_size=12).map(b"".join)


# Few names and values, so that two messages have much in common.
some_fields = st.builds(
    Field,
    st.sampled_from([b"Subject", b"subject", b"X-A", b"x-a", b"Date", b"Received", b"B"]),
    st.sampled_from([b" a", b" b", b" ", b"", b" a\n b", b" a b", b"\tx", b" \xe4", b" a\rb"]),
)
some_headers = st.lists(some_fields, max_size=8).map(Headers)
some_recipients = st.builds(
    Recipient,
    st.sampled_from(
        [b"<x@y>", b"x@y", b"<X@y>", b"<z@y>", b"a, b", b"<@r,@s:x@y>", b"@r:z@y", b'<"x"@y>']
    ),
    st.sampled_from([(), (), (b"NOTIFY=NEVER",), (b"ORCPT=rfc822;+61@b",), (b"X=Y",)]),
)
messages = st.builds(
    Message,
    sender=st.sampled_from([b"<>", b"<a@b>", b"c@d", b""]),
    recipients=st.lists(some_recipients, max_size=4),
    headers=some_headers,
    body=st.sampled_from([b"", b"x\r\n", b"no end", b"\n"]),
    sender_parameters=st.sampled_from([(), (b"RET=FULL",), (b"SIZE=3", b"RET=HDRS"), (b"X",)]),
    quarantined=st.sampled_from([None, None, b"odd", b""]),
)


@st.composite
def edited_messages(draw: st.DrawFn) -> tuple[Message, Message]:
    """A message, and what has become of it: a few changes, or another one altogether."""
    before = draw(messages)
    if draw(st.booleans()):
        return before, draw(messages)
    after = before.copy()
    for _ in range(draw(st.integers(0, 4))):
        fields = list(after.headers)
        at = draw(st.integers(0, len(fields)))
        fields[at : at + draw(st.integers(0, 1))] = draw(st.lists(some_fields, max_size=1))
        after.headers = Headers(fields)
    if draw(st.booleans()):
        after.replace_body(draw(st.sampled_from([b"", b"new"])))
    return before, after
