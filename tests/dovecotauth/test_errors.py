import dovecotauth as da


def test_both_errors_are_protocol_errors() -> None:
    """One except clause can hold everything that the library raises."""
    assert issubclass(da.LocalProtocolError, da.ProtocolError)
    assert issubclass(da.RemoteProtocolError, da.ProtocolError)
    assert not issubclass(da.LocalProtocolError, da.RemoteProtocolError)


def test_there_is_no_hint() -> None:
    """Adapters look for one in every remote error; a reply here belongs to one request."""
    assert da.RemoteProtocolError("broken").hint is None
