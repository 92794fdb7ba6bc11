import pytest
from hypothesis import given

import dovecotauth as da
from dovecotauth._handshake import (
    HelloReader,
    decode_client_hello,
    decode_version,
    encode_client_hello,
    encode_server_hello,
    encode_version,
)

from .helpers import COOKIE, HELLO, PLAIN
from .strategies import hellos


def read(lines: bytes) -> tuple[da.ServerHello | None, HelloReader]:
    """What a client makes of a server's lines."""
    reader = HelloReader()
    hello = None
    for line in lines.splitlines():
        assert hello is None
        hello = reader.read(line.split(b"\t"))
    return hello, reader


@given(hellos)
def test_a_hello_comes_back(hello: da.ServerHello) -> None:
    """decode(encode(e)) == e."""
    decoded, reader = read(encode_server_hello(hello, 4, hello.mechanisms))
    assert decoded == hello
    assert not reader.spid_before_mech


@pytest.mark.parametrize("version", [da.Version(1, minor) for minor in range(5)])
def test_versions_come_back(version: da.Version) -> None:
    """All that there are."""
    line = encode_version(version)
    assert line.endswith(b"\n")
    assert decode_version(line[:-1].split(b"\t")) == version


@pytest.mark.parametrize("version", [da.Version(0, 9), da.Version(1, 5), da.Version(1, -1)])
def test_versions_that_we_do_not_speak(version: da.Version) -> None:
    """Are not announced: a newer one would be asked for what we don't know."""
    with pytest.raises(da.LocalProtocolError, match="no version that we speak"):
        encode_version(version)


@pytest.mark.parametrize(
    "line",
    [
        b"VERSION\t2\t0",
        b"VERSION\t0\t1",
        b"VERSION\t1\t1\tx",
        b"VERSION\t1\t1\t1",
        b"VERSION\t1",
        b"VERSION",
        b"CPID\t1",
        b"version\t1\t1",
        b"VERSION\t1\t",
        b"VERSION\t1\tx",
        b"VERSION\t1\t4294967296",
        b"VERSION 1 1",
    ],
)
def test_versions_that_are_none(line: bytes) -> None:
    """Dovecot wants exactly two numbers, of which the first is 1."""
    with pytest.raises(da.RemoteProtocolError):
        decode_version(line.split(b"\t"))
    assert decode_version(b"VERSION\t1\t99".split(b"\t")) == da.Version(1, 99)


def test_the_clients_pid() -> None:
    """Any but 0."""
    assert encode_client_hello(da.ClientHello(4294967295)) == b"CPID\t4294967295\n"
    assert decode_client_hello([b"CPID", b"0042"]) == da.ClientHello(42)
    with pytest.raises(da.LocalProtocolError, match="the pid"):
        encode_client_hello(da.ClientHello(0))
    for words in ([b"CPID", b"0"], [b"CPID"], [b"CPID", b"1", b"2"], [b"AUTH", b"1"]):
        with pytest.raises(da.RemoteProtocolError):
            decode_client_hello(words)


def test_the_greeting_of_dovecot_2_3() -> None:
    """Byte by byte, as it was seen."""
    cram = da.Mechanism(b"CRAM-MD5", da.Flags.DICTIONARY | da.Flags.ACTIVE)
    hello = da.ServerHello((PLAIN, cram), 32507, 1, COOKIE)
    assert encode_server_hello(hello, 2, hello.mechanisms) == (
        b"MECH\tPLAIN\tplaintext\nMECH\tCRAM-MD5\tdictionary\tactive\nSPID\t32507\nCUID\t1\n"
        b"COOKIE\taac51a370aafd10c239276dbd40cf593\nDONE\n"
    )


def test_a_cookie_is_there_from_1_1_on() -> None:
    """And is what a master has to show; so it has to be one."""
    bare = da.ServerHello((PLAIN,), 1, 1, b"")
    assert b"COOKIE" not in encode_server_hello(bare, 0, bare.mechanisms)
    with pytest.raises(da.LocalProtocolError, match=r"1\.0 has no cookie"):
        encode_server_hello(HELLO, 0, HELLO.mechanisms)
    for cookie in (b"", COOKIE[:-1], COOKIE.upper(), COOKIE[:-1] + b"\n", COOKIE + b"\n"):
        with pytest.raises(da.LocalProtocolError, match="32 hexadecimal digits"):
            encode_server_hello(da.ServerHello((PLAIN,), 1, 1, cookie), 1, (PLAIN,))


@pytest.mark.parametrize("name", [b"", b"plain", b"A" * 21, b"A B", b"A\tB", b"A\n", b"\xc4"])
def test_a_mechanism_that_has_no_name(name: bytes) -> None:
    """Of SASL's kind, can't be offered; a client takes a lower-case one as it is meant."""
    mechanism = da.Mechanism(name)
    with pytest.raises(da.LocalProtocolError, match="a mechanism's name"):
        encode_server_hello(da.ServerHello((mechanism,), 1, 1, COOKIE), 4, (mechanism,))


def test_a_client_takes_any_order_and_skips_what_it_does_not_know() -> None:
    """As the document has it, and as third-party servers greet."""
    hello, reader = read(
        b"SPID\t7\nFUTURE\tx\nCUID\t0\nCOOKIE\tq\nMECH\nMECH\t\tplaintext\nMECH\ta b\nMECH\t"
        b"plain\tplaintext\tx\nMECH\tEXTERNAL\nDONE\n"
    )
    assert hello == da.ServerHello((PLAIN, da.Mechanism(b"EXTERNAL")), 7, 0, b"q")
    assert reader.spid_before_mech


def test_a_server_that_says_little() -> None:
    """1.0 had no cookie; there may be no mechanism either."""
    assert read(b"DONE\n")[0] == da.ServerHello((), 0, 0, b"")


@pytest.mark.parametrize(
    "lines", [b"SPID\t1\nSPID\t1\n", b"COOKIE\ta\nCOOKIE\ta\n", b"CUID\n", b"SPID\tx\n",
              b"CUID\t1\t2\n"]
)  # fmt: skip
def test_what_is_there_twice_or_has_no_value(lines: bytes) -> None:
    """It is not clear whose cookie counts."""
    with pytest.raises(da.RemoteProtocolError):
        read(lines)


@pytest.mark.parametrize(
    ("pid", "connection_id", "what"), [(0, 1, "the pid"), (1, 2**32, "the connection's id")]
)
def test_numbers_of_a_hello(pid: int, connection_id: int, what: str) -> None:
    """In 32 bits."""
    with pytest.raises(da.LocalProtocolError, match=what):
        encode_server_hello(da.ServerHello((PLAIN,), pid, connection_id, COOKIE), 4, (PLAIN,))


def test_only_the_servers_pid_shows_the_order() -> None:
    """Other lines may well stand before the mechanisms."""
    reader = HelloReader()
    for line in (b"CUID\t1", b"COOKIE\t" + COOKIE, b"MECH\tPLAIN", b"SPID\t1"):
        assert reader.read(line.split(b"\t")) is None
    assert not reader.spid_before_mech
