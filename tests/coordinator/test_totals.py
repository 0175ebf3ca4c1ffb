"""What is counted of requests; test_recovery says that it is right whatever happens."""

from bisect import bisect_right
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from dsv4_tp import core
from dsv4_tp.coordinator.cluster import CAUSES, cause
from dsv4_tp.coordinator.events import StartEpoch, Ticked
from dsv4_tp.coordinator.members import Fault
from dsv4_tp.coordinator.totals import Histogram, Times, Tokens, Totals
from dsv4_tp.coordinator.witness import Witness
from tests.coordinator.test_chronicle import ready

BOUNDS_S = (0.1, 1.0, 10.0)
FINISH = core.FinishEvent(
    *("r", core.FinishReason.STOP, 7, 4, 0.5, 2.0, 0, 0),
    **{"cached_tokens": 3, "drafted_tokens": 5, "accepted_tokens": 2},
    **{"queue_s": 0.25, "first_token_s": 0.75},
)


@given(st.lists(st.sampled_from([0.0, 0.1, 0.5, 1.0, 9.0, 10.0, 10.1]) | st.floats(0, 1e6)))
def test_a_histogram_counts_each_once_and_a_bound_is_within(times: list[float]):
    found = Histogram(BOUNDS_S, (0, 0, 0, 0))
    for time_s in times:
        found = found.observed(time_s)
    up_to = [sum(found.counts[: at + 1]) for at in range(4)]
    assert up_to == [*(bisect_right(sorted(times), bound) for bound in BOUNDS_S), len(times)]
    assert found.sum_s == sum(times)


def test_what_a_request_has_cost():
    totals = Totals().told(None).told(0.04).finished(FINISH)
    assert totals.tokens == Tokens(prompt=7, cached=3, drafted=5, accepted=2)
    assert (totals.generated, totals.between_tokens.sum_s) == (2, 0.04)
    sums = {name: getattr(totals.times, name).sum_s for name in Times.__slots__}
    assert sums == {
        **{"first_token": 0.75, "queue": 0.25, "prefill": 0.5, "decode": 2.0, "whole": 2.75},
    }
    assert Totals().finished(replace(FINISH, error="refused")) == Totals()
    no_token = Totals().finished(replace(FINISH, first_token_s=None)).times
    assert (sum(no_token.first_token.counts), sum(no_token.whole.counts)) == (0, 1)


def test_restarts_are_counted_by_their_cause(tmp_path):
    witness, state = Witness(tmp_path), ready()
    asked = witness.restarts
    for loss in core.Loss:
        lost = replace(state, faults=(Fault(loss, "rank 1 on b", "why"),))
        witness.saw(lost, Ticked(), state, (StartEpoch(2),))
        assert asked[loss.name.lower()] == 1
    witness.saw(state, Ticked(), state, (StartEpoch(2),))
    witness.saw(replace(state, epoch=0), Ticked(), state, (StartEpoch(1),))  # the first one is none
    assert set(asked) == set(CAUSES)
    assert sum(asked.values()) == len(CAUSES)
    assert cause(state) == "asked"
