"""N ranks in one process: a thread each, and an all-reduce that adds in rank order."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier
from typing import TypeVar, cast

import mlx.core as mx

from dsv4_tp.core import AttentionSplit, DType, ExpertSplit
from dsv4_tp.engine import Collectives, TokenShares, attention_sum
from dsv4_tp.model import AllSum, Model, identity
from dsv4_tp.modelspec import read_spec
from dsv4_tp.parallel import load_rank
from dsv4_tp.plan import make_plan
from dsv4_tp.prepared import read_catalog

_WAIT_S = 120.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sums:
    """What `TokenShares` and `attention_sum` need of collectives."""

    rank: int
    size: int
    put_together: AllSum
    alike: AllSum = identity

    @property
    def all_sum(self) -> AllSum:
        return self.put_together


class AllReduce:
    """all_sum for `size` threads. A rank that fails or is late breaks the barrier for all."""

    def __init__(self, size: int) -> None:
        self._barrier = Barrier(size, timeout=_WAIT_S)
        # Two sets of slots in turn: a rank may be one call ahead of another, never two.
        self._slots: list[list[mx.array | None]] = [[None] * size, [None] * size]

    def of(self, rank: int) -> AllSum:
        """The all_sum that `rank` calls."""
        calls = 0

        def all_sum(x: mx.array) -> mx.array:
            nonlocal calls
            slots = self._slots[calls % 2]
            calls += 1
            mx.eval(x)  # what another thread is to read must be evaluated
            slots[rank] = x
            self._barrier.wait()
            return sum(slots[1:], slots[0])

        return all_sum

    def abort(self) -> None:
        """Release the ranks that wait for one that failed."""
        self._barrier.abort()


def on_ranks(
    model_dir: Path,
    shares: Sequence[int],
    split: ExpertSplit,
    run: Callable[[Model], T],
    *,
    change: Callable[[int, AllSum], AllSum] = lambda _, all_sum: all_sum,
    mtp: bool = False,
    attention: AttentionSplit = AttentionSplit.SPLIT,
    alike: Callable[[int, AllSum], AllSum] = lambda _, all_sum: identity,
) -> list[T]:
    """`run(model)` on each rank of a plan, each in a thread of its own; the results by rank.

    `change(rank, all_sum)` may put another all_sum in a rank's hands; `alike(rank, all_sum)` is
    what becomes of its attention where each rank has all of it.
    """
    spec = read_spec(model_dir)
    found = read_catalog(model_dir, spec, mtp=False)
    plan = make_plan(spec, found, shares, expert_split=split, attention=attention)
    reduce = AllReduce(len(shares))

    def rank_main(rank: int) -> T:
        try:
            all_sum = change(rank, reduce.of(rank))
            sums = cast(Collectives, Sums(rank, len(shares), all_sum, alike(rank, all_sum)))
            loaded = load_rank(
                model_dir,
                plan.parts[rank],
                dtype=DType.FLOAT32,
                all_sum=all_sum,
                attn_sum=attention_sum(sums, plan.parts),
                division=TokenShares(sums, plan.parts),
                mtp=mtp,
            )
            return run(loaded.model)
        except BaseException:
            reduce.abort()
            raise

    with ThreadPoolExecutor(len(shares)) as pool:
        return list(pool.map(rank_main, range(len(shares))))
