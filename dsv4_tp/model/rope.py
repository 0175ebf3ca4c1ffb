"""Rotary position embedding of the trailing `qk_rope_head_dim` channels, interleaved pairs.

Two tables exist: window-only layers (and MTP stages) rotate with `rope_theta`; layers that
compress, with `compress_rope_theta` and YaRN. There is no mscale: the softmax scale is the same
at every length. Follows precompute_freqs_cis and apply_rotary_emb of the reference.
"""

import math

import mlx.core as mx

from dsv4_tp.model.rows import Starts
from dsv4_tp.modelspec import ModelSpec, Yarn


class Rope:
    """One rotary table: the period in tokens, over 2 pi, of each channel pair."""

    def __init__(self, spec: ModelSpec, *, compressed: bool) -> None:
        self.width = spec.qk_rope_head_dim
        theta = spec.compress_rope_theta if compressed else spec.rope_theta
        frequencies = [theta ** (-2 * i / self.width) for i in range(self.width // 2)]
        if compressed and spec.yarn is not None:
            frequencies = _extended(frequencies, spec.yarn, theta)
        self.periods = mx.array([1 / f for f in frequencies], dtype=mx.float32)

    def __call__(
        self, x: mx.array, starts: Starts, *, stride: int = 1, inverse: bool = False
    ) -> mx.array:
        """Rotates x [B, ..., L, D]: row i of sequence b stands at (starts[b] + i) * stride.

        `inverse` rotates back: the attention output is turned by minus its query's position.
        """
        tail = x[..., -self.width :].astype(mx.float32)
        rotated = mx.fast.rope(
            tail,
            self.width,
            traditional=True,
            base=None,
            scale=-stride if inverse else stride,
            offset=starts[0] if len(set(starts)) == 1 else mx.array(starts),
            freqs=self.periods,
        )
        return mx.concatenate([x[..., : -self.width], rotated.astype(x.dtype)], axis=-1)


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
