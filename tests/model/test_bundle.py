"""Matrices laid side by side are one product, and the numbers stay what they were."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from benchmarks.counts import operations
from dsv4_tp.model import Model
from dsv4_tp.model.layers import ExpertLinear, SideBySide
from tests.model.golden import distance, run
from tests.model.tiny import random_ids, tiny_model

FORMATS = [{}, {"bits": 8, "mode": "mxfp8"}, {"bits": 4, "mode": "mxfp4"}, {"bits": 4}]


def parameters(model: Model) -> dict[str, mx.array]:
    return dict(tree_flatten(model.parameters()))


def packed(model: Model, settings: dict[str, object]) -> Model:
    """With its matrices in that format, but for those that are too narrow."""
    if settings:
        narrow = ("gate", "weights_proj")
        nn.quantize(
            model,
            group_size=32,
            class_predicate=lambda path, it: (
                hasattr(it, "to_quantized")
                and it.weight.shape[-1] % 32 == 0
                and not path.endswith(narrow)
            ),
            **settings,
        )
    return model


@pytest.mark.parametrize("settings", FORMATS, ids=str)
def test_a_bundled_model_is_the_same_with_fewer_operations(settings: dict[str, object]) -> None:
    model = packed(tiny_model(hidden_size=64), settings)
    ids = np.array(random_ids(2, 150, model.spec.vocab_size))
    before, named = run(model, ids, [147, 1, 1, 1]), parameters(model)
    count = operations(model(mx.array(ids[:, :1])))
    model.bundle()
    assert distance(run(model, ids, [147, 1, 1, 1]), before) <= 1e-5
    assert operations(model(mx.array(ids[:, :1]))) < count
    for name, array in parameters(model).items():
        assert mx.array_equal(array, named[name]), name


def test_what_is_laid_side_by_side_is_there_once() -> None:
    one, other = ExpertLinear(8, 4, 3), ExpertLinear(8, 6, 3)
    one.weight = mx.random.normal(one.weight.shape)
    both = SideBySide.of(one, other)
    assert both is not None
    assert both.matrix.weight.shape == (3, 10, 8)
    mx.eval(both.matrix.weight, one.weight, other.weight)
    held = mx.get_active_memory()
    del one, other
    assert mx.get_active_memory() == held


def test_matrices_of_several_formats_stay_apart() -> None:
    one, other = nn.Linear(32, 32, bias=False), nn.Linear(32, 32, bias=False)
    assert SideBySide.of(one, other.to_quantized(32, 8, "mxfp8")) is None
    assert (
        SideBySide.of(one.to_quantized(32, 4, "mxfp4"), other.to_quantized(32, 8, "mxfp8")) is None
    )
    other.weight = other.weight.astype(mx.bfloat16)
    assert SideBySide.of(one, other) is None


def test_a_model_of_several_formats_is_bundled_where_it_can_be() -> None:
    model = tiny_model(hidden_size=64)
    for layer in model.layers:
        layer.ffn.experts.w1 = layer.ffn.experts.w1.to_quantized(32, 8, "mxfp8")
        if layer.attn.ratio:
            layer.attn.compressor.wkv = layer.attn.compressor.wkv.to_quantized(32, 8, "mxfp8")
    ids = np.array(random_ids(1, 40, model.spec.vocab_size))
    before = run(model, ids, [39, 1])
    model.bundle()
    assert distance(run(model, ids, [39, 1]), before) <= 1e-5


def test_halves_in_the_wrong_order_show() -> None:
    model = tiny_model(hidden_size=64)
    ids = np.array(random_ids(1, 40, model.spec.vocab_size))
    before = run(model, ids, [39, 1])
    for layer in model.layers:
        experts = layer.ffn.experts
        experts.w1, experts.w3 = experts.w3, experts.w1
    model.bundle()
    assert distance(run(model, ids, [39, 1]), before) > 1e-2
