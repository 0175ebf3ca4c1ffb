"""What a sum over a group costs. It loads no model."""

import statistics
import time
from dataclasses import dataclass

import mlx.core as mx

from dsv4_tp.engine.collectives import Collectives

_WIDTH = 4096  # floats, of a row of Flash's hidden state
_ROUNDS = 50
_LARGE_ROWS = 256  # 4 MB
_LARGE_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Trial:
    """What one rank has measured."""

    rounds: int  # of sums over one row
    row_bytes: int
    median_s: float  # of a round
    slowest_s: float
    large_bytes: int
    large_s: float  # of one sum over so many bytes, the median


def try_group(collectives: Collectives) -> Trial:
    """Add up rows over all ranks; each must call this at the same place."""
    small = sorted(_seconds(collectives, 1) for _ in range(_ROUNDS))
    large = [_seconds(collectives, _LARGE_ROWS) for _ in range(_LARGE_ROUNDS)]
    return Trial(
        rounds=_ROUNDS,
        row_bytes=_WIDTH * 4,
        median_s=statistics.median(small),
        slowest_s=small[-1],
        large_bytes=_LARGE_ROWS * _WIDTH * 4,
        large_s=statistics.median(large),
    )


def _seconds(collectives: Collectives, rows: int) -> float:
    x = mx.ones((rows, _WIDTH))
    mx.eval(x)
    began = time.perf_counter()
    mx.eval(collectives.all_sum(x))
    return time.perf_counter() - began
