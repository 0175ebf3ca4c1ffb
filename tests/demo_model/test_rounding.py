"""What the forward pass rounds to is what the files hold."""

import mlx.core as mx
import numpy as np
import pytest

from dsv4_tp.modelspec import Stored, contract
from examples.demo_model.formats import pack_bf16, pack_fp4, pack_fp8
from examples.demo_model.rounding import as_stored, parameter_name, rounder
from examples.demo_model.trees import flat
from examples.demo_model.twins import trainable
from tests.demo_model.small import SMALL
from tests.demo_model.test_formats import random, unpack_fp4, unpack_fp8


@pytest.mark.parametrize("scale", [1e-3, 1.0, 448.0, 2.0**20])
def test_fp8_is_what_the_packer_writes(scale):
    values = random((256, 384)) * np.float32(scale)
    values[:128, :128] = 0
    values[0, 128] = scale * 2.0**5
    np.testing.assert_array_equal(
        np.array(as_stored(Stored.FP8, mx.array(values))), unpack_fp8(*pack_fp8(values))
    )


@pytest.mark.parametrize("scale", [1e-3, 1.0, 6.0])
def test_fp4_is_what_the_packer_writes(scale):
    values = random((2, 64, 96)) * np.float32(scale)
    values[0, 0, :32] = 0
    wanted = np.stack([unpack_fp4(*pack_fp4(matrix)) for matrix in values])
    np.testing.assert_array_equal(np.array(as_stored(Stored.FP4, mx.array(values))), wanted)


def test_bf16_is_what_the_packer_writes():
    values = random((64,))
    wanted = (pack_bf16(values).astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(np.array(as_stored(Stored.BF16, mx.array(values))), wanted)


def test_every_parameter_is_rounded_as_the_contract_says():
    parameters = flat(trainable(SMALL).parameters())
    kinds = {parameter_name(tensor.name): tensor.stored for tensor in contract(SMALL, mtp=True)}
    assert kinds.keys() == parameters.keys()
    for name in (name for name in parameters if kinds[name] != Stored.INT):
        parameters[name] = mx.full(parameters[name].shape, 1 / 3)
    for name, value in rounder(SMALL)(parameters).items():
        exact = kinds[name] in (Stored.F32, Stored.INT)
        assert mx.array_equal(value, parameters[name]).item() == exact, name
