"""`--check`: whether everything is there that the configuration speaks of."""

from __future__ import annotations

import ipaddress
import secrets
import time
from collections.abc import AsyncIterator

from smtp_milter import _dialogue as dialogue
from smtp_milter._client import Client
from smtp_milter._config import Config, GatewayConfig, target
from smtp_milter._errors import GatewayError, Refused
from smtp_milter._link import Link
from smtp_milter._sink import Sink
from smtp_milter._tokens import Tokens
from smtp_milter._verdicts import summary

OURSELVES = Client(b"localhost", ipaddress.ip_address("127.0.0.1"), 0, b"localhost")


async def check(config: Config) -> AsyncIterator[tuple[bool, str]]:
    """Whether something is in order, and a line about it; one after the other."""
    sink = None
    if config.sink is not None:
        sink = Sink(config.sink, config.name, config.max_size)
        try:
            yield True, f"sink: listens on {await sink.start(int(config.mode, 8))}"
        except ValueError as error:
            yield False, f"sink: {error}"
            sink = None
        except OSError:
            # The daemon is running, presumably; its sink would not take our message.
            yield await _greets(config)
            sink = None
    try:
        for gateway in config.gateway:
            async for line in _gateway(config, gateway, sink):
                yield line
    finally:
        if sink is not None:
            await sink.stop()
    if config.allow_list is not None:
        yield await _database(config)


async def _greets(config: Config) -> tuple[bool, str]:
    assert config.sink is not None
    try:
        link = await Link.open(target(config.sink.listen), config.timeouts.connect)
        own_name = config.name.encode("ascii", "replace")
        await link.run(dialogue.begin(own_name, OURSELVES, dialogue.Tell.NOTHING), 5)
        await link.quit()
    except GatewayError as error:
        return False, f"sink: its address can't be used, and who is there does not answer: {error}"
    return True, "sink: somebody listens there, the running daemon presumably; no message is sent"


async def _gateway(
    config: Config, gateway: GatewayConfig, sink: Sink | None
) -> AsyncIterator[tuple[bool, str]]:
    own_name = config.name.encode("ascii", "replace")
    name = gateway.address
    try:
        link = await Link.open(target(gateway.address), config.timeouts.connect)
    except GatewayError as error:
        yield False, f"{name}: {error}"
        return
    try:
        link.write(dialogue.preamble(OURSELVES, gateway.tell))
        talk = dialogue.begin(own_name, OURSELVES, gateway.tell)
        session = await link.run(talk, config.timeouts.command)
        offered = b", ".join(sorted(session.offer.keywords)).decode("ascii", "replace")
        yield True, f"{name}: answers, and offers {offered or 'no extension'}"
        # XCLIENT has been sent, and taken: it was not only offered.
        yield True, f"{name}: is told of the client by {session.tell.value}"
        if sink is not None:
            yield await _send(config, link, session, sink, name)
    except Refused as refused:
        yield False, f"{name}: {summary(refused.reply)}"
    except GatewayError as error:
        yield False, f"{name}: {error}"
    finally:
        await link.quit()


async def _send(
    config: Config, link: Link, session: dialogue.Session, sink: Sink, name: str
) -> tuple[bool, str]:
    """Whether a message comes back."""
    token = Tokens(secrets.token_bytes(16)).make(int(time.time()), secrets.token_bytes(16))
    address = b"<smtp-milter-check@" + config.name.encode("ascii", "replace") + b">"
    mark = sink.config.mark.encode()
    content = (
        mark + b": " + token + b"\r\nFrom: " + address + b"\r\nSubject: check\r\n\r\nHello\r\n"
    )
    patience = config.timeouts.command
    await link.run(dialogue.mail(session, OURSELVES, token, address, ()), patience)
    await link.run(dialogue.rcpt(session, address, ()), patience)
    await link.run(dialogue.data(), patience)
    sink.correlator.expect(token, address)
    try:
        reply = dialogue.accepted(await link.content([content], config.timeouts.end))
        returned = sink.correlator.claim(token, reply.lines)
    finally:
        sink.correlator.forget(token)
    if not returned:
        return (
            False,
            f"{name}: a message was taken ({summary(reply)}), and did not come to the sink",
        )
    return True, f"{name}: a message came back to the sink"


async def _database(config: Config) -> tuple[bool, str]:
    # Loading the database's library takes as long as all the rest, and few have an allow-list.
    from mailfront.userdb import UserDB  # noqa: PLC0415

    from smtp_milter._allow import AllowList  # noqa: PLC0415

    assert config.allow_list is not None
    users = None
    try:
        users = UserDB.connect(config.allow_list.database, patience=config.allow_list.patience)
        await AllowList(users).has(b"<a@b>", b"<c@d>")
    except Exception as error:
        return False, f"allow list: {type(error).__name__}: {str(error).partition(chr(10))[0]}"
    finally:
        if users is not None:
            await users.close()
    return True, "allow list: the database answers"
