"""Turning the trailing channels of rows, with or without a norm before, by MLX's own operations.

A pair of channels is a complex number, and a turn its product with another. It is the reference of
every quicker way. Follows apply_rotary_emb of the reference.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import mlx.core as mx
import numpy as np

Turns = np.ndarray[Any, np.dtype[np.complex64]]


class Turning(Protocol):
    """A way to do it."""

    def table(self, turns: Turns) -> mx.array:
        """Of turns [1 or B, L, (1,) width / 2] in complex64, what this way needs of them."""
        ...

    def turned(self, x: mx.array, table: mx.array) -> mx.array:
        """Rows x [B, L, (H,) D], the pairs of their last channels turned by the table's."""
        ...

    def normed(self, x: mx.array, weight: mx.array | None, eps: float, table: mx.array) -> mx.array:
        """The same after RMSNorm with weight [D], or without one."""
        ...


@dataclass(frozen=True, slots=True)
class PlainTurning:
    """By operations that every backend has."""

    def table(self, turns: Turns) -> mx.array:
        """The turns themselves."""
        return mx.array(turns)

    def turned(self, x: mx.array, table: mx.array) -> mx.array:
        """See Turning."""
        width = 2 * table.shape[-1]
        tail = self.product(x[..., -width:].astype(mx.float32), table)
        return mx.concatenate([x[..., :-width], tail.astype(x.dtype)], axis=-1)

    def normed(self, x: mx.array, weight: mx.array | None, eps: float, table: mx.array) -> mx.array:
        """See Turning."""
        return self.turned(mx.fast.rms_norm(x, weight, eps), table)

    def product(self, tail: mx.array, table: mx.array) -> mx.array:
        """Float32 tail [B, L, (H,) width], its pairs times the turns."""
        return (tail.view(mx.complex64) * table).view(mx.float32)
