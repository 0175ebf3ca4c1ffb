"""Functions of arrays whose elementwise runs become single operations, where a GPU runs them.

`mx.compile` does that. On a GPU it makes a kernel of each run in no time; on a CPU it starts a C++
compiler, which a process that lives for one text never earns back, so there the functions are run
as they are written. Both ways give the same numbers.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

import mlx.core as mx

P = ParamSpec("P")
R = TypeVar("R")


class _Fusing:
    everywhere = False


def fused(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, which may be of any arrays' shapes: it slices nothing and asks for no sizes.

    MLX 0.32 ends the process if it compiles a sum over a single number for a CPU.
    """
    # Without shapes: one for each would be kept for as long as the process lives.
    compiled: Callable[P, R] = mx.compile(function, shapeless=True)

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        return (compiled if _fuses() else function)(*args, **kwargs)

    return called


@fused
def in_float32(x: mx.array, scale: float) -> mx.array:
    """x * scale, in float32."""
    return x.astype(mx.float32) * scale


@contextmanager
def fused_everywhere() -> Generator[None]:
    """While this lasts a CPU compiles too: for who counts operations, or compares both ways."""
    _Fusing.everywhere = True
    try:
        yield
    finally:
        _Fusing.everywhere = False


def _fuses() -> bool:
    return _Fusing.everywhere or mx.default_device().type == mx.DeviceType.gpu
