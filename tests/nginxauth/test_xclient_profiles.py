import pytest

from nginxauth import xclient as xc


@pytest.mark.parametrize("profile", xc.PROFILES, ids=lambda profile: profile.name)
def test_a_profile_agrees_with_itself(profile: xc.Profile) -> None:
    """It offers what it needs, as an EHLO line that can be read."""
    assert set(profile.needs) <= set(profile.offer.xclient)
    assert xc.parse_ehlo(b"\n".join([b"x", *xc.ehlo_lines(profile.offer)])) == profile.offer
    assert profile.offer.xclient


def test_all_are_there_once() -> None:
    """By their names."""
    assert len({profile.name for profile in xc.PROFILES}) == len(xc.PROFILES)
    there = {one for one in vars(xc).values() if isinstance(one, xc.Profile)}
    assert there == set(xc.PROFILES)


def test_login_is_what_old_servers_do_not_have() -> None:
    """The trap that nginx falls into."""
    without = [one for one in xc.PROFILES if b"LOGIN" not in one.offer.xclient]
    assert without == [xc.POSTFIX_2_8, xc.POSTFIX_2_2]
