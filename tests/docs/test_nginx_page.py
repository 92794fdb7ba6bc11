"""The page about nginx's auth_http is held to the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import attrs
import pytest

import nginxauth as ng
from nginxauth._escape import escape

PAGE = (Path(__file__).parents[2] / "docs" / "nginx_wire.md").read_text(encoding="utf-8")

FULL = ng.AuthRequest(
    ng.NONE,
    b"",
    b"",
    b"smtp",
    1,
    b"192.0.2.1",
    b"client.test",
    b"<1.2@mx.test>",
    ng.ProxyProtocol(b"192.0.2.9", 1, b"192.0.2.1", 25),
    ng.Envelope(b"c", b"MAIL FROM:<>", b"RCPT TO:<a@b>"),
    ng.TLS(b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"h"),
)
PLAIN = ng.AuthRequest(ng.PLAIN, b"u", b"p", b"smtp", 1, b"192.0.2.1", b"client.test")


def rows(heading: str) -> list[list[str]]:
    """The cells of the table whose head begins like that."""
    lines = PAGE[PAGE.index(heading) :].splitlines()[2:]
    table = []
    for line in lines:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip().strip("|").split("|")])
    assert table
    return table


def codes(cell: str) -> list[str]:
    return re.findall(r"`([^`]*)`", cell)


def fields_of(request: ng.AuthRequest) -> list[tuple[bytes, bytes]]:
    """As our client writes them, which nginx's bytes are compared with elsewhere."""
    lines = ng.ClientConnection(b"localhost").send(request).split(b"\r\n")[1:-2]
    return [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]


def test_the_fields_of_a_request() -> None:
    """All of them, in nginx's order, and where they are to be found."""
    table = rows("| field | when |")[:-1]
    assert [codes(name)[0].encode() for name, _, _ in table] == [
        name for name, _ in fields_of(FULL)
    ]
    for shown, _, where in table:
        without = [field for field in fields_of(FULL) if field[0] != codes(shown)[0].encode()]
        changed = ng.parse_request(without)
        if not where or isinstance(changed, ng.Malformed):
            continue
        differing = {
            field.name
            for field in attrs.fields(ng.AuthRequest)
            if getattr(changed, field.name) != getattr(FULL, field.name)
        }
        assert differing <= {codes(where)[0]}
    found = {codes(where)[0] for _, _, where in table if where}
    assert found | {"headers"} == {field.name for field in attrs.fields(ng.AuthRequest)}


def test_the_escapes() -> None:
    """Of single bytes."""
    for byte, wire in rows("| byte | on the wire |"):
        raw = bytes([int(byte, 16)])
        assert escape(raw) == (raw if wire == "itself" else codes(wire)[0].encode())


def change(shown: str) -> list[list[tuple[bytes, bytes]]]:
    """The requests that a row is about."""
    fields = fields_of(PLAIN)
    if shown.endswith(" is missing"):
        always = [name.encode() for name in codes(shown)]
        return [[field for field in fields if field[0] != name] for name in always]
    if shown.startswith(("`apop`", "`none`")):
        methods = [name.encode() for name in codes(shown) if name.islower()]
        return [[(b"Auth-Method", method), *fields[2:]] for method in methods]
    if shown.startswith("a known field"):
        return [[*fields, field] for field in fields[1:]]  # Host is h11's business
    value = {
        "`%` without": b"%4x",
        "a control byte": b"%0D",
        "NUL, VT": b"\0",
        "more than": b"x" * 65536,
        "`external`": b"",
    }
    (wrong,) = [data for start, data in value.items() if shown.startswith(start)]
    if not wrong:
        return [[(b"Auth-Method", b"external"), *fields[2:]]]
    if wrong in (b"%4x", b"%0D"):
        return [
            [(key, wrong if key == name else data) for key, data in fields]
            for name in (b"Auth-User", b"Auth-Pass")
        ]
    others = [b"\x0b", b"\x0c"] if wrong == b"\0" else []
    return [[*fields, (b"X", data)] for data in (wrong, *others)]


