from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nginxauth import xclient as xc
from nginxauth._errors import LocalProtocolError, RemoteProtocolError

from .xclient_strategies import any_xclients, any_xforwards, xclients, xforwards

CLIENT = xc.XClient(name=b"a.example", addr=b"192.0.2.1", port=7, login=b"Ann+x")
FORWARD = xc.XForward(name=b"a.example", addr=b"::1", ident=b"4Zx", source=b"REMOTE")


def from_(addr: bytes, **fields: Any) -> xc.XClient:
    """A client without a name."""
    return xc.XClient(name=xc.UNAVAILABLE, addr=addr, **fields)


offers = st.sampled_from([*(one.offer for one in xc.PROFILES), xc.EVERYTHING])


@given(any_xclients | any_xforwards, offers, st.sampled_from(xc.PROFILES))
def test_whatever_is_told_is_told_in_whole_lines(
    command: Any, offer: xc.Offer, receiver: xc.Profile
) -> None:
    """Or not at all: no value gets out of its attribute, no line is too long.

    Each attribute is sent once or omitted once, and sent only where it is offered.
    """
    try:
        plan = xc.plan(command, offer, receiver)
    except LocalProtocolError:
        return
    offered = offer.xclient if isinstance(command, xc.XClient) else offer.xforward
    sent: list[bytes] = []
    for line in plan.commands:
        assert len(line) <= 512
        assert line.endswith(b"\r\n")
        assert not set(line[:-2]) - set(range(0x20, 0x7F))
        keyword, *words = line[:-2].split(b" ")
        assert keyword == (b"XCLIENT" if plan.resets else b"XFORWARD")
        for word in words:
            name, _, text = word.partition(b"=")
            assert name in offered
            assert 0 < len(text) <= 255
            assert b"=" not in text
            sent.append(name)
    omitted = [one.attribute for one in plan.omitted]
    told = [
        field.upper().encode()
        for field in type(command).__slots__
        if field != "__weakref__" and getattr(command, field) is not None
    ]
    assert sorted(sent + omitted) == sorted(told)


@given(xclients | xforwards)
def test_what_can_be_told_is_told(command: xc.Command) -> None:
    """To a server that takes everything, nothing is left out."""
    plan = xc.plan(command, xc.EVERYTHING)
    assert plan.omitted == ()
    assert plan.commands


def test_a_command() -> None:
    """In its order, whatever the server's is."""
    plan = xc.plan(CLIENT, xc.POSTFIX.offer)
    line = b"XCLIENT NAME=a.example PORT=7 ADDR=192.0.2.1 LOGIN=Ann+2Bx\r\n"
    assert plan == xc.Plan((line,), (), resets=True)
    plan = xc.plan(FORWARD, xc.POSTFIX.offer)
    line = b"XFORWARD NAME=a.example ADDR=IPV6:::1 IDENT=4Zx SOURCE=REMOTE\r\n"
    assert plan == xc.Plan((line,), (), resets=False)


def test_login_is_left_out_where_it_is_not_known_and_that_is_told() -> None:
    """A server from before it would refuse the whole command, and nginx's clients with it."""
    plan = xc.plan(CLIENT, xc.POSTFIX_2_8.offer)
    assert plan.commands == (b"XCLIENT NAME=a.example PORT=7 ADDR=192.0.2.1\r\n",)
    assert plan.omitted == (xc.Omitted(b"LOGIN", "the server does not offer LOGIN"),)
    plan = xc.plan(FORWARD, xc.POSTFIX_2_2.offer)
    assert plan.omitted == (xc.Omitted(b"IDENT", "the server does not offer IDENT"),)


def test_a_server_that_takes_no_client_is_told_none() -> None:
    """Whoever went on would be the client himself; a message may go on without XFORWARD."""
    with pytest.raises(LocalProtocolError, match="would take you for the client"):
        xc.plan(CLIENT, xc.Offer((), xc.POSTFIX.offer.xforward))
    with pytest.raises(LocalProtocolError, match=r"address can't be told: .* not offer ADDR"):
        xc.plan(CLIENT, xc.Offer((b"NAME", b"LOGIN")))
    plan = xc.plan(FORWARD, xc.Offer(xc.POSTFIX.offer.xclient))
    assert plan.commands == ()
    assert [one.attribute for one in plan.omitted] == [b"NAME", b"ADDR", b"IDENT", b"SOURCE"]


def test_nothing_of_a_client_can_be_told() -> None:
    """Whoever goes on then is still the proxy. Of what is only for the log, that is no matter."""
    offer = xc.Offer((b"NAME", b"ADDR"), (b"NAME",))
    with pytest.raises(xc.LocalProtocolError, match="nothing of it can be told: the server does"):
        xc.plan(xc.XClient(login=b"ann"), offer)
    plan = xc.plan(xc.XForward(ident=b"x"), offer)
    assert plan.commands == ()
    assert not plan.resets


