"""A function is the same fused and as it is written, for any shapes."""

import gc
import shutil

import mlx.core as mx
import numpy as np
import pytest

from benchmarks.counts import operations
from dsv4_tp.model import Model, Routines, mixing, moe
from dsv4_tp.model.fused import fused_everywhere
from dsv4_tp.model.metal.turning import MetalTurning
from dsv4_tp.model.mixing import PlainMixing
from dsv4_tp.model.turning import PlainTurning
from tests.model.golden import distance, load_case, run
from tests.model.test_bundle import FORMATS, packed
from tests.model.tiny import random_ids, tiny_model, tiny_spec

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++, which MLX compiles by")

SINKHORN = {"iters": 20, "eps": 1e-6}
# Each with the shapes of its arrays behind the batch's, what else it takes, and the operations
# that are left of it.
FUNCTIONS = [
    (mixing.sinkhorn, [(4, 4)], SINKHORN, 80),
    (moe._inner, [(24,), (24,)], {"limit": 0.5}, 1),
    (moe._weighted_inner, [(24,), (24,), (1,)], {"limit": 0.5}, 1),
    (moe._root_of_softplus, [(16,)], {}, 1),
    (moe._shares, [(6,)], {"scale": 2.5}, 2),
]


@pytest.mark.parametrize(
    ("function", "shapes", "constants", "left"),
    FUNCTIONS,
    ids=lambda it: getattr(it, "__name__", ""),
)
def test_what_is_fused_is_the_same(function, shapes, constants, left):
    for batch in ((1, 1), (2, 3)):
        arrays = [mx.random.normal((*batch, *shape), key=mx.random.key(0)) for shape in shapes]
        mx.eval(arrays)
        plain = function(*arrays, **constants)
        with fused_everywhere():
            quick = function(*arrays, **constants)
        assert operations(quick) == left < operations(plain)
        assert mx.allclose(quick, plain, rtol=1e-6, atol=1e-6).item()


def test_a_fused_model_gives_the_reference_logits():
    case = load_case("public/a2_clamp_batch")
    with fused_everywhere():
        logits = run(case.model, case.ids[:, :60], [58, 1, 1])
    assert distance(logits, case.arrays["logits"][:, :60]) <= 1e-4


STEPS = [130, 1, 1, 3, 1, 20, 1]  # of which those of 17 tokens and more are not repeated


def repeated(batch: int, form: dict[str, object]) -> tuple[np.ndarray, np.ndarray, int]:
    """Logits as written and as repeated, and how many graphs there were to repeat."""
    model = packed(tiny_model(hidden_size=64), form)
    ids = np.array(random_ids(batch, sum(STEPS), model.spec.vocab_size))
    plain = run(model, ids, STEPS)
    model.bundle()
    with fused_everywhere():
        logits = run(model, ids, STEPS)
    built = [len(each.graphs.built) for layer in model.layers for each in (layer, layer.attn)]
    return plain, logits, sum(built)


@pytest.mark.parametrize(("batch", "form"), [(3, {}), *((1, form) for form in FORMATS)], ids=str)
def test_what_was_built_for_one_step_serves_the_next(batch: int, form: dict[str, object]) -> None:
    plain, logits, built = repeated(batch, form)
    assert distance(logits, plain) <= 1e-5
    assert built == 5 * 5  # of a layer: in, queries, out of attention, experts, out


def test_a_turn_that_was_built_in_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    first: dict[tuple[int, ...], mx.array] = {}
    turned = PlainTurning.turned

    def as_built(self: PlainTurning, x: mx.array, table: mx.array) -> mx.array:
        return turned(self, x, first.setdefault((*x.shape, *table.shape), table))

    model = tiny_model(hidden_size=64)
    ids = np.array(random_ids(1, sum(STEPS), model.spec.vocab_size))
    plain = run(model, ids, STEPS)
    monkeypatch.setattr(PlainTurning, "turned", as_built)
    assert distance(run(model, ids, STEPS), plain) > 1e-2


def test_nothing_of_a_model_is_left_when_it_is_gone() -> None:
    gc.collect()
    held = mx.get_active_memory()
    gc.disable()
    try:
        repeated(1, {})
        assert mx.get_active_memory() <= held + 100_000
    finally:
        gc.enable()


def test_kernels_of_our_own_are_not_repeated() -> None:
    spec = tiny_spec()
    kernels = Routines(PlainMixing.of(spec), MetalTurning())
    for routines, repeats in ((None, True), (Routines.plain(spec), True), (kernels, False)):
        model = Model(spec, routines=routines)
        model.bundle()
        for layer in model.layers:
            assert (layer.graphs is not None, layer.attn.graphs is not None) == (repeats, repeats)


def test_weights_may_change_until_a_model_is_bundled() -> None:
    model = tiny_model(hidden_size=64)
    token = mx.array([[3]])
    with fused_everywhere():
        before = model(token)
        model.layers[0].ffn_norm.weight = -model.layers[0].ffn_norm.weight
        assert not mx.allclose(model(token), before, atol=1e-3).item()
