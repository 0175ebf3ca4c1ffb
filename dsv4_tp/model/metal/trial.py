"""Kernels are taken only after they gave, on this very machine, what their plain twins give."""

from math import isnan
from typing import cast

import mlx.core as mx

from dsv4_tp.core import Kernels
from dsv4_tp.errors import PreflightError
from dsv4_tp.model.metal.mixing import MetalMixing
from dsv4_tp.model.mixing import Mixing, PlainMixing
from dsv4_tp.modelspec import ModelSpec

_MOST = 1e-4  # of what a number may be off, beside what is rounded of it
_TOKENS = 3


def mixing_by(kernels: Kernels, spec: ModelSpec) -> Mixing:
    """How streams and sublayers of a model meet, by kernels that were tried.

    Raises:
        PreflightError: there is no Metal here, or a kernel's numbers are others.
    """
    plain = PlainMixing.of(spec)
    if kernels is Kernels.PLAIN:
        return plain
    metal = MetalMixing(spec)
    try:
        off = max(_off(metal, plain, spec, dtype) for dtype in (mx.float32, mx.bfloat16))
    except RuntimeError as error:
        why = str(error).partition("\n")[0]  # behind it comes a kernel's text
        raise PreflightError(f"kernels: metal: {why}; use `kernels: plain`") from error
    if not off <= _MOST:  # nor is it a number
        found = f"its numbers are {off:.1e} off those of MLX's operations, {_MOST:.0e} may be"
        raise PreflightError(f"kernels: metal: {found}; use `kernels: plain`")
    return metal


def _off(one: Mixing, other: Mixing, spec: ModelSpec, dtype: mx.Dtype) -> float:
    """By how much two ways differ, for numbers of any size, at most."""
    pairs = zip(_numbers(one, spec, dtype), _numbers(other, spec, dtype), strict=True)
    # A number that is no number is off by more than any other.
    errors = [cast(float, (mx.abs(a - b) / (1 + mx.abs(b))).max().item()) for a, b in pairs]
    worst = max(errors, key=lambda error: (isnan(error), error))
    return worst - float(mx.finfo(dtype).eps)


def _numbers(mixing: Mixing, spec: ModelSpec, dtype: mx.Dtype) -> list[mx.array]:
    """All that it makes of some random streams, in float32."""
    n, keys = spec.hc_mult, iter(mx.random.split(mx.random.key(0), 4))
    scores = (2 + n) * n
    streams = mx.random.normal((1, _TOKENS, n, spec.hidden_size), key=next(keys)).astype(dtype)
    shapes = ((1, _TOKENS, scores), (3,), (scores,))
    x, mix = mixing.collapse(streams, *(mx.random.normal(it, key=next(keys)) for it in shapes))
    made = (x, *mix, mixing.write_back(x, streams, mix))
    return [each.astype(mx.float32) for each in made]
