import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dovecotauth as da
from dovecotauth import _wire

from .helpers import SMTP
from .strategies import auths, conts, fails, ids, oks, plain_fails, plain_oks, plain_text, text

MINORS = st.integers(0, 4)
OFFERED = frozenset({b"PLAIN", b"LOGIN"})


def words(line: bytes) -> list[bytes]:
    """As a connection cuts it."""
    return line.removesuffix(b"\n").split(b"\t")


def auth_of(line: bytes, minor: int = 4) -> da.Auth | da.Malformed:
    return _wire.decode_auth(words(line), line, minor, OFFERED)


@given(auths(), MINORS)
def test_auths_come_back(event: da.Auth, minor: int) -> None:
    """decode(encode(e)) == e, in every version: None, empty and data are three things."""
    line = _wire.encode_auth(event, minor)
    assert line.endswith(b"\n")
    assert auth_of(line, minor) == event


@given(conts(st.binary(max_size=20)), st.integers(3, 4))
def test_responses_come_back(event: da.Cont, minor: int) -> None:
    """With channel binding, from 1.3 on."""
    line = _wire.encode_client_cont(event, minor)
    assert _wire.decode_client_cont(words(line), line, minor) == event


@given(conts(text), st.integers(3, 4))
def test_challenges_come_back(event: da.Cont, minor: int) -> None:
    """Likewise."""
    line = _wire.encode_server_cont(event, minor)
    assert _wire.decode_server_cont(words(line), minor) == event


@given(st.builds(da.Cont, ids, st.binary(max_size=20)), MINORS)
def test_conts_of_old_come_back(event: da.Cont, minor: int) -> None:
    """Without channel binding, in every version."""
    line = _wire.encode_server_cont(event, minor)
    assert line == _wire.encode_client_cont(event, minor)
    assert _wire.decode_server_cont(words(line), minor) == event
    assert _wire.decode_client_cont(words(line), line, minor) == event


@given(oks, st.integers(1, 4))
def test_oks_come_back(event: da.Ok, minor: int) -> None:
    """With any bytes in them."""
    assert _wire.decode_ok(words(_wire.encode_ok(event, minor)), minor) == event


@given(fails, st.integers(1, 4))
def test_fails_come_back(event: da.Fail, minor: int) -> None:
    """In their old form and their new one."""
    assert _wire.decode_fail(words(_wire.encode_fail(event, minor)), minor) == event


@given(plain_oks, plain_fails)
def test_what_postfix_is_sent_is_what_it_sees(ok: da.Ok, fail: da.Fail) -> None:
    """It cuts at TABs, takes the last user= and reason=, and undoes no escape."""
    for event, line in ((ok, _wire.encode_ok(ok, 0)), (fail, _wire.encode_fail(fail, 0))):
        verb, number, *rest = words(line)
        assert line.count(b"\n") == 1
        assert (verb, int(number, 0)) == (type(event).__name__.upper().encode(), event.id)
        seen = dict(word.partition(b"=")[::2] for word in rest)
        assert seen.get(b"user", b"") == event.user
        if event is fail:
            assert seen.get(b"reason", b"") == fail.reason
    assert _wire.decode_ok(words(_wire.encode_ok(ok, 0)), 0) == ok
    assert _wire.decode_fail(words(_wire.encode_fail(fail, 0)), 0) == fail


@given(ids, MINORS)
def test_the_short_ones_come_back(number: int, minor: int) -> None:
    """An id and nothing else."""
    line = _wire.encode_cancel(da.Cancel(number))
    assert line == b"CANCEL\t%d\n" % number
    assert _wire.decode_cancel(words(line)) == da.Cancel(number)
    line = _wire.encode_cancelled(da.Cancelled(number), minor)
    assert line == b"CANCELLED\t%d\n" % number
    assert _wire.decode_cancelled(words(line), minor) == da.Cancelled(number)


@given(st.binary(), MINORS)
def test_any_line_is_an_event_or_an_error(line: bytes, minor: int) -> None:
    """Whatever stands behind the verb."""
    decoders: list[Callable[[list[bytes]], Any]] = [
        lambda cut: _wire.decode_auth(cut, line, minor, OFFERED),
        lambda cut: _wire.decode_client_cont(cut, line, minor),
        lambda cut: _wire.decode_server_cont(cut, minor),
        lambda cut: _wire.decode_ok(cut, minor),
        lambda cut: _wire.decode_fail(cut, minor),
        _wire.decode_cancel,
    ]
    for decode in decoders:
        for head in (b"", b"X\t1\t", b"X\t1\tPLAIN\tservice=a\t", b"X\t1\tuser=a\t"):
            with contextlib.suppress(da.RemoteProtocolError):
                decode(words(head + line))


