import re

import pytest

import milterproto as mp
from milterproto._macros import MacroTable

C, H, M, R, T, L, N, B, E, U = b"CHMRTLNBEU"


def announce(table: MacroTable, command: type[mp.Command], **values: str) -> None:
    table.announce(
        mp.Macros.of(command, {name.encode(): value.encode() for name, value in values.items()})
    )


def test_a_name_is_found_with_or_without_braces() -> None:
    """Configuration files and documentation write both."""
    table = MacroTable()
    table.announce(mp.Macros.of(mp.Connect, {b"j": b"mta", b"{daemon_name}": b"d"}))
    table.enter(C)
    assert table[b"j"] == table[b"{j}"] == b"mta"
    assert table[b"daemon_name"] == table[b"{daemon_name}"] == b"d"
    for name in (b"i", b"{}", b"{ji", b"ij}"):
        assert table.get(name) is None
        with pytest.raises(KeyError, match=re.escape(repr(name))):
            table[name]


def test_it_is_a_mapping() -> None:
    """Names as on the wire, each once, the latest stage first."""
    table = MacroTable()
    announce(table, mp.Connect, j="mta", i="old")
    table.enter(C)
    announce(table, mp.MailFrom, i="Q1")
    table.enter(M)
    assert dict(table) == {b"i": b"Q1", b"j": b"mta"}
    assert len(table) == 2
    assert repr(table) == "MacroTable({b'i': b'Q1', b'j': b'mta'})"


def test_macros_wait_for_their_command() -> None:
    """What is announced for the next command says nothing about the one in hand."""
    table = MacroTable()
    announce(table, mp.Connect, j="mta")
    assert b"j" not in table
    table.enter(C)
    assert table[b"j"] == b"mta"


def test_a_command_without_macros_has_none() -> None:
    """The first recipient's values are not the second one's."""
    table = MacroTable()
    announce(table, mp.RcptTo, rcpt_addr="a@x")
    table.enter(R)
    assert table[b"rcpt_addr"] == b"a@x"
    table.enter(R)
    assert b"rcpt_addr" not in table


def test_earlier_stages_stay_and_later_ones_go() -> None:
    """A MAIL drops what the previous message's later stages left."""
    table = MacroTable()
    for kind, code in [(mp.Connect, C), (mp.Helo, H), (mp.MailFrom, M), (mp.RcptTo, R)]:
        announce(table, kind, **{kind.__name__: "x"})
        table.enter(code)
    announce(table, mp.EndOfMessage, i="Q1")
    table.enter(E)
    assert set(table) == {b"Connect", b"Helo", b"MailFrom", b"RcptTo", b"i"}
    table.enter(M)
    assert set(table) == {b"Connect", b"Helo"}
    table.enter(C)
    assert not table


@pytest.mark.parametrize(("kind", "code"), [(mp.Header, L), (mp.Body, B), (mp.Unknown, U)])
def test_macros_of_one_event_only(kind: type[mp.Command], code: int) -> None:
    """Postfix sends some with each header, body piece and unknown command."""
    table = MacroTable()
    announce(table, mp.MailFrom, i="Q1")
    table.enter(M)
    announce(table, kind, x="1")
    table.enter(code)
    assert dict(table) == {b"x": b"1", b"i": b"Q1"}
    announce(table, kind, x="2")
    table.enter(code)
    assert dict(table) == {b"x": b"2", b"i": b"Q1"}
    table.enter(code)
    assert dict(table) == {b"i": b"Q1"}


@pytest.mark.parametrize(("kind", "code"), [(mp.Header, L), (mp.Body, B)])
def test_what_comes_between_two_of_them(kind: type[mp.Command], code: int) -> None:
    """Macros of an earlier command that the filter did not want."""
    table = MacroTable()
    table.enter(code)
    announce(table, mp.RcptTo, rcpt_addr="b@x")
    announce(table, kind, x="1")
    table.enter(code)
    assert dict(table) == {b"x": b"1", b"rcpt_addr": b"b@x"}


@pytest.mark.parametrize(("kind", "code"), [(mp.Header, L), (mp.Body, B), (mp.Unknown, U)])
def test_they_end_with_the_next_command(kind: type[mp.Command], code: int) -> None:
    """Whichever it is."""
    table = MacroTable()
    announce(table, mp.MailFrom, i="Q1")
    table.enter(M)
    announce(table, kind, x="1")
    table.enter(code)
    announce(table, mp.EndOfMessage, y="2")
    table.enter(E)
    assert dict(table) == {b"y": b"2", b"i": b"Q1"}
    table.enter(L)
    assert dict(table) == {b"i": b"Q1"}


