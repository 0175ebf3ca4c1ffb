"""The values that weights keep when they are stored in the release's number formats.

The same as those of `formats.py`, which writes the files; MLX's own quantisers are faster.
"""

from collections.abc import Callable, Mapping

import mlx.core as mx

from dsv4_tp.modelspec import ModelSpec, Stored, contract
from examples.demo_model.formats import BLOCK, GROUP

_E4M3_MAX = 448.0


def as_stored(kind: Stored, values: mx.array) -> mx.array:
    """The values that a tensor [..., O, I] has after it was stored as `kind` and read again."""
    match kind:
        case Stored.FP8:
            return _fp8(values)
        case Stored.FP4:
            packed = mx.quantize(values, GROUP, 4, mode="mxfp4")
            return mx.dequantize(*packed, group_size=GROUP, bits=4, mode="mxfp4", dtype=mx.float32)
        case Stored.BF16:
            return values.astype(mx.bfloat16).astype(mx.float32)
        case _:
            return values


def rounder(spec: ModelSpec) -> Callable[[Mapping[str, mx.array]], dict[str, mx.array]]:
    """A function of a whole model's parameters by name: the values the release would hold."""
    kinds = {parameter_name(t.name): t.stored for t in contract(spec, mtp=True)}
    return lambda parameters: {name: as_stored(kinds[name], v) for name, v in parameters.items()}


def parameter_name(name: str) -> str:
    """The contract's name as the model has it: a whole model's `wo_a` is a list of one."""
    return name.replace(".wo_a.", ".wo_a.0.")


def _fp8(weight: mx.array) -> mx.array:
    rows, columns = weight.shape
    blocks = weight.reshape(rows // BLOCK, BLOCK, columns // BLOCK, BLOCK)
    largest = mx.maximum(mx.abs(blocks).max(axis=(1, 3), keepdims=True), 1e-30)
    scale = mx.power(2.0, mx.ceil(mx.log2(largest / _E4M3_MAX)))
    return (mx.from_fp8(mx.to_fp8(blocks / scale), mx.float32) * scale).reshape(rows, columns)
