"""Which macros MTAs send; the wire-format page has where that was seen."""

from __future__ import annotations

import pytest

import milterproto as mp
from milterproto._habits import MACROS, STAGES, Habits, MacroValues
from milterproto.message import Client, Dialect, Headers, Message, Recipient

CLIENT = Client(b"c.test", mp.Family.INET, 1, b"192.0.2.1", b"h", b"TLSv1.3", b"ann")
MESSAGE = Message.parse(b"Message-Id: <1@x>\n", sender=b"<a@x.test>", client=CLIENT)


def test_dialects() -> None:
    """Hostile ones are Postfix's."""
    assert {habits: habits.dialect for habits in Habits} == {
        Habits.POSTFIX: Dialect.POSTFIX,
        Habits.SENDMAIL: Dialect.SENDMAIL,
        Habits.HOSTILE: Dialect.POSTFIX,
    }


def test_replies_after_which_the_client_is_disconnected() -> None:
    """Two in Postfix."""
    assert Habits.POSTFIX.last_replies == Habits.HOSTILE.last_replies == {b"421", b"521"}
    assert Habits.SENDMAIL.last_replies == {b"421"}


def test_postfix_has_no_queue_id_at_first() -> None:
    """It makes one when it has taken a recipient; Sendmail has it from MAIL on."""
    for habits in Habits:
        values = MacroValues(habits, MESSAGE, b"Q1")
        assert (values.of((b"i",)) == {b"i": b"Q1"}) is (habits is Habits.SENDMAIL)
        values.has_queue_id = True
        assert values.of((b"i",)) == {b"i": b"Q1"}


def test_what_is_known() -> None:
    """In the order that was asked for."""
    values = MacroValues(Habits.POSTFIX, MESSAGE, b"Q1", Recipient(b"<b@y.test>"))
    assert list(values.of(MACROS[Habits.POSTFIX][mp.Connect]).items()) == [
        (b"j", b"mta.test"),
        (b"{daemon_name}", b"mta.test"),
        (b"{daemon_addr}", b"192.0.2.25"),
        (b"v", b"Postfix 3.7.11"),
        (b"_", b"c.test [192.0.2.1]"),
    ]
    assert values.of(MACROS[Habits.POSTFIX][mp.Helo]) == {b"{tls_version}": b"TLSv1.3"}
    assert values.of(MACROS[Habits.POSTFIX][mp.MailFrom]) == {
        b"{auth_type}": b"PLAIN",
        b"{auth_authen}": b"ann",
        b"{mail_addr}": b"a@x.test",
        b"{mail_host}": b"x.test",
        b"{mail_mailer}": b"smtp",
    }
    assert values.of(MACROS[Habits.POSTFIX][mp.RcptTo]) == {
        b"{rcpt_addr}": b"b@y.test",
        b"{rcpt_host}": b"y.test",
        b"{rcpt_mailer}": b"smtp",
    }
    assert values.of((b"{msg_id}", b"{unheard_of}")) == {b"{msg_id}": b"<1@x>"}


def test_a_long_header_is_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not before each of its fields."""
    message = MESSAGE.copy()
    values = MacroValues(Habits.POSTFIX, message, b"Q1")
    for look in ("get", "__iter__", "__getitem__"):
        monkeypatch.delattr(Headers, look)
    assert values.of((b"{msg_id}",)) == {b"{msg_id}": b"<1@x>"}


def test_what_is_not_known_is_left_out() -> None:
    """No TLS, no login, no recipient, no Message-Id; and Sendmail does not say what it is."""
    values = MacroValues(Habits.SENDMAIL, Message(), b"Q1")
    names = (b"{tls_version}", b"{auth_type}", b"{auth_authen}", b"{rcpt_addr}", b"{msg_id}")
    assert values.of((*names, b"v", b"{daemon_addr}")) == {}


def test_the_messages_own_macros_count() -> None:
    """So that a test can choose them."""
    message = MESSAGE.copy()
    message.macros = {b"j": b"mx", b"{client_connections}": b"3"}
    values = MacroValues(Habits.POSTFIX, message, b"Q1")
    assert values.of((b"j", b"{client_connections}")) == message.macros


def test_every_stage_that_a_filter_may_ask_for_has_its_events() -> None:
    """Postfix sends the lists of EOH and EOM with what comes before them, too."""
    assert set(STAGES.values()) == set(mp.Stage)
    assert set(STAGES) == set(MACROS[Habits.POSTFIX]) - {mp.Unknown}
    assert set(MACROS[Habits.SENDMAIL]) < set(STAGES)
