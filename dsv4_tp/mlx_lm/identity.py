"""Which model a cache's rows are of."""

import hashlib
from typing import cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten  # pyright: ignore[reportUnknownVariableType]

from dsv4_tp.modelspec import ModelSpec

_VALUES = 16  # of each parameter


def identity(model: nn.Module, spec: ModelSpec) -> str:
    """16 hex digits that differ for another config.json, format, dtype, or training.

    Of each parameter its name, shape, dtype and first values count: reading all would take long.
    """
    flat = cast(list[tuple[str, mx.array]], tree_flatten(model.parameters()))
    parameters = sorted(flat, key=lambda entry: entry[0])
    firsts = [_first(array) for _, array in parameters]
    mx.eval(firsts)
    digest = hashlib.sha256(repr(spec).encode())
    for (name, array), first in zip(parameters, firsts, strict=True):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.array(first).tobytes())
    return digest.hexdigest()[:16]


def _first(array: mx.array) -> mx.array:
    """The first values of its first row, as bytes."""
    row = array[(0,) * (array.ndim - 1)] if array.ndim else array[None]
    return row[:_VALUES].view(mx.uint8)
