import pytest
from hypothesis import given
from hypothesis import strategies as st

from nginxauth._escape import escape, unescape

from .strategies import escaped


@given(st.binary())
def test_what_was_escaped_comes_back(text: bytes) -> None:
    """Every byte, and as nginx escapes it."""
    assert escape(text) == escaped(text)
    assert unescape(escape(text)) == text


def test_which_bytes_are_escaped() -> None:
    """Control bytes, blank and %; DEL and all from 0x80 on are not."""
    unsafe = {byte for byte in range(256) if escape(bytes([byte])) != bytes([byte])}
    assert unsafe == {*range(0x21), 0x25}
    assert escape(b"u s%+=\xe9\x7f\t\r\n") == b"u%20s%25+=\xe9\x7f%09%0D%0A"


def test_more_may_be_escaped_than_nginx_does() -> None:
    """Dovecot's Lua scripts escape nearly everything. A + is a plus, and once is once."""
    assert unescape(b"%41%c3%A9+%2b%2525") == b"A\xc3\xa9++%25"


@pytest.mark.parametrize("text", [b"%", b"100%", b"%4", b"%4g", b"%g4", b"%%41", b"% 41", b"%+1"])
def test_wrong_escapes(text: bytes) -> None:
    """They are not guessed at."""
    assert unescape(text) is None
