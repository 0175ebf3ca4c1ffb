"""What a rank is expected to do after what it did: never more than is configured, and never less
than it has shown to need."""

import json
from dataclasses import replace
from math import inf
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsv4_tp.agent import watch as rules
from dsv4_tp.agent.events import Deadlines
from dsv4_tp.agent.watch import (
    FLOORS_S,
    WARM_UP,
    Watch,
    allowed_s,
    slowness,
    with_report,
    with_task,
    without_task,
)
from dsv4_tp.core import RankReport

DEADLINES = Deadlines(join_s=45, load_s=60, step_s=30)
# One rank of two that read prompts and decode, looked at every half second; every twenty seconds
# both are held still for two: [second, phase, prefill_tokens, decode_steps]. `tests.soak.pace`
# recorded it.
TRACE = json.loads(Path(__file__).with_name("pace.json").read_text())


def decoding(*gaps_s, tokens=0):
    """A rank after steps that took so long each, and when the last of them ended."""
    watch, now_s = Watch(RankReport(0, "decode"), 0.0), 0.0
    for count, gap_s in enumerate(gaps_s, start=1):
        now_s += gap_s
        report = RankReport(0, "decode", decode_steps=count, prefill_tokens=tokens * count)
        watch = with_report(watch, report, now_s)
    return watch, now_s


def test_what_is_configured_holds_until_enough_was_seen():
    for count in range(2 * WARM_UP):
        assert allowed_s(decoding(*[0.5] * count)[0], DEADLINES) == 30
    assert allowed_s(decoding(*[0.5] * 2 * WARM_UP)[0], DEADLINES) == FLOORS_S["decode"]


def test_to_wait_for_others_is_no_progress():
    watch, now_s = decoding(0.5)
    waits = replace(watch.report, waits=1)
    found = with_report(watch, waits, now_s + 3)
    assert replace(found, met_s=watch.met_s) == replace(watch, report=waits)


@pytest.mark.parametrize(
    ("old", "new", "met"),
    [
        (RankReport(0, "loading"), RankReport(0, "loading", bytes_loaded=7), False),
        (RankReport(0, "prepared"), RankReport(0, "prepared", beats=1), False),
        (RankReport(0, "decode"), RankReport(0, "compiling"), False),
        (RankReport(0, "decode"), RankReport(0, "decode", waits=1), True),
        (RankReport(0, "decode"), RankReport(0, "decode", decode_steps=1), True),
        (RankReport(0, "prefill"), RankReport(0, "prefill", prefill_tokens=8), True),
    ],
)
def test_only_what_ranks_do_together_shows_that_they_met(old, new, met):
    watch = with_report(Watch(old, 0.0), new, 5.0)
    assert watch.met_s == (5.0 if met else -inf)
    assert with_task(watch, "r", 8, 9.0).met_s == watch.met_s


def test_a_slow_rank_is_given_more_and_never_more_than_is_configured():
    warm = [0.5] * 2 * WARM_UP
    assert allowed_s(decoding(*warm, 4.0)[0], DEADLINES) == 20
    assert allowed_s(decoding(*warm, 4.0, 9.0)[0], DEADLINES) == 30
    assert allowed_s(decoding(*warm)[0], Deadlines(45, 60, 2)) == 2
    assert allowed_s(decoding(*warm)[0], Deadlines(45, 60, 30, learned=False)) == 30


def test_a_schema_may_take_its_time_behind_fast_steps():
    watch, now_s = decoding(*[0.05] * 4 * WARM_UP)
    for count in range(4 * WARM_UP):
        phase = "compiling" if count % 2 else "prefill"
        watch = with_report(watch, replace(watch.report, phase=phase), now_s := now_s + 0.01)
    assert (watch.report.phase, allowed_s(watch, DEADLINES)) == ("compiling", 30)


def test_new_work_is_held_to_what_is_configured():
    watch, now_s = decoding(*[0.5] * 2 * WARM_UP)
    assert allowed_s(with_task(watch, "a", 512, now_s), DEADLINES) == 30
    assert allowed_s(without_task(watch, "a"), DEADLINES) == 30