# --- AUTH ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resp", "old", "new"),
    [
        (b"", None, None),
        (b"\tresp=", None, b""),
        (b"\tresp", None, b""),
        (b"\tresp==", b"", b""),
        (b"\tresp=YQ==", b"a", b"a"),
        (b"\tr\x01esp=YQ==", b"a", b"a"),
    ],
)
def test_the_three_states_of_the_initial_response(
    resp: bytes, old: bytes | None, new: bytes | None
) -> None:
    """An empty resp= is none before 1.2, and empty from then on."""
    for minor in range(5):
        event = auth_of(b"AUTH\t1\tPLAIN\tservice=smtp" + resp, minor)
        assert isinstance(event, da.Auth)
        assert event.response == (old if minor < 2 else new)


@pytest.mark.parametrize(("minor", "end"), [(0, b"resp=="), (1, b"resp=="), (2, b"resp=")])
def test_an_empty_initial_response_is_written_for_the_version(minor: int, end: bytes) -> None:
    """So that the server does not ask for what it has."""
    line = _wire.encode_auth(da.Auth(1, b"PLAIN", SMTP, b""), minor)
    assert line == b"AUTH\t1\tPLAIN\tservice=smtp\t" + end + b"\n"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"AUTH", "without id"),
        (b"AUTH\t1", "without id or mechanism"),
        (b"AUTH\t0\tPLAIN\tservice=smtp", "an id that is not from 1"),
        (b"AUTH\tx\tPLAIN\tservice=smtp", "an id that is no decimal"),
        (b"AUTH\t9\tPLAIN", "without service"),
        (b"AUTH\t9\tPLAIN\tresp=AA==", "without service"),
        (b"AUTH\t9\tPLAIN\tService=x", "without service"),
        (b"AUTH\t9\tNOPE\tservice=smtp", "not offered"),
        (b"AUTH\t9\t\tservice=smtp", "not offered"),
        (b"AUTH\t7\tPLAIN\tservice=smtp\tresp=AA==\tsecured", "after its resp"),
        (b"AUTH\t7\tPLAIN\tservice=smtp\tresp=AA==\t", "after its resp"),
        (b"AUTH\t7\tPLAIN\tservice=smtp\tresp=AA==\tresp=AA==", "after its resp"),
        (b"AUTH\t7\tPLAIN\tservice=smtp\trip=\x010", "NUL"),
    ],
)
def test_auths_that_end_the_connection(line: bytes, complaint: str) -> None:
    """As with Dovecot."""
    with pytest.raises(da.RemoteProtocolError, match=complaint):
        auth_of(line)


@pytest.mark.parametrize(
    "encoded", [b"AGFsaWNlAHNlY3JldA", b"====", b"A", b"AA=A", b"YQ== ", b"YQ\x01n=="]
)
def test_an_initial_response_that_is_no_base64(encoded: bytes) -> None:
    """Fails, and the connection goes on."""
    line = b"AUTH\t7\tplain\tservice=smtp\tresp=" + encoded
    event = auth_of(line)
    assert isinstance(event, da.Malformed)
    assert (event.data, event.reason) == (line, "the initial response is no base64")
    assert _wire.encode_fail(event.reply, 2) == (
        b"FAIL\t7\tcode=invalid_base64\treason=Invalid base64 data in initial response\n"
    )


def test_mechanisms_in_lower_case_and_the_new_name_of_the_service() -> None:
    """A server is told what it knows."""
    assert auth_of(b"AUTH\t007\tpLain\t\tprotocol=smtp\t\t") == da.Auth(
        7, b"PLAIN", ((b"protocol", b"smtp"),)
    )


@pytest.mark.parametrize(
    ("event", "complaint"),
    [
        (da.Auth(0, b"PLAIN", SMTP), "an id has to be"),
        (da.Auth(1, b"PLAIN"), "needs its service"),
        (da.Auth(1, b"PLAIN", ((b"service", None),)), "needs its service"),
        (da.Auth(1, b"PLAIN", ((b"service", b""),)), "needs its service"),
        (da.Auth(1, b"PLAIN", ((b"protocol", b"smtp"),)), "needs its service"),
        (da.Auth(1, b"plain", SMTP), "a mechanism's name"),
        (da.Auth(1, b"PLAIN\tsecured", SMTP), "a mechanism's name"),
        (da.Auth(1, b"PLAIN\n", SMTP), "a mechanism's name"),
        (da.Auth(1, b"PLAIN", (*SMTP, (b"resp", b"x"))), "has a field for it"),
        (da.Auth(1, b"PLAIN", (*SMTP, (b"rip", b"\0"))), "NUL"),
        (da.Auth(1, b"PLAIN", SMTP, b"x" * 13000), "the peer takes 16384"),
    ],
)
def test_auths_that_can_not_be_sent(event: da.Auth, complaint: str) -> None:
    """Dovecot would disconnect, or read something else."""
    with pytest.raises(da.LocalProtocolError, match=complaint):
        _wire.encode_auth(event, 4)


