"""Properties of the model that need no reference vectors."""

import dataclasses
from itertools import pairwise

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx.utils import tree_map

from dsv4_tp.core import Part, Span
from dsv4_tp.model import Model
from tests.model.golden import distance, run
from tests.model.tiny import random_ids, randomise, tiny_model, tiny_spec

LENGTH = 150


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model()


@pytest.fixture(scope="module")
def ids(model: Model) -> np.ndarray:
    return np.array(random_ids(2, LENGTH, model.spec.vocab_size))


@pytest.fixture(scope="module")
def whole(model: Model, ids: np.ndarray) -> np.ndarray:
    return run(model, ids, [LENGTH])


@settings(max_examples=12, deadline=None)
@given(cuts=st.sets(st.integers(1, LENGTH - 1), max_size=12))
def test_any_cut_gives_the_same_logits(
    model: Model, ids: np.ndarray, whole: np.ndarray, cuts: set[int]
) -> None:
    borders = [0, *sorted(cuts), LENGTH]
    chunks = [stop - start for start, stop in pairwise(borders)]
    assert distance(run(model, ids, chunks), whole) <= 1e-4


@pytest.mark.parametrize("streams", [1, 2, 3])
def test_any_number_of_streams(streams: int) -> None:
    model = tiny_model(hc_mult=streams)
    ids = np.array(random_ids(1, 40, model.spec.vocab_size))
    one = run(model, ids, [40])
    assert np.isfinite(one).all()
    assert distance(run(model, ids, [7, 1, 32]), one) <= 1e-4


@pytest.mark.parametrize("scoring", ["sqrtsoftplus", "sigmoid", "softmax"])
def test_gate_weights(scoring: str) -> None:
    model = tiny_model(scoring_func=scoring, routed_scaling_factor=2.5)
    gate = model.layers[-1].ffn.gate
    x = mx.random.normal((9, model.spec.hidden_size), key=mx.random.key(1))
    experts, weights = (np.array(out) for out in gate(x, mx.zeros(9, dtype=mx.int32)))

    logits = np.array(x) @ np.array(gate.weight).T
    exp = np.exp(logits)
    scores = {
        "sqrtsoftplus": np.sqrt(np.log1p(exp)),
        "sigmoid": exp / (1 + exp),
        "softmax": exp / exp.sum(-1, keepdims=True),
    }[scoring]
    best = np.argsort(-(scores + np.array(gate.bias)), axis=-1)[:, :2]
    assert (np.sort(experts) == np.sort(best)).all()
    chosen = np.take_along_axis(scores, experts.astype(np.int64), axis=-1)
    np.testing.assert_allclose(weights, 2.5 * chosen / chosen.sum(-1, keepdims=True), rtol=1e-5)


def test_sorted_rows_change_nothing(model: Model) -> None:
    experts = model.layers[-1].ffn.experts
    rows = mx.random.normal((35, 1, model.spec.hidden_size), key=mx.random.key(2))
    chosen = mx.random.randint(0, model.spec.n_routed_experts, (35, 2), key=mx.random.key(3))
    weights = mx.random.uniform(shape=(70, 1, 1), key=mx.random.key(4))
    plain = experts._few(rows, chosen, weights)
    assert mx.allclose(experts._many(rows, chosen, weights), plain, atol=1e-6).item()


def parts_of(model: Model) -> list[Part]:
    """Two parts of very unequal size, cut inside an output group; the second lacks a kind."""
    whole = model.spec.whole
    width, vocab = len(whole.expert_width), len(whole.vocab)
    first = dataclasses.replace(
        whole, heads=Span(0, 3), expert_width=Span(0, 4), vocab=Span(0, vocab)
    )
    second = dataclasses.replace(
        whole,
        heads=Span(3, 8),
        expert_width=Span(4, width),
        shared_width=Span(0, 0),
        vocab=Span(vocab, vocab),
    )
    return [first, second]


def test_two_sums_per_layer_whatever_is_held(model: Model) -> None:
    nothing = Part(*[Span(0, 0)] * 5)
    for part in (model.spec.whole, *parts_of(model), nothing):
        shapes: list[tuple[int, ...]] = []

        def record(x: mx.array, seen: list[tuple[int, ...]] = shapes) -> mx.array:
            seen.append(x.shape)
            return x

        piece = randomise(Model(model.spec, part, all_sum=record))
        logits = piece(random_ids(1, 6, model.spec.vocab_size))
        assert logits.shape == (1, 6, len(part.vocab))
        assert shapes == [(1, 6, model.spec.hidden_size)] * 2 * len(model.layers)


def test_nothing_held_adds_nothing(model: Model) -> None:
    nothing = Part(*[Span(0, 0)] * 5)
    shares: list[mx.array] = []

    def record(x: mx.array) -> mx.array:
        shares.append(x)
        return x

    piece = randomise(Model(model.spec, nothing, all_sum=record))
    piece.streams(random_ids(1, 9, model.spec.vocab_size), piece.make_cache())
    assert all(mx.all(share == 0).item() for share in shares)


def test_bfloat16_stays_close(model: Model, ids: np.ndarray, whole: np.ndarray) -> None:
    half = Model(tiny_spec())
    half.update(tree_map(lambda p: _rounded(p), model.parameters()))
    logits = half(mx.array(ids[:, :40]))
    assert logits.dtype == mx.float32
    error = np.array(logits) - whole[:, :40]
    # A choice that flips moves single positions; most of them must not move far.
    assert np.median(np.abs(error).max(-1)) < 0.15 * whole.std()


def _rounded(parameter: mx.array) -> mx.array:
    return parameter.astype(mx.bfloat16) if parameter.dtype == mx.float32 else parameter


@pytest.mark.parametrize("batch", [1, 2])
def test_a_call_in_halves_is_the_same_and_each_half_is_begun_before_the_other_goes_on(batch: int):
    begun: list[int] = []
    spec = tiny_spec()
    halved = randomise(Model(spec, begin=lambda x, *_: begun.append(x.shape[1]), halves_from=151))
    ids = random_ids(batch, 150, spec.vocab_size)
    more = random_ids(batch, 301, spec.vocab_size)
    cache, own = tiny_model().make_cache(), halved.make_cache()
    for fed, lengths in ((ids, [150]), (more, [150, 151] * 2)):
        begun.clear()
        expected, logits = tiny_model()(fed, cache), halved(fed, own)
        assert mx.abs(expected - logits).max() <= 1e-4 * expected.std()
        assert begun == lengths * len(halved.layers)
