from typing import get_args

import pytest

import milterproto as mp
from milterproto._state import (
    COMMANDS,
    EDITS,
    NO_REPLY,
    SENDABLE,
    SUPPRESS,
    TRANSACTION,
    VERDICTS,
    after_edit,
    reply_due,
    transition,
    transitions,
)

from .strategies import named

S = mp.State
NONE = mp.Steps(0)
COMMAND_KINDS = set(get_args(mp.Command))
IN_MESSAGE = {mp.MailFrom, mp.RcptTo, mp.Data, mp.Header, mp.EndOfHeaders, mp.Body}
WAITING = {S.NEGOTIATED, S.CONNECTED, S.DONE, S.RELEASED}


@pytest.fixture(autouse=True)
def _nothing_worked_out_before() -> None:
    """What other tests have asked for is worked out again here, where it is tested."""
    transitions.cache_clear()


def after(state: mp.State, *kinds: type[mp.Command], steps: mp.Steps = NONE) -> mp.State | None:
    """The state at the end of a course of commands, or None if one can't be placed."""
    for kind in kinds:
        step = transition(state, kind, steps)
        if step is None:
            return None
        state = step[0]
    return state


def test_a_whole_session() -> None:
    """Negotiation, client, two messages, end."""
    message = (
        mp.MailFrom,
        mp.RcptTo,
        mp.RcptTo,
        mp.Data,
        mp.Header,
        mp.Header,
        mp.EndOfHeaders,
        mp.Body,
        mp.Body,
        mp.EndOfMessage,
    )
    assert after(S.OPENING, mp.Negotiate, mp.Connect, mp.Helo, *message) is S.EOM
    assert VERDICTS[mp.EndOfMessage][mp.Continue] is S.CONNECTED
    assert after(S.CONNECTED, *message) is S.EOM
    assert after(S.CONNECTED, mp.Quit) is S.CLOSED


@pytest.mark.parametrize(
    "course",
    [
        (mp.EndOfMessage,),
        (mp.Body, mp.EndOfMessage),
        (mp.EndOfHeaders, mp.EndOfMessage),
        (mp.Header, mp.EndOfHeaders, mp.EndOfMessage),
        (mp.Data, mp.EndOfHeaders, mp.Body, mp.EndOfMessage),
        (mp.Data, mp.Body, mp.EndOfMessage),
    ],
)
def test_parts_of_a_message_may_be_missing(course: tuple[type[mp.Command], ...]) -> None:
    """No DATA from old MTAs, no header, no body: all of these are messages."""
    assert after(S.RCPT, *course) is S.EOM


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        (S.OPENING, mp.Connect),
        (S.OPENING, mp.Abort),
        (S.NEGOTIATED, mp.Negotiate),
        (S.NEGOTIATED, mp.RcptTo),
        (S.CONNECTED, mp.Connect),
        (S.CONNECTED, mp.RcptTo),
        (S.CONNECTED, mp.EndOfMessage),
        (S.MAIL, mp.Data),
        (S.MAIL, mp.EndOfMessage),
        (S.HEADERS, mp.RcptTo),
        (S.HEADERS, mp.Data),
        (S.EOH, mp.Header),
        (S.EOH, mp.EndOfHeaders),
        (S.BODY, mp.Header),
        (S.DONE, mp.RcptTo),
        (S.DONE, mp.Body),
        (S.CLOSED, mp.Abort),
        (S.FAILED, mp.Quit),
    ],
)
def test_what_cannot_be_placed(state: mp.State, kind: type[mp.Command]) -> None:
    """libmilter says nothing to these, and its MTA waits for hours."""
    assert transition(state, kind, NONE) is None


def test_data_that_another_filter_refused() -> None:
    """Nobody tells the filters that took it; more recipients and DATA follow."""
    assert after(S.DATA, mp.RcptTo, mp.Data, mp.Header) is S.HEADERS
    assert after(S.DATA, mp.Data, mp.Header) is S.HEADERS


@pytest.mark.parametrize("state", [state for state in COMMANDS if state in TRANSACTION])
def test_a_message_may_end_at_any_point(state: mp.State) -> None:
    """By RSET, by HELO before it (Postfix), or by the next MAIL without it (Sendmail)."""
    assert after(state, mp.Abort) is S.CONNECTED
    assert after(state, mp.Helo) is S.CONNECTED
    assert after(state, mp.MailFrom) is S.MAIL
    assert after(state, mp.QuitNewConnection) is S.NEGOTIATED
    assert after(state, mp.Quit) is S.CLOSED


@pytest.mark.parametrize("state", [state for state in COMMANDS if state is not S.OPENING])
def test_an_unknown_command_changes_nothing(state: mp.State) -> None:
    """In libmilter it makes the rest of a message unreadable."""
    assert transition(state, mp.Unknown, NONE) == (state, True)


@pytest.mark.parametrize("state", [state for state in S if state in WAITING])
def test_abort_outside_of_a_message_changes_nothing_but_done(state: mp.State) -> None:
    """Postfix sends up to three in a row; a released connection stays released."""
    assert after(state, mp.Abort) is (S.CONNECTED if state is S.DONE else state)


