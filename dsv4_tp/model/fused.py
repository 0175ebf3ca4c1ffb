"""Functions of arrays that are built quickly, and of few operations, where a GPU runs them.

`mx.compile` does that. On a GPU it makes a kernel of each elementwise run in no time; on a CPU it
starts a C++ compiler, which a process that lives for one text never earns back, so there the
functions are run as they are written. Both ways give the same numbers.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar
from weakref import ref

import mlx.core as mx

_FEW_TOKENS = 16  # longer calls are of many lengths, and have more to do than to be built

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


class Graphs:
    """What was built by a module whose weights do not change any more: its `traced` methods."""

    def __init__(self) -> None:
        self.built: dict[str, Callable[..., Any]] = {}


class _Settled(Protocol):
    graphs: Graphs | None  # None while its weights may change


M = TypeVar("M", bound=_Settled)


def traced(method: Callable[Concatenate[M, P], R]) -> Callable[Concatenate[M, P], R]:
    """`method`, of arrays alone, built once for each of their shapes, and from then on repeated.

    For few tokens: the first array is [B, L, ...]. What it takes of its module must not change.
    """
    name = method.__name__

    @wraps(method)
    def called(self: M, *args: P.args, **kwargs: P.kwargs) -> R:
        graphs = self.graphs
        if graphs is None or not _fuses() or not _are_few(args[0]):
            return method(self, *args, **kwargs)
        if name not in graphs.built:
            graphs.built[name] = _compiled(method, self)
        return graphs.built[name](*args, **kwargs)

    return called


def _are_few(x: Any) -> bool:
    batch, length, *_ = x.shape
    return batch * length <= _FEW_TOKENS


def _compiled(method: Callable[..., R], module: object) -> Callable[..., R]:
    # It holds the weights, and its module it: to hold the module too would be a circle.
    held = ref(module)

    def of_arrays(*args: object, **kwargs: object) -> R:
        return method(held(), *args, **kwargs)

    return mx.compile(of_arrays)


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