def test_what_is_wrong_with_a_request() -> None:
    """And what becomes of it."""
    for shown, outcome, code in rows("| in the request | outcome |"):
        if shown == "no HTTP at all":
            conn = ng.ServerConnection()
            conn.receive_data(b"EHLO x\r\n")
            with pytest.raises(ng.RemoteProtocolError) as caught:
                conn.next_event()
            assert (outcome, caught.value.hint) == ("the end", None)
            continue
        for fields in change(shown):
            conn = ng.ServerConnection()
            lines = b"".join(b"%b: %b\r\n" % field for field in fields)
            conn.receive_data(b"GET / HTTP/1.0\r\n" + lines + b"\r\n")
            if outcome == "Malformed":
                event = conn.next_event()
                assert isinstance(event, ng.Malformed), shown
                assert event.reply.code.decode() == codes(code)[0]
            else:
                with pytest.raises(ng.RemoteProtocolError) as caught:
                    conn.next_event()
                assert caught.value.hint is not None
                assert outcome.encode() in conn.send(caught.value.hint).replace(b"/1.1", b"")


def test_what_may_be_missing() -> None:
    """The rest of what always comes."""
    always = [codes(name)[0] for name, when, _ in rows("| field | when |") if "always" in when]
    needed = codes(rows("| in the request | outcome |")[0][0])
    text = re.findall(r"\*\*(.*) may be missing\.\*\*", PAGE)[0]
    assert sorted([*codes(text), *needed]) == sorted(always)
    missing = [name.encode() for name in codes(text)]
    request = ng.parse_request([field for field in fields_of(PLAIN) if field[0] not in missing])
    assert request == attrs.evolve(PLAIN, attempt=0)


def test_the_fields_of_an_answer() -> None:
    """What each event writes."""
    oauth = attrs.evolve(PLAIN, method=ng.XOAUTH2)
    events: list[ng.Reply] = [
        ng.Allow(b"::1", 25, b"u", b"p"),
        ng.Deny(b"no", b"535", 1, b"{}"),
        ng.Wait(1),
    ]
    written = [
        (name.decode(), type(event).__name__)
        for event in events
        for name, _ in ng.reply_headers(event, oauth)
    ]
    table = rows("| field | event | means |")
    assert [(codes(name)[0], codes(event)[0]) for name, event, _ in table] == written


@pytest.mark.parametrize(("shown", "outcome"), rows("| answer | outcome |"))
def test_odd_answers(shown: str, outcome: str) -> None:
    """As nginx takes them."""
    conn = ng.ClientConnection()
    conn.send(PLAIN)
    lines = b"".join(line.encode() + b"\r\n" for line in codes(shown))
    conn.receive_data(b"HTTP/1.0 200 OK\r\n" + lines + b"\r\n")
    if outcome == "error":
        with pytest.raises(ng.RemoteProtocolError):
            conn.next_event()
    else:
        assert type(conn.next_event()).__name__ == outcome


def test_the_limits() -> None:
    """As the page has them."""
    assert [int(re.findall(r"\d+", value)[0]) for _, value in rows("| limit | value |")] == [
        ng.DEFAULT_MAX_REQUEST,
        ng.MAX_REPLY,
        ng.DEFAULT_MAX_ATTEMPTS - 1,
        ng.MAX_WAIT,
    ]


def test_codes_in_other_words() -> None:
    """For IMAP and POP3."""
    for shown, *words in rows("| code | IMAP | POP3 |"):
        code = codes(shown)[0].replace("4xx", "454").replace("5xx", "550").encode()
        for protocol, word in zip((b"imap", b"pop3"), words, strict=True):
            request = attrs.evolve(PLAIN, protocol=protocol)
            ((_, message),) = ng.reply_headers(ng.Deny(b"no", code), request)
            assert message == " ".join([*codes(word), "no"]).encode()


def test_the_methods() -> None:
    """By name; and of which `verify` can say something."""
    table = rows("| `Auth-Method` | constant |")
    constants: dict[str, Any] = {name: getattr(ng, name) for name in ng.__all__}
    named = {
        name: value
        for name, value in constants.items()
        if isinstance(value, bytes) and name.isupper()
    }
    assert {codes(constant)[0]: codes(method)[0].encode() for method, constant, _ in table} == named
    for method, _, proved in table:
        request = attrs.evolve(PLAIN, method=codes(method)[0].encode(), password=b"x")
        assert ng.verify(request, b"x") == (request.method == ng.PLAIN)
        assert proved.startswith("a password") == (
            request.method in (ng.PLAIN, ng.APOP, ng.CRAM_MD5)
        )
