"""The linear layers nn.Linear does not cover: one matrix per output group, one per expert.

Both keep DeepSeek's orientation (rows are outputs) and can be swapped for quantised twins by
`nn.quantize`, as `nn.Linear` can. And matrices that meet the same input, laid side by side.
"""

from collections.abc import Callable, Sequence
from copy import copy
from itertools import accumulate
from typing import cast

import mlx.core as mx
import mlx.nn as nn

AllSum = Callable[[mx.array], mx.array]


def identity(x: mx.array) -> mx.array:
    """The all-reduce of one device."""
    return x


def linear(in_width: int, out_width: int) -> nn.Linear:
    """A matrix without bias; DeepSeek-V4 has no biased projection."""
    return nn.Linear(in_width, out_width, bias=False)


class SideBySide:
    """Matrices of one format that meet the same input: one product instead of several."""

    def __init__(self, matrices: Sequence[nn.Module]) -> None:
        """Their parameters become views of one matrix's, so they must have their values."""
        held = [_arrays(matrix) for matrix in matrices]
        self.matrix = copy(matrices[0])
        self.cuts = list(accumulate(arrays["weight"].shape[-2] for arrays in held))[:-1]
        for name in list(held[0]):
            rows = mx.concatenate([arrays.pop(name) for arrays in held], axis=-2)
            mx.eval(rows)
            self.matrix[name] = rows
            for matrix, view in zip(matrices, mx.split(rows, self.cuts, axis=-2), strict=True):
                matrix[name] = view

    @classmethod
    def of(cls, *matrices: nn.Module) -> "SideBySide | None":
        """None if they are of several formats."""
        return cls(matrices) if len({_format(matrix) for matrix in matrices}) == 1 else None

    def __call__(self, x: mx.array, *how: mx.array | None) -> Sequence[mx.array]:
        """What each of them gives for x, and for what else they take."""
        whole = cast(mx.array, self.matrix(x, *how))
        return [*mx.split(whole, self.cuts, axis=-1)]


def _arrays(matrix: nn.Module) -> dict[str, mx.array]:
    """The parameters, by name."""
    found = {name: cast(object, matrix.get(name)) for name in ("weight", "scales", "biases")}
    return {name: array for name, array in found.items() if isinstance(array, mx.array)}


def _format(matrix: nn.Module) -> object:
    arrays = ((name, array.dtype, array.shape[-1]) for name, array in _arrays(matrix).items())
    settings = (getattr(matrix, name, None) for name in ("group_size", "bits", "mode"))
    return type(matrix), *arrays, *settings


class GroupedLinear(nn.Module):
    """Block-diagonal projection: group g of the input through its own matrix.

    weight: [groups * out_width, in_width], the groups' matrices stacked.
    """

    def __init__(self, in_width: int, out_width: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.weight = mx.zeros((groups * out_width, in_width))

    def __call__(self, x: mx.array) -> mx.array:
        """[B, groups, L, in_width] -> [B, groups, L, out_width]."""
        weight = self.weight.reshape(self.groups, -1, self.weight.shape[-1])
        return x @ weight.swapaxes(-1, -2)

    def to_quantized(self, group_size: int, bits: int, mode: str) -> "QuantizedGroupedLinear":
        """The twin whose weight is packed; its parameters still have to be loaded."""
        return QuantizedGroupedLinear(self, group_size=group_size, bits=bits, mode=mode)


class QuantizedGroupedLinear(nn.Module):
    """GroupedLinear over a packed weight; `scales` has one entry per `group_size` columns."""

    def __init__(self, plain: GroupedLinear, *, group_size: int, bits: int, mode: str) -> None:
        super().__init__()
        self.groups = plain.groups
        self.group_size, self.bits, self.mode = group_size, bits, mode
        self.weight, self.scales, *biases = mx.quantize(plain.weight, group_size, bits, mode=mode)
        # Affine formats only; an absent parameter is no parameter.
        self.biases = biases[0] if biases else None

    def __call__(self, x: mx.array) -> mx.array:
        """[B, groups, L, in_width] -> [B, groups, L, out_width]."""
        return mx.quantized_matmul(
            x,
            self._by_group(self.weight),
            self._by_group(self.scales),
            None if self.biases is None else self._by_group(self.biases),
            transpose=True,
            group_size=self.group_size,
            bits=self.bits,
            mode=self.mode,
        )

    def _by_group(self, packed: mx.array) -> mx.array:
        return packed.reshape(self.groups, -1, packed.shape[-1])


class ExpertLinear(nn.Module):
    """One matrix per routed expert; each output row names the expert it comes from.

    weight: [experts, out_width, in_width].
    """

    def __init__(self, in_width: int, out_width: int, experts: int) -> None:
        super().__init__()
        self.weight = mx.zeros((experts, out_width, in_width))

    def __call__(self, x: mx.array, experts: mx.array, rows: mx.array | None) -> mx.array:
        """Row rows[i] of x [M, 1, in_width] through experts[i] -> [N, 1, out_width].

        Without `rows` it is row i, and experts are in order, which is quicker where they are many.
        """
        weight, dtype = self.weight.swapaxes(-1, -2), x.dtype
        if mx.default_device() == mx.Device(mx.cpu):
            # MLX's CPU backend gathers in float32 only.
            x, weight = x.astype(mx.float32), weight.astype(mx.float32)
        out = mx.gather_mm(x, weight, rows, experts, sorted_indices=rows is None)
        return out.astype(dtype)

    def to_quantized(self, group_size: int, bits: int, mode: str) -> "QuantizedExpertLinear":
        """The twin whose weight is packed; its parameters still have to be loaded."""
        return QuantizedExpertLinear(self, group_size=group_size, bits=bits, mode=mode)


class QuantizedExpertLinear(nn.Module):
    """ExpertLinear over packed weights."""

    def __init__(self, plain: ExpertLinear, *, group_size: int, bits: int, mode: str) -> None:
        super().__init__()
        self.group_size, self.bits, self.mode = group_size, bits, mode
        self.weight, self.scales, *biases = mx.quantize(plain.weight, group_size, bits, mode=mode)
        # Affine formats only; an absent parameter is no parameter.
        self.biases = biases[0] if biases else None

    def __call__(self, x: mx.array, experts: mx.array, rows: mx.array | None) -> mx.array:
        """As ExpertLinear."""
        return mx.gather_qmm(
            x,
            self.weight,
            self.scales,
            self.biases,
            lhs_indices=rows,
            rhs_indices=experts,
            transpose=True,
            group_size=self.group_size,
            bits=self.bits,
            mode=self.mode,
            sorted_indices=rows is None,
        )
