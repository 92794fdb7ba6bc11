"""Every kind of reply that can be sent reaches the SMTP client of a real Postfix as meant."""

from __future__ import annotations

import pytest

import milterproto as mp

from ._postfix_bed import Bed

pytestmark = pytest.mark.interop

REPLIES: dict[str, mp.ReplyCode] = {
    "one line": mp.ReplyCode.text(550, "5.7.1", "no thanks"),
    "temporary": mp.ReplyCode.text(450, "4.7.1", "slow"),
    "enhanced code supplied, 4xx": mp.ReplyCode.text(451, None, "later"),
    "enhanced code supplied, 5xx": mp.ReplyCode.text(554, None, "never"),
    "long enhanced code": mp.ReplyCode.text(550, "5.999.999", "odd"),
    "lowest code": mp.ReplyCode.text(400, "4.0.0", "odd"),
    "highest code": mp.ReplyCode.text(559, "5.0.0", "odd"),
    "no text": mp.ReplyCode.text(550, "5.7.1"),
    "a space": mp.ReplyCode.text(550, "5.7.1", " "),
    "spaces at both ends": mp.ReplyCode.text(550, "5.7.1", "  no  "),
    "all printable characters": mp.ReplyCode(b"550", b"5.7.1", (bytes(range(32, 127)),)),
    "digits of another class": mp.ReplyCode.text(550, "5.7.1", "4 things", "7 things"),
    "another enhanced code": mp.ReplyCode.text(550, "5.7.1", "4.2.2 was meant"),
    "percent": mp.ReplyCode.text(550, "5.7.1", "100% bad"),
    "only percent": mp.ReplyCode.text(550, "5.7.1", "%"),
    "two percents": mp.ReplyCode.text(550, "5.7.1", "%%"),
    "formats": mp.ReplyCode.text(550, "5.7.1", "%s %d %n", "%.9s%"),
    "dollars": mp.ReplyCode.text(550, "5.7.1", "$queue_id ${i} $(i)"),
    "two lines": mp.ReplyCode.text(550, "5.7.1", "one", "two"),
    "temporary lines": mp.ReplyCode.text(452, "4.2.2", "one", "two", "three"),
    "empty lines": mp.ReplyCode.text(550, "5.7.1", "", "two", ""),
    "lines with percent": mp.ReplyCode.text(550, "5.7.1", "1%", "%2", "%"),
    "long line": mp.ReplyCode(b"550", b"5.7.1", (b"x" * 980,)),
    "long line of percents": mp.ReplyCode(b"550", b"5.7.1", (b"%" * 490,)),
    "32 lines": mp.ReplyCode(b"550", b"5.7.1", tuple(b"line %d" % n for n in range(32))),
    "32 long lines": mp.ReplyCode(b"550", b"5.7.1", tuple(b"%0980d" % n for n in range(32))),
}
# Postfix sends these and closes.
CLOSING: dict[str, mp.ReplyCode] = {
    "421": mp.ReplyCode.text(421, "4.3.0", "come back 100% later"),
    "421 in lines": mp.ReplyCode.text(421, "4.3.0", "come back", "later"),
    "521": mp.ReplyCode.text(521, "5.3.2", "nobody here"),
    "521 in lines": mp.ReplyCode.text(521, "5.3.2", "nobody", "here"),
}
# For each stage the client's command that gets the reply.
STAGES: dict[type[mp.Command], str] = {
    mp.MailFrom: "MAIL",
    mp.RcptTo: "RCPT",
    mp.Data: "DATA",
    mp.Header: "content",
    mp.EndOfHeaders: "content",
    mp.Body: "content",
    mp.EndOfMessage: "content",
}


