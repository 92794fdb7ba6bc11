"""A filter for Postfix or Sendmail: note each client's address, and refuse one recipient."""

import asyncio

import milterproto as mp

WANTS = mp.Wants(
    events={mp.Connect, mp.RcptTo},  # the end of a message always comes
    replies={mp.RcptTo},
    actions=mp.Actions.ADDHDRS,
)


async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one connection from the MTA, which may carry many messages."""
    conn = mp.FilterConnection()
    client = b"unknown"
    try:
        while conn.state is not mp.State.CLOSED:
            conn.receive_data(await reader.read(65536))
            for event in conn.events():
                match event:
                    case mp.Negotiate():
                        writer.write(conn.send(mp.negotiate(event, WANTS)))
                    case mp.Connect():
                        client = event.address
                    case mp.RcptTo(recipient=b"<nobody@example.test>"):
                        refusal = mp.ReplyCode.text(550, "5.1.1", "No such user here")
                        writer.write(conn.send(refusal))
                    case mp.EndOfMessage():
                        writer.write(conn.send(mp.AddHeader(b"X-Client-Address", client)))
                    case _:
                        pass
                if conn.our_turn:
                    writer.write(conn.send(mp.Continue()))
            await writer.drain()
    except (mp.RemoteProtocolError, OSError) as error:
        print("connection dropped:", error)
    finally:
        writer.close()


async def main() -> None:
    """Listen where main.cf says: smtpd_milters = inet:127.0.0.1:8890."""
    server = await asyncio.start_server(session, "127.0.0.1", 8890)
    print("listening on inet:127.0.0.1:8890", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