def test_a_long_chunk_after_short_ones_has_the_time_that_its_tokens_take():
    watch, now_s = Watch(RankReport(0, "prefill"), 0.0), 0.0
    watch = with_task(watch, "long", 512, now_s)
    for count in range(1, 2 * WARM_UP + 1):
        now_s += 0.5
        watch = with_report(watch, RankReport(0, "prefill", prefill_tokens=64 * count), now_s)
    assert watch.usual_s == 0.5 * 512 / 64
    assert allowed_s(watch, DEADLINES) == 5 * watch.usual_s
    assert allowed_s(with_task(watch, "score", 512 * 64, now_s), DEADLINES) == 30


def test_layers_are_learned_and_what_follows_the_last_is_not():
    watch = Watch(RankReport(0, "loading"), 0.0)
    for count in range(1, 2 * WARM_UP + 2):
        report = RankReport(0, "loading", bytes_loaded=count, bytes_total=2 * WARM_UP + 1)
        assert (allowed_s(watch, DEADLINES) == 60) == (count <= 2 * WARM_UP)
        watch = with_report(watch, report, 0.5 * count)
    assert allowed_s(watch, DEADLINES) == 60


def test_slow_is_told_and_is_no_fault():
    watch, now_s = decoding(*[0.5] * 2 * WARM_UP)
    assert slowness(watch, now_s + 1.5) == ""
    assert slowness(watch, now_s + 2.0) == "slow: 2.0 s in a step, 0.5 s were usual"
    assert slowness(decoding(0.5)[0], 30) == ""


GAPS = st.floats(0.01, 40)


@given(st.lists(GAPS, min_size=1, max_size=30), st.integers(0, 100))
def test_a_deadline_is_between_its_floor_and_its_ceiling(gaps_s, tokens):
    watch, _ = decoding(*gaps_s, tokens=tokens)
    assert FLOORS_S["decode"] <= allowed_s(watch, DEADLINES) <= DEADLINES.step_s


@given(st.lists(st.floats(0, 0.99), min_size=1, max_size=40))
def test_a_rank_that_gets_slower_by_less_than_the_factor_is_never_lost(shares):
    gaps_s, longest_s = [], 0.5
    for share in shares:
        gaps_s.append(min(longest_s * (1 + share * (rules.FACTOR - 1)), DEADLINES.step_s))
        longest_s = max(longest_s, gaps_s[-1])
    for count, gap_s in enumerate(gaps_s):
        assert gap_s <= allowed_s(decoding(*[0.5] * 2 * WARM_UP, *gaps_s[:count])[0], DEADLINES)


def alarms(trace):
    """When the rank of the trace would have been lost."""
    (_, phase, *_), found = trace[0], []
    watch = Watch(RankReport(0, phase), trace[0][0])
    for now_s, phase, prefill_tokens, decode_steps in trace:
        report = RankReport(0, phase, prefill_tokens=prefill_tokens, decode_steps=decode_steps)
        watch = with_report(watch, report, now_s)
        if phase != "ready" and now_s - watch.since_s > allowed_s(watch, DEADLINES):
            found.append(now_s)
    return found


def test_a_run_that_is_held_still_now_and_then_raises_no_alarm(monkeypatch):
    assert alarms(TRACE) == []
    monkeypatch.setattr(rules, "FLOORS_S", dict.fromkeys(FLOORS_S, 0.0))
    assert alarms(TRACE) == []
    assert max(decode_steps for *_, decode_steps in TRACE) > 100


@pytest.mark.parametrize("factor", [2.0, 3.0])
def test_a_factor_that_is_too_tight_would_raise_one(monkeypatch, factor):
    monkeypatch.setattr(rules, "FACTOR", factor)
    monkeypatch.setattr(rules, "FLOORS_S", dict.fromkeys(FLOORS_S, 0.0))
    assert alarms(TRACE) != []
