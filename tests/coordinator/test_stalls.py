"""Of ranks that stalled together, the one that the others waited for is named, if there is one."""

from dataclasses import replace

import pytest

from dsv4_tp import core
from dsv4_tp.coordinator.members import Fault, Rank
from dsv4_tp.coordinator.stalls import culprit

CAUSE = "no progress for 5 s while decoding"


def ranks(*waits, calls=()):
    """One on each host, which have begun and ended to wait, and to be in MLX's code, so often."""
    calls = calls or [0] * len(waits)
    return {
        number: Rank(f"h{number}", core.RankReport(number, "decode", waits=count, calls=called))
        for number, (count, called) in enumerate(zip(waits, calls, strict=True))
    }


def stalled(*numbers):
    return [
        Fault(core.Loss.STALLED, f"rank {number} on h{number}", CAUSE, rank=number)
        for number in numbers
    ]


@pytest.mark.parametrize("said", [(0, 1), (1, 0), (1,)])
def test_the_one_that_the_others_wait_for_is_named_whoever_says_so_first(said):
    found = culprit(stalled(*said), ranks(8, 9))
    assert found.who == "rank 0 on h0"
    assert found.cause.endswith("; rank 1 on h1 waited for it")


def test_one_that_is_left_behind_in_an_exchange_is_named():
    found = culprit(stalled(0, 1, 2), ranks(11, 9, 11))
    assert (found.rank, found.cause) == (
        1,
        f"{CAUSE}; in an exchange that rank 0 on h0 has left",
    )


@pytest.mark.parametrize(("phase", "doing"), [("ready", "idle"), ("prefill", "reading a prompt")])
def test_of_one_that_nobody_has_accused_yet_people_are_told_in_words(phase, doing):
    known = ranks(8, 9)
    known[0] = replace(known[0], report=replace(known[0].report, phase=phase))
    assert culprit(stalled(1), known).message == (
        f"rank 0 on h0: no progress while {doing}; rank 1 on h1 waited for it"
    )


def test_of_several_that_are_behind_the_one_that_has_stalled_is_named():
    assert culprit(stalled(0, 2), ranks(9, 8, 8)).rank == 2


def test_where_all_wait_nobody_is_blamed():
    found = culprit(stalled(1, 0, 2), ranks(9, 9, 9))
    assert (
        found.message == f"ranks 0 on h0, 1 on h1 and 2 on h2: {CAUSE}; they waited for each other"
    )
    assert found.rank is None


def test_one_that_does_not_end_to_build_what_the_others_compute_is_named():
    found = culprit(stalled(0, 1, 2), ranks(9, 9, 9, calls=(21, 14, 23)))
    assert (found.rank, found.cause) == (1, f"{CAUSE}; rank 0 on h0 waited for it")


def test_where_all_compute_nobody_is_blamed_however_often_they_were_at_it():
    """Of a backend that takes little at once, ranks that wait for each other are not as far."""
    assert culprit(stalled(0, 1), ranks(9, 9, calls=(21, 25))).rank is None


@pytest.mark.parametrize("waits", [(8, 8), (9,)])
def test_one_that_waits_for_nobody_has_stalled_by_itself(waits):
    *_, last = range(len(waits))
    assert culprit(stalled(last), ranks(*waits)) == stalled(last)[0]
