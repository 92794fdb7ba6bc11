import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import milterproto as mp
from milterproto._buffer import DEFAULT_MAX_PAYLOAD, Frame, FrameBuffer

from .peers import frame
from .strategies import COMMAND_CODES, frames, pieces

CODES = frozenset(COMMAND_CODES)


def drain(buffer: FrameBuffer) -> list[Frame]:
    """All frames that are complete."""
    found = []
    while (one := buffer.next_frame()) is not None:
        found.append(one)
    return found


def read(chunks: list[bytes], limit: int, *, eager: bool) -> tuple[list[Frame], str, bool]:
    """What a buffer makes of chunks: frames, the error if any, and whether bytes are left."""
    buffer = FrameBuffer(CODES, limit)
    found = []
    try:
        for chunk in chunks:
            buffer.feed(chunk)
            if eager:
                while (one := buffer.next_frame()) is not None:
                    found.append(one)
        while (one := buffer.next_frame()) is not None:
            found.append(one)
    except mp.RemoteProtocolError as exc:
        return found, str(exc), True
    return found, "", not buffer.empty


@given(
    st.data(),
    st.lists(frames(COMMAND_CODES), max_size=6).map(b"".join) | st.binary(max_size=40),
    st.sampled_from([0, 1, 7, 100]),
    st.booleans(),
)
def test_any_pieces_give_the_same_frames(
    data: st.DataObject, stream: bytes, limit: int, eager: bool
) -> None:
    """Where the network cuts the stream is seen nowhere: not in frames, errors or rests."""
    whole = read([stream] if stream else [], limit, eager=True)
    assert read(data.draw(pieces(stream)), limit, eager=eager) == whole
    assert read([bytes([byte]) for byte in stream], limit, eager=eager) == whole


def test_a_new_buffer_is_empty() -> None:
    """And may be asked before anything has come."""
    buffer = FrameBuffer(CODES, 100)
    assert buffer.empty
    assert buffer.next_frame() is None
    assert buffer.empty
    buffer.feed(b"\0")
    assert buffer.empty is False


def test_two_frames_in_one_read_and_one_frame_in_two() -> None:
    """The two surprises that break hand-written filters."""
    buffer = FrameBuffer(CODES, 100)
    buffer.feed(b"\0\0\0\x01N\0\0\0\x04Ba")
    assert drain(buffer) == [(ord("N"), b"")]
    assert not buffer.empty
    buffer.feed(b"bc\0\0")
    assert drain(buffer) == [(ord("B"), b"abc")]
    assert not buffer.empty
    buffer.feed(b"\0\x01T")
    assert drain(buffer) == [(ord("T"), b"")]
    assert buffer.empty


def test_pieces_stored_before_anybody_asks() -> None:
    """A driver may store several reads before it looks at the first."""
    buffer = FrameBuffer(CODES, 100)
    for chunk in (b"\0\0\0\x01N\0\0", b"\0", b"\x02Bx\0\0\0\x01", b"T"):
        buffer.feed(chunk)
    assert drain(buffer) == [(ord("N"), b""), (ord("B"), b"x"), (ord("T"), b"")]
    assert buffer.empty


@pytest.mark.parametrize("cuts", [(6, 9), (6, 7), (4, 9), (2, 3), (5, 11)])
def test_a_frame_in_three_pieces(cuts: tuple[int, int]) -> None:
    """All stored before anybody asks, or one by one."""
    stream = b"\0\0\0\x08Babcdefg\0\0\0\x01T"
    first, second = cuts
    chunks = (stream[:first], stream[first:second], stream[second:])
    for eager in (False, True):
        found, error, rest = read(list(chunks), 100, eager=eager)
        assert found == [(ord("B"), b"abcdefg"), (ord("T"), b"")]
        assert (error, rest) == ("", False)


def test_a_piece_that_ends_with_a_frame() -> None:
    """The next one waits, and is not forgotten."""
    first, second, third = frame(b"B", b"abcdef"), frame(b"T"), frame(b"N")
    for cut in range(1, len(first)):
        buffer = FrameBuffer(CODES, 100)
        for chunk in (first[:cut], first[cut:] + second, third):
            buffer.feed(chunk)
        for one in (first, second, third):
            assert not buffer.empty
            assert buffer.next_frame() == (one[4], one[5:])
        assert buffer.empty