@pytest.mark.parametrize("offer", [None, b"250 XCLIENT NAME", (b"NAME",)], ids=repr)
def test_what_is_no_offer(offer: Any) -> None:
    """Such as the reply that has it."""
    with pytest.raises(xc.LocalProtocolError, match="is no Offer; parse_ehlo makes one"):
        xc.plan(xc.XForward(ident=b"x"), offer)


@pytest.mark.parametrize("command", [xc.XClient(), xc.XForward(), None, "XCLIENT", xc.Offer()])
def test_what_is_no_command(command: Any) -> None:
    """Or has nothing in it."""
    with pytest.raises(
        LocalProtocolError, match=r"with nothing in it|neither XClient nor XForward"
    ):
        xc.plan(command, xc.EVERYTHING)


def test_a_bad_value_is_no_reason_to_leave_it_out() -> None:
    """Even where it would be left out anyway."""
    with pytest.raises(LocalProtocolError, match=r"^LOGIN: "):
        xc.plan(from_(b"192.0.2.1", login=b"a\nb"), xc.POSTFIX_2_2.offer)


def test_an_address_needs_a_name() -> None:
    """Or the server keeps the proxy's, whose name it may trust."""
    with pytest.raises(LocalProtocolError, match="an address without a name"):
        xc.plan(xc.XClient(addr=b"192.0.2.1"), xc.EVERYTHING)
    # Even if it is not offered: the server has none to keep.
    assert xc.plan(from_(b"192.0.2.1"), xc.DOVECOT.offer).commands == (
        b"XCLIENT ADDR=192.0.2.1\r\n",
    )
    assert xc.plan(xc.XClient(port=7), xc.EVERYTHING).commands == (b"XCLIENT PORT=7\r\n",)


# --- two commands --------------------------------------------------------------------------


def long(label: bytes, length: int) -> bytes:
    """A host name of that length."""
    return (b".".join([label * 63] * 5))[:length]


def test_a_long_client_takes_two_commands() -> None:
    """What the last one would wipe, or forbid to follow, is in the last."""
    client = xc.XClient(
        name=long(b"n", 255),
        port=1,
        addr=b"192.0.2.1",
        login=b"l" * 200,
        helo=long(b"h", 255),
        proto=b"ESMTP",
    )
    first, last = xc.plan(client, xc.EVERYTHING).commands
    assert first.startswith(b"XCLIENT NAME=n")
    assert first.endswith(b" PORT=1\r\n")
    names = [word.partition(b"=")[0] for word in last.split()[1:]]
    assert names == [b"ADDR", b"LOGIN", b"HELO", b"PROTO"]


def test_it_may_take_three() -> None:
    """Two long names, and the rest."""
    client = xc.XClient(
        name=long(b"n", 255), reverse_name=long(b"r", 255), addr=b"192.0.2.1", destport=25
    )
    commands = xc.plan(client, xc.EVERYTHING).commands
    assert [line[8:12] for line in commands] == [b"NAME", b"REVE", b"ADDR"]
    assert commands[1].endswith(b" DESTPORT=25\r\n")


@pytest.mark.parametrize(("spare", "commands"), [(0, 1), (1, 2)])
def test_the_limit_is_with_the_line_end(spare: int, commands: int) -> None:
    """512 bytes are one command, 513 are two."""
    fixed = len(b"XCLIENT NAME= ADDR=192.0.2.1 HELO=\r\n")
    client = xc.XClient(
        name=long(b"n", 240), addr=b"192.0.2.1", helo=b"h" * (512 - 240 - fixed + spare)
    )
    plan = xc.plan(client, xc.EVERYTHING)
    assert len(plan.commands) == commands
    assert (len(plan.commands[0]) == 512) is (spare == 0)


def test_what_has_to_go_together_and_does_not_fit_is_an_error() -> None:
    """Silently split, it would lose the login."""
    client = from_(b"192.0.2.1", login=b"l" * 240, helo=long(b"h", 255), proto=b"SMTP")
    with pytest.raises(LocalProtocolError, match="have to go in one command"):
        xc.plan(client, xc.EVERYTHING)
    # And not if it is left out.
    offer = xc.Offer((b"ADDR", b"LOGIN", b"PROTO"))
    assert len(xc.plan(client, offer).commands) == 1


