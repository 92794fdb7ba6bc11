import contextlib
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dovecotauth as da
from dovecotauth import _master_wire as wire
from dovecotauth import master

from .helpers import COOKIE
from .strategies import cookies, fields, ids, text

users = text.filter(bool)
service = st.tuples(st.just(b"service"), users)
lookups = st.tuples(ids, users, st.tuples(service))
queries = st.one_of(
    lookups.map(lambda given: master.GetUser(*given)),
    lookups.map(lambda given: master.GetPass(*given)),
    st.builds(master.ListUsers, ids, st.just(()) | st.tuples(service)),
    st.builds(master.Request, ids, ids, ids, cookies, st.just(()) | st.tuples(service)),
)
answers = st.one_of(
    st.builds(master.UserFound, ids, users, fields),
    st.builds(master.PassFound, ids, users, fields),
    st.builds(master.NotFound, ids),
    st.builds(lambda number, reason: da.Fail(number, reason=reason), ids, text),
    st.builds(lambda number, more: da.Fail(number, reason=b"x", fields=more), ids, fields),
    st.builds(master.Listed, ids, users),
    st.builds(master.ListEnd, ids, st.booleans()),
)


def words(line: bytes) -> list[bytes]:
    assert line.count(b"\n") <= 1
    return line.removesuffix(b"\n").split(b"\t")


@given(queries)
def test_queries_come_back(event: master.Query) -> None:
    """decode(encode(e)) == e."""
    cut = words(wire.ENCODE_QUERY[type(event)](event))
    assert wire.DECODE_QUERY[cut[0]](cut) == event


@given(answers)
def test_answers_come_back(event: master.Answer) -> None:
    """Likewise."""
    cut = words(wire.ENCODE_ANSWER[type(event)](event))
    assert wire.DECODE_ANSWER[cut[0]](cut) == event


@given(st.binary())
def test_any_line_is_an_event_or_an_error(line: bytes) -> None:
    """Whatever stands behind the verb."""
    for table in (wire.DECODE_QUERY, wire.DECODE_ANSWER):
        for verb, decode in table.items():
            for middle in (b"", b"\t1\t", b"\t1\t2\t3\t"):
                with contextlib.suppress(da.RemoteProtocolError):
                    decode(words((verb + middle + line).replace(b"\n", b"")))


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (b"USER\t1\talice\tservice=lmtp", master.GetUser(1, b"alice", ((b"service", b"lmtp"),))),
        (b"USER\t1\ta\tprotocol=x", master.GetUser(1, b"a", ((b"protocol", b"x"),))),
        (b"PASS\t3\ta\x01tb\tservice=x", master.GetPass(3, b"a\tb", ((b"service", b"x"),))),
        (b"USER\t1\t\tservice=x", master.GetUser(1, b"", ((b"service", b"x"),))),
        (b"LIST\t4", master.ListUsers(4)),
        (
            b"REQUEST\t22\t4242\t12\t" + COOKIE + b"\tsession_pid=1",
            master.Request(22, 4242, 12, COOKIE, ((b"session_pid", b"1"),)),
        ),
    ],
)
def test_queries(line: bytes, event: master.Query) -> None:
    """What Dovecot's own programs write."""
    cut = words(line)
    assert wire.DECODE_QUERY[cut[0]](cut) == event


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (
            b"USER\t1\tal\tuid=8\tgid=9",
            master.UserFound(1, b"al", ((b"uid", b"8"), (b"gid", b"9"))),
        ),
        (
            b"USER\t1\tal\tlocal_name=mx\t\tuid=8",
            master.UserFound(1, b"al", ((b"local_name", b"mx"), (b"uid", b"8"))),
        ),
        (b"NOTFOUND\t2", master.NotFound(2)),
        (b"PASS\t3\tuser=alice\tnologin", master.PassFound(3, b"alice", ((b"nologin", None),))),
        (b"PASS\t3\tx\tuser=alice", master.PassFound(3, b"alice", ((b"x", None),))),
        (b"FAIL\t3", da.Fail(3)),
        (b"FAIL\t3\treason=a b", da.Fail(3, reason=b"a b")),
        (b"FAIL\t3\tsome text", da.Fail(3, reason=b"some text")),
        (b"FAIL\t3\treason=x\tflag", da.Fail(3, reason=b"x", fields=((b"flag", None),))),
        (b"FAIL\t3\tx=y", da.Fail(3, fields=((b"x", b"y"),))),
        (b"LIST\t4\talice", master.Listed(4, b"alice")),
        (b"DONE\t4\t", master.ListEnd(4)),
        (b"DONE\t4", master.ListEnd(4)),
        (b"DONE\t4\tfail", master.ListEnd(4, failed=True)),
    ],
)
def test_answers(line: bytes, event: master.Answer) -> None:
    """What Dovecot answers, and what its document says that it does."""
    cut = words(line)
    assert wire.DECODE_ANSWER[cut[0]](cut) == event


