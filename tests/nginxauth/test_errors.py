import nginxauth as ng


def test_both_errors_are_protocol_errors() -> None:
    """One except clause can hold everything that the library raises."""
    assert issubclass(ng.LocalProtocolError, ng.ProtocolError)
    assert issubclass(ng.RemoteProtocolError, ng.ProtocolError)
    assert not issubclass(ng.LocalProtocolError, ng.RemoteProtocolError)


def test_a_remote_error_carries_its_hint() -> None:
    """The event that may still be sent is beside the message, not in it."""
    error = ng.RemoteProtocolError("broken", hint=ng.Deny(b"x"))
    assert error.hint == ng.Deny(b"x")
    assert str(error) == "broken"
    assert ng.RemoteProtocolError("broken").hint is None
