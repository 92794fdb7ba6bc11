"""What is said to a gateway, and what is made of its answers; played with none."""

from __future__ import annotations

import ipaddress
from typing import TypeVar

import attrs
import pytest
from smtp_milter import _dialogue as dialogue
from smtp_milter._client import Client
from smtp_milter._dialogue import Dialogue, Session, Tell
from smtp_milter._errors import GatewayError, Refused
from smtp_milter._offer import Offer
from smtp_milter._replies import Reply, ReplyReader

Outcome = TypeVar("Outcome")

CLIENT = Client(b"mail.example.org", ipaddress.ip_address("192.0.2.7"), 4321, b"helo.test")
ANN = attrs.evolve(CLIENT, login=b"ann")
PLAIN = b"250-gateway.test\n250 SIZE 1000\n"
XCLIENT = b"250-gateway.test\n250-XCLIENT NAME ADDR LOGIN\n250 XFORWARD NAME ADDR IDENT\n"
XFORWARD = b"250-gateway.test\n250 XFORWARD NAME ADDR IDENT\n"
TOLD = b"XCLIENT NAME=mail.example.org ADDR=192.0.2.7 LOGIN=[UNAVAILABLE]\r\n"


def play(talk: Dialogue[Outcome], replies: bytes) -> tuple[Outcome, list[bytes]]:
    """The outcome, and what was said; every reply has to be used."""
    reader = ReplyReader()
    reader.receive_data(replies)
    said = [next(talk)]
    while True:
        reply = reader.next_reply()
        assert reply is not None, said
        try:
            said.append(talk.send(reply))
        except StopIteration as end:
            assert reader.is_empty
            outcome: Outcome = end.value
            return outcome, said


def begin(tell: Tell, replies: bytes, client: Client = CLIENT) -> tuple[Session, list[bytes]]:
    return play(dialogue.begin(b"us.test", client, tell), replies)


def test_xclient_first() -> None:
    """Then EHLO again, in the client's name, and what is offered to him counts."""
    session, said = begin(Tell.AUTO, b"220 hi\n" + XCLIENT + b"220 again\n" + PLAIN)
    assert said == [b"", b"EHLO us.test\r\n", TOLD, b"EHLO helo.test\r\n"]
    assert session.tell is Tell.XCLIENT
    assert session.is_bound
    assert session.offer.max_size == 1000


def test_xforward_next() -> None:
    """It is said with each message."""
    session, said = begin(Tell.AUTO, b"220 hi\n" + XFORWARD)
    assert said == [b"", b"EHLO us.test\r\n"]
    assert session.tell is Tell.XFORWARD
    assert not session.is_bound
    _, said = play(
        dialogue.mail(session, CLIENT, b"mark", b"<a@b>", (b"SIZE=1",)), b"250 ok\n250 ok\n"
    )
    assert said == [
        b"XFORWARD NAME=mail.example.org ADDR=192.0.2.7 IDENT=mark\r\n",
        b"MAIL FROM:<a@b>\r\n",
    ]


def test_a_received_field_else() -> None:
    """Nothing is said of the client; HELO will do."""
    session, said = begin(Tell.AUTO, b"220 hi\n502 what\n250 hello\n")
    assert said == [b"", b"EHLO us.test\r\n", b"HELO us.test\r\n"]
    assert session == Session(Offer(), Tell.RECEIVED)


@pytest.mark.parametrize("tell", [Tell.PROXY, Tell.PROXY_V2])
def test_the_proxy_protocol(tell: Tell) -> None:
    """What comes first is for the client already."""
    assert dialogue.preamble(CLIENT, tell)
    session, said = begin(tell, b"220 hi\n" + XCLIENT)
    assert said == [b"", b"EHLO helo.test\r\n"]
    assert session.is_bound
    with pytest.raises(Refused):
        begin(tell, b"554 not you\n")
    with pytest.raises(GatewayError):
        begin(tell, b"421 busy\n")
    assert dialogue.preamble(CLIENT, Tell.AUTO) == b""


