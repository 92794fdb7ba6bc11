"""What hypothesis draws from: events that may be sent, bytes that should not be, and pieces."""

from __future__ import annotations

import itertools

from hypothesis import strategies as st

import dovecotauth as da

# Every byte that has an escape but NUL, often.
text = st.lists(st.sampled_from([b"\x01", b"\t", b"\r", b"\n", b"=", b"t", b"n", b"0", b"l"])).map(
    b"".join
) | st.binary(max_size=20).map(lambda data: data.replace(b"\0", b""))
# What Postfix and Exim, which undo no escapes, read as it was meant.
plain_text = st.binary(max_size=20).map(lambda data: data.translate(None, b"\0\1\t\r\n"))
ids = st.integers(1, 2**32 - 1)
names = st.sampled_from([b"service", b"lip", b"rip", b"nologin", b"x", b"a-b"])
pairs = st.lists(st.tuples(names, st.none() | text), max_size=4).map(tuple)
forwarded = st.tuples(st.just(b"forward_fields"), st.none() | pairs.map(da.join_fields))
parameters = st.lists(st.tuples(names, st.none() | text) | forwarded, max_size=4).map(tuple)
responses = st.none() | st.binary(max_size=20)
codes = st.sampled_from(
    [b"", da.TEMP_FAIL, da.AUTHZ_FAIL, da.USER_DISABLED, da.PASS_EXPIRED, da.INVALID_BASE64, b"x"]
)

mechanisms = st.builds(
    da.Mechanism,
    st.text("ABZ019-_", min_size=1, max_size=20).map(str.encode),
    st.integers(0, 255).map(da.Flags),
)
cookies = st.binary(min_size=16, max_size=16).map(lambda data: data.hex().encode())
hellos = st.builds(
    da.ServerHello,
    st.lists(mechanisms, min_size=1, max_size=5, unique_by=lambda one: one.name).map(tuple),
    ids,
    ids,
    cookies,
).filter(lambda one: any(da.Flags.PRIVATE not in mech.flags for mech in one.mechanisms))


@st.composite
def auths(draw: st.DrawFn) -> da.Auth:
    service = (b"service", draw(text.filter(bool)))
    rest = draw(parameters.map(lambda many: tuple(one for one in many if one[0] != b"service")))
    return da.Auth(draw(ids), b"PLAIN", (service, *rest), draw(responses))


def conts(binding: st.SearchStrategy[bytes]) -> st.SearchStrategy[da.Cont]:
    return st.one_of(
        st.builds(da.Cont, ids, st.binary(max_size=20), st.none() | binding),
        st.builds(da.Cont, ids, st.none(), binding),
    )


fields = st.lists(
    st.tuples(st.sampled_from([b"nologin", b"proxy", b"pass", b"x-1"]), st.none() | text),
    max_size=4,
).map(tuple)
oks = st.builds(da.Ok, ids, text.filter(bool), fields, responses)
fails = st.builds(da.Fail, ids, text, codes, text, fields, responses)
plain_oks = st.builds(da.Ok, ids, plain_text.filter(bool), fields, responses)
plain_fails = st.builds(da.Fail, ids, plain_text, codes, plain_text, fields, responses)


def pieces(data: bytes) -> st.SearchStrategy[list[bytes]]:
    """All ways to cut bytes into pieces, none empty."""
    cuts = st.lists(st.integers(1, max(len(data) - 1, 1)), max_size=12).map(
        lambda places: sorted({0, *(place for place in places if place < len(data)), len(data)})
    )
    return cuts.map(lambda places: [data[a:b] for a, b in itertools.pairwise(places)])
