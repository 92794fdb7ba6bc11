"""A gateway's refusal becomes one that every MTA takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from smtp_milter._replies import Reply
from smtp_milter._verdicts import Stage, summary, verdict

import milterproto as mp


@pytest.mark.parametrize(
    ("code", "lines", "expected"),
    [
        (550, (b"5.7.1 No",), (b"550", b"5.7.1", (b"No",))),
        (550, (b"No",), (b"550", b"5.7.1", (b"No",))),
        (550, (b"",), (b"550", b"5.7.1", (b"",))),
        (554, (b"5.7.1 a", b"5.7.1 b", b"c"), (b"554", b"5.7.1", (b"a", b"b", b"c"))),
        # Only the same code is taken off the other lines.
        (554, (b"5.7.1 a", b"5.6.0 b"), (b"554", b"5.7.1", (b"a", b"5.6.0 b"))),
        (450, (b"5.7.1 x",), (b"450", b"4.7.1", (b"x",))),
        (554, (b"2.7.1", b"2.7.1 x"), (b"554", b"5.7.1", (b"", b"x"))),
        (550, (b"3 strikes",), (b"550", b"5.7.1", (b"3 strikes",))),
        (550, (b"100% spam",), (b"550", b"5.7.1", (b"100% spam",))),
        (421, (b"4.7.0 Too busy",), (b"451", b"4.3.2", (b"Too busy",))),
        (421, (b"Too busy",), (b"451", b"4.3.2", (b"Too busy",))),
        (499, (b"x",), (b"451", b"4.7.1", (b"x",))),
        (599, (b"x",), (b"550", b"5.7.1", (b"x",))),
        (550, (b"na\xc3\xafve\ttab\0",), (b"550", b"5.7.1", (b"na??ve?tab?",))),
        (550, (b"5.07.1 x",), (b"550", b"5.7.1", (b"5.07.1 x",))),
    ],
)
def test_at_the_end_of_message(
    code: int, lines: tuple[bytes, ...], expected: tuple[bytes, bytes, tuple[bytes, ...]]
) -> None:
    """Codes and lines, one by one."""
    assert verdict(Reply(code, lines), Stage.CONTENT) == mp.ReplyCode(*expected)


def test_the_stage_decides_what_is_supplied() -> None:
    """Where a gateway gives no enhanced code."""
    made = [verdict(Reply(550, (b"no",)), stage).enhanced for stage in Stage]
    assert made == [b"5.0.0", b"5.1.8", b"5.1.2", b"5.7.1"]


@given(
    st.builds(
        Reply,
        st.integers(400, 599),
        st.lists(
            st.binary(max_size=1200) | st.from_regex(rb"\A[0-9]\.[0-9]{1,3}\.[0-9]{1,3} ?%?.?\Z"),
            min_size=1,
            max_size=40,
        ).map(tuple),
    ),
    st.sampled_from(Stage),
)
def test_any_refusal_can_be_sent(reply: Reply, stage: Stage) -> None:
    """`encode_response` takes only what real MTAs take."""
    made = verdict(reply, stage)
    assert mp.encode_response(made)
    assert made.code[:1] == b"%d" % (reply.code // 100)
    assert made.code != b"421"


def test_for_the_log() -> None:
    """A short line, which can't be two."""
    assert summary(Reply(554, (b"5.7.1 Virus\n found", b"more"))) == "554 5.7.1 Virus? found"
    assert summary(Reply(250, (b"x" * 500,))) == "250 " + "x" * 100
    assert summary(Reply(250, (b"",))) == "250"