@pytest.mark.parametrize(
    "line",
    [
        b"USER",
        b"USER\t1",
        b"USER\t1\t",
        b"USER\tx\ta\tservice=x",
        b"USER\t1\talice",
        b"USER\t1\ta\x010\tservice=x",
        b"PASS\t1\talice",
        b"LIST",
        b"LIST\t0",
        b"REQUEST\t1\t2\t3",
        b"REQUEST\t1\t0\t3\t" + COOKIE,
        b"REQUEST\t1\t2\tx\t" + COOKIE,
        b"REQUEST\t1\t2\t3\t",
        b"REQUEST\t1\t2\t3\t" + COOKIE[1:],
        b"REQUEST\t1\t2\t3\t" + COOKIE + b"00",
        b"REQUEST\t1\t2\t3\t" + b"x" * 32,
    ],
)
def test_queries_that_end_the_connection(line: bytes) -> None:
    """As with Dovecot, but that it takes ids and pids of 0, NUL, and a cookie that is too short."""
    cut = words(line)
    with pytest.raises(da.RemoteProtocolError):
        wire.DECODE_QUERY[cut[0]](cut)


@pytest.mark.parametrize(
    "line",
    [
        b"USER\t1",
        b"USER\t1\t\tuid=8",
        b"LIST\t1\t",
        b"PASS\t1",
        b"PASS\t1\tuser=",
        b"PASS\t1\tuser=a\tuser=b",
        b"NOTFOUND",
        b"FAIL",
        b"LIST\t1",
        b"DONE",
        b"DONE\tx",
    ],
)
def test_answers_that_are_none(line: bytes) -> None:
    """They name nobody, or answer nothing."""
    cut = words(line)
    with pytest.raises(da.RemoteProtocolError):
        wire.DECODE_ANSWER[cut[0]](cut)


S = ((b"service", b"x"),)


@pytest.mark.parametrize(
    ("event", "complaint"),
    [
        (master.GetUser(0, b"a", S), "an id"),
        (master.GetUser(1, b"", S), "a user has a name"),
        (master.GetUser(1, b"a\0", S), "NUL"),
        (master.GetUser(1, b"a"), "needs its service"),
        (master.GetPass(1, b"a", ((b"service", None),)), "needs its service"),
        (master.GetUser(1, b"a", ((b"protocol", b"x"),)), "needs its service"),
        (master.GetUser(1, b"a" * 1100, S), "the peer takes 1024"),
        (master.Request(1, 2, 3, b"x" * 32), "a cookie is"),
        (master.Request(1, 2, 3, COOKIE[1:] + b"\t"), "a cookie is"),
        (master.Request(1, 2, 3, COOKIE[1:]), "a cookie is"),
        (master.Request(1, 2, 3, COOKIE + b"00"), "a cookie is"),
        (master.Request(1, 0, 3, COOKIE), "the client's pid"),
        (master.UserFound(1, b""), "a user has a name"),
        (master.UserFound(1, b"a", ((b"x", b"y" * 9000),)), "the peer takes 8192"),
        (master.PassFound(1, b"a", ((b"user", b"b"),)), "has a field for it"),
        (da.Fail(1, b"ann"), "has a reason"),
        (da.Fail(1, code=b"temp_fail"), "has a reason"),
        (da.Fail(1, response=b""), "has a reason"),
        (da.Fail(1, fields=((b"x", None),)), "read as the reason"),
        (da.Fail(1, fields=((b"reason", b"y"),)), "has a field for it"),
    ],
)
def test_what_can_not_be_sent(event: Any, complaint: str) -> None:
    """Dovecot would disconnect, or read something else."""
    encode = {**wire.ENCODE_QUERY, **wire.ENCODE_ANSWER}[type(event)]
    with pytest.raises(da.LocalProtocolError, match=complaint):
        encode(event)


@pytest.mark.parametrize(
    ("event", "room"),
    [(master.GetUser(1, b"a", S), 1024), (master.UserFound(1, b"a", ((b"x", b"y"),)), 8192)],
)
def test_the_longest_line(event: Any, room: int) -> None:
    """Its LF is counted, and it may be full."""
    encode = {**wire.ENCODE_QUERY, **wire.ENCODE_ANSWER}[type(event)]
    name = b"a" * (room - len(encode(event)) + 1)
    assert len(encode(attrs.evolve(event, user=name))) == room
    with pytest.raises(da.LocalProtocolError, match=f"the peer takes {room}"):
        encode(attrs.evolve(event, user=name + b"a"))


def test_the_end_of_a_list_has_its_tab() -> None:
    """Dovecot's client takes the field after it."""
    assert wire.ENCODE_ANSWER[master.ListEnd](master.ListEnd(4)) == b"DONE\t4\t\n"
    assert wire.ENCODE_ANSWER[master.ListEnd](master.ListEnd(4, failed=True)) == b"DONE\t4\tfail\n"


def test_the_greeting() -> None:
    """A pid; anything else is from another kind of socket."""
    assert wire.encode_hello(master.MasterHello(9)) == b"SPID\t9\n"
    for pid in (0, 9):
        assert wire.decode_hello([b"SPID", b"%d" % pid]) == master.MasterHello(pid)
    for other in ([b"MECH", b"PLAIN"], [b"CUID", b"1"], [b"SPID"], [b"SPID", b"x"]):
        with pytest.raises(da.RemoteProtocolError):
            wire.decode_hello(other)
