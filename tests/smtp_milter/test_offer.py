"""What a gateway says to EHLO, and which parameters it is told of."""

from __future__ import annotations

from smtp_milter._offer import Offer
from smtp_milter._replies import Reply

import nginxauth.xclient as xc

EHLO = (
    *(
        b"gateway.test",
        b"PIPELINING",
        b"size 1000",
        b"DSN",
        b"XCLIENT  NAME addr",
        b"XFORWARD NAME",
    ),
    *(b"8BITMIME", b"", b"SIZE 2000"),
)


def test_an_offer() -> None:
    """Keywords in any case; of two the first counts; the name is none."""
    offer = Offer.parse(Reply(250, EHLO))
    assert b"DSN" in offer
    assert b"GATEWAY.TEST" not in offer
    assert offer.max_size == 1000
    assert offer.proxying == xc.Offer((b"NAME", b"ADDR"), (b"NAME",))


def test_sizes_that_say_nothing() -> None:
    """No limit."""
    for line in (b"SIZE", b"SIZE x", b"SIZE 0", b"HELP", b"SIZE " + b"9" * 30):
        assert Offer.parse(Reply(250, (b"x", line))).max_size == 0


def test_parameters() -> None:
    """What it does not offer is left out, the rest stays as it was written."""
    given = (b"size=10", b"BODY=8BITMIME", b"RET=HDRS", b"ENVID=Ab+2Bc", b"SMTPUTF8", b"X-ODD=1")
    offer = Offer.parse(Reply(250, EHLO))
    assert offer.parameters(given) == (b"size=10", b"BODY=8BITMIME", b"RET=HDRS", b"ENVID=Ab+2Bc")
    assert offer.parameters((b"BODY=BINARYMIME",)) == (b"BODY=8BITMIME",)
    assert Offer().parameters(given) == ()
