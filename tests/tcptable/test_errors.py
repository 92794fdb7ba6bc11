import tcptable as tt


def test_both_errors_are_protocol_errors() -> None:
    """One except clause can hold everything that the library raises."""
    assert issubclass(tt.LocalProtocolError, tt.ProtocolError)
    assert issubclass(tt.RemoteProtocolError, tt.ProtocolError)
    assert not issubclass(tt.LocalProtocolError, tt.RemoteProtocolError)


def test_a_remote_error_carries_its_hint() -> None:
    """The event that may still be sent is beside the message, not in it."""
    error = tt.RemoteProtocolError("broken", hint=tt.TempError(b"x"))
    assert error.hint == tt.TempError(b"x")
    assert str(error) == "broken"
    assert tt.RemoteProtocolError("broken").hint is None
