"""Rotary position embedding of the trailing `qk_rope_head_dim` channels, interleaved pairs.

Two tables exist: window-only layers (and MTP stages) rotate with `rope_theta`; layers that
compress, with `compress_rope_theta` and YaRN. There is no mscale: the softmax scale is the same
at every length. A pair of channels is a complex number, and a turn its product with another.
Follows precompute_freqs_cis and apply_rotary_emb of the reference.
"""

import math

import mlx.core as mx
import numpy as np

from dsv4_tp.model.rows import Starts
from dsv4_tp.modelspec import ModelSpec, Yarn
from dsv4_tp.rules import TURNS


class Rope:
    """One rotary table: what each channel pair turns by from one token to the next, in radians."""

    def __init__(self, spec: ModelSpec, *, compressed: bool) -> None:
        self.width = spec.qk_rope_head_dim
        theta = spec.compress_rope_theta if compressed else spec.rope_theta
        frequencies = [theta ** (-2 * i / self.width) for i in range(self.width // 2)]
        if compressed and spec.yarn is not None:
            frequencies = _extended(frequencies, spec.yarn, theta)
        self.frequencies = np.array(frequencies)
        self._turns: dict[object, mx.array] = {}

    def __call__(
        self, x: mx.array, starts: Starts, *, stride: int = 1, inverse: bool = False
    ) -> mx.array:
        """Rotates x [B, L, ..., D]: row i of sequence b stands at (starts[b] + i) * stride.

        `inverse` rotates back: the attention output is turned by minus its query's position.
        """
        tail = x[..., -self.width :].astype(mx.float32)
        turned = self.turned(tail, self._turn(x.shape, starts, -stride if inverse else stride))
        return mx.concatenate([x[..., : -self.width], turned.astype(x.dtype)], axis=-1)

    def turned(self, tail: mx.array, turn: mx.array) -> mx.array:
        """Float32 tail [B, L, ..., width], its pairs times turn [(B,) L, ..., width / 2]."""
        return (tail.view(mx.complex64) * turn).view(mx.float32)

    def _turn(self, shape: tuple[int, ...], starts: Starts, stride: int) -> mx.array:
        """The turn of each pair of rows [B, L, ..., any], in complex64.

        All layers of a step turn alike, so the latest are kept. They are made here and not by MLX:
        that costs no operation of a graph, and at a million tokens an angle in float32 would be off
        by up to 0.03.
        """
        alike = len(set(starts)) == 1
        places = (1 if alike else len(starts), shape[1], *[1] * (len(shape) - 3))
        key = (starts[:1] if alike else starts, places, stride)
        if key not in self._turns:
            if len(self._turns) == TURNS:
                self._turns.pop(next(iter(self._turns)))  # the oldest
            rows = (np.array(key[0])[:, None] + np.arange(shape[1])) * stride
            turns = np.exp(1j * rows[..., None] * self.frequencies).astype(np.complex64)
            self._turns[key] = mx.array(turns.reshape(*places, -1))
        return self._turns[key]


def _extended(frequencies: list[float], yarn: Yarn, theta: float) -> list[float]:
    """YaRN: slow pairs are stretched by the factor, fast ones kept, with a ramp between."""
    width = 2 * len(frequencies)

    def pair_of(turns: float) -> float:
        """The pair that makes `turns` turns within the original context."""
        wavelength = yarn.original_positions / (turns * 2 * math.pi)
        return width * math.log(wavelength) / (2 * math.log(theta))

    low = max(math.floor(pair_of(yarn.beta_fast)), 0)
    high = min(math.ceil(pair_of(yarn.beta_slow)), width - 1)
    span = max(high - low, 0.001)
    slow = [min(max((i - low) / span, 0.0), 1.0) for i in range(len(frequencies))]
    return [f / yarn.factor * r + f * (1 - r) for f, r in zip(frequencies, slow, strict=True)]