def on_the_wire(reply: mp.ReplyCode) -> bytes:
    """What an SMTP client should read, without the last line end."""
    texts = [reply.enhanced + b" " + line if line else reply.enhanced for line in reply.lines]
    *first, last = texts
    return b"\r\n".join([*(reply.code + b"-" + text for text in first), reply.code + b" " + last])


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.__name__)
@pytest.mark.parametrize("name", REPLIES)
def test_reply_at_a_message(bed: Bed, stage: type[mp.Command], name: str) -> None:
    """The client reads just that text, and its session goes on."""
    reply = REPLIES[name]
    with bed.filter({stage: [reply]}), bed.client() as client:
        replies = client.walk()
        assert list(replies.items())[-1] == (STAGES[stage], on_the_wire(reply))
        client.must(b"250", b"RSET")
        client.quit()


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.__name__)
@pytest.mark.parametrize("name", CLOSING)
def test_closing_reply_at_a_message(bed: Bed, stage: type[mp.Command], name: str) -> None:
    """The client reads just that text, and Postfix closes its session."""
    reply = CLOSING[name]
    with bed.filter({stage: [reply]}) as filter_, bed.client() as client:
        replies = client.walk()
        assert list(replies.items())[-1] == (STAGES[stage], on_the_wire(reply))
        assert client.reply() == b""
    assert filter_.session.kinds[-3:] == ["Abort", "Quit", "ConnectionClosed"]


@pytest.mark.parametrize("name", REPLIES)
def test_reply_at_unknown_command(bed: Bed, name: str) -> None:
    """The client reads just that text in place of Postfix's own."""
    reply = REPLIES[name]
    with bed.filter({mp.Unknown: [reply]}), bed.client() as client:
        # From Postfix 3.10 on only a 4xx takes the place of its own reply.
        assert client.command(b"FROBNICATE") == on_the_wire(reply)
        client.quit()


@pytest.mark.parametrize("name", CLOSING)
def test_closing_reply_at_unknown_command(bed: Bed, name: str) -> None:
    """The client reads just that text, and Postfix closes its session."""
    reply = CLOSING[name]
    with bed.filter({mp.Unknown: [reply]}), bed.client() as client:
        assert client.command(b"FROBNICATE") == on_the_wire(reply)
        assert client.reply() == b""


@pytest.mark.parametrize("stage", [mp.Connect, mp.Helo], ids=lambda stage: stage.__name__)
@pytest.mark.parametrize("name", REPLIES)
def test_reply_before_a_message(bed: Bed, stage: type[mp.Command], name: str) -> None:
    """The text is the reply to MAIL, each time; a 5xx at Connect shows in the greeting's code."""
    reply = REPLIES[name]
    with bed.filter({stage: [reply]}), bed.client() as client:
        refused = stage is mp.Connect and reply.code[:1] == b"5"
        assert client.greeting[:4] == (b"554 " if refused else b"220 ")
        for _ in range(2):
            assert client.walk() == {"MAIL": on_the_wire(reply)}
        client.quit()


def test_421_at_connect(bed: Bed) -> None:
    """The greeting has the code, but Postfix's own text, and is the end."""
    with bed.filter({mp.Connect: [CLOSING["421"]]}), bed.client(helo=b"") as client:
        assert client.greeting == b"421 mta.test Service unavailable - try again later"
        assert client.reply() == b""


def test_521_at_connect(bed: Bed) -> None:
    """The greeting is that of any 5xx, and MAIL gets the text and is the end."""
    reply = CLOSING["521"]
    with bed.filter({mp.Connect: [reply]}), bed.client() as client:
        assert client.greeting == b"554 mta.test ESMTP not accepting connections"
        assert client.walk() == {"MAIL": on_the_wire(reply)}
        assert client.reply() == b""


@pytest.mark.parametrize("name", ["421", "421 in lines"])
def test_421_at_helo(bed: Bed, name: str) -> None:
    """HELO itself gets the text, and is the end."""
    reply = CLOSING[name]
    with bed.filter({mp.Helo: [reply]}), bed.client(helo=b"") as client:
        assert client.command(b"EHLO client.test") == on_the_wire(reply)
        assert client.reply() == b""


@pytest.mark.parametrize("name", ["521", "521 in lines"])
def test_521_at_helo(bed: Bed, name: str) -> None:
    """HELO succeeds; MAIL gets the text, and is the end."""
    reply = CLOSING[name]
    with bed.filter({mp.Helo: [reply]}), bed.client() as client:
        assert client.walk() == {"MAIL": on_the_wire(reply)}
        assert client.reply() == b""