@pytest.mark.parametrize(
    ("replies", "tell"),
    [
        (b"554 no\n", Tell.AUTO),
        (b"421 busy\n", Tell.AUTO),
        (b"354 what\n", Tell.AUTO),
        (b"220 hi\n450 later\n", Tell.AUTO),
        (b"220 hi\n502 a\n502 b\n", Tell.AUTO),
        (b"220 hi\n" + PLAIN, Tell.XCLIENT),
        (b"220 hi\n" + PLAIN, Tell.XFORWARD),
        (b"220 hi\n" + XCLIENT + b"550 not you\n", Tell.AUTO),
        (b"220 hi\n" + XCLIENT + b"501 what\n", Tell.AUTO),
        (b"220 hi\n" + XCLIENT + b"354 what\n", Tell.AUTO),
    ],
)
def test_a_gateway_that_fails(replies: bytes, tell: Tell) -> None:
    """It is set up wrongly, or not well: not the client's fault."""
    with pytest.raises(GatewayError):
        begin(tell, replies)


@pytest.mark.parametrize(
    "replies",
    [
        XCLIENT + b"554 5.7.1 not you\n",
        XCLIENT + b"421 4.7.0 later\n",
        XCLIENT + b"220 hi\n550 5.7.1 bad helo\n502 bad helo\n",
        XCLIENT + b"220 hi\n450 4.7.1 bad helo\n",
    ],
)
def test_a_client_that_is_not_wanted(replies: bytes) -> None:
    """For him to hear, with the first words."""
    with pytest.raises(Refused) as raised:
        begin(Tell.AUTO, b"220 hi\n" + replies)
    assert b"7." in raised.value.reply.lines[0]


def test_a_login_is_never_left_out() -> None:
    """A gateway would take the user for a stranger."""
    offers = XCLIENT.replace(b" LOGIN", b"")
    assert begin(Tell.AUTO, b"220 hi\n" + offers + b"220 hi\n" + PLAIN)[0].is_bound
    with pytest.raises(GatewayError, match="LOGIN"):
        begin(Tell.AUTO, b"220 hi\n" + offers, ANN)
    with pytest.raises(GatewayError, match="LOGIN"):
        begin(Tell.AUTO, b"220 hi\n" + XCLIENT, attrs.evolve(ANN, login=b"a\nb"))
    told = TOLD.replace(b"[UNAVAILABLE]", b"ann")
    assert told in begin(Tell.AUTO, b"220 hi\n" + XCLIENT + b"220 hi\n" + PLAIN, ANN)[1]


def test_the_clients_name_if_it_can_be_said() -> None:
    """Else ours."""
    _, said = play(dialogue.hello(b"a b", b"us.test"), PLAIN)
    assert said == [b"EHLO us.test\r\n"]


def test_refusals_and_nonsense() -> None:
    """Of a sender, a recipient and a content."""
    session = Session(Offer(), Tell.RECEIVED)
    talks = [
        lambda: dialogue.mail(session, CLIENT, b"x", b"<a@b>", ()),
        lambda: dialogue.rcpt(session, b"<a@b>", ()),
        dialogue.data,
    ]
    for talk in talks:
        for code in (b"450", b"550", b"421", b"554"):
            with pytest.raises(Refused):
                play(talk(), code + b" no\n")
    for talk, code in zip(talks, (b"354", b"354", b"250"), strict=True):
        with pytest.raises(GatewayError):
            play(talk(), code + b" what\n")
    for code in (b"250", b"251", b"252"):
        play(talks[1](), code + b" ok\n")
    play(dialogue.data(), b"354 go on\n")
    assert dialogue.accepted(Reply(250, (b"ok",))).code == 250
    with pytest.raises(Refused):
        dialogue.accepted(Reply(554, (b"no",)))
    with pytest.raises(GatewayError):
        dialogue.accepted(Reply(354, (b"what",)))
    forward = Session(Offer({b"XFORWARD": (b"IDENT",)}), Tell.XFORWARD)
    with pytest.raises(GatewayError):
        play(dialogue.mail(forward, CLIENT, b"x", b"<a@b>", ()), b"501 what\n")
