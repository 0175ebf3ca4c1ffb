"""Norm and turn of a row in one kernel; see `PlainTurning` for what it computes."""

from math import prod

import mlx.core as mx
import numpy as np

from dsv4_tp.model.metal.kernel import kernel, scalar
from dsv4_tp.model.turning import Turns

_THREADS = 32  # of a row: as many as can sum without waiting for each other


class MetalTurning:
    """By a kernel of Metal, a group of threads for each row."""

    def __init__(self) -> None:
        """The kernel is compiled when it first runs; where there is no Metal it fails then."""
        self._kernel = kernel("turn", ["x", "weight", "eps", "table"], ["out"])
        self._ones: dict[tuple[int, mx.Dtype], mx.array] = {}

    def table(self, turns: Turns) -> mx.array:
        """Real and imaginary parts in turn."""
        return mx.array(turns.view(np.float32))

    def turned(self, x: mx.array, table: mx.array) -> mx.array:
        """See Turning."""
        return self._run(x, self._weight(x), 0.0, table, norm=False)

    def normed(self, x: mx.array, weight: mx.array | None, eps: float, table: mx.array) -> mx.array:
        """See Turning."""
        weight = self._weight(x) if weight is None else weight
        return self._run(x, weight, eps, table, norm=True)

    def _weight(self, x: mx.array) -> mx.array:
        """One that changes nothing."""
        key = x.shape[-1], x.dtype
        if key not in self._ones:
            self._ones[key] = mx.ones(*key)
        return self._ones[key]

    def _run(
        self, x: mx.array, weight: mx.array, eps: float, table: mx.array, *, norm: bool
    ) -> mx.array:
        *rows, width = x.shape
        heads = prod(rows[2:])
        sizes = [("W", width), ("R", table.shape[-1]), ("HEADS", heads), ("NORM", int(norm))]
        (out,) = self._kernel(
            inputs=[x, weight, scalar(eps), table],
            template=[("T", x.dtype), *sizes],
            grid=(_THREADS, prod(rows), 1),
            threadgroup=(_THREADS, 1, 1),
            output_shapes=[x.shape],
            output_dtypes=[x.dtype],
        )
        return out