def test_an_unknown_command_hides_nothing_for_good() -> None:
    """It stands outside of the order of stages."""
    table = MacroTable()
    announce(table, mp.MailFrom, i="Q1")
    table.enter(M)
    table.enter(U)
    assert table[b"i"] == b"Q1"


def test_macros_of_commands_that_were_not_wanted_are_there_all_the_same() -> None:
    """Both MTAs announce MAIL and RCPT to a filter that negotiated NOMAIL and NORCPT."""
    table = MacroTable()
    announce(table, mp.Connect, j="mta")
    table.enter(C)
    announce(table, mp.MailFrom, mail_addr="a@x")
    announce(table, mp.RcptTo, rcpt_addr="b@x")
    announce(table, mp.EndOfHeaders, early="too")
    table.enter(T)
    assert set(table) == {b"j", b"mail_addr", b"rcpt_addr"}
    table.enter(N)
    assert b"early" not in table


def test_macros_of_a_command_that_has_yet_to_come_are_not_in_force() -> None:
    """Nor do they wait any longer, once another command has come first."""
    table = MacroTable()
    announce(table, mp.Helo, tls_version="x")
    announce(table, mp.RcptTo, rcpt_addr="b@x")
    table.enter(M)
    assert set(table) == {b"tls_version"}
    table.enter(R)
    assert set(table) == {b"tls_version"}


def test_an_unknown_command_takes_nobodys_macros() -> None:
    """What waits for another command goes on waiting."""
    table = MacroTable()
    announce(table, mp.MailFrom, i="Q1")
    table.enter(U)
    assert not table
    table.enter(M)
    assert table[b"i"] == b"Q1"


def test_forgetting_a_message_keeps_client_and_helo() -> None:
    """Postfix does not send HELO again after RSET."""
    table = MacroTable()
    announce(table, mp.Connect, j="mta")
    table.enter(C)
    announce(table, mp.Helo, tls_version="x")
    table.enter(H)
    announce(table, mp.MailFrom, i="Q1")
    table.enter(M)
    announce(table, mp.Header, x="1")
    table.enter(L)
    announce(table, mp.MailFrom, i="Q2")
    announce(table, mp.RcptTo, rcpt_addr="b@x")
    table.forget_message()
    for code in (U, M, R, E):
        assert set(table) == {b"j", b"tls_version"}
        table.enter(code)
    assert set(table) == {b"j", b"tls_version"}


def test_forgetting_all() -> None:
    """The next client is a stranger to the last one's macros."""
    table = MacroTable()
    announce(table, mp.Connect, j="mta")
    table.enter(C)
    announce(table, mp.Unknown, x="1")
    table.enter(U)
    announce(table, mp.Helo, tls_version="x")
    table.forget_all()
    assert not table
    table.enter(H)
    assert not table


@pytest.mark.parametrize("code", [b"?", b"A", b"Q", b"\0"])
def test_macros_for_nothing_are_dropped(code: bytes) -> None:
    """They can't pile up in memory either."""
    table = MacroTable()
    table.announce(mp.Macros(code, b"i\0Q1\0"))
    table.enter(E)
    assert not table


def test_nothing_is_parsed_until_it_is_looked_up() -> None:
    """A filter that never looks pays for no parsing."""
    macros = mp.Macros(b"M", b"i\0Q1\0")
    table = MacroTable()
    table.announce(macros)
    table.enter(M)
    # attrs keeps a cached property in a slot of its own, which is empty until it is asked for.
    with pytest.raises(AttributeError):
        type(macros).__dict__["values"].__get__(macros)
    assert table[b"i"] == b"Q1"
    assert type(macros).__dict__["values"].__get__(macros) == {b"i": b"Q1"}


def test_a_copy_stays_as_it_is() -> None:
    """While the table goes on to the next message."""
    table = MacroTable()
    announce(table, mp.MailFrom, i="1")
    table.enter(M)
    announce(table, mp.Header, x="2")
    table.enter(L)
    announce(table, mp.RcptTo, rcpt_addr="b")
    copy = table.copy()
    table.forget_message()
    assert dict(table) == {}
    assert dict(copy) == {b"x": b"2", b"i": b"1"}
    assert copy[b"{i}"] == b"1"
