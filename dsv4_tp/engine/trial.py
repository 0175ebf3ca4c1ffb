"""What a sum over a group costs, by itself and within a step. It loads no model."""

import statistics
import time
from dataclasses import dataclass

import mlx.core as mx

from dsv4_tp.engine.collectives import Collectives
from dsv4_tp.model import AllSum, identity

_WIDTH = 4096  # floats, of a row of Flash's hidden state
_ROUNDS = 50
_LARGE_ROWS = 256  # 4 MB
_LARGE_ROUNDS = 3
_LINKS = 40  # sums of a step, about as many as Flash has layers
_STEPS = 7


@dataclass(frozen=True, slots=True)
class Trial:
    """What one rank has measured."""

    rounds: int  # of sums over one row
    row_bytes: int
    median_s: float  # of a round
    slowest_s: float
    large_bytes: int
    large_s: float  # of one sum over so many bytes, the median
    in_step_s: float  # what each sum over one row adds to a step that waits for all of them


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
        in_step_s=_in_step_s(collectives),
    )


def _in_step_s(collectives: Collectives) -> float:
    """A graph in which each sum waits for an operation, which waits for a sum, and one without.

    On a GPU the difference is more than a sum by itself takes: it hands over to the CPU and back.
    """
    ways = (collectives.all_sum, identity)
    rounds = [[_step_s(way) for way in ways] for _ in range(_STEPS)]
    with_sums_s, without_s = map(statistics.median, zip(*rounds, strict=True))
    return max(0.0, with_sums_s - without_s) / _LINKS


def _step_s(all_sum: AllSum) -> float:
    x = mx.ones((1, _WIDTH))
    mx.eval(x)
    began = time.perf_counter()
    for _ in range(_LINKS):
        x = all_sum(x * 0.5)
    mx.eval(x)
    return time.perf_counter() - began


def _seconds(collectives: Collectives, rows: int) -> float:
    x = mx.ones((rows, _WIDTH))
    mx.eval(x)
    began = time.perf_counter()
    mx.eval(collectives.all_sum(x))
    return time.perf_counter() - began