def test_nothing_can_be_put_into_a_line() -> None:
    """A client address with a TAB in it sets no "secured"."""
    evil = b"1.2.3.4\tsecured\nAUTH\t2\tPLAIN\tservice=x\r"
    line = _wire.encode_auth(da.Auth(1, b"PLAIN", (*SMTP, (b"rip", evil))), 4)
    assert line == (
        b"AUTH\t1\tPLAIN\tservice=smtp\t"
        b"rip=1.2.3.4\x01tsecured\x01nAUTH\x01t2\x01tPLAIN\x01tservice=x\x01r\n"
    )


def test_the_longest_line() -> None:
    """Of 16384 bytes, its LF among them."""
    for more, fits in ((0, True), (1, False)):
        event = da.Auth(1, b"PLAIN", (*SMTP, (b"x", b"y" * (16384 - 29 + more))))
        if fits:
            assert len(_wire.encode_auth(event, 4)) == 16384
        else:
            with pytest.raises(da.LocalProtocolError, match="16385 bytes"):
                _wire.encode_auth(event, 4)


# --- CONT ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "minor", "event"),
    [
        (b"CONT\t5\t", 0, da.Cont(5, b"")),
        (b"CONT\t5\tYQ==", 4, da.Cont(5, b"a")),
        (b"CONT\t5\tYQ==\tx=y\t\tchannel_binding=Yg==", 3, da.Cont(5, b"a", b"b")),
        (b"CONT\t5\t#\tchannel_binding=Yg==", 3, da.Cont(5, None, b"b")),
        (b"CONT\t5\tYQ==\t", 3, da.Cont(5, b"a")),
        (b"CONT\t5\tYQ==\t", 2, None),
        (b"CONT\t5\tYQ==\tchannel_binding=Yg==", 2, None),
        (b"CONT\t5\t#\tchannel_binding=Yg==", 2, None),
        (b"CONT\t5\t#\tchannel_binding=Y", 3, None),
        (b"CONT\t5\tYQ==\tchannel_binding=Y", 3, None),
        (b"CONT\t5\t#\tchannel_binding", 3, None),
        (b"CONT\t5\t#", 3, None),
        (b"CONT\t5\t=", 4, None),
        (b"CONT\t5\t Y", 4, None),
    ],
)
def test_responses(line: bytes, minor: int, event: da.Cont | None) -> None:
    """What follows the data was data before 1.3, and is no base64."""
    decoded = _wire.decode_client_cont(words(line), line, minor)
    if event is not None:
        assert decoded == event
    else:
        reply = da.Fail(
            5, code=b"invalid_base64", reason=b"Invalid base64 data in continued response"
        )
        assert decoded == da.Malformed(line, "the response is no base64", reply)


@pytest.mark.parametrize(
    "line", [b"CONT", b"CONT\t7", b"CONT\t0\t", b"CONT\t\t", b"CONT\t1\tYQ\t\0"]
)
def test_conts_that_end_the_connection(line: bytes) -> None:
    """A TAB belongs before the data, even if there is none."""
    with pytest.raises(da.RemoteProtocolError):
        _wire.decode_client_cont(words(line), line, 4)


@pytest.mark.parametrize(
    ("line", "minor", "event"),
    [
        (b"CONT\t5\t", 0, da.Cont(5, b"")),
        (b"CONT\t5\tYQ==\tx", 2, da.Cont(5, b"a")),
        (b"CONT\t5\tYQ==\tchannel_binding=tls-exporter", 2, da.Cont(5, b"a")),
        (b"CONT\t5\tYQ==\tchannel_binding=tls-exporter", 3, da.Cont(5, b"a", b"tls-exporter")),
        (b"CONT\t5\t#\tchannel_binding=tls-exporter", 3, da.Cont(5, None, b"tls-exporter")),
        (b"CONT\t5\t#\tchannel_binding=tls-exporter", 2, None),
        (b"CONT\t5\t#", 3, None),
        (b"CONT\t5\t!", 3, None),
        (b"CONT\t5", 3, None),
    ],
)
def test_challenges(line: bytes, minor: int, event: da.Cont | None) -> None:
    """No base64 is no challenge."""
    if event is not None:
        assert _wire.decode_server_cont(words(line), minor) == event
    else:
        with pytest.raises(da.RemoteProtocolError):
            _wire.decode_server_cont(words(line), minor)


