"""Rotary tables and hyper-connections against plain numpy, and their invariants."""

import math

import mlx.core as mx
import numpy as np

from dsv4_tp.model import Model, Routines
from dsv4_tp.model.mixing import PlainMixing, sinkhorn
from dsv4_tp.model.rope import Rope
from dsv4_tp.model.turning import PlainTurning, Turns
from dsv4_tp.modelspec import Yarn
from dsv4_tp.rules import TURNS
from tests.model.tiny import random_ids, randomise, tiny_spec


def test_rope_turns_the_trailing_pairs() -> None:
    spec = tiny_spec()
    x = np.random.default_rng(0).standard_normal((1, 3, spec.head_dim)).astype(np.float32)
    got = np.array(Rope(spec, compressed=False)(mx.array(x), (7,), stride=4))
    width, keep = spec.qk_rope_head_dim, spec.head_dim - spec.qk_rope_head_dim
    angles = (7 + np.arange(3))[:, None] * 4 * spec.rope_theta ** (-np.arange(0, width, 2) / width)
    pairs = (x[0, :, keep::2] + 1j * x[0, :, keep + 1 :: 2]) * np.exp(1j * angles)
    np.testing.assert_allclose(got[0, :, keep::2], pairs.real, atol=1e-5)
    np.testing.assert_allclose(got[0, :, keep + 1 :: 2], pairs.imag, atol=1e-5)
    np.testing.assert_array_equal(got[..., :keep], x[..., :keep])


def test_inverse_rope_turns_back() -> None:
    rope = Rope(tiny_spec(), compressed=True)
    x = mx.random.normal((2, 5, 32), key=mx.random.key(0))
    assert mx.allclose(rope(rope(x, (1000,)), (1000,), inverse=True), x, atol=1e-5).item()


def test_turns_are_exact_at_a_million_tokens_for_each_of_a_batch() -> None:
    spec, starts = tiny_spec(), (1_000_000, 5)
    rope = Rope(spec, compressed=False)
    x = np.random.default_rng(0).standard_normal((2, 2, 3, spec.head_dim)).astype(np.float32)
    got = np.array(rope(mx.array(x), starts))
    keep = spec.head_dim - spec.qk_rope_head_dim
    rows = np.array(starts)[:, None] + np.arange(2)
    turns = np.exp(1j * rows[:, :, None, None] * rope.frequencies)
    pairs = (x[..., keep::2] + 1j * x[..., keep + 1 :: 2]) * turns
    np.testing.assert_allclose(got[..., keep::2], pairs.real, atol=1e-6)
    np.testing.assert_allclose(got[..., keep + 1 :: 2], pairs.imag, atol=1e-6)


def test_only_the_latest_turns_are_kept() -> None:
    rope, x = Rope(tiny_spec(), compressed=True), mx.zeros((1, 1, 32))
    for position in range(100):
        rope(x, (position,))
        rope(x, (position,))
    assert len(rope._tables) == TURNS


def test_all_layers_of_a_step_share_their_turns() -> None:
    made: list[tuple[tuple[int, ...], bytes]] = []

    class Counting(PlainTurning):
        def table(self, turns: Turns) -> mx.array:
            made.append((turns.shape, turns.tobytes()))
            return super().table(turns)

    spec = tiny_spec()
    model = Model(spec, routines=Routines(PlainMixing.of(spec), Counting()))
    mx.eval(randomise(model)(random_ids(1, 300, spec.vocab_size)))
    assert len(made) == len(set(made)) > 5  # among them those of runs of look-ups


def test_yarn_of_the_released_models() -> None:
    yarn = Yarn(factor=16, original_positions=65536, beta_fast=32, beta_slow=1)
    spec = tiny_spec(qk_rope_head_dim=64, head_dim=512, compress_rope_theta=160000.0, yarn=yarn)
    stretched = 1 / Rope(spec, compressed=True).frequencies
    plain = 160000.0 ** (np.arange(0, 64, 2) / 64)
    # Pairs up to 15 turn fast enough to be kept; from 25 on all are stretched by the factor.
    np.testing.assert_allclose(stretched[:16], plain[:16], rtol=1e-6)
    np.testing.assert_allclose(stretched[25:], 16 * plain[25:], rtol=1e-6)
    ramp = (20 - 15) / 10
    np.testing.assert_allclose(1 / stretched[20], ((1 - ramp) + ramp / 16) / plain[20], rtol=1e-6)


def test_window_layers_know_no_yarn() -> None:
    spec = tiny_spec()
    plain = spec.rope_theta ** (np.arange(0, spec.qk_rope_head_dim, 2) / spec.qk_rope_head_dim)
    np.testing.assert_allclose(1 / Rope(spec, compressed=False).frequencies, plain, rtol=1e-6)


def test_sinkhorn_by_hand() -> None:
    scores = np.random.default_rng(1).standard_normal((3, 4, 4))
    comb = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True) + 0.02
    comb /= comb.sum(-2, keepdims=True) + 0.02
    for _ in range(2):
        comb /= comb.sum(-1, keepdims=True) + 0.02
        comb /= comb.sum(-2, keepdims=True) + 0.02
    got = sinkhorn(mx.array(scores.astype(np.float32)), iters=3, eps=0.02)
    np.testing.assert_allclose(np.array(got), comb, rtol=1e-5)


def test_sinkhorn_is_doubly_stochastic() -> None:
    comb = sinkhorn(mx.random.normal((64, 4, 4), key=mx.random.key(5)), iters=20, eps=1e-6)
    for axis in (-1, -2):
        assert math.isclose(mx.abs(comb.sum(axis=axis) - 1).max().item(), 0, abs_tol=1e-3)
