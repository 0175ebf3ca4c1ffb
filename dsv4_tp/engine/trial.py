"""A trial of a group: do all ranks hold the same bits after a sum, and what does one cost?

It proves the way between the ranks' interpreters; it loads no model.
"""

import hashlib
import statistics
import time
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from dsv4_tp.engine.collectives import Collectives

_WIDTH = 4096  # floats, of a row of Flash's hidden state
_ROUNDS = 50
_LARGE_ROWS = 256  # 4 MB
_LARGE_ROUNDS = 3
_ROWS = (1, 3, _LARGE_ROWS)  # few rows and many are added up in different orders
_DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class Trial:
    """What one rank has seen of the group."""

    ranks: int
    equal: bool  # all ranks held the same bits after every sum
    rounds: int  # of sums over one row
    row_bytes: int
    median_s: float  # of a round
    slowest_s: float
    large_bytes: int
    large_s: float  # of one sum over so many bytes, the median


def try_group(collectives: Collectives) -> Trial:
    """Sum up rows on all ranks; each must call this at the same place."""
    odd = [rows for rows in _ROWS if not _is_equal(collectives, rows)]
    small = sorted(_seconds(collectives, 1) for _ in range(_ROUNDS))
    large = [_seconds(collectives, _LARGE_ROWS) for _ in range(_LARGE_ROUNDS)]
    return Trial(
        ranks=collectives.size,
        equal=not odd,
        rounds=_ROUNDS,
        row_bytes=_WIDTH * 4,
        median_s=statistics.median(small),
        slowest_s=small[-1],
        large_bytes=_LARGE_ROWS * _WIDTH * 4,
        large_s=statistics.median(large),
    )


def _is_equal(collectives: Collectives, rows: int) -> bool:
    """Whether the sum of rows that differ on every rank has the same bits on all of them."""
    own = mx.random.normal((rows, _WIDTH), key=mx.random.key(collectives.rank))
    total = np.array(collectives.all_sum(own), dtype=np.float32)
    digest = hashlib.sha256(total.tobytes()).digest()[:_DIGEST_BYTES]
    mine = mx.array(np.frombuffer(digest, np.uint8))
    gathered = np.array(collectives.gather(mine), dtype=np.uint8)
    return bool((gathered == gathered[0]).all())


def _seconds(collectives: Collectives, rows: int) -> float:
    x = mx.ones((rows, _WIDTH))
    mx.eval(x)
    began = time.perf_counter()
    mx.eval(collectives.all_sum(x))
    return time.perf_counter() - began
