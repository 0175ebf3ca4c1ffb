"""A function is the same fused and as it is written, for any shapes."""

import shutil

import mlx.core as mx
import pytest

from benchmarks.counts import operations
from dsv4_tp.model import mixing, moe
from dsv4_tp.model.fused import fused_everywhere
from tests.model.golden import distance, load_case, run

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
