# examples/twisted_filter.py
"""A milter on Twisted: a Protocol as an adapter of your own, on the same `Dialogue` as the others.

It refuses one recipient, and takes its time over each message, as if it asked some server.
"""

from __future__ import annotations

import logging
import sys

from adapters._contract import Dialogue, Limits
from adapters.services import MilterEvent, milter
from twisted.internet import defer, endpoints, protocol, reactor, task
from twisted.python.failure import Failure

import milterproto as mp

logger = logging.getLogger(__name__)


class MilterProtocol(protocol.Protocol):
    """One connection from the MTA. What the handler returns may be a Deferred."""

    def connectionMade(self) -> None:  # noqa: N802 - Twisted's name
        """There is a peer."""
        self.dialogue = Dialogue(self.factory.service, Limits(), self.transport.write)
        self.alive = task.LoopingCall(self.still_at_work)
        self.go_on()

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        """Bytes in."""
        self.dialogue.receive(data)
        self.go_on()

    def connectionLost(self, reason: Failure) -> None:  # noqa: ARG002, N802
        """The end, which the handler hears of in its turn."""
        self.dialogue.receive(b"")
        self.go_on()

    def go_on(self) -> None:
        """Handle events until there is none, or one whose handler is not ready yet."""
        while waits := self.dialogue.run():
            event, awaited = waits
            work = self.dialogue.work[None] = defer.ensureDeferred(awaited)
            work.addBoth(self.finished, event)  # at once, if it is there already
            if self.dialogue.work:
                self.alive.start(self.factory.service.keep_alive_interval, now=False)
        # Not while a little waits, for a transport that is paused does not see the peer go.
        if self.dialogue.is_full:
            self.transport.pauseProducing()
        else:
            self.transport.resumeProducing()
        if self.dialogue.is_over:
            self.transport.loseConnection()

    def finished(self, result: object, event: MilterEvent) -> None:
        """The handler has brought something, or failed, or been cancelled for a peer that went."""
        del self.dialogue.work[None]
        if not isinstance(result, Failure):
            self.dialogue.settle(event, result, None)
        elif not result.check(defer.CancelledError):
            self.dialogue.settle(event, None, result.value)
        if self.alive.running:  # it was waited for
            self.alive.stop()
            self.go_on()

    def still_at_work(self) -> None:
        """Every few seconds, while a Deferred is waited for."""
        self.dialogue.keep_alive()


def handle(event: MilterEvent) -> mp.Response | defer.Deferred | None:
    """The filter itself."""
    match event:
        case mp.RcptTo(recipient=b"<nobody@example.test>"):
            return mp.ReplyCode.text(550, "5.1.1", "No such user here")
        case mp.EndOfMessage():
            edits = [mp.AddHeader(b"X-Checked", b"with Twisted"), mp.Accept()]
            return task.deferLater(reactor, 0.01, lambda: edits)
        case _:
            return None


async def main(clock: object, where: str = "tcp:8890:interface=127.0.0.1") -> None:
    """Serve on an endpoint, in Twisted's notation, until SIGTERM or SIGINT."""
    factory = protocol.Factory.forProtocol(MilterProtocol)
    wants = mp.Wants(events={mp.RcptTo}, replies={mp.RcptTo}, actions=mp.Actions.ADDHDRS)
    factory.service = milter(lambda _: handle, wants)
    port = await endpoints.serverFromString(clock, where).listen(factory)
    logger.info("listening on %s", port.getHost())
    await defer.Deferred()  # which never comes


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    task.react(lambda *args: defer.ensureDeferred(main(*args)), sys.argv[1:])
