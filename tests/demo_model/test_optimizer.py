"""Muon makes every matrix of a stack orthogonal by itself."""

import mlx.core as mx
import numpy as np
import pytest

from examples.demo_model.gradient import freeze
from examples.demo_model.optimizer import is_matrix, make_optimizer, orthogonal, set_rates
from examples.demo_model.settings import ADAM_RATE, MUON_RATE, rate_at
from examples.demo_model.trees import flat
from examples.demo_model.twins import trainable
from tests.demo_model.small import SMALL


@pytest.mark.parametrize("shape", [(3, 16, 64), (3, 64, 16), (32, 32)])
def test_singular_values_come_near_one(shape):
    matrix = mx.random.normal(shape, key=mx.random.key(1))
    values = np.linalg.svd(np.array(orthogonal(matrix)), compute_uv=False)
    assert values.min() > 0.3
    assert values.max() < 1.3


def test_a_stack_is_its_matrices():
    stack = mx.random.normal((4, 16, 32), key=mx.random.key(2))
    alone = mx.stack([orthogonal(matrix) for matrix in stack])
    assert mx.abs(orthogonal(stack) - alone).max() < 1e-5


def test_every_parameter_has_its_optimizer():
    model = trainable(SMALL)
    freeze(model)
    parameters = flat(model.trainable_parameters())
    adam = {name for name, array in parameters.items() if not is_matrix(name, array)}
    assert {name for name in adam if parameters[name].ndim >= 2 and "hc_" not in name} == {
        *("embed.weight", "head.weight"),
        *(f"{block}.ffn.gate.weight" for block in ("layers.0", "layers.1", "layers.2", "mtp.0")),
        *("layers.1.attn.compressor.ape", "layers.1.attn.indexer.compressor.ape"),
        *("layers.2.attn.compressor.ape", "layers.2.attn.compressor.wgate.weight"),
        "layers.1.attn.compressor.wgate.weight",
        "layers.1.attn.indexer.compressor.wgate.weight",
    }
    assert all(parameters[name].ndim >= 2 for name in parameters.keys() - adam)


def test_rates_rise_stay_and_fall():
    assert rate_at(0, 1000) < 0.1
    assert rate_at(100, 1000) == rate_at(499, 1000) == 1
    assert 0.4 < rate_at(750, 1000) < 0.6
    assert rate_at(999, 1000) == 0.05
    pair = make_optimizer()
    set_rates(pair, 0.5)
    rates = [optimizer.learning_rate.item() for optimizer in pair.optimizers]
    assert rates == pytest.approx([MUON_RATE / 2, ADAM_RATE / 2])