def test_forwarded_attributes_are_split_anywhere() -> None:
    """They add up in the server."""
    event = xc.XForward(name=long(b"n", 255), helo=long(b"h", 255), ident=b"i", source=b"LOCAL")
    first, second = xc.plan(event, xc.EVERYTHING).commands
    assert first == b"XFORWARD NAME=" + long(b"n", 255) + b"\r\n"
    assert second.endswith(b" IDENT=i SOURCE=LOCAL\r\n")


# --- servers that misread ------------------------------------------------------------------


def omitted(client: xc.XClient, profile: xc.Profile) -> list[bytes]:
    return [one.attribute for one in xc.plan(client, profile.offer, profile).omitted]


def test_haraka() -> None:
    """Lower-cases the login and decodes nothing, so that these would be other users."""
    at = b"192.0.2.1"
    assert omitted(from_(at, login=b"Ann"), xc.HARAKA) == [b"LOGIN"]
    assert omitted(from_(at, login=b"ann+x"), xc.HARAKA) == [b"LOGIN"]
    assert omitted(from_(at, login=b"ann", helo=b"a b"), xc.HARAKA) == [b"HELO"]
    assert omitted(from_(at, login=b"ann", helo=b"Host"), xc.HARAKA) == []
    assert omitted(from_(b"::1", login=xc.UNAVAILABLE), xc.HARAKA) == []
    (reason,) = xc.plan(from_(at, login=b"Ann"), xc.HARAKA.offer, xc.HARAKA).omitted
    assert "another user" in reason.reason
    with pytest.raises(LocalProtocolError, match="Haraka 3 takes no XCLIENT without ADDR"):
        xc.plan(xc.XClient(name=b"a.example"), xc.HARAKA.offer, xc.HARAKA)
    client = xc.XClient(name=long(b"n", 255), addr=at, helo=long(b"h", 255))
    with pytest.raises(LocalProtocolError, match="in one command"):
        xc.plan(client, xc.HARAKA.offer, xc.HARAKA)


def test_exim() -> None:
    """Needs a port with the address, and has no IPv6."""
    client = from_(b"192.0.2.1", login=b"Ann+x")
    with pytest.raises(LocalProtocolError, match="without PORT"):
        xc.plan(client, xc.EXIM.offer, xc.EXIM)
    assert omitted(CLIENT, xc.EXIM) == []
    with pytest.raises(LocalProtocolError, match=r"can't be told: Exim .* IPV6:"):
        xc.plan(from_(b"::1", port=7), xc.EXIM.offer, xc.EXIM)


def test_nodemailer() -> None:
    """Has no UTF-8."""
    client = from_(b"::1", login="é".encode(), helo=b"a+b")
    assert omitted(client, xc.NODEMAILER) == [b"LOGIN"]


def test_postfix_before_2_3() -> None:
    """Decodes nothing, but keeps what there is."""
    helo = from_(b"::1", helo=b"A_b")
    assert omitted(helo, xc.POSTFIX_2_2) == []
    assert omitted(from_(b"::1", helo=b"a b"), xc.POSTFIX_2_2) == [b"HELO"]


# --- replies -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "xclient", "xforward"),
    [
        (220, xc.Outcome.ACCEPTED, None),
        (250, xc.Outcome.ACCEPTED, xc.Outcome.ACCEPTED),
        (421, xc.Outcome.CLOSING, xc.Outcome.CLOSING),
        (400, xc.Outcome.REJECTED, xc.Outcome.REJECTED),
        (500, xc.Outcome.UNKNOWN_COMMAND, xc.Outcome.UNKNOWN_COMMAND),
        (501, xc.Outcome.SYNTAX, xc.Outcome.SYNTAX),
        (502, xc.Outcome.UNKNOWN_COMMAND, xc.Outcome.UNKNOWN_COMMAND),
        (503, xc.Outcome.IN_TRANSACTION, xc.Outcome.IN_TRANSACTION),
        (550, xc.Outcome.NOT_AUTHORISED, xc.Outcome.NOT_AUTHORISED),
        (554, xc.Outcome.REJECTED, xc.Outcome.REJECTED),
        (599, xc.Outcome.REJECTED, xc.Outcome.REJECTED),
        (200, None, None),
        (399, None, None),
        (0, None, None),
        (600, None, None),
        ("550", None, None),
    ],
)
def test_what_a_reply_means(
    code: Any, xclient: xc.Outcome | None, xforward: xc.Outcome | None
) -> None:
    """220 is a greeting, so it answers XCLIENT only."""
    for resets, outcome in ((True, xclient), (False, xforward)):
        plan = xc.Plan((), (), resets)
        if outcome is None:
            with pytest.raises(RemoteProtocolError, match="neither 220"):
                plan.outcome(code)
        else:
            assert plan.outcome(code) is outcome
