"""What hypothesis draws from: events that may be sent, bytes that should not be, and pieces."""

from __future__ import annotations

import itertools

from hypothesis import strategies as st

import tcptable as tt

text = st.binary(max_size=40).map(lambda data: data.replace(b"\0", b""))
values = text.filter(bool)
tables = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1).map(str.encode)

gets = st.builds(tt.Get, text)
puts = st.builds(tt.Put, text, values)
map_gets = st.builds(tt.Get, text, tables)
replies = st.one_of(
    st.builds(tt.Found, values), st.builds(tt.NotFound, text), st.builds(tt.TempError, text)
)
map_replies = st.one_of(replies, st.builds(tt.PermError, text))


def pieces(data: bytes) -> st.SearchStrategy[list[bytes]]:
    """All ways to cut bytes into pieces, none empty."""
    cuts = st.lists(st.integers(1, max(len(data) - 1, 1)), max_size=12).map(
        lambda places: sorted({0, *(place for place in places if place < len(data)), len(data)})
    )
    return cuts.map(lambda places: [data[a:b] for a, b in itertools.pairwise(places)])
