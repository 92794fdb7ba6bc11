dofile(helper)
open()
step(mt.conninfo(conn, "client.test", "192.0.2.1"), SMFIR_REJECT)
mt.disconnect(conn)
