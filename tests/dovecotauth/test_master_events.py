import pytest

from dovecotauth import Fail, master

SECRET = b"hunter2secret"


@pytest.mark.parametrize(
    "event",
    [
        master.Request(1, 2, 3, SECRET),
        master.Request(1, 2, 3, b"", ((b"request_auth_token", SECRET),)),
        master.UserFound(1, b"ann", ((b"auth_token", SECRET),)),
        master.PassFound(1, b"ann", ((b"pass", SECRET),)),
        master.GetUser(1, b"ann", ((b"forward_fields", SECRET),)),
        master.GetPass(1, b"ann", ((b"x_secret", SECRET),)),
        master.ListUsers(1, ((b"key", SECRET),)),
    ],
)
def test_no_repr_shows_a_secret(event: object) -> None:
    """The cookie, passwords, tokens."""
    assert "hunter2" not in repr(event)
    assert "***" in repr(event)


def test_what_may_be_left_out() -> None:
    """A list has mostly nothing else to say; it mostly ends well."""
    assert master.ListUsers(1) == master.ListUsers(1, ())
    assert master.ListEnd(1) == master.ListEnd(1, failed=False)
    answers: list[master.Answer] = [master.NotFound(1), Fail(1)]
    assert answers[0] != answers[1]