@pytest.mark.parametrize("state", [state for state in S if state in WAITING])
def test_commands_that_were_not_wanted_need_not_come(state: mp.State) -> None:
    """With NOMAIL a message begins by its first recipient, with NORCPT too by its content."""
    both = mp.Steps.NOMAIL | mp.Steps.NORCPT
    assert after(state, mp.RcptTo, steps=mp.Steps.NOMAIL) is S.RCPT
    assert after(state, mp.Data, steps=mp.Steps.NOMAIL) is None
    assert after(state, mp.RcptTo, steps=mp.Steps.NORCPT) is None
    assert after(state, mp.Data, steps=mp.Steps.NORCPT) is None
    for kind, expected in {mp.Data: S.DATA, mp.Header: S.HEADERS, mp.EndOfMessage: S.EOM}.items():
        assert after(state, kind, steps=both) is expected
    # What the state itself says stands.
    assert after(state, mp.Unknown, steps=both) is state


def test_recipients_that_were_not_wanted_need_not_come() -> None:
    """With NORCPT, content follows MAIL."""
    assert after(S.MAIL, mp.Header, steps=mp.Steps.NORCPT) is S.HEADERS
    assert after(S.MAIL, mp.RcptTo, steps=mp.Steps.NORCPT) is S.RCPT
    assert after(S.MAIL, mp.Unknown, steps=mp.Steps.NORCPT) is S.MAIL


@pytest.mark.parametrize("kind", named(NO_REPLY))
def test_no_reply_is_due_where_none_was_agreed(kind: type[mp.Command]) -> None:
    """Each NR bit silences its own event and no other."""
    assert reply_due(kind, NONE)
    assert not reply_due(kind, NO_REPLY[kind])
    assert reply_due(kind, mp.Steps(int(mp.ALL_STEPS) & ~int(NO_REPLY[kind])))
    sources = [state for state, row in COMMANDS.items() if kind in row]
    for state in sources:
        reached = transitions(NO_REPLY[kind])[state][kind]
        assert reached == (COMMANDS[state][kind], False)


@pytest.mark.parametrize("kind", [mp.Abort, mp.Quit, mp.QuitNewConnection, mp.Macros])
def test_what_is_never_answered(kind: type[mp.Command]) -> None:
    """Whatever was negotiated."""
    assert not reply_due(kind, NONE)


@pytest.mark.parametrize("kind", [mp.Negotiate, mp.EndOfMessage])
def test_what_is_always_answered(kind: type[mp.Command]) -> None:
    """Whatever was negotiated."""
    assert reply_due(kind, mp.ALL_STEPS)


def test_the_tables_fit_one_another() -> None:
    """Whatever may be sent can be understood, and every command has its place."""
    verdicts = set(get_args(mp.Verdict))
    assert set().union(*COMMANDS.values()) == COMMAND_KINDS - {mp.Macros}
    assert set(EDITS) == set(get_args(mp.Edit))
    assert set(SENDABLE) - {mp.Negotiate} == set(VERDICTS)
    assert set(SUPPRESS) == set(NO_REPLY) == set(VERDICTS) - {mp.EndOfMessage}
    for kind, row in VERDICTS.items():
        assert SENDABLE[kind] & verdicts <= set(row)
        assert mp.ConnectionFailure not in SENDABLE[kind]
    assert len(set(SUPPRESS.values()) | set(NO_REPLY.values())) == 18


@pytest.mark.parametrize("verdict", [mp.Reject, mp.TempFail, mp.ReplyCode])
def test_a_refusal_ends_what_it_is_about(verdict: type[mp.Verdict]) -> None:
    """The connection, the message, or just one recipient; after DATA all may be tried again."""
    assert VERDICTS[mp.Connect][verdict] is S.RELEASED
    assert VERDICTS[mp.MailFrom][verdict] is S.DONE
    assert VERDICTS[mp.RcptTo][verdict] is None
    assert VERDICTS[mp.Data][verdict] is S.RCPT
    assert VERDICTS[mp.Body][verdict] is S.DONE
    assert VERDICTS[mp.EndOfMessage][verdict] is S.CONNECTED
    assert VERDICTS[mp.Unknown][verdict] is None


def test_a_discard_is_about_a_message() -> None:
    """Where there is none, Postfix ignores it; and an unknown command belongs to none."""
    assert {kind: row[mp.Discard] for kind, row in VERDICTS.items()} == {
        mp.Connect: None,
        mp.Helo: None,
        mp.Unknown: None,
        mp.EndOfMessage: S.CONNECTED,
    } | dict.fromkeys(IN_MESSAGE, S.DONE)


def test_skip_is_an_answer_to_what_comes_in_numbers() -> None:
    """So Postfix sees it; it changes nothing, but that no more of them come."""
    skips = {kind: row[mp.Skip] for kind, row in VERDICTS.items() if mp.Skip in row}
    assert skips == dict.fromkeys([mp.RcptTo, mp.Header, mp.Body])


@pytest.mark.parametrize("other", [mp.AddHeader, mp.Quarantine, mp.Progress])
def test_a_new_body_is_sent_in_one_go(other: type[mp.Edit | mp.Progress]) -> None:
    """Postfix gives up on a filter that puts anything between two pieces of it."""
    assert after_edit(S.EOM, other) is S.EOM
    assert after_edit(S.EOM, mp.ReplaceBody) is S.REPLACING
    assert after_edit(S.REPLACING, mp.ReplaceBody) is S.REPLACING
    assert after_edit(S.REPLACING, other) is S.REPLACED
    assert after_edit(S.REPLACED, other) is S.REPLACED
    assert after_edit(S.REPLACED, mp.ReplaceBody) is None