@pytest.mark.parametrize("encode", [_wire.encode_client_cont, _wire.encode_server_cont])
def test_channel_binding_needs_1_3(encode: Callable[[da.Cont, int], bytes]) -> None:
    """On both sides; and it is all that a Cont without data is about."""
    for event in (da.Cont(1, b"a", b"b"), da.Cont(1, None, b"b")):
        with pytest.raises(da.LocalProtocolError, match=r"channel binding needs 1\.3"):
            encode(event, 2)
    with pytest.raises(da.LocalProtocolError, match="without data is for channel binding"):
        encode(da.Cont(1, None), 4)


def test_the_form_of_channel_binding() -> None:
    """A type in clear one way, data in base64 the other."""
    assert _wire.encode_server_cont(da.Cont(1, None, b"tls-exporter"), 3) == (
        b"CONT\t1\t#\tchannel_binding=tls-exporter\n"
    )
    assert _wire.encode_client_cont(da.Cont(1, None, b"\0a"), 3) == (
        b"CONT\t1\t#\tchannel_binding=AGE=\n"
    )


# --- OK and FAIL ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (b"OK\t1\tuser=alice", da.Ok(1, b"alice")),
        (b"OK\t1\tuser=a\x01tb\x011", da.Ok(1, b"a\tb\x01")),
        (b"OK\t1\tx\t\tuser=a=b", da.Ok(1, b"a=b", ((b"x", None),))),
        (b"OK\t3\tuser=alice\tresp=dg==", da.Ok(3, b"alice", (), b"v")),
        (b"OK\t3\tuser=alice\tresp=", da.Ok(3, b"alice", (), b"")),
    ],
)
def test_oks(line: bytes, event: da.Ok) -> None:
    """What Dovecot writes."""
    assert _wire.decode_ok(words(line), 4) == event


@pytest.mark.parametrize(
    "line",
    [b"OK", b"OK\t1", b"OK\tx\tuser=a", b"OK\t1\tuser", b"OK\t1\tuser=", b"OK\t1\tuserid=a",
     b"OK\t1\tuser=a\tuser=b", b"OK\t1\tuser=a\tresp=x", b"OK\t1\tuser=a\x010",
     b"OK\t1\tUSER=a", b"OK\t1\tXXuser=XX"],
)  # fmt: skip
def test_oks_that_name_nobody(line: bytes) -> None:
    """Or two, or what can't be read."""
    with pytest.raises(da.RemoteProtocolError):
        _wire.decode_ok(words(line), 4)


@pytest.mark.parametrize(
    ("flag", "code"),
    [
        (b"temp", b"temp_fail"),
        (b"authz", b"authz_fail"),
        (b"user_disabled", b"user_disabled"),
        (b"pass_expired", b"pass_expired"),
    ],
)
def test_the_two_forms_of_a_failure(flag: bytes, code: bytes) -> None:
    """Mean the same, and are written for the client's version."""
    event = da.Fail(3, b"bob", code)
    old, new = b"FAIL\t3\tuser=bob\t" + flag, b"FAIL\t3\tuser=bob\tcode=" + code
    for minor in range(5):
        assert _wire.decode_fail(words(old), minor) == event
        assert _wire.decode_fail(words(new), minor) == event
        assert _wire.encode_fail(event, minor) == (old if minor < 2 else new) + b"\n"


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (b"FAIL\t5", da.Fail(5)),
        (b"FAIL\t5\tuser=alice\tnodelay", da.Fail(5, b"alice", fields=((b"nodelay", None),))),
        (b"FAIL\t5\tcode=new_one\ttemp", da.Fail(5, code=b"new_one")),
        (b"FAIL\t5\ttemp\tauthz", da.Fail(5, code=b"temp_fail")),
        (b"FAIL\t5\ttemp=x", da.Fail(5)),
        (b"FAIL\t5\treason=a\x01tb\tresp=eA==", da.Fail(5, reason=b"a\tb", response=b"x")),
        (b"FAIL\t5\treason\tuser\tcode", da.Fail(5)),
    ],
)
def test_fails(line: bytes, event: da.Fail) -> None:
    """From none at all to all that there may be; an unknown code is a plain failure."""
    assert _wire.decode_fail(words(line), 4) == event


@pytest.mark.parametrize("line", [b"FAIL", b"FAIL\t0", b"FAIL\t1\tresp=!"])
def test_fails_that_are_none(line: bytes) -> None:
    """Whose are they."""
    with pytest.raises(da.RemoteProtocolError):
        _wire.decode_fail(words(line), 4)