def test_what_a_connection_may_cut_by_itself() -> None:
    """What has come in one piece, with no other behind it, and can't be over the limit."""
    begun, rest = frame(b"B", b"abcdef")[:8], frame(b"B", b"abcdef")[8:]
    buffer = FrameBuffer(CODES, 7)
    assert buffer.chunk == b""
    buffer.feed(begun)
    assert buffer.chunk == begun
    buffer.feed(rest[:1])
    assert buffer.chunk == b""
    assert buffer.next_frame() is None
    assert buffer.chunk == b""
    buffer.feed(rest[1:] + begun)
    assert drain(buffer) == [(ord("B"), b"abcdef")]
    buffer.clear()
    assert buffer.chunk == b""
    buffer.feed(frame(b"T") + begun)  # of 13 bytes, and a frame in it might have 8 of payload
    assert buffer.chunk == b""
    assert drain(buffer) == [(ord("T"), b"")]


def test_a_cleared_buffer_is_empty() -> None:
    """Nothing of a broken stream stays in memory."""
    buffer = FrameBuffer(CODES, 100)
    buffer.feed(b"\0\0\0\x09Babc")
    assert buffer.next_frame() is None
    buffer.feed(b"defg")
    buffer.feed(b"hijk")
    buffer.clear()
    assert buffer.empty
    assert buffer.next_frame() is None


@pytest.mark.parametrize("chunks", [[b"\0\0\0\0\0"], [b"\0\0\0\0T"], [b"\0\0", b"\0\0"]], ids=repr)
def test_a_length_of_zero_is_refused_at_once(chunks: list[bytes]) -> None:
    """libmilter would take the next frame's first byte for a command."""
    buffer = FrameBuffer(CODES, 100)
    for chunk in chunks:
        buffer.feed(chunk)
    with pytest.raises(mp.RemoteProtocolError, match="length 0"):
        buffer.next_frame()


@pytest.mark.parametrize("limit", [0, 1, 65535, DEFAULT_MAX_PAYLOAD])
def test_the_limit_is_exact_and_checked_before_the_payload_comes(limit: int) -> None:
    """A payload of just the limit passes; one more byte fails on the four length bytes."""
    buffer = FrameBuffer(CODES, limit)
    buffer.feed((limit + 1).to_bytes(4, "big") + b"B" + bytes(limit))
    assert buffer.next_frame() == (ord("B"), bytes(limit))
    buffer.feed((limit + 2).to_bytes(4, "big"))
    with pytest.raises(mp.RemoteProtocolError, match=f"more than the {limit + 1} allowed$"):
        buffer.next_frame()


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"GET / HTTP/1.0\r\n", "an HTTP request"),
        (b"\x16\x03\x01\x02\x00", "a TLS handshake"),
        (b"EHLO me\r\n", "an SMTP client"),
        (b"220 mx ESMTP\r\n", "an SMTP server's greeting"),
        (b"SSH-2.0-x\r\n", "an SSH greeting"),
    ],
)
def test_a_stranger_is_named(start: bytes, what: str) -> None:
    """Whoever points the wrong program at the port is told so by the first four bytes."""
    buffer = FrameBuffer(CODES, DEFAULT_MAX_PAYLOAD)
    buffer.feed(start[:4])
    with pytest.raises(mp.RemoteProtocolError, match=f"it looks like {what}$"):
        buffer.next_frame()


def test_an_unknown_code_is_refused_before_its_payload_comes() -> None:
    """Five bytes are enough to see that this is no command; and so it is if all has come."""
    for stream in (b"\0\0\0\x50Z", b"\0\0\0\x01Z", b"\0\0\0\x02Zx"):
        buffer = FrameBuffer(CODES, 100)
        buffer.feed(stream)
        with pytest.raises(mp.RemoteProtocolError, match="unknown code byte 0x5a"):
            buffer.next_frame()


@given(st.binary(min_size=1, max_size=64))
@example(b"\0\0\0\x01\xff")
def test_no_bytes_make_anything_but_frames_or_the_one_error(stream: bytes) -> None:
    """Noise raises RemoteProtocolError and nothing else."""
    read([stream], 5, eager=False)


def test_a_payload_is_bytes_even_if_it_straddled() -> None:
    """Events are hashable and can't change under their owner."""
    buffer = FrameBuffer(CODES, 100)
    buffer.feed(b"\0\0\0\x03Ba")
    assert buffer.next_frame() is None
    buffer.feed(b"b")
    found = buffer.next_frame()
    assert found == (ord("B"), b"ab")
    assert type(found[1]) is bytes
