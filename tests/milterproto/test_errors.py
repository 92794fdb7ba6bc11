import milterproto as mp


def test_both_errors_are_protocol_errors() -> None:
    """One except clause can hold everything that the library raises."""
    assert issubclass(mp.LocalProtocolError, mp.ProtocolError)
    assert issubclass(mp.RemoteProtocolError, mp.ProtocolError)
    assert not issubclass(mp.LocalProtocolError, mp.RemoteProtocolError)


def test_a_remote_error_carries_its_hint() -> None:
    """The event that may still be sent is beside the message, not in it."""
    error = mp.RemoteProtocolError("broken", hint=mp.TempFail())
    assert error.hint == mp.TempFail()
    assert str(error) == "broken"


def test_a_remote_error_has_no_hint_by_default() -> None:
    """Where the framing is lost there is nothing left to say."""
    assert mp.RemoteProtocolError("broken").hint is None
