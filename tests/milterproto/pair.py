"""Both roles, linked by nothing but the bytes that one makes and the other reads."""

from __future__ import annotations

from collections.abc import Sequence

import milterproto as mp


class Pair:
    """An MTAConnection and a FilterConnection; `say` is one exchange between them."""

    def __init__(self, wants: mp.Wants | None = None, offer: mp.Negotiate | None = None) -> None:
        self.mta = mp.MTAConnection()
        self.filter = mp.FilterConnection(allow_shutdown=True)
        self.seen: list[mp.Command | mp.ConnectionClosed] = []
        if wants is not None:
            self.open(wants, offer or mp.offer())

    def open(self, wants: mp.Wants, offer: mp.Negotiate) -> None:
        self.command(offer)
        assert self.reply(mp.negotiate(offer, wants)) == [self.mta.negotiated]

    def command(self, command: mp.Command) -> None:
        """From the MTA to the filter, where it is the next and only event."""
        self.filter.receive_data(self.mta.send(command))
        events = list(self.filter.events())
        if isinstance(command, mp.Quit):
            assert events == [command, mp.ConnectionClosed()]
        else:
            assert events == [command]
        self.seen += events

    def reply(self, *responses: mp.Response) -> list[mp.Response | mp.ConnectionClosed]:
        """From the filter to the MTA."""
        for response in responses:
            self.mta.receive_data(self.filter.send(response))
        return list(self.mta.events())

    def say(
        self, command: mp.Command, *responses: mp.Response
    ) -> list[mp.Response | mp.ConnectionClosed]:
        """A command, and the filter's reply; without one, Continue if it is due."""
        self.command(command)
        if not responses and self.filter.our_turn:
            responses = (mp.Continue(),)
        return self.reply(*responses)

    def run(self, *commands: mp.Command) -> None:
        """Commands that are all answered by Continue."""
        for command in commands:
            self.say(command)


CLIENT: Sequence[mp.Command] = (
    mp.Connect(b"client.test", mp.Family.INET, 4321, b"192.0.2.1"),
    mp.Helo(b"client.test"),
)
ENVELOPE: Sequence[mp.Command] = (mp.MailFrom(b"<a@x.test>"), mp.RcptTo(b"<b@y.test>"))
CONTENT: Sequence[mp.Command] = (
    mp.Data(),
    mp.Header(b"Subject", b"hi"),
    mp.EndOfHeaders(),
    mp.Body(b"text\r\n"),
)


def opened(wants: mp.Wants | None = None, offer: mp.Negotiate | None = None) -> Pair:
    """A pair that has just negotiated."""
    return Pair(wants or mp.Wants(actions=mp.ALL_ACTIONS), offer)


def at(command: type[mp.Command], wants: mp.Wants | None = None) -> Pair:
    """A pair in which the filter has to reply to such a command."""
    pair = opened(wants)
    for step in (*CLIENT, mp.Unknown(b"FOO"), *ENVELOPE, *CONTENT, mp.EndOfMessage()):
        if type(step) is command:
            pair.command(step)
            return pair
        pair.say(step)
    raise AssertionError(command)
