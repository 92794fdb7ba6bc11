import pytest
from hypothesis import given
from hypothesis import strategies as st

import milterproto as mp
from milterproto._negotiation import answer_fault, macros_fault, offer_fault, packet_limit
from milterproto._wire import encode_response

from .strategies import macro_names, named, negotiations

MDS = mp.Steps.MDS_256K | mp.Steps.MDS_1M

events = st.sets(st.sampled_from(named(mp.ALL_EVENTS)))
wants = st.builds(
    mp.Wants,
    events=events,
    replies=events,
    actions=st.integers(0, 0xFFF).map(mp.Actions),
    macros=st.dictionaries(st.sampled_from(mp.Stage), st.lists(macro_names, max_size=3)),
    leading_space=st.booleans(),
    rejected_recipients=st.booleans(),
    large_packets=st.booleans(),
)


@given(negotiations.filter(lambda offer: offer.version >= 2), wants)
def test_an_answer_never_goes_beyond_the_offer(offer: mp.Negotiate, want: mp.Wants) -> None:
    """Whatever a filter wants, and whatever strange bits an MTA offers, the answer fits."""
    answer = mp.negotiate(offer, want)
    assert answer.version <= min(6, offer.version)
    assert int(answer.actions) & ~int(offer.actions) == 0
    assert int(answer.steps) & ~int(offer.steps) == 0
    assert int(answer.steps) & 0x40000000 == 0
    assert answer_fault(answer, offer) is None
    assert macros_fault(answer) is None
    encode_response(answer)


@pytest.mark.parametrize(
    ("version", "steps"), [(2, 0x7F), (3, 0x17F), (4, 0x37F), (5, 0x1FFFFF), (6, 0x1FFFFF)]
)
def test_offers_are_those_of_postfix(version: int, steps: int) -> None:
    """Seen on the wire for each milter_protocol setting; it offers all actions in each."""
    assert mp.offer(version) == mp.Negotiate(version, mp.ALL_ACTIONS, mp.Steps(steps))
    assert offer_fault(mp.offer(version)) is None
    assert answer_fault(mp.negotiate(mp.offer(version), mp.Wants()), mp.offer(version)) is None


def test_a_filter_that_wants_all_takes_just_skip() -> None:
    """No NO bit, no NR bit, no action that was not asked for."""
    assert mp.negotiate(mp.offer(), mp.Wants()) == mp.Negotiate(6, mp.Actions(0), mp.Steps.SKIP)


def test_wants_by_event_and_by_reply() -> None:
    """Unwanted events get their NO bit, wanted but unanswered ones their NR bit."""
    answer = mp.negotiate(
        mp.offer(),
        mp.Wants(
            events={mp.Connect, mp.RcptTo, mp.Header, mp.Body},
            replies={mp.RcptTo},
            actions=mp.Actions.ADDHDRS,
            leading_space=True,
            rejected_recipients=True,
        ),
    )
    assert answer.actions == mp.Actions.ADDHDRS
    assert answer.steps == (
        mp.Steps.NOHELO
        | mp.Steps.NOMAIL
        | mp.Steps.NODATA
        | mp.Steps.NOEOH
        | mp.Steps.NOUNKNOWN
        | mp.Steps.NR_CONN
        | mp.Steps.NR_HDR
        | mp.Steps.NR_BODY
        | mp.Steps.HDR_LEADSPC
        | mp.Steps.RCPT_REJ
    )


@pytest.mark.parametrize(
    ("version", "steps"),
    [(2, mp.Steps.NOHELO), (3, mp.Steps.NOHELO | mp.Steps.NOUNKNOWN), (4, None)],
)
def test_old_mtas_get_only_bits_that_they_know(version: int, steps: mp.Steps | None) -> None:
    """NODATA and NOUNKNOWN are not set where the event does not exist yet."""
    without = mp.ALL_EVENTS - {mp.Helo, mp.Data, mp.Unknown}
    expected = steps or mp.Steps.NOHELO | mp.Steps.NOUNKNOWN | mp.Steps.NODATA
    answer = mp.negotiate(mp.offer(version), mp.Wants(events=without, leading_space=True))
    assert answer == mp.Negotiate(version, mp.Actions(0), expected)


def test_a_newer_mta_gets_the_version_that_we_speak() -> None:
    """libmilter answers an offer of 9 by 6, too."""
    assert mp.negotiate(mp.Negotiate(9, mp.ALL_ACTIONS, mp.ALL_STEPS), mp.Wants()).version == 6


