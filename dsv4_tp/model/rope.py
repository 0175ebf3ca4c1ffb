"""Rotary position embedding of the trailing `qk_rope_head_dim` channels, interleaved pairs.

Two tables exist: window-only layers (and MTP stages) rotate with `rope_theta`; layers that
compress, with `compress_rope_theta` and YaRN. There is no mscale: the softmax scale is the same
at every length. Follows precompute_freqs_cis of the reference; how rows turn is for `Turning`.
"""

import math

import mlx.core as mx
import numpy as np

from dsv4_tp.model.rows import Starts
from dsv4_tp.model.turning import PlainTurning, Turning
from dsv4_tp.modelspec import ModelSpec, Yarn
from dsv4_tp.rules import TURNS


class Rope:
    """One rotary table: what each channel pair turns by from one token to the next, in radians."""

    def __init__(
        self, spec: ModelSpec, *, compressed: bool, turning: Turning | None = None
    ) -> None:
        self.width, self.turning = spec.qk_rope_head_dim, turning or PlainTurning()
        theta = spec.compress_rope_theta if compressed else spec.rope_theta
        frequencies = [theta ** (-2 * i / self.width) for i in range(self.width // 2)]
        if compressed and spec.yarn is not None:
            frequencies = _extended(frequencies, spec.yarn, theta)
        self.frequencies = np.array(frequencies)
        self._tables: dict[object, mx.array] = {}

    def __call__(
        self, x: mx.array, starts: Starts, *, stride: int = 1, inverse: bool = False
    ) -> mx.array:
        """Rotates x [B, L, ..., D]: row i of sequence b stands at (starts[b] + i) * stride.

        `inverse` rotates back: the attention output is turned by minus its query's position.
        """
        turns = self.turns(x.shape[1], starts, heads=x.ndim == 4, stride=stride, inverse=inverse)
        return self.turning.turned(x, turns)

    def turns(
        self,
        length: int,
        starts: Starts,
        *,
        heads: bool = False,
        stride: int = 1,
        inverse: bool = False,
    ) -> mx.array:
        """What `turning` needs to do that to rows [B, length, any], or [B, length, H, any].

        All layers of a step turn alike, so the latest are kept. They are made here and not by MLX:
        that costs no operation of a graph, and at a million tokens an angle in float32 would be off
        by up to 0.03.
        """
        alike, stride = len(set(starts)) == 1, -stride if inverse else stride
        places = (1 if alike else len(starts), length, *[1] * heads)
        key = (starts[:1] if alike else starts, places, stride)
        if key not in self._tables:
            if len(self._tables) == TURNS:
                self._tables.pop(next(iter(self._tables)))  # the oldest
            rows = (np.array(key[0])[:, None] + np.arange(length)) * stride
            turns = np.exp(1j * rows[..., None] * self.frequencies).astype(np.complex64)
            self._tables[key] = self.turning.table(turns.reshape(*places, -1))
        return self._tables[key]


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
