"""Kernels are taken only after they gave, on this very machine, what their plain twins give."""

from math import isnan
from typing import cast

import mlx.core as mx

from dsv4_tp.core import Kernels
from dsv4_tp.errors import PreflightError
from dsv4_tp.model.metal.mixing import MetalMixing
from dsv4_tp.model.metal.turning import MetalTurning
from dsv4_tp.model.mixing import Mixing, Norm
from dsv4_tp.model.rope import Rope
from dsv4_tp.model.routines import Routines
from dsv4_tp.model.turning import Turning
from dsv4_tp.modelspec import ModelSpec

_MOST = 1e-4  # of what a number may be off, beside what is rounded of it
_TOKENS = 3


def routines_by(kernels: Kernels, spec: ModelSpec) -> Routines:
    """How a model does what lies between its products, by kernels that were tried.

    Raises:
        PreflightError: there is no Metal here, or a kernel's numbers are others.
    """
    plain = Routines.plain(spec)
    if kernels is Kernels.PLAIN:
        return plain
    metal = Routines(MetalMixing(spec), MetalTurning())
    try:
        off = max(_off(metal, plain, spec, dtype) for dtype in (mx.float32, mx.bfloat16))
    except RuntimeError as error:
        why = str(error).partition("\n")[0]  # behind it comes a kernel's text
        raise PreflightError(f"kernels: metal: {why}; use `kernels: plain`") from error
    if not off <= _MOST:  # nor is it a number
        found = f"its numbers are {off:.1e} off those of MLX's operations, {_MOST:.0e} may be"
        raise PreflightError(f"kernels: metal: {found}; use `kernels: plain`")
    return metal


def _off(one: Routines, other: Routines, spec: ModelSpec, dtype: mx.Dtype) -> float:
    """By how much two routines differ, for numbers of any size, at most."""
    pairs = zip(_numbers(one, spec, dtype), _numbers(other, spec, dtype), strict=True)
    # A number that is no number is off by more than any other.
    errors = [cast(float, (mx.abs(a - b) / (1 + mx.abs(b))).max().item()) for a, b in pairs]
    worst = max(errors, key=lambda error: (isnan(error), error))
    return worst - float(mx.finfo(dtype).eps)


def _numbers(routines: Routines, spec: ModelSpec, dtype: mx.Dtype) -> list[mx.array]:
    """All that they make of some random numbers, in float32."""
    made = [*_mixed(routines.mixing, spec, dtype), *_turned(routines.turning, spec, dtype)]
    return [each.astype(mx.float32) for each in made]


def _mixed(mixing: Mixing, spec: ModelSpec, dtype: mx.Dtype) -> list[mx.array]:
    n, keys = spec.hc_mult, iter(mx.random.split(mx.random.key(0), 5))
    count = (2 + n) * n
    streams = mx.random.normal((1, _TOKENS, n, spec.hidden_size), key=next(keys)).astype(dtype)
    shapes = ((1, _TOKENS, count), (3,), (count,))
    scores, scale, base = (mx.random.normal(it, key=next(keys)) for it in shapes)
    weight = mx.random.normal((spec.hidden_size,), key=next(keys)).astype(dtype)
    x, mix = mixing.collapse(streams, scores, scale, base, Norm(weight, spec.rms_norm_eps))
    # Of an answer that is the same for both: what was rounded once is not rounded again.
    return [x, *mix, mixing.write_back(streams[:, :, 0], streams, mix)]


def _turned(turning: Turning, spec: ModelSpec, dtype: mx.Dtype) -> list[mx.array]:
    rope, eps = Rope(spec, compressed=True, turning=turning), spec.rms_norm_eps
    heads, width = spec.num_attention_heads, spec.head_dim
    q = mx.random.normal((2, _TOKENS, heads, width), key=mx.random.key(1)).astype(dtype)
    keys, weight = q[:, :, 0], q[0, 0, 0]
    return [
        rope(q, (7, 9), inverse=True),
        turning.normed(q, None, eps, rope.turns(_TOKENS, (7, 9), heads=True)),
        turning.normed(keys, weight, eps, rope.turns(_TOKENS, (7, 7))),
    ]