@pytest.mark.parametrize(
    ("event", "minor", "complaint"),
    [
        (da.Ok(1, b""), 4, "names its user"),
        (da.Ok(0, b"a"), 4, "an id"),
        (da.Ok(1, b"a\0"), 4, "NUL"),
        (da.Ok(1, b"a", ((b"user", b"b"),)), 4, "has a field for it"),
        (da.Ok(1, b"a", ((b"User", b"b"),)), 4, "has a field for it"),
        (da.Ok(1, b"a", ((b"resp", b"b"),)), 4, "has a field for it"),
        (da.Ok(1, b"a", ((b"x", b"y" * 8200),)), 0, "the peer takes 8191"),
        (da.Ok(1, b"a", ((b"x", None),) * 14), 0, "more than 16 fields"),
        (da.Ok(1, b"a", ((b"x", b"y" * 17000),)), 1, "the peer takes 16384"),
        *((da.Ok(1, b"a" + byte), 0, "Postfix would read it") for byte in (b"\t", b"\n", b"\r")),
        (da.Ok(1, b"a\x01"), 0, "Postfix would read it"),
    ],
)
def test_oks_that_can_not_be_sent(event: da.Ok, minor: int, complaint: str) -> None:
    """Nothing that Postfix or Exim refuses or misreads."""
    with pytest.raises(da.LocalProtocolError, match=complaint):
        _wire.encode_ok(event, minor)


def test_the_most_that_a_1_0_client_is_sent() -> None:
    """Just what Exim can hold; others take more."""
    assert len(_wire.encode_ok(da.Ok(1, b"a", ((b"x", b"y" * 8176),)), 0)) == 8191
    assert _wire.encode_ok(da.Ok(1, b"a", ((b"x", None),) * 13), 0).count(b"\t") == 15
    fail = da.Fail(1, fields=((b"x", None),) * 14)
    assert _wire.encode_fail(fail, 0).count(b"\t") == 15
    cont, long_fail = da.Cont(1, b"y" * 9000), da.Fail(1, reason=b"y" * 9000)
    with pytest.raises(da.LocalProtocolError, match="the peer takes 8191"):
        _wire.encode_server_cont(cont, 0)
    for minor in range(1, 5):
        assert len(_wire.encode_server_cont(cont, minor)) > 12000
        assert len(_wire.encode_fail(long_fail, minor)) > 9000


@pytest.mark.parametrize(
    ("event", "minor", "complaint"),
    [
        (da.Fail(1, b"a\t"), 0, "Postfix would read it"),
        (da.Fail(1, reason=b"a\r\n250 OK"), 0, "Postfix would read it"),
        (da.Fail(1, reason=b"a\0"), 4, "NUL"),
        (da.Fail(1, code=b"a b"), 4, "a code is"),
        (da.Fail(1, code=b"a\tuser=x"), 4, "a code is"),
        *(
            (da.Fail(1, fields=((name, None),)), 4, "has a field for it")
            for name in (b"user", b"code", b"reason", b"resp", b"temp", b"authz", b"TEMP")
        ),
        (da.Fail(1, reason=b"x" * 9000), 0, "the peer takes 8191"),
        (da.Fail(1, fields=((b"x", None),) * 15), 0, "more than 16 fields"),
    ],
)
def test_fails_that_can_not_be_sent(event: da.Fail, minor: int, complaint: str) -> None:
    """Likewise."""
    with pytest.raises(da.LocalProtocolError, match=complaint):
        _wire.encode_fail(event, minor)


@given(plain_text)
def test_a_reason_for_a_newer_client_may_hold_anything(reason: bytes) -> None:
    """It undoes the escapes."""
    line = _wire.encode_fail(da.Fail(1, reason=reason + b"\r\n\t\x01"), 1)
    assert line == b"FAIL\t1\treason=" + reason + b"\x01r\x01n\x01t\x011\n"


@pytest.mark.parametrize(
    "line", [b"CANCEL", b"CANCEL\t", b"CANCEL\t0", b"CANCEL\t1\t", b"CANCEL\tx"]
)
def test_cancels_that_are_none(line: bytes) -> None:
    """An id, and nothing else."""
    with pytest.raises(da.RemoteProtocolError):
        _wire.decode_cancel(words(line))
    with pytest.raises(da.RemoteProtocolError):
        _wire.decode_cancelled(words(line), 4)
    with pytest.raises(da.LocalProtocolError):
        _wire.encode_cancel(da.Cancel(0))
