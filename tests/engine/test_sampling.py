"""The chosen token is a function of the logits, the setting, the seed and the position only."""

from itertools import pairwise

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsv4_tp.core import Sampling, Span
from dsv4_tp.engine import sampling as s

EXAMPLES = settings(max_examples=200, deadline=None)
POSITION = 11


def spans_of(vocab_size: int, cuts: list[int]) -> list[Span]:
    borders = [0, *sorted(min(cut, vocab_size) for cut in cuts), vocab_size]
    return [Span(a, b) for a, b in pairwise(borders)]


def exchange_of(row: np.ndarray, spans: list[Span], setting: Sampling, position: int = POSITION):
    packets = []
    for rank, span in enumerate(spans):
        logits = mx.array(row[span.start : span.stop])
        scores = s.scored(
            logits, span=span, vocab_size=len(row), sampling=setting, position=position
        )
        packets.append(s.packet(logits, scores, span=span, sampling=setting, command=7 + rank))
    return s.read_packets(np.array(mx.stack(packets)), spans, setting)


def everything_of(row: np.ndarray, setting: Sampling, position: int = POSITION) -> np.ndarray:
    whole = Span(0, len(row))
    scores = s.scored(
        mx.array(row), span=whole, vocab_size=len(row), sampling=setting, position=position
    )
    return np.stack([row, np.array(scores)])


def chosen(row: np.ndarray, spans: list[Span], setting: Sampling, position: int = POSITION) -> int:
    exchange = exchange_of(row, spans, setting, position)
    token = s.choose(exchange, setting)
    if token is None:
        rows = everything_of(row, setting, position)
        token = s.choose(s.with_everything(exchange, rows), setting)
    assert token is not None
    return token


def plainly_chosen(row: np.ndarray, setting: Sampling, position: int = POSITION) -> int:
    """The same choice, said in the shortest way over the whole vocabulary."""
    logits, scores = everything_of(row, setting, position).astype(np.float64)
    order = np.lexsort((np.arange(len(row)), -logits))
    if setting.temperature > 0:
        order = order[: setting.top_k or len(row)]
        weights = np.exp((logits[order] - logits.max()) / setting.temperature)
        share = np.cumsum(weights) - weights
        inside = share < (setting.top_p - 1e-5) * weights.sum()
        order = order[inside | (np.arange(len(order)) == 0)] if setting.top_p < 1 else order
    best = scores[order].max()
    return int(min(order[scores[order] == best]))


rows = st.builds(
    lambda seed, size, spread, step: (
        np.round(np.random.default_rng(seed).normal(size=size) * spread / step) * step
    ).astype(np.float32),
    seed=st.integers(0, 10**6),
    size=st.integers(1, 700),
    spread=st.sampled_from([0.0, 0.1, 3.0, 30.0]),
    step=st.sampled_from([1e-3, 0.5]),  # coarse steps make ties
)
cuts = st.lists(st.integers(0, 700), min_size=0, max_size=3)
choices = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 1e-3, 0.6, 1.0, 5.0]),
    top_p=st.sampled_from([1e-3, 0.3, 0.5, 0.95, 1.0]),
    top_k=st.sampled_from([0, 1, 5, 64, 65, 300]),
    seed=st.integers(0, 2**64 - 1),
)


@EXAMPLES
@given(rows, cuts, choices)
def test_the_split_does_not_change_the_token(row, cuts, setting):
    assert chosen(row, spans_of(len(row), cuts), setting) == plainly_chosen(row, setting)


@EXAMPLES
@given(rows, cuts)
def test_greedy_takes_the_lowest_of_equal_ids(row, cuts):
    assert chosen(row, spans_of(len(row), cuts), Sampling(temperature=0)) == int(row.argmax())


def test_ranks_with_an_empty_vocabulary_offer_nothing():
    row = np.array([0.0, 2.0, 1.0], dtype=np.float32)
    spans = [Span(0, 0), Span(0, 3), Span(3, 3)]
    for setting in (Sampling(temperature=0), Sampling(top_p=0.1), Sampling(top_k=1)):
        assert chosen(row, spans, setting) == 1


def test_the_packets_carry_the_lowest_command_number():
    row = np.zeros(9, dtype=np.float32)
    exchange = exchange_of(row, spans_of(9, [3, 6]), Sampling(temperature=0))
    assert exchange.command == 7


def test_a_flat_nucleus_asks_for_all_logits():
    row = np.zeros(4096, dtype=np.float32)
    setting = Sampling(temperature=1.0, top_p=0.9)
    assert s.choose(exchange_of(row, spans_of(4096, [2048]), setting), setting) is None


def test_a_peaked_nucleus_does_not_ask_for_all_logits():
    row = np.linspace(0, 400, 4096, dtype=np.float32)
    setting = Sampling(temperature=1.0, top_p=0.9)
    assert s.choose(exchange_of(row, spans_of(4096, [2048]), setting), setting) is not None


@pytest.mark.parametrize("setting", [Sampling(), Sampling(top_k=3), Sampling(top_p=0.8)])
def test_frequencies_follow_the_probabilities(setting):
    row = np.log(np.array([0.5, 0.25, 0.15, 0.1], dtype=np.float32))
    draws = [chosen(row, [Span(0, 4)], setting, position) for position in range(1000)]
    kept = 3 if setting != Sampling() else 4
    expected = np.exp(row[:kept]) / np.exp(row[:kept]).sum()
    seen = np.bincount(draws, minlength=4) / len(draws)
    np.testing.assert_allclose(seen, np.pad(expected, (0, 4 - kept)), atol=0.06)


def test_seed_and_position_both_matter():
    row = np.zeros(1000, dtype=np.float32)
    base = chosen(row, [Span(0, 1000)], Sampling(seed=1), 5)
    assert base == chosen(row, [Span(0, 1000)], Sampling(seed=1), 5)
    assert base != chosen(row, [Span(0, 1000)], Sampling(seed=2), 5)
    assert base != chosen(row, [Span(0, 1000)], Sampling(seed=1), 6)