def test_macro_names_get_their_braces() -> None:
    """Sendmail and Postfix know long names by their braces only."""
    answer = mp.negotiate(
        mp.offer(),
        mp.Wants(
            actions=mp.Actions.ADDHDRS,
            macros={mp.Stage.CONNECT: [b"j", b"daemon_name", b"{tls}"]},
        ),
    )
    assert answer.macros == ((0, (b"j", b"{daemon_name}", b"{tls}")),)
    assert answer.actions == mp.Actions.ADDHDRS | mp.Actions.SETSYMLIST


@pytest.mark.parametrize("stage", [mp.Stage.EOM, mp.Stage.EOH])
def test_eoh_and_eom_lists_go_together(stage: mp.Stage) -> None:
    """Sendmail uses the EOM list only if an EOH list came, and none if only that came."""
    answer = mp.negotiate(mp.offer(), mp.Wants(macros={stage: [b"i"]}))
    assert answer.macros == ((5, (b"i",)), (6, (b"i",)))
    both = {mp.Stage.EOH: [b"i"], mp.Stage.EOM: [b"j"]}
    assert mp.negotiate(mp.offer(), mp.Wants(macros=both)).macros == ((5, (b"j",)), (6, (b"i",)))


def test_macro_lists_are_not_sent_to_an_mta_that_does_not_know_them() -> None:
    """It could take them for a broken answer."""
    old = mp.Negotiate(6, mp.Actions(0xFF), mp.ALL_STEPS)
    assert mp.negotiate(old, mp.Wants(macros={mp.Stage.MAIL: [b"i"]})).macros == ()


@pytest.mark.parametrize("offered", [mp.Steps.MDS_256K, mp.Steps.MDS_1M])
def test_large_packets_are_agreed_to_only_if_asked_for(offered: mp.Steps) -> None:
    """Sendmail takes a bit that it did not offer for an error, so it is stripped first."""
    offer = mp.Negotiate(6, mp.ALL_ACTIONS, mp.ALL_STEPS | offered)
    assert not mp.negotiate(offer, mp.Wants()).steps & MDS
    assert mp.negotiate(offer, mp.Wants(large_packets=True)).steps == offered | mp.Steps.SKIP
    assert not mp.negotiate(mp.offer(), mp.Wants(large_packets=True)).steps & MDS


@pytest.mark.parametrize(
    ("steps", "limit"),
    [(mp.ALL_STEPS, 65535), (mp.Steps.MDS_256K, 262143), (mp.Steps.MDS_1M, 1048575)],
)
def test_packet_limits(steps: mp.Steps, limit: int) -> None:
    """The numbers are libmilter's MILTER_MDS_* ones."""
    assert packet_limit(steps) == limit


@pytest.mark.parametrize(
    ("offer", "reason"),
    [
        (mp.offer(1), "version 1"),
        (mp.offer(7), "version 7"),
        (mp.Negotiate(6, mp.Actions(0x200), mp.Steps(0)), "does not know"),
        (mp.Negotiate(6, mp.Actions(0), mp.Steps(0x80000000)), "does not know"),
        (mp.Negotiate(6, mp.Actions(0), MDS), "only one MDS bit"),
        (mp.Negotiate(6, mp.Actions(0), mp.Steps(0), ((0, ()),)), "for the answer"),
    ],
)
def test_offers_that_no_mta_should_make(offer: mp.Negotiate, reason: str) -> None:
    """Each is refused before it is sent."""
    fault = offer_fault(offer)
    assert fault is not None
    assert reason in fault


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (mp.Negotiate(1, mp.Actions(0), mp.Steps(0)), "version 1 is not between 2 and 4"),
        (mp.Negotiate(6, mp.Actions(0), mp.Steps(0)), "version 6 is not between 2 and 4"),
        (mp.Negotiate(4, mp.Actions(0x201), mp.Steps(0)), "actions 0x200 were not offered"),
        (mp.Negotiate(4, mp.Actions(0), mp.Steps(0x80000001)), "steps 0x80000000 were not"),
    ],
)
def test_answers_that_go_beyond_the_offer(answer: mp.Negotiate, reason: str) -> None:
    """Postfix lets some of them pass; relying on that ends at the first Sendmail."""
    fault = answer_fault(answer, mp.offer(4))
    assert fault is not None
    assert reason in fault


@pytest.mark.parametrize(
    ("macros", "reason"),
    [
        (((5, (b"i",)),), "go together"),
        (((6, (b"i",)),), "go together"),
        (((7, (b"i",)),), "unknown or stands twice"),
        (((0, (b"i",)), (0, ())), "unknown or stands twice"),
    ],
)
def test_macro_lists_that_an_mta_would_misread(macros: mp.MacroLists, reason: str) -> None:
    """negotiate() never makes these; a hand-written answer might."""
    fault = macros_fault(mp.Negotiate(6, mp.Actions(0), mp.Steps(0), macros))
    assert fault is not None
    assert reason in fault
